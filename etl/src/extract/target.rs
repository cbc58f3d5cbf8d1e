//! What is extracted from: one row of the source.

use std::borrow::Cow;

use super::error::ExtractError;
use crate::http::printable;
use crate::source::fields::{Value, all};

/// The most of a target's name that is shown.
const LABEL_MAX: usize = 100;

/// A row's fields by name, in order.
pub(super) type Fields<'a> = Vec<(Cow<'a, str>, Value<'a>)>;

/// One source record to extract from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its place in the source, from 0.
    pub index: u64,
    /// The source row, one JSON object.
    pub row: Vec<u8>,
}

/// The source row is not a JSON object.
#[derive(Debug, thiserror::Error)]
#[error("the source row is not a JSON object: {0}")]
pub struct TargetError(#[from] serde_json::Error);

impl Target {
    /// Makes a target of a source row, one JSON object.
    ///
    /// # Errors
    /// When `row` is something else.
    pub fn new(index: u64, row: Vec<u8>) -> Result<Target, TargetError> {
        all(&row)?;
        Ok(Target { index, row })
    }

    /// A target of a row that was one before: not looked at again until it is asked.
    #[must_use]
    pub fn again(index: u64, row: Vec<u8>) -> Target {
        Target { index, row }
    }

    /// What messages call it: its hostname, name or ip, else its first column. Fit to
    /// be printed.
    #[must_use]
    pub fn label(&self) -> String {
        let fields = all(&self.row).unwrap_or_default();
        let named = |wanted: &str| {
            fields.iter().find(|(name, _)| name == wanted).and_then(|(_, value)| value.text())
        };
        ["hostname", "name", "ip"]
            .into_iter()
            .filter_map(named)
            .find(|label| !label.is_empty())
            .or_else(|| fields.first().and_then(|(_, value)| value.text()))
            .map(|label| printable(label.as_bytes(), LABEL_MAX))
            .filter(|label| !label.is_empty())
            .unwrap_or_else(|| format!("target {}", self.index + 1))
    }

    /// The row's fields.
    pub(super) fn fields(&self) -> Result<Fields<'_>, ExtractError> {
        all(&self.row).map_err(|error| ExtractError::Target(TargetError(error)))
    }
}
