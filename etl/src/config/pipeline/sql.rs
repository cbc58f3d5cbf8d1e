//! `source.sql:`, rows of tables or queries in one database or in many that look alike.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::database::SslMode;
use super::http::Tls;
use super::seconds;
use super::secret::Secret;
use crate::config::units::Span;

/// Rows of tables or queries, out of one database or of many that look alike (shards).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SqlSource {
    /// What the shards are.
    pub kind: SqlKind,
    /// The shards: a list of `KIND://user:password@host:port/database` (`sqlite:PATH`), or one text
    /// with commas between: `${SHARDS}`. What it says goes before the keys below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shards: Option<Shards>,
    /// Instead of `shards`: hosts, with commas between: `${SQLSERVER_SHARD_HOSTS}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<String>,
    /// The hosts' ports, with commas between: one for each, or one for all (default: the kind's own).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<String>,
    /// The shards' names in records, messages and the checkpoint, with commas between (default:
    /// `host:port/database`). A shard that moves and keeps its name keeps its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<String>,
    /// The user on every shard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The user's password; better from the environment: `${SOURCE_DB_PASSWORD:-}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// The database on every shard (default: named as the user).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Whether connections are encrypted (default: prefer on this machine, verify-full elsewhere).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sslmode: Option<SslMode>,
    /// Lets a password travel without TLS to other hosts than this one (default: false).
    #[serde(default)]
    pub allow_plain_password: bool,
    /// TLS settings.
    #[serde(default)]
    pub tls: Tls,
    /// Time to connect (default: 5s).
    #[serde(default = "connect_timeout")]
    pub connect_timeout: Span,
    /// One deadline for a statement, and for each wait for more of its rows (default: 60s).
    #[serde(default = "timeout")]
    pub timeout: Span,
    /// What happens when a connection cannot be made or breaks.
    #[serde(default)]
    pub connect_retry: ConnectRetry,
    /// Connections to each shard at once; each reads one table (default: 2).
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 64))]
    pub connections: usize,
    /// Rows that one statement asks for (default: 10000).
    #[serde(default = "page")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub page: u32,
    /// What is read from each shard.
    #[schemars(length(min = 1))]
    pub tables: Vec<SqlTable>,
    /// Fields that are added to each record.
    #[serde(default)]
    pub add: SqlFields,
}

/// What the shards are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SqlKind {
    /// Microsoft SQL Server.
    Sqlserver,
    /// PostgreSQL.
    Postgres,
    /// MySQL or MariaDB.
    Mysql,
    /// SQLite files.
    Sqlite,
}

/// Where shards are: a list, or one text with commas between.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Shards {
    /// One text with commas between.
    Text(Secret),
    /// A list.
    List(Vec<Secret>),
}

/// What happens when a connection cannot be made or breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectRetry {
    /// Attempts before a shard counts as down (default: 3).
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 100))]
    pub attempts: u32,
    /// The wait between them (default: 1s).
    #[serde(default = "second")]
    pub wait: Span,
}

/// A table or query that every shard has.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SqlTable {
    /// The table, perhaps with its schema: `customers`, `sales.orders`. Instead of `query`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// A SELECT without ORDER BY, for columns that need a cast or a join. Instead of `table`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// Its name in records, messages and the checkpoint (default: the table's; a query needs one).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The columns that no two rows share: the primary key.
    #[schemars(length(min = 1))]
    pub key: Vec<String>,
    /// The column that grows with every change of a row. With it only what is new is read; without
    /// it all is read on every run, in the order of `key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Only these columns (default: all).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// How far back the first run reads, by the cursor: 15days (default: everything).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Span>,
    /// How far behind the database's clock reading stays, so that rows whose transaction commits
    /// late are not missed: longer than any transaction that writes here takes (default: 1m).
    #[serde(default = "lag")]
    pub lag: Span,
    /// By which clock a cursor without a zone is written (default: earlier).
    #[serde(default)]
    pub clock: CursorClock,
    /// Passes over rows whose cursor is NULL, which no run would ever read, without a word
    /// (default: false, they are an error).
    #[serde(default)]
    pub skip_null_cursor: bool,
    /// The sinks that get its records, by name (default: all).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<String>,
}

/// By which clock a cursor column without a zone is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CursorClock {
    /// UTC or the server's zone, whichever is earlier now: never too early, perhaps hours late.
    #[default]
    Earlier,
    /// UTC.
    Utc,
    /// The server's zone.
    Local,
}

/// Fields that are added to each record; each key names the field.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SqlFields {
    /// The shard's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<String>,
    /// The table's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_table: Option<String>,
    /// When the run began, ISO 8601 in UTC: the same for all of a run, also when it is resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processed_at: Option<String>,
}

impl SqlTable {
    /// Its name in records, messages and the checkpoint.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_deref().or(self.table.as_deref()).unwrap_or("query")
    }
}

impl SqlKind {
    /// As the file spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            SqlKind::Sqlserver => "sqlserver",
            SqlKind::Postgres => "postgres",
            SqlKind::Mysql => "mysql",
            SqlKind::Sqlite => "sqlite",
        }
    }

    /// Whether this program can speak to it.
    #[must_use]
    pub fn is_built(self) -> bool {
        match self {
            SqlKind::Sqlserver => cfg!(feature = "sqlserver"),
            SqlKind::Postgres => cfg!(feature = "postgres"),
            SqlKind::Mysql => cfg!(feature = "mysql"),
            SqlKind::Sqlite => cfg!(feature = "sqlite"),
        }
    }
}

impl Default for ConnectRetry {
    fn default() -> Self {
        ConnectRetry { attempts: three(), wait: second() }
    }
}

fn connect_timeout() -> Span {
    seconds(5)
}
fn timeout() -> Span {
    seconds(60)
}
fn lag() -> Span {
    seconds(60)
}
fn second() -> Span {
    seconds(1)
}
fn two() -> usize {
    2
}
fn three() -> u32 {
    3
}
fn page() -> u32 {
    10_000
}
