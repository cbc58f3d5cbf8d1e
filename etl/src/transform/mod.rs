//! What is done to each record between extraction and batch. A step reads one JSON
//! object's bytes and appends another's, field by field as they stand there; only `jq`
//! builds a tree. A record that a step cannot make sense of is rejected alone, with the
//! field and its value.

mod add;
mod cast;
mod chain;
mod cpu_indicators;
mod dedupe;
mod error;
mod flatten;
pub(crate) mod jq;
mod mask;
pub(crate) mod path;
mod record;
mod rename;
mod scan;
mod select;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub(crate) mod timestamp;
mod words;

pub use self::chain::{BuildError, Chain, RunFacts, Scratch, Verdict};
pub use self::error::{Rejected, StepError};
