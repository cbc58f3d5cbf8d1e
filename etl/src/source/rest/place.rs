//! Where a run is in an API: which page, and what has come before it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::high::High;

/// The part of a request that changes from page to page.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// The configured address as it is.
    #[default]
    First,
    /// Another address, without a key in its query.
    Url(String),
    /// A page's number.
    Page(u64),
    /// How many records to pass over.
    Offset(u64),
    /// What the page before has said, a text.
    Cursor(String),
    /// What the page before has said, a number as it stood there.
    CursorNumber(String),
}

/// A page's beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// Pages before it in this run.
    pub number: u64,
    /// What to ask for.
    pub ask: Ask,
    /// The number of its first record in this run.
    pub first_record: u64,
    /// Of all records before it.
    pub trace: Trace,
    /// The highest incremental value before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<High>,
    /// Records in the first page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// A place within a page.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spot {
    /// The page.
    pub page: Page,
    /// Of all records before the place: whether they are still what they were.
    pub trace: Trace,
}

/// What is known of a page that has not changed since.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// Its `ETag`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Its `Last-Modified`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<String>,
    /// The page after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Ask>,
    /// Records in it.
    pub records: u64,
}

/// BLAKE3 over records, one after the other: of two readings with equal traces, all
/// records were equal.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Trace([u8; 32]);

impl Trace {
    /// The trace with one record more.
    #[must_use]
    pub fn and(&self, record: &[u8]) -> Trace {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0);
        hasher.update(record);
        Trace(*hasher.finalize().as_bytes())
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Trace {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Trace {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let hash = blake3::Hash::from_hex(text).map_err(serde::de::Error::custom)?;
        Ok(Trace(*hash.as_bytes()))
    }
}
