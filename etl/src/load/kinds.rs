//! Every kind of sink, in one place: how it is built and what it asks. A new kind
//! is its own file, its key in [`Load`], and a line in each function here.

use std::path::Path;
use std::sync::Arc;

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
}

/// Builds the sink of `load`.
///
/// # Errors
/// When its settings are unusable.
pub fn build(load: &Load, _home: &SinkHome<'_>) -> Result<Arc<dyn Sink>, SinkError> {
    if let Some(http) = &load.http {
        return Ok(Arc::new(HttpSink::new(load, http)?));
    }
    Err(SinkError::NoKind)
}

/// What the sink of `load` asks, without secrets and queries: `POST https://host/path`.
#[must_use]
pub fn target(load: &Load) -> Option<String> {
    load.http.as_ref().and_then(|http| http_sink::target(&http.url))
}
