//! The pipeline file as types. What stands here is what `etl schema` prints,
//! what `etl check` accepts and what a run uses: there is no second list of keys.
//!
//! Defaults are the numbers a careful operator would choose for a fleet of
//! thousands; each is stated beside its key.

mod alerts;
mod columns;
mod database;
mod every;
mod extract;
mod files;
mod http;
mod load;
mod rest;
mod schedule;
mod secret;
mod snmp;
mod source;
mod sql;
mod step;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::Span;
use crate::schedule::Timing;
pub use alerts::{AlertEmail, AlertWebhook, Alerts, MailEncryption};
pub use columns::{Column, ColumnType, Columns, Generated};
pub use database::{DatabaseLoad, Extra, Layout, LedgerSettings, SslMode, WriteMode};
pub use every::{Every, KeepAlive};
pub use extract::{Extract, HttpExtract, HttpFormat, Simulated};
pub use files::{
    FileFormat, FileLoad, ParquetColumn, ParquetCompression, ParquetLoad, ParquetType,
    ParquetTypeText, S3Settings,
};
pub use http::{Compression, HttpLoad, HttpVersion, Tls};
pub use load::{BatchLimits, BatchSettings, Concurrency, Load, Retry, SpoolMode, SpoolSettings};
pub use rest::{
    ApiKey, Auth, BasicAuth, Cursor, Incremental, NextPage, Oauth2, Offsets, PageNumbers,
    Pagination, RestFormat, RestMethod, RestSource,
};
pub use schedule::{Missed, Overlap, RunRetry, Schedule};
pub use secret::Secret;
pub use snmp::{
    SnmpAuth, SnmpAuthProtocol, SnmpCpu, SnmpExtract, SnmpMissing, SnmpPrivacy,
    SnmpPrivacyProtocol, SnmpTable, SnmpUser, SnmpVersion,
};
pub use source::{CsvSource, Source};
pub use sql::{ConnectRetry, CursorClock, Shards, SqlFields, SqlKind, SqlSource, SqlTable};
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
    /// When `etl serve` runs it: `@every 60s`, `@hourly`, `@daily` or five cron fields,
    /// or settings with more to say. Absent: run once.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "schedule::text_or_settings"
    )]
    #[schemars(schema_with = "schedule::text_or_settings_schema")]
    pub schedule: Option<Schedule>,
    /// How `etl serve` tries a run again that did not end well. Absent: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_retry: Option<RunRetry>,
    /// What is told when something needs people, by mail or to a webhook. Absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alerts: Option<Alerts>,
    /// With `extract` or `source.rest`: a run that was cut short is resumed this long after
    /// it was last at work; later all is polled anew (default: the interval of the schedule
    /// or of `extract.every`, at most a day; without one 10m).
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
    /// Whether what is read cannot be read again for the same values.
    #[must_use]
    pub fn is_polled(&self) -> bool {
        self.extract.is_some() || self.source.rest.is_some()
    }

    /// How long after it was last at work a run of a fleet or an API is resumed.
    #[must_use]
    pub fn resume_within(&self) -> Duration {
        const WITHOUT_INTERVAL: Duration = Duration::from_secs(600);
        const LONGEST: Duration = Duration::from_secs(24 * 3600);
        if let Some(Span(span)) = self.resume_within {
            return span;
        }
        let every = self.every().map(|every| every.interval.0);
        let interval = every.or_else(|| self.timing().and_then(|timing| timing.interval()));
        interval.map_or(WITHOUT_INTERVAL, |interval| interval.min(LONGEST))
    }

    /// How a fleet is polled for good; none where it is not.
    #[must_use]
    pub fn every(&self) -> Option<&Every> {
        self.extract.as_ref()?.every.as_ref()
    }

    /// Sockets that it may have open at once. A fleet that is polled for good without
    /// `workers` takes what there is.
    #[must_use]
    pub fn sockets_max(&self) -> u64 {
        let extract = self.extract.as_ref().map_or(0, Extract::sockets_max);
        let sql = self.source.sql.as_ref().map_or(0, SqlSource::connections_max);
        let loads: usize = self.raw.iter().chain(&self.load).map(Load::in_flight_max).sum();
        (extract + loads + sql) as u64
    }

    /// When it is due; none when it is run once.
    #[must_use]
    pub fn timing(&self) -> Option<Timing> {
        // A pipeline that was loaded has a schedule that was read once before.
        self.schedule.as_ref().and_then(|schedule| super::schedule::timing(schedule).ok())
    }
}

const fn seconds(seconds: u64) -> Span {
    Span(Duration::from_secs(seconds))
}

const MIB: u64 = 1 << 20;
