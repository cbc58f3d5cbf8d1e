//! Rows into the tables of databases, each batch once.
//!
//! A batch is one transaction that first notes the batch's key in a ledger table. A
//! key that is there already means that the batch was loaded and its answer lost.
//!
//! `row` finds a record's fields in its bytes, `table` and `sql` know the table and how
//! it is spoken to, `sqlstate` what an error means; `postgres` and `sqlite` do it.

mod outcome;
mod row;
mod sql;
mod sqlstate;
mod table;

#[cfg(feature = "postgres")]
mod copy;
#[cfg(feature = "postgres")]
mod link;
#[cfg(feature = "postgres")]
mod partitions;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(feature = "postgres")]
pub(crate) mod tls;
#[cfg(feature = "sqlite")]
mod values;

use std::path::PathBuf;
use std::sync::Arc;

use super::kinds::SinkHome;
use super::sink::Sink;
use crate::config::{DatabaseLoad, DatabasePlace, Load};

/// Why a database sink could not be built. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseSinkError {
    /// The place it names is none.
    #[error("{kind}.url {message}")]
    Place {
        /// The kind of sink.
        kind: &'static str,
        /// What is wrong.
        message: String,
    },
    /// This program cannot speak to that database.
    #[error("this etl was built without {0}: build it with --features {0}")]
    NotBuilt(&'static str),
    /// The password's file could not be read.
    #[error("password_file {}: {source}", path.display())]
    PasswordFile {
        /// As configured.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The thread that writes the file could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// The TLS settings are unusable.
    #[error("{0}")]
    Tls(String),
}

/// Builds the sink of `load`, whose kind is `kind`.
pub(super) fn build(
    kind: &'static str,
    load: &Load,
    database: &DatabaseLoad,
    home: &SinkHome<'_>,
) -> Result<Arc<dyn Sink>, DatabaseSinkError> {
    let place = DatabasePlace::of(kind, database)
        .map_err(|problem| DatabaseSinkError::Place { kind, message: problem.message })?;
    match place {
        #[cfg(feature = "postgres")]
        DatabasePlace::Postgres(server) => {
            Ok(Arc::new(postgres::PostgresSink::new(*server, load, database)?))
        }
        #[cfg(not(feature = "postgres"))]
        DatabasePlace::Postgres(_) => Err(DatabaseSinkError::NotBuilt("postgres")),
        #[cfg(feature = "sqlite")]
        DatabasePlace::Sqlite(file) => {
            let file = home.directory.join(file);
            Ok(Arc::new(sqlite::SqliteSink::new(file, load, database)?))
        }
        #[cfg(not(feature = "sqlite"))]
        DatabasePlace::Sqlite(_) => Err(DatabaseSinkError::NotBuilt("sqlite")),
    }
}

/// Which table of which database `load` fills, without user and password.
pub(super) fn target(kind: &str, load: &DatabaseLoad) -> Option<String> {
    let place = match DatabasePlace::of(kind, load).ok()? {
        DatabasePlace::Postgres(server) => server.shown(),
        DatabasePlace::Sqlite(file) => format!("sqlite:{}", file.display()),
    };
    Some(shown(&place, load))
}

fn shown(place: &str, load: &DatabaseLoad) -> String {
    let text = format!("{place} table {}", load.table);
    crate::http::printable(text.as_bytes(), 300)
}
