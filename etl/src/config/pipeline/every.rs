//! `extract.every:`, a fleet that is polled for good.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;

use super::seconds;
use crate::config::units::{Span, UnitError};

/// How `etl serve` polls a fleet for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Every {
    /// Each target is polled once in this time, from 1s to a day.
    pub interval: Span,
    /// Polls of one host in flight at once, as many as it bears (default: no limit).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub per_host: Option<usize>,
    /// Polls of one subnet (/24 of IPv4, /64 of IPv6) in flight at once (default: no limit).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub per_subnet: Option<usize>,
    /// Whether connections outlive a poll (default: auto).
    #[serde(default)]
    pub keep_alive: KeepAlive,
    /// How often the inventory is looked at for changes (default: 5s).
    #[serde(default = "reload")]
    pub reload: Span,
}

/// Whether connections are kept from one poll to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeepAlive {
    /// As many as the limit of open files leaves room for; none where hosts are more.
    #[default]
    Auto,
    /// Never.
    Off,
}

impl Every {
    /// That interval, and nothing else said.
    #[must_use]
    pub fn interval(interval: Span) -> Every {
        let keep_alive = KeepAlive::default();
        Every { interval, per_host: None, per_subnet: None, keep_alive, reload: reload() }
    }
}

/// Reads the settings, or a text, which stands for `interval:` alone.
pub(super) fn text_or_settings<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Every>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Text(String),
        Settings(Every),
    }
    match Option::<Written>::deserialize(deserializer)? {
        None => Ok(None),
        Some(Written::Settings(settings)) => Ok(Some(settings)),
        Some(Written::Text(text)) => {
            let interval = text.parse().map_err(|error: UnitError| {
                D::Error::custom(format!("expected {}", error.expected()))
            })?;
            Ok(Some(Every::interval(interval)))
        }
    }
}

/// The schema of what [`text_or_settings`] reads.
pub(super) fn text_or_settings_schema(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = Every::json_schema(generator);
    schema.insert("type".to_owned(), json!(["string", "object", "null"]));
    schema.insert("examples".to_owned(), json!(["60s"]));
    schema
}

fn reload() -> Span {
    seconds(5)
}
