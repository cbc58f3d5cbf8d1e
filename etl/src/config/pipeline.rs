//! The pipeline file as types. What stands here is what `etl schema` prints,
//! what `etl check` accepts and what a run uses: there is no second list of keys.
//!
//! Defaults are the numbers a careful operator would choose for a fleet of
//! thousands; each is stated beside its key.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::{Rate, Share, Size, Span};

/// What the name of a pipeline or sink looks like: it becomes a directory and a metric label.
pub(crate) const NAME_PATTERN: &str = "^[a-z0-9][a-z0-9_-]{0,63}$";

/// Whether a text matches [`NAME_PATTERN`].
pub(crate) fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let all = text.bytes().all(|byte| plain(byte) || byte == b'-' || byte == b'_');
    all && text.len() <= 64 && text.bytes().next().is_some_and(plain)
}

/// One pipeline: where records come from, what is done to them, where they go.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// Names the pipeline's data directory, logs and metrics: lower-case letters, digits, `-`, `_`.
    #[schemars(regex(pattern = NAME_PATTERN))]
    pub name: String,
    /// When `etl serve` runs it: `@every 60s`, `@hourly`, `@daily` or five cron fields. Absent: run once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// With `extract`: a run that was cut short is resumed this long after it was last
    /// at work; later all targets are polled anew (default: the schedule's interval,
    /// without one 10m).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume_within: Option<Span>,
    /// Where records come from.
    pub source: Source,
    /// One call per source record; absent, the source's rows are the records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extract: Option<Extract>,
    /// Sinks that get records as extracted, before any transform.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub raw: Vec<Load>,
    /// Steps applied to each record in order.
    #[serde(default)]
    pub transform: Vec<Step>,
    /// Sinks that get the transformed records.
    #[schemars(length(min = 1))]
    pub load: Vec<Load>,
}

/// Where records come from; exactly one kind is set.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["csv"]}]))]
pub struct Source {
    /// A CSV file, plain or gzip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csv: Option<CsvSource>,
}

/// A CSV file as inventory (with `extract`) or as data.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CsvSource {
    /// The file, relative to the pipeline's file; `.gz` is read as gzip.
    pub path: PathBuf,
    /// Whether the first row names the columns (default: true).
    #[serde(default = "yes")]
    pub header: bool,
    /// The columns' names; needed without a header, and renames them with one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// The character between fields (default: `,`).
    #[serde(default = "comma")]
    #[schemars(length(equal = 1))]
    pub delimiter: char,
    /// Whether fields spelled exactly like a JSON number become numbers (default: true).
    #[serde(default = "yes")]
    pub numbers: bool,
}

/// How each source record becomes data: one call per record.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["simulated"]}, {"required": ["http"]}]))]
pub struct Extract {
    /// Calls in flight at once (default: 1000).
    #[serde(default = "extract_workers")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub workers: usize,
    /// One deadline per target over connect, retries and body (default: 8s).
    #[serde(default = "extract_timeout")]
    pub timeout: Span,
    /// Calls made for one target before it counts as failed, all under one deadline (default: 2).
    #[serde(default = "extract_attempts")]
    #[schemars(range(min = 1, max = 100))]
    pub attempts: u32,
    /// Made-up CPU statistics after a delay, for trying things out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simulated: Option<Simulated>,
    /// An HTTP GET per target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpExtract>,
}

/// Made-up CPU statistics after a delay.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Simulated {
    /// How long each appliance takes, or the shortest time when `delay_max` is set (default: 6s).
    #[serde(default = "simulated_delay")]
    pub delay: Span,
    /// With this, delays are spread evenly between `delay` and `delay_max`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_max: Option<Span>,
    /// The share of appliances that fail (default: 0).
    #[serde(default = "none_at_all")]
    pub fail: Share,
    /// The same seed gives the same numbers (default: 42).
    #[serde(default = "seed")]
    pub seed: u64,
}

/// An HTTP GET per target.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpExtract {
    /// The address; `{column}` is replaced by the record's field, percent-encoded.
    pub url: String,
    /// What the answer looks like (default: json).
    #[serde(default)]
    pub format: HttpFormat,
    /// JSON Pointer to the records in a JSON answer; absent: the whole answer (an object or an array of objects).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<String>,
    /// Time between the two samples of a first node_exporter poll (default: 1s).
    #[serde(default = "sample_interval")]
    pub sample_interval: Span,
    /// The most that is read of one answer (default: 4MiB).
    #[serde(default = "extract_body_max")]
    pub max_body: Size,
    /// Time to connect (default: 3s).
    #[serde(default = "connect_timeout")]
    pub connect_timeout: Span,
    /// Bearer token; better from the environment: `${API_TOKEN}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// Lets the token travel over plain HTTP to other hosts than this one (default: false).
    #[serde(default)]
    pub allow_plain_token: bool,
    /// TLS settings.
    #[serde(default)]
    pub tls: Tls,
}

/// What an appliance's HTTP answer looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HttpFormat {
    /// A JSON object, or an array of them.
    #[default]
    Json,
    /// The text that Prometheus' node_exporter serves; gives one record per CPU.
    NodeExporter,
}

/// TLS settings of a client.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM file with the authorities to trust instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

/// One transform step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// CPU percentages (`pidle`, `pnice`, `puser`, `psys`, `pirq`) into the indicators record.
    CpuIndicators,
}

/// One sink with its own workers, retries and spool; exactly one kind is set.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["http"]}]))]
pub struct Load {
    /// Names the sink in the spool and in metrics (default: its kind).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = NAME_PATTERN))]
    pub name: Option<String>,
    /// POST batches as JSON arrays to an HTTP API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpLoad>,
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

/// POST batches as JSON arrays to an HTTP API.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpLoad {
    /// The address batches are posted to.
    pub url: String,
    /// Bearer token; better from the environment: `${LOAD_API_TOKEN:-}`. Empty means none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// File with the bearer token; read at start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Lets the token travel over plain HTTP to other hosts than this one (default: false).
    #[serde(default)]
    pub allow_plain_token: bool,
    /// More request headers, as the API wants them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Secret>,
    /// How request bodies are compressed (default: none).
    #[serde(default)]
    pub compression: Compression,
    /// HTTP version (default: auto, that is 2 where TLS negotiates it, else 1.1).
    #[serde(default)]
    pub version: HttpVersion,
    /// Time to connect (default: 5s).
    #[serde(default = "load_connect_timeout")]
    pub connect_timeout: Span,
    /// JSON Pointer to the list of failed records in a 200 or 207 answer.
    /// Each item is an index, or an object with `index` and perhaps `error`.
    #[serde(default = "failed_pointer")]
    pub failed_records: String,
    /// TLS settings.
    #[serde(default)]
    pub tls: Tls,
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

/// How request bodies are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// As they are.
    #[default]
    None,
    /// gzip, level 1.
    Gzip,
    /// Zstandard, level 1.
    Zstd,
}

/// Which HTTP version a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum HttpVersion {
    /// HTTP/2 where TLS negotiates it, else HTTP/1.1.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// HTTP/1.1 only.
    #[serde(rename = "1.1")]
    Http1,
    /// HTTP/2 only, also without TLS.
    #[serde(rename = "2")]
    Http2,
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
    /// When a batch is written (default: write_ahead with `extract`, else on_failure).
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

/// A value that is never printed, logged or serialized.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(transparent, extend("writeOnly" = true))]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret value.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Secret(value.into())
    }

    /// The value itself, for the one place that sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_empty() { "(none)" } else { "(hidden)" })
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.0.is_empty() { "" } else { "(hidden)" })
    }
}

impl Pipeline {
    /// How long after it was last at work a run of a fleet is resumed.
    #[must_use]
    pub fn resume_within(&self) -> Duration {
        const WITHOUT_INTERVAL: Duration = Duration::from_secs(600);
        if let Some(Span(span)) = self.resume_within {
            return span;
        }
        let interval = match self.schedule.as_deref().map(str::trim) {
            Some("@hourly") => Some(Duration::from_secs(3600)),
            Some("@daily" | "@midnight") => Some(Duration::from_secs(24 * 3600)),
            Some(text) => text
                .strip_prefix("@every ")
                .and_then(|interval| interval.trim().parse().ok())
                .map(|Span(interval)| interval),
            None => None,
        };
        interval.unwrap_or(WITHOUT_INTERVAL)
    }
}

impl Load {
    /// The sink's name: the one given, else its kind.
    #[must_use]
    pub fn sink_name(&self) -> &str {
        self.name.as_deref().unwrap_or("http")
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

const fn seconds(seconds: u64) -> Span {
    Span(Duration::from_secs(seconds))
}

const MIB: u64 = 1 << 20;

fn yes() -> bool {
    true
}
fn comma() -> char {
    ','
}
fn extract_workers() -> usize {
    1000
}
fn extract_timeout() -> Span {
    seconds(8)
}
fn extract_attempts() -> u32 {
    2
}
fn simulated_delay() -> Span {
    seconds(6)
}
fn none_at_all() -> Share {
    Share(0.0)
}
fn seed() -> u64 {
    42
}
fn sample_interval() -> Span {
    seconds(1)
}
fn extract_body_max() -> Size {
    Size(4 * MIB)
}
fn connect_timeout() -> Span {
    seconds(3)
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
fn load_connect_timeout() -> Span {
    seconds(5)
}
fn failed_pointer() -> String {
    "/failed".to_owned()
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
