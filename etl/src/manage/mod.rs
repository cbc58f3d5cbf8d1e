//! Pipelines as things that people keep: made from a template, found by name, looked at,
//! scheduled, and run for good by systemd or by `etl serve`.

mod calendar;
pub mod client;
pub mod find;
pub mod generate;
pub mod schedule;
pub mod status;
pub mod systemd;
mod touched;
pub mod units;
