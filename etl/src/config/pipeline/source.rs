//! `source:`, where records come from.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rest::RestSource;
use super::sql::SqlSource;

/// Where records come from; exactly one kind is set.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["csv"]}, {"required": ["rest"]}, {"required": ["sql"]}]))]
pub struct Source {
    /// A CSV file, plain or gzip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csv: Option<CsvSource>,
    /// Records that an HTTP API hands out, page by page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest: Option<RestSource>,
    /// Rows of tables or queries, out of one database or of many that look alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<SqlSource>,
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

fn yes() -> bool {
    true
}
fn comma() -> char {
    ','
}
