//! Configuration is data: read once, checked whole, then built into a runtime.
//! Nothing below this module reads the environment.
//!
//! A file's way: `document` (text to `tree`) → `overrides` (`--set`) →
//! `variables` (`${VAR}`) → `validate` (against the schema) → decode → `rules`.
//! Each step keeps positions, and all errors come in one [`Report`].

mod address;
mod database;
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

pub(crate) use database::{DatabasePlace, Server};
pub use diagnostic::{Diagnostic, Report};
pub use environment::Environment;
pub use load::{Loaded, Origin, from_str, load};
pub use origin::Position;
pub use pipeline::{
    ApiKey, Auth, BasicAuth, BatchLimits, Column, ColumnType, Columns, Compression, Concurrency,
    CsvSource, Cursor, DatabaseLoad, Extra, Extract, Generated, HttpExtract, HttpFormat, HttpLoad,
    HttpVersion, Incremental, Layout, LedgerSettings, Load, Missed, NextPage, Oauth2, Offsets,
    Overlap, PageNumbers, Pagination, Pipeline, RestFormat, RestMethod, RestSource, Retry,
    RunRetry, Schedule, Secret, Simulated, Source, SpoolMode, SpoolSettings, SslMode, Step, Tls,
    WriteMode,
};
pub use schema::{UnknownSection, pipeline_schema, section_schema};
pub use units::{Rate, Share, Size, Span, UnitError};
