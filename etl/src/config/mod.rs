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

#[cfg(feature = "s3")]
pub(crate) use address::Address;
pub use diagnostic::{Diagnostic, Report};
pub use environment::Environment;
pub use load::{Loaded, Origin, from_str, load};
pub use origin::Position;
pub use pipeline::{
    BatchLimits, BatchSettings, Column, ColumnText, ColumnType, Compression, Concurrency,
    CsvSource, Extract, FileFormat, FileLoad, HttpExtract, HttpFormat, HttpLoad, HttpVersion, Load,
    ParquetCompression, ParquetLoad, Pipeline, Retry, S3Settings, Secret, Simulated, Source,
    SpoolMode, SpoolSettings, Step, Tls,
};
pub use schema::{UnknownSection, pipeline_schema, section_schema};
pub use units::{Rate, Share, Size, Span, UnitError};
