//! The database sinks. `postgres`, `sqlite` and `database` take the same keys, so
//! that one pipeline runs on SQLite and on PostgreSQL; `database` lets the URL decide.

use std::borrow::Cow;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::columns::Columns;
use super::http::Tls;
use super::seconds;
use super::secret::Secret;
use crate::config::units::Span;

/// Rows into a table of a database.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatabaseLoad {
    /// `postgres://user:password@host:port/database?sslmode=…` or `sqlite:PATH`. What it says
    /// goes before the keys below. A relative PATH is under the pipeline's data directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Secret>,
    /// PostgreSQL: host, or the directory of its socket (default: localhost).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// PostgreSQL: port (default: 5432).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: Option<u16>,
    /// PostgreSQL: user (default: postgres).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// PostgreSQL: password; better from the environment: `${POSTGRES_PASSWORD:-}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// PostgreSQL: file with the password; read at start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// PostgreSQL: database (default: named as the user). SQLite: the file (default: data.db).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// PostgreSQL: whether TLS is used (default: prefer on this machine, verify-full elsewhere).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sslmode: Option<SslMode>,
    /// PostgreSQL: lets a password travel without TLS to other hosts than this one (default: false).
    #[serde(default)]
    pub allow_plain_password: bool,
    /// PostgreSQL: TLS settings.
    #[serde(default)]
    pub tls: Tls,
    /// PostgreSQL: time to connect (default: 5s).
    #[serde(default = "connect_timeout")]
    pub connect_timeout: Span,
    /// The table, perhaps with its schema: `raw_data`, `sales.orders`.
    pub table: String,
    /// Whether a record becomes columns, or a row `id, data, created_at` (default: columns).
    #[serde(default)]
    pub layout: Layout,
    /// The table's columns and which field each is filled from.
    #[serde(default, skip_serializing_if = "Columns::is_empty")]
    pub columns: Columns,
    /// Creates the table with its keys and indexes when it is not there (default: false).
    #[serde(default)]
    pub create: bool,
    /// Columns of the primary key, for `create`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub primary_key: Vec<String>,
    /// Lists of columns that are unique together, for `create`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unique: Vec<Vec<String>>,
    /// Lists of columns to index, for `create`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub indexes: Vec<Vec<String>>,
    /// What happens to rows that are there (default: append).
    #[serde(default)]
    pub mode: WriteMode,
    /// Columns by which `upsert` finds the row to replace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<String>,
    /// With `upsert`: a row is overwritten only by one whose value in this column is not less,
    /// so that what waited in a spool does not undo what came after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The column whose values `replace` replaces as a whole, once per run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// What happens to a record with a field that no column is filled from (default: ignore).
    #[serde(default)]
    pub extra: Extra,
    /// Whether an empty text becomes NULL in a column that is no text, as CSV files need (default: true).
    #[serde(default = "yes")]
    pub empty_as_null: bool,
    /// Where the keys of loaded batches are kept, so that none is loaded twice.
    #[serde(default)]
    pub ledger: LedgerSettings,
}

/// Where the keys of loaded batches are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LedgerSettings {
    /// The table, made when it is not there (default: etl_batches). `replace` keeps
    /// its runs in another, named as this one with `_partitions` behind.
    #[serde(default = "ledger_table")]
    pub table: String,
    /// How long keys are kept; longer than any batch may wait in the spool (default: 30days).
    #[serde(default = "ledger_keep")]
    pub keep: Span,
}

/// How a record becomes a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// Its fields fill `columns`.
    #[default]
    Columns,
    /// The table is `id, data, created_at`, and `data` is the record as JSON.
    Raw,
}

/// What happens to rows that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WriteMode {
    /// They stay; rows are added.
    #[default]
    Append,
    /// A row with the same `key` is overwritten.
    Upsert,
    /// Rows of an earlier run with the same `partition` are deleted first.
    Replace,
}

/// What happens to a record with a field that no column is filled from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Extra {
    /// The field is left out.
    #[default]
    Ignore,
    /// The record is dead-lettered.
    Reject,
}

/// Whether a connection is encrypted, as libpq names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// No TLS.
    Disable,
    /// TLS where the server offers it; its certificate is checked only with `tls.ca`.
    Prefer,
    /// TLS always; the server's certificate is checked only with `tls.ca`.
    Require,
    /// TLS always, and the certificate must be trusted and name the host.
    VerifyFull,
}

impl JsonSchema for SslMode {
    fn schema_name() -> Cow<'static, str> {
        "SslMode".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "enum": ["disable", "prefer", "require", "verify-full"],
            "description": "Whether a connection is encrypted.",
        })
    }
}

impl Default for LedgerSettings {
    fn default() -> Self {
        LedgerSettings { table: ledger_table(), keep: ledger_keep() }
    }
}

fn connect_timeout() -> Span {
    seconds(5)
}
fn yes() -> bool {
    true
}
fn ledger_table() -> String {
    "etl_batches".to_owned()
}
fn ledger_keep() -> Span {
    seconds(30 * 24 * 3600)
}
