//! `etl` collects records from many slow, unreliable places at once and loads
//! them in batches into a place that may be down, without ever losing one.
//!
//! The rooms follow a record's journey: [`config`] → [`source`] → [`extract`] →
//! [`transform`] → [`batch`] → [`load`] → [`spool`] → [`checkpoint`]; [`pipeline`]
//! joins them into a run, [`schedule`] starts runs when they are due, [`telemetry`]
//! and [`admin`] tell what happens, [`alerts`] what needs people, [`manage`] is about
//! keeping pipelines, [`cli`] is the command line.
//! `docs/architecture.md` tells the same journey in prose.

pub mod admin;
pub mod alerts;
pub mod batch;
pub mod checkpoint;
pub mod cli;
pub mod config;
pub mod deflate;
pub mod exit;
pub mod extract;
pub mod fleet;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod history;
pub mod http;
pub mod load;
pub mod manage;
pub mod pipeline;
mod reuse;
pub mod schedule;
pub mod source;
pub mod spool;
pub mod stop;
pub mod telemetry;
pub mod transform;
