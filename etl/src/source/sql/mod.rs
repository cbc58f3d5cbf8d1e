//! Rows of tables or queries, out of many databases that look alike (shards), read in
//! the order of `(cursor, key)` page by page, never with OFFSET.
//!
//! `client` is what one connection to a shard must be able to do, for every kind of
//! database; `rows` takes what it reads and hands it on in bounded chunks; `values`
//! writes a database's values as JSON without losing a digit. [`Key`] is a row's place
//! in the order.

mod client;
mod error;
mod key;
mod look;
#[cfg(feature = "mysql")]
mod mysql;
mod outline;
#[cfg(feature = "postgres")]
mod postgres;
mod rows;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod sentence;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(feature = "sqlserver")]
mod sqlserver;
pub mod values;

use std::path::Path;
use std::sync::Arc;

use crate::config::{Shard, ShardPlace, SqlKind, SqlSource};

pub use client::{Client, Column, Connector, Doing, Kind, Page, Relation};
pub use error::{SqlError, Trouble};
pub use key::Key;
pub use look::{Seen, look};
pub use outline::{Outline, relation};
pub use rows::{Chunk, Entry, RowWriter, Shape};

/// Why a source cannot be asked at all. Nothing was read.
#[derive(Debug, thiserror::Error)]
pub enum SqlSetupError {
    /// The shards are wrong.
    #[error("source.sql.{key} {message}")]
    Shards {
        /// The key.
        key: &'static str,
        /// What is wrong.
        message: String,
    },
    /// This program cannot speak to that kind of database.
    #[error("this etl was built without {0}: build it with --features {0}")]
    NotBuilt(&'static str),
    /// The TLS settings are unusable.
    #[error("source.sql.tls: {0}")]
    Tls(String),
}

/// The shards of `source`.
pub(crate) fn shards(source: &SqlSource) -> Result<Vec<Shard>, SqlSetupError> {
    Shard::all(source).map_err(|wrong| {
        let message = wrong.problem.message;
        SqlSetupError::Shards { key: wrong.key, message }
    })
}

/// What connects to `shard` of `source`; connects to nothing. A relative file is under
/// `home`, the pipeline's data directory.
pub(crate) fn connector(
    source: &SqlSource,
    shard: &Shard,
    home: &Path,
) -> Result<Arc<dyn Connector>, SqlSetupError> {
    match (source.kind, &shard.place) {
        #[cfg(feature = "sqlserver")]
        (SqlKind::Sqlserver, ShardPlace::Server(server)) => {
            let connector =
                sqlserver::SqlServer::new(source, server).map_err(SqlSetupError::Tls)?;
            Ok(Arc::new(connector))
        }
        #[cfg(feature = "postgres")]
        (SqlKind::Postgres, ShardPlace::Server(server)) => {
            Ok(postgres::Postgres::new(source, server)?)
        }
        #[cfg(feature = "mysql")]
        (SqlKind::Mysql, ShardPlace::Server(server)) => Ok(mysql::Mysql::new(source, server)?),
        #[cfg(feature = "sqlite")]
        (SqlKind::Sqlite, ShardPlace::File(file)) => {
            Ok(sqlite::Sqlite::new(source, home.join(file)))
        }
        (kind, _) => Err(SqlSetupError::NotBuilt(kind.name())),
    }
}
