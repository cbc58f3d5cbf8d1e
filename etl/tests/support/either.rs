//! A database of either kind, to ask what it has.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test file uses a part of this, and a failed step is a failed test"
)]

use std::time::Duration;

use rusqlite::Connection;

use crate::postgres::Postgres;

/// Either database; the same pipelines run on both.
pub enum Database {
    Server(Box<Postgres>),
    File(std::path::PathBuf),
}

impl Database {
    pub fn url(&self) -> String {
        match self {
            Database::Server(server) => server.url(),
            Database::File(_) => String::new(),
        }
    }

    /// Rows as lines, columns parted by `|`.
    pub fn ask(&self, sql: &str) -> String {
        match self {
            Database::Server(server) => server.ask(sql),
            Database::File(file) => {
                let connection = Connection::open(file).unwrap();
                connection.busy_timeout(Duration::from_secs(20)).unwrap();
                let mut statement = connection.prepare(sql).unwrap();
                let columns = statement.column_count();
                let rows = statement.query_map([], |row| {
                    let texts = (0..columns).map(|at| {
                        let value: rusqlite::types::Value = row.get(at)?;
                        Ok(match value {
                            rusqlite::types::Value::Null => String::new(),
                            rusqlite::types::Value::Integer(number) => number.to_string(),
                            rusqlite::types::Value::Text(text) => text,
                            other => format!("{other:?}"),
                        })
                    });
                    Ok(texts.collect::<rusqlite::Result<Vec<_>>>()?.join("|"))
                });
                rows.unwrap().collect::<rusqlite::Result<Vec<_>>>().unwrap().join("\n")
            }
        }
    }

    pub fn number(&self, sql: &str) -> u64 {
        self.ask(sql).parse().unwrap()
    }
}
