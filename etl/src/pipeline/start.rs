//! Why a run did not begin, and what the shell is told about it.

use std::path::Path;

use super::sql::Connectors;
use crate::checkpoint::StoreError;
use crate::config::Pipeline;
use crate::extract::{Extractor, ExtractorError};
use crate::load::SinkError;
use crate::source::CsvRows;
use crate::source::rest::RestSetupError;
use crate::source::sql::{self, SqlSetupError};
use crate::spool::OpenError;

/// Why a run did not begin. Nothing was read or sent.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The spool could not be opened, perhaps because another process has it.
    #[error("sink {sink}: {source}")]
    Spool {
        /// The sink's name.
        sink: String,
        /// Why.
        source: OpenError,
    },
    /// A sink's settings are unusable.
    #[error("sink {sink}: {source}")]
    Sink {
        /// The sink's name.
        sink: String,
        /// Why.
        source: SinkError,
    },
    /// The extraction's settings are unusable.
    #[error("extract: {0}")]
    Extract(#[from] ExtractorError),
    /// The API's settings are unusable.
    #[error(transparent)]
    Rest(#[from] RestSetupError),
    /// The shards' settings are unusable.
    #[error(transparent)]
    Sql(#[from] SqlSetupError),
    /// The extraction's address asks for a column that the inventory does not have.
    #[error("{key} asks for {{{column}}}, and {file} has no such column; it has: {known}")]
    Column {
        /// The key that asks.
        key: &'static str,
        /// The column asked for.
        column: String,
        /// The inventory.
        file: String,
        /// Its columns.
        known: String,
    },
    /// A transform step cannot be built.
    #[error(transparent)]
    Transform(#[from] crate::transform::BuildError),
    /// The configuration passed its checks and still lacks something.
    #[error("{0}")]
    Incomplete(&'static str),
    /// The pipeline's state cannot be used or written.
    #[error(transparent)]
    State(#[from] StoreError),
    /// A thread could not be started.
    #[error("could not start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// What connects to each shard of an SQL source; connects to nothing.
pub(super) fn connectors(pipeline: &Pipeline, home: &Path) -> Result<Connectors, SqlSetupError> {
    let Some(source) = &pipeline.source.sql else { return Ok(Connectors::new()) };
    let shards = sql::shards(source)?;
    shards.iter().map(|shard| sql::connector(source, shard, home)).collect()
}

/// Refuses a pipeline whose inventory lacks a column that every poll would need.
/// An inventory that cannot be opened is the run's own matter.
pub(super) fn check_columns(pipeline: &Pipeline, extractor: &Extractor) -> Result<(), StartError> {
    let Some(Ok(rows)) = pipeline.source.csv.as_ref().map(CsvRows::open) else {
        return Ok(());
    };
    let known = rows.columns();
    match extractor.columns().find(|column| !known.iter().any(|name| name == column)) {
        None => Ok(()),
        Some(column) => Err(StartError::Column {
            key: extractor.address_key(),
            column: column.to_owned(),
            file: pipeline
                .source
                .csv
                .as_ref()
                .map_or_else(String::new, |csv| csv.path.display().to_string()),
            known: known.join(", "),
        }),
    }
}

impl From<&StartError> for crate::exit::Exit {
    fn from(error: &StartError) -> Self {
        match error {
            StartError::Spool { source: OpenError::Locked { .. }, .. } => {
                crate::exit::Exit::SourceUnavailable
            }
            StartError::State(StoreError::Open(OpenError::Locked { .. })) => {
                crate::exit::Exit::SourceUnavailable
            }
            // A full or failing disk is no mistake in the pipeline's file.
            StartError::Spool { source, .. } if source.is_fault() => {
                crate::exit::Exit::SourceUnavailable
            }
            StartError::State(error) if error.is_fault() => crate::exit::Exit::SourceUnavailable,
            StartError::Thread(_) => crate::exit::Exit::Internal,
            _ => crate::exit::Exit::Config,
        }
    }
}
