//! `load:` and `raw:`, the sinks with their workers, retries and spools.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::database::DatabaseLoad;
use super::http::HttpLoad;
use super::{MIB, NAME_PATTERN, seconds};
use crate::config::units::{Rate, Share, Size, Span};

/// One sink with its own workers, retries and spool; exactly one kind is set.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    {"required": ["http"]},
    {"required": ["database"]},
    {"required": ["postgres"]},
    {"required": ["sqlite"]},
]))]
pub struct Load {
    /// Names the sink in the spool and in metrics (default: its kind).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = NAME_PATTERN))]
    pub name: Option<String>,
    /// POST batches as JSON arrays to an HTTP API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpLoad>,
    /// Rows into PostgreSQL or SQLite, as its URL says (default: sqlite:data.db).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<DatabaseLoad>,
    /// Rows into a table of PostgreSQL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<DatabaseLoad>,
    /// Rows into a table of an SQLite file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sqlite: Option<DatabaseLoad>,
    /// Batches in flight at once, unless `concurrency` is adaptive (default: 10).
    #[serde(default = "load_workers")]
    #[schemars(range(min = 1, max = 10_000))]
    pub workers: usize,
    /// Whether `workers` batches are in flight, or as many as the sink is found to bear (default: fixed).
    #[serde(default)]
    pub concurrency: Concurrency,
    /// The most batches in flight when `concurrency` is adaptive (default: 256).
    #[serde(default = "load_workers_max")]
    #[schemars(range(min = 1, max = 10_000))]
    pub workers_max: usize,
    /// The most requests a second or a minute, retries included: 500/s, 30/m. Absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Records that may wait for a worker before extraction waits (default: 2000).
    #[serde(default = "channel")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub channel: usize,
    /// When a batch is sealed.
    #[serde(default)]
    pub batch: BatchLimits,
    /// What happens when a batch is not accepted.
    #[serde(default)]
    pub retry: Retry,
    /// One deadline per attempt over connect, request and answer (default: 15s).
    #[serde(default = "load_timeout")]
    pub timeout: Span,
    /// The share of records that may be dead-lettered before the run stops (default: 5%).
    #[serde(default = "max_rejected")]
    pub max_rejected: Share,
    /// What was not delivered waits here.
    #[serde(default)]
    pub spool: SpoolSettings,
}

/// How many batches are in flight at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Concurrency {
    /// As many as there are workers.
    #[default]
    Fixed,
    /// As many as the sink answers without slowing down, found while running.
    Adaptive,
}

/// When a batch is sealed: whichever comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchLimits {
    /// Records (default: 200).
    #[serde(default = "batch_records")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub records: usize,
    /// Bytes of JSON (default: 1MiB). A single larger record travels alone.
    #[serde(default = "batch_bytes")]
    pub bytes: Size,
    /// How long the first record waits for company (default: 1s).
    #[serde(default = "linger")]
    pub linger: Span,
}

/// What happens when a batch is not accepted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Attempts before the batch is spooled (default: 5).
    #[serde(default = "retry_attempts")]
    #[schemars(range(min = 1, max = 1000))]
    pub attempts: u32,
    /// The longest first wait; it doubles with every attempt (default: 1s).
    #[serde(default = "retry_base")]
    pub base: Span,
    /// The longest wait (default: 30s).
    #[serde(default = "retry_cap")]
    pub cap: Span,
    /// Status codes to retry besides 408, 425, 429 and 5xx except 501.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<u16>,
}

/// Where and how undelivered batches wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SpoolSettings {
    /// When a batch is written (default: write_ahead with `extract` or `source.rest`, else on_failure).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<SpoolMode>,
    /// The most the spool may hold; at the cap, intake waits (default: 1GiB).
    #[serde(default = "spool_max")]
    pub max_bytes: Size,
    /// What the spool leaves free on its disk (default: 256MiB).
    #[serde(default = "spool_free")]
    pub min_free: Size,
}

/// When a batch is written to the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SpoolMode {
    /// After its last failed attempt.
    OnFailure,
    /// Before its first attempt.
    WriteAhead,
}

impl Load {
    /// The sink's name: the one given, else its kind.
    #[must_use]
    pub fn sink_name(&self) -> &str {
        self.name.as_deref().unwrap_or_else(|| self.kind())
    }

    /// The key of its kind.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.database_load() {
            Some((kind, _)) => kind,
            None => "http",
        }
    }

    /// The settings of a database sink, and the key they stand under.
    #[must_use]
    pub fn database_load(&self) -> Option<(&'static str, &DatabaseLoad)> {
        let kinds =
            [("database", &self.database), ("postgres", &self.postgres), ("sqlite", &self.sqlite)];
        kinds.into_iter().find_map(|(key, settings)| Some((key, settings.as_ref()?)))
    }

    /// The most batches that may ever be in flight at once.
    #[must_use]
    pub fn in_flight_max(&self) -> usize {
        match self.concurrency {
            Concurrency::Fixed => self.workers,
            Concurrency::Adaptive => self.workers_max,
        }
    }
}

impl Default for BatchLimits {
    fn default() -> Self {
        BatchLimits { records: batch_records(), bytes: batch_bytes(), linger: linger() }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Retry { attempts: retry_attempts(), base: retry_base(), cap: retry_cap(), also: Vec::new() }
    }
}

impl Default for SpoolSettings {
    fn default() -> Self {
        SpoolSettings { mode: None, max_bytes: spool_max(), min_free: spool_free() }
    }
}

fn load_workers() -> usize {
    10
}
fn load_workers_max() -> usize {
    256
}
fn channel() -> usize {
    2000
}
fn load_timeout() -> Span {
    seconds(15)
}
fn max_rejected() -> Share {
    Share(0.05)
}
fn batch_records() -> usize {
    200
}
fn batch_bytes() -> Size {
    Size(MIB)
}
fn linger() -> Span {
    seconds(1)
}
fn retry_attempts() -> u32 {
    5
}
fn retry_base() -> Span {
    seconds(1)
}
fn retry_cap() -> Span {
    seconds(30)
}
fn spool_max() -> Size {
    Size(1024 * MIB)
}
fn spool_free() -> Size {
    Size(256 * MIB)
}
