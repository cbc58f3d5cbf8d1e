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

#[cfg(feature = "s3")]
pub(crate) use address::Address;
pub(crate) use database::DatabasePlace;
#[cfg(feature = "postgres")]
pub(crate) use database::Server;
pub use diagnostic::{Diagnostic, Report};
pub use environment::Environment;
pub use load::{Loaded, Origin, from_str, load};
pub use origin::Position;
pub use pipeline::{
    Added, AlertEmail, AlertWebhook, Alerts, All, ApiKey, Auth, BasicAuth, BatchLimits,
    BatchSettings, Cast, Column, ColumnType, Columns, Compression, Concat, Concurrency, Constant,
    CsvSource, Cursor, DatabaseLoad, Dedupe, DedupeSettings, Extra, Extract, FileFormat, FileLoad,
    Flatten, Generated, HttpExtract, HttpFormat, HttpLoad, HttpVersion, Incremental, Layout,
    LedgerSettings, Load, MailEncryption, Mask, Missed, Named, NextPage, Oauth2, Offsets, Overlap,
    PageNumbers, Pagination, ParquetColumn, ParquetCompression, ParquetLoad, ParquetType,
    ParquetTypeText, Pipeline, RestFormat, RestMethod, RestSource, Retry, RunRetry, S3Settings,
    Schedule, Secret, Simulated, Source, SpoolMode, SpoolSettings, SslMode, Step, Timestamp,
    TimestampFrom, Tls, Trim, WriteMode,
};
pub use schema::{UnknownSection, pipeline_schema, section_schema};
pub use units::{Rate, Share, Size, Span, UnitError};
