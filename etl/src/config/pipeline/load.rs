//! `load:` and `raw:`, the sinks with their workers, retries and spools.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::database::DatabaseLoad;
use super::files::{FileLoad, ParquetLoad};
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
    {"required": ["file"]},
    {"required": ["parquet"]},
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
    /// Write each batch as a JSON file, to a directory or to S3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileLoad>,
    /// Write each batch as a Parquet file, to a directory or to S3 (built with `--features parquet`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parquet: Option<ParquetLoad>,
    /// Batches in flight at once, unless `concurrency` is adaptive (default: 10; databases: 4, file: 2, parquet: 1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub workers: Option<usize>,
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
    /// Records that may wait for a worker before extraction waits (default: 2000; databases 20000; file and
    /// parquet: two batches).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub channel: Option<usize>,
    /// When a batch is sealed.
    #[serde(default)]
    pub batch: BatchSettings,
    /// What happens when a batch is not accepted.
    #[serde(default)]
    pub retry: Retry,
    /// One deadline per attempt over connect, request and answer (default: 15s; databases 30s; file and
    /// parquet: 60s).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
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

/// When a batch is sealed: whichever comes first. What is not set depends on the sink's kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchSettings {
    /// Records (default: 200; databases: 2000, file: 10000, parquet: 100000).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub records: Option<usize>,
    /// Bytes of JSON (default: 1MiB; databases: 4MiB, file: 16MiB, parquet: 64MiB). A single larger record travels alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Size>,
    /// How long the first record waits for company (default: 1s; parquet: 5m).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linger: Option<Span>,
}

/// [`BatchSettings`] with everything decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Records.
    pub records: usize,
    /// Bytes of JSON.
    pub bytes: Size,
    /// How long the first record waits for company.
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

/// What a kind of sink does when its settings do not say.
struct Defaults {
    workers: usize,
    channel: usize,
    batch: BatchLimits,
    timeout: Span,
}

/// Many small requests in flight.
const HTTP: Defaults = Defaults {
    workers: 10,
    channel: 2000,
    batch: BatchLimits { records: 200, bytes: Size(MIB), linger: seconds(1) },
    timeout: seconds(15),
};

/// A transaction a batch: enough rows to be worth one, few enough to be tried again.
const DATABASE: Defaults = Defaults {
    workers: 4,
    channel: 20_000,
    batch: BatchLimits { records: 2000, bytes: Size(4 * MIB), linger: seconds(1) },
    timeout: seconds(30),
};

/// A file is a batch: fewer and larger, one being made while another is written.
const FILE: Defaults = Defaults {
    workers: 2,
    channel: 20_000,
    batch: BatchLimits { records: 10_000, bytes: Size(16 * MIB), linger: seconds(1) },
    timeout: seconds(60),
};

/// Columns pay off in large files only, and each is built in memory.
const PARQUET: Defaults = Defaults {
    workers: 1,
    channel: 200_000,
    batch: BatchLimits { records: 100_000, bytes: Size(64 * MIB), linger: seconds(300) },
    timeout: seconds(60),
};

impl Load {
    /// The sink's name: the one given, else its kind.
    #[must_use]
    pub fn sink_name(&self) -> &str {
        self.name.as_deref().unwrap_or_else(|| self.kind())
    }

    /// The settings of a database sink, and the key they stand under.
    #[must_use]
    pub fn database_load(&self) -> Option<(&'static str, &DatabaseLoad)> {
        let kinds =
            [("database", &self.database), ("postgres", &self.postgres), ("sqlite", &self.sqlite)];
        kinds.into_iter().find_map(|(key, settings)| Some((key, settings.as_ref()?)))
    }

    /// Batches in flight at once, unless `concurrency` is adaptive.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers.unwrap_or(self.defaults().workers)
    }

    /// The most batches that may ever be in flight at once.
    #[must_use]
    pub fn in_flight_max(&self) -> usize {
        match self.concurrency {
            Concurrency::Fixed => self.workers(),
            Concurrency::Adaptive => self.workers_max,
        }
    }

    /// Records that may wait for a worker.
    #[must_use]
    pub fn channel(&self) -> usize {
        let files = self.file.is_some() || self.parquet.is_some();
        let two_batches = if files { 2 * self.limits().records } else { 0 };
        self.channel.unwrap_or(self.defaults().channel.max(two_batches))
    }

    /// When a batch is sealed.
    #[must_use]
    pub fn limits(&self) -> BatchLimits {
        let default = self.defaults().batch;
        BatchLimits {
            records: self.batch.records.unwrap_or(default.records),
            bytes: self.batch.bytes.unwrap_or(default.bytes),
            linger: self.batch.linger.unwrap_or(default.linger),
        }
    }

    /// The deadline of one attempt.
    #[must_use]
    pub fn timeout(&self) -> Span {
        self.timeout.unwrap_or(self.defaults().timeout)
    }

    /// The key of its kind.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.database_load() {
            Some((kind, _)) => kind,
            None if self.file.is_some() => "file",
            None if self.parquet.is_some() => "parquet",
            None => "http",
        }
    }

    fn defaults(&self) -> &'static Defaults {
        match self.kind() {
            "http" => &HTTP,
            "file" => &FILE,
            "parquet" => &PARQUET,
            _ => &DATABASE,
        }
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

fn load_workers_max() -> usize {
    256
}
fn max_rejected() -> Share {
    Share(0.05)
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
