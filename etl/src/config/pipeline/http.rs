//! The HTTP sink, and what all HTTP clients have in common.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::seconds;
use super::secret::Secret;
use crate::config::units::Span;

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

/// TLS settings of a client.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM file with the authorities to trust instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

fn load_connect_timeout() -> Span {
    seconds(5)
}
fn failed_pointer() -> String {
    "/failed".to_owned()
}
