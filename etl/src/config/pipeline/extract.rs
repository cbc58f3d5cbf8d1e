//! `extract:`, one call per source record.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::every::{self, Every};
use super::http::Tls;
use super::secret::Secret;
use super::snmp::SnmpExtract;
use super::{MIB, seconds};
use crate::config::units::{Share, Size, Span};

/// Calls in flight at once, unless told otherwise.
const WORKERS: usize = 1000;

/// How each source record becomes data: one call per record.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["simulated"]}, {"required": ["http"]}, {"required": ["snmp"]}]))]
pub struct Extract {
    /// Polls for good under `etl serve`: each target once in this time, as `60s`, or settings
    /// with more to say. Stands in the place of `schedule`. Absent: one pass a run.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "every::text_or_settings"
    )]
    #[schemars(schema_with = "every::text_or_settings_schema")]
    pub every: Option<Every>,
    /// Calls in flight at once (default: 1000; with `every`, under `etl serve`, what the
    /// limit of open files allows).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub workers: Option<usize>,
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
    /// Values asked of an SNMP agent per target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snmp: Option<SnmpExtract>,
}

impl Extract {
    /// Sockets that it may have open at once.
    pub(super) fn sockets_max(&self) -> usize {
        // All agents of SNMP are asked through one of each address family.
        if self.snmp.is_some() { 2 } else { self.workers() }
    }

    /// Calls of one pass in flight at once.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers.unwrap_or(WORKERS)
    }
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
