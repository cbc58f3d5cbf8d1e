//! The pipeline file as types. What stands here is what `etl schema` prints,
//! what `etl check` accepts and what a run uses: there is no second list of keys.
//!
//! Defaults are the numbers a careful operator would choose for a fleet of
//! thousands; each is stated beside its key.

mod extract;
mod http;
mod load;
mod secret;
mod source;
mod step;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::Span;
pub use extract::{Extract, HttpExtract, HttpFormat, Simulated};
pub use http::{Compression, HttpLoad, HttpVersion, Tls};
pub use load::{BatchLimits, Concurrency, Load, Retry, SpoolMode, SpoolSettings};
pub use secret::Secret;
pub use source::{CsvSource, Source};
pub use step::{
    Added, All, Cast, Concat, Constant, Dedupe, DedupeSettings, Flatten, Mask, Named, Step,
    Timestamp, TimestampFrom, Trim,
};

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

const fn seconds(seconds: u64) -> Span {
    Span(Duration::from_secs(seconds))
}

const MIB: u64 = 1 << 20;
