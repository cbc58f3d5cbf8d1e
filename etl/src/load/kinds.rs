//! Every kind of sink, in one place: how it is built and what it asks. A new kind
//! is its own file, its key in [`Load`], and a line in each function here.

use std::path::Path;
use std::sync::Arc;

use super::database::{self, DatabaseSinkError};
use super::files::partition::Partition;
use super::files::{self, FilesError, FilesSink, JsonFiles, Place};
use super::http_sink::{self, HttpSink, HttpSinkError};
use super::sink::Sink;
use crate::config::{FileLoad, Load, ParquetLoad};
use crate::telemetry::SinkInput;

/// What a sink may know of its pipeline.
#[derive(Debug, Clone, Copy)]
pub struct SinkHome<'a> {
    /// The pipeline's name.
    pub pipeline: &'a str,
    /// The pipeline's data directory: `DATA/PIPELINE`.
    pub directory: &'a Path,
    /// Which records the sink gets.
    pub input: SinkInput,
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
    /// A sink that writes files cannot begin.
    #[error(transparent)]
    Files(#[from] FilesError),
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
    if let Some(file) = &load.file {
        return Ok(Arc::new(file_sink(load, file, home)?));
    }
    if let Some(parquet) = &load.parquet {
        return Ok(Arc::new(parquet_sink(load, parquet, home)?));
    }
    Err(SinkError::NoKind)
}

fn file_sink(load: &Load, file: &FileLoad, home: &SinkHome<'_>) -> Result<FilesSink, FilesError> {
    let encoder = JsonFiles {
        prefix: file.prefix.clone().unwrap_or_else(|| home.pipeline.to_owned()),
        partition: Partition::new(file.partition.as_deref(), file.partition_by.clone()),
        format: file.format,
        compression: file.compression,
    };
    let place = Place::new(file.path.as_deref(), &home.files(), &file.s3, load)?;
    FilesSink::new(load, place, Box::new(encoder))
}

#[cfg(feature = "parquet")]
fn parquet_sink(
    load: &Load,
    parquet: &ParquetLoad,
    home: &SinkHome<'_>,
) -> Result<FilesSink, FilesError> {
    let encoder = super::parquet::ParquetFiles::new(load.sink_name(), parquet, home)?;
    let place = Place::new(parquet.path.as_deref(), &home.files(), &parquet.s3, load)?;
    FilesSink::new(load, place, Box::new(encoder))
}

#[cfg(not(feature = "parquet"))]
fn parquet_sink(_: &Load, _: &ParquetLoad, _: &SinkHome<'_>) -> Result<FilesSink, FilesError> {
    Err(FilesError::NotBuilt("parquet"))
}

impl SinkHome<'_> {
    /// Where files go unless the sink says otherwise.
    fn files(&self) -> std::path::PathBuf {
        self.directory.join(match self.input {
            SinkInput::Raw => "raw",
            SinkInput::Transformed => "processed",
        })
    }
}

/// What the sink of `load` asks, without secrets and queries: `POST https://host/path`,
/// `postgres://host:5432/name table t`. `None` for files in the pipeline's own data
/// directory, which moves with the spool.
#[must_use]
pub fn target(load: &Load) -> Option<String> {
    if let Some(http) = &load.http {
        return http_sink::target(&http.url);
    }
    if let Some((kind, settings)) = load.database_load() {
        return database::target(kind, settings);
    }
    let file = load.file.as_ref().and_then(|file| file.path.as_deref());
    let parquet = load.parquet.as_ref().and_then(|parquet| parquet.path.as_deref());
    file.or(parquet).map(files::target)
}
