//! Tells people what needs them, by mail or to a webhook: runs that failed, batches that
//! wait too long, dead letters, runs that were missed. Problems of all pipelines that come
//! together are one message, each is told once and again after a while, and so is its end.
//!
//! What was told is kept beside each pipeline's state, for `etl serve` and for runs by a
//! timer alike. Telling never holds a run up and never changes what came of it.

mod board;
mod channel;
#[cfg(feature = "mail")]
mod email;
mod message;
mod once;
mod problems;
mod state;
mod tally;
mod watcher;
mod webhook;

pub use channel::{Channel, ChannelKind};
pub use message::{Item, Message};
pub use once::{after_run, not_begun, test};
pub use problems::{Kind, Problem};
pub use tally::{Tally, TallyFigures};
pub use watcher::watch;
