//! Loading: batches to sinks that may be down.
//!
//! [`answer`] says what a reply means, [`backoff`] and [`breaker`] how long to
//! wait, [`limit`] and [`rate`] how much to ask at once, `delivery` follows one
//! batch to its end, `worker` and `replay` feed it
//! from the channel and from the spool ([`plan`] says what of it, `precedence` how fast, `ahead` reads it, `away`
//! takes away what was delivered, `writes` and `handed` put there what was not), [`runtime`]
//! holds one sink's parts
//! together; [`obstacle`] and [`targets`] are what people are told and asked.
//! Sinks implement [`Sink`]; `kinds` lists and builds them.

mod ahead;
pub mod answer;
mod away;
pub mod backoff;
pub mod breaker;
// What only one of them needs is not used when the other is built alone.
#[cfg_attr(
    not(all(feature = "postgres", feature = "sqlite")),
    allow(dead_code, unused_variables, reason = "shared by both databases")
)]
mod database;
mod delivery;
mod disk;
mod files;
pub mod gate;
mod handed;
mod http_sink;
mod kinds;
pub mod limit;
pub mod obstacle;
#[cfg(feature = "parquet")]
mod parquet;
mod parts;
pub mod plan;
mod precedence;
pub mod rate;
mod replay;
mod resend;
pub mod runtime;
mod sink;
mod slots;
pub mod targets;
mod worker;
mod writes;

pub use database::DatabaseSinkError;
#[cfg(feature = "postgres")]
pub(crate) use database::tls::Encryption;
pub(crate) use delivery::unix_seconds;
pub use files::FilesError;
pub use http_sink::{HttpSink, HttpSinkError};
pub use kinds::{SinkError, SinkHome, build, target};
pub use sink::{Delivering, Probe, Probing, Reach, Sink};
