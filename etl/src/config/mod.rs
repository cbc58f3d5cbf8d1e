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
mod edit;
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
mod shards;
mod sqlserver;
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
pub(crate) use database::Server;
pub use diagnostic::{Diagnostic, Report};
pub use edit::{NotEdited, ScheduleEdit, edit_schedule};
pub use environment::Environment;
pub(crate) use environment::env_files;
pub use load::{Loaded, Origin, from_str, load};
pub use mask::masked;
pub use origin::Position;
pub(crate) use pipeline::is_name;
pub use pipeline::{
    Added, AlertEmail, AlertWebhook, Alerts, All, ApiKey, Auth, BasicAuth, BatchLimits,
    BatchSettings, Cast, Column, ColumnType, Columns, Compression, Concat, Concurrency,
    ConnectRetry, Constant, CsvSource, Cursor, CursorClock, DatabaseLoad, Dedupe, DedupeSettings,
    Every, Extra, Extract, FileFormat, FileLoad, Flatten, Generated, HttpExtract, HttpFormat,
    HttpLoad, HttpVersion, Incremental, KeepAlive, Layout, LedgerSettings, Load, MailEncryption,
    Mask, Missed, Named, NextPage, Oauth2, Offsets, Overlap, PageNumbers, Pagination,
    ParquetColumn, ParquetCompression, ParquetLoad, ParquetType, ParquetTypeText, Pipeline,
    RestFormat, RestMethod, RestSource, Retry, RunRetry, S3Settings, Schedule, Secret, Shards,
    Simulated, SnmpAuth, SnmpAuthProtocol, SnmpCpu, SnmpExtract, SnmpMissing, SnmpPrivacy,
    SnmpPrivacyProtocol, SnmpTable, SnmpUser, SnmpVersion, Source, SpoolMode, SpoolSettings,
    SqlFields, SqlKind, SqlSource, SqlTable, SslMode, Step, Timestamp, TimestampFrom, Tls, Trim,
    WriteMode,
};
pub use schema::{UnknownSection, pipeline_schema, section_schema};
pub(crate) use shards::{Shard, ShardPlace};
pub(crate) use suggest::{did_you_mean, nearest};
pub use units::{Rate, Share, Size, Span, UnitError};
