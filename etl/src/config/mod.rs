//! Configuration is data: read once, checked whole, then built into a runtime.
//! Nothing below this module reads the environment.
//!
//! A file's way: `document` (text to `tree`) → `overrides` (`--set`) →
//! `variables` (`${VAR}`) → `validate` (against the schema) → decode → `rules`.
//! Each step keeps positions, and all errors come in one [`Report`].

mod address;
mod diagnostic;
mod document;
mod environment;
mod frame;
mod load;
mod mask;
mod origin;
mod overrides;
mod pipeline;
mod rules;
mod rules_steps;
mod scalar;
mod schedule;
mod schema;
mod suggest;
#[cfg(test)]
mod tests;
mod tree;
mod units;
mod validate;
mod variables;

pub use diagnostic::{Diagnostic, Report};
pub use environment::Environment;
pub use load::{Loaded, Origin, from_str, load};
pub use origin::Position;
pub use pipeline::{
    Added, All, BatchLimits, Cast, Compression, Concat, Concurrency, Constant, CsvSource, Dedupe,
    DedupeSettings, Extract, Flatten, HttpExtract, HttpFormat, HttpLoad, HttpVersion, Load, Mask,
    Named, Pipeline, Retry, Secret, Simulated, Source, SpoolMode, SpoolSettings, Step, Timestamp,
    TimestampFrom, Tls, Trim,
};
pub use schema::{UnknownSection, pipeline_schema, section_schema};
pub use units::{Rate, Share, Size, Span, UnitError};
