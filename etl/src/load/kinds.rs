//! Every kind of sink, in one place: how it is built and what it asks. A new kind
//! is its own file, its key in [`Load`], and a line in each function here.

use std::path::Path;
use std::sync::Arc;

use super::database::{self, DatabaseSinkError};
use super::http_sink::{self, HttpSink, HttpSinkError};
use super::sink::Sink;
use crate::config::Load;

/// What a sink may know of its pipeline.
#[derive(Debug, Clone, Copy)]
pub struct SinkHome<'a> {
    /// The pipeline's name.
    pub pipeline: &'a str,
    /// The pipeline's data directory: `DATA/PIPELINE`.
    pub directory: &'a Path,
}

/// Why a sink could not be built. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The configuration passed its checks and names no kind.
    #[error("a sink without a kind")]
    NoKind,
    /// An HTTP sink's settings are unusable.
    #[error(transparent)]
    Http(#[from] HttpSinkError),
    /// A database sink's settings are unusable.
    #[error(transparent)]
    Database(#[from] DatabaseSinkError),
}

/// Builds the sink of `load`.
///
/// # Errors
/// When its settings are unusable.
pub fn build(load: &Load, home: &SinkHome<'_>) -> Result<Arc<dyn Sink>, SinkError> {
    if let Some(http) = &load.http {
        return Ok(Arc::new(HttpSink::new(load, http)?));
    }
    if let Some((kind, settings)) = load.database_load() {
        return Ok(database::build(kind, load, settings, home)?);
    }
    Err(SinkError::NoKind)
}

/// What the sink of `load` asks, without secrets and queries: `POST https://host/path`,
/// `postgres://host:5432/name table t`.
#[must_use]
pub fn target(load: &Load) -> Option<String> {
    if let Some(http) = &load.http {
        return http_sink::target(&http.url);
    }
    load.database_load().and_then(|(kind, settings)| database::target(kind, settings))
}
