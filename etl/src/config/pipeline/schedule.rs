//! `schedule:` and `run_retry:`, when `etl serve` runs a pipeline and how often it
//! tries again.

use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;

use super::seconds;
use crate::config::units::Span;

/// When `etl serve` runs a pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    {"required": ["every"]},
    // A text or nothing at all fits the first only.
    {"required": ["cron"], "not": {"type": ["string", "null"]}},
]))]
pub struct Schedule {
    /// The time from one start to the next, at least 1s, counted from the start of `etl serve`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Span>,
    /// Five cron fields (minute hour day month weekday), `@hourly`, `@daily`, `@weekly`,
    /// `@monthly` or `@every 60s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// The time zone of the cron fields, as in `Europe/Berlin` (default: UTC).
    #[serde(default = "utc")]
    pub timezone: String,
    /// Starts are moved by up to this, always the same for one pipeline (default: 0s).
    #[serde(default = "no_time")]
    pub jitter: Span,
    /// What to do when a run is due while the one before is still going on (default: skip).
    #[serde(default)]
    pub overlap: Overlap,
    /// What to do about runs that were due while nobody was there to start them (default: run_once).
    #[serde(default)]
    pub missed: Missed,
}

/// What happens to a run that is due while the pipeline is still running.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// It is not run.
    #[default]
    Skip,
    /// One waits for the end and starts then; more are not run.
    Queue,
}

/// What happens at the start about runs that were due before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// Nothing: the next one is run when it is due.
    Skip,
    /// One run at once for all of them.
    #[default]
    RunOnce,
}

/// How a run that did not end well is tried again: source unavailable (69), data
/// still spooled (75), internal trouble (70).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunRetry {
    /// Runs after the first one (default: 3).
    #[serde(default = "max_retries")]
    #[schemars(range(min = 0, max = 1000))]
    pub max_retries: u32,
    /// The wait before the first of them (default: 5s).
    #[serde(default = "retry_delay")]
    pub retry_delay: Span,
    /// The longest wait (default: 5m).
    #[serde(default = "max_retry_delay")]
    pub max_retry_delay: Span,
    /// Whether each wait is twice the one before (default: true).
    #[serde(default = "yes")]
    pub exponential_backoff: bool,
    /// No retry begins later than this after the first start (default: without end).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_timeout: Option<Span>,
}

impl RunRetry {
    /// The wait before retry number `retry` (the first is 0), when the first start
    /// was `elapsed` ago; none when it should be left at that.
    #[must_use]
    pub fn delay(&self, retry: u32, elapsed: Duration) -> Option<Duration> {
        if retry >= self.max_retries {
            return None;
        }
        let factor = if self.exponential_backoff { 2u32.saturating_pow(retry) } else { 1 };
        let delay = self.retry_delay.0.saturating_mul(factor).min(self.max_retry_delay.0);
        let in_time =
            self.retry_timeout.is_none_or(|Span(limit)| elapsed.saturating_add(delay) <= limit);
        in_time.then_some(delay)
    }
}

/// Reads the settings, or a text, which stands for `cron:` alone.
pub(super) fn text_or_settings<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Schedule>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Text(String),
        Settings(Schedule),
    }
    Ok(Option::<Written>::deserialize(deserializer)?.map(|written| match written {
        Written::Text(text) => Schedule {
            every: None,
            cron: Some(text),
            timezone: utc(),
            jitter: no_time(),
            overlap: Overlap::default(),
            missed: Missed::default(),
        },
        Written::Settings(settings) => settings,
    }))
}

/// The schema of what [`text_or_settings`] reads.
pub(super) fn text_or_settings_schema(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = Schedule::json_schema(generator);
    schema.insert("type".to_owned(), json!(["string", "object", "null"]));
    schema.insert("examples".to_owned(), json!(["@every 60s"]));
    schema
}

fn utc() -> String {
    "UTC".to_owned()
}

fn no_time() -> Span {
    seconds(0)
}

fn max_retries() -> u32 {
    3
}

fn retry_delay() -> Span {
    seconds(5)
}

fn max_retry_delay() -> Span {
    seconds(300)
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::RunRetry;
    use crate::config::Span;

    #[test]
    fn waits_double_up_to_their_cap_and_end_with_the_number_or_the_time() {
        let second = Duration::from_secs(1);
        let mut retry = RunRetry {
            max_retries: 5,
            retry_delay: Span(2 * second),
            max_retry_delay: Span(7 * second),
            exponential_backoff: true,
            retry_timeout: None,
        };
        let delays = |retry: &RunRetry| -> Vec<_> {
            (0..7).map(|n| retry.delay(n, second).map(|it| it.as_secs())).collect()
        };
        let doubled = [Some(2), Some(4), Some(7), Some(7), Some(7), None, None];
        assert_eq!(delays(&retry), doubled);
        retry.exponential_backoff = false;
        assert_eq!(delays(&retry)[..6], [Some(2), Some(2), Some(2), Some(2), Some(2), None]);
        retry.retry_timeout = Some(Span(10 * second));
        assert_eq!(retry.delay(0, 8 * second), Some(2 * second));
        assert_eq!(retry.delay(0, 9 * second), None);
        retry.max_retries = 1000;
        retry.exponential_backoff = true;
        retry.retry_timeout = None;
        assert_eq!(retry.delay(999, second), Some(7 * second));
    }
}
