//! Shards that are SQLite files. Its calls block, so each runs on a thread that may: a
//! page is read in parts of a bounded size, each after the key of the one before it.

mod types;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};

use super::client::{Client, Column, Connector, Doing, Page, Relation};
use super::error::{SqlError, Trouble};
use super::key::Key;
use super::rows::RowWriter;
use crate::config::{CursorClock, SqlSource};
use types::{Cell, DIALECT};

/// Rows, and about how many bytes, that are in memory at once.
const PART_ROWS: u32 = 512;
const PART_BYTES: usize = 1 << 20;

/// Opens one file.
#[derive(Debug)]
pub(super) struct Sqlite {
    file: PathBuf,
    timeout: Duration,
}

/// One connection; `None` while a thread has it.
#[derive(Debug)]
struct Link {
    connection: Option<Connection>,
    timeout: Duration,
}

impl Sqlite {
    pub(super) fn new(source: &SqlSource, file: PathBuf) -> Arc<Self> {
        Arc::new(Sqlite { file, timeout: source.timeout.0 })
    }
}

impl Connector for Sqlite {
    fn connect(&self) -> Doing<'_, Box<dyn Client>> {
        let (file, timeout) = (self.file.clone(), self.timeout);
        Box::pin(async move {
            let opened = tokio::task::spawn_blocking(move || {
                let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                let connection = Connection::open_with_flags(&file, flags)?;
                connection.busy_timeout(timeout)?;
                // The file is not looked at before it is asked for something.
                connection.pragma_query_value(None, "schema_version", |_| Ok(()))?;
                Ok(connection)
            });
            let connection = joined(opened.await)?.map_err(|error| judge(&error))?;
            Ok(Box::new(Link { connection: Some(connection), timeout }) as Box<dyn Client>)
        })
    }
}

impl Link {
    /// Does `work` on a thread that may block.
    async fn run<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, SqlError> {
        let Some(connection) = self.connection.take() else {
            return Err(SqlError::new(Trouble::Connection, "the file was closed"));
        };
        let interrupt = connection.get_interrupt_handle();
        let task = tokio::task::spawn_blocking(move || {
            let done = work(&connection);
            (connection, done)
        });
        let Ok(ended) = tokio::time::timeout(self.timeout, task).await else {
            interrupt.interrupt();
            return Err(SqlError::timed_out("a statement", self.timeout));
        };
        let (connection, done) = joined(ended)?;
        self.connection = Some(connection);
        done.map_err(|error| judge(&error))
    }

    async fn columns(&mut self, relation: &Relation) -> Result<Vec<Column>, SqlError> {
        let from = DIALECT.relation(relation);
        let table = match relation {
            Relation::Table(name) => Some(name.clone()),
            Relation::Query(_) => None,
        };
        self.run(move |connection| {
            let statement = connection.prepare(&format!("SELECT * FROM {from} LIMIT 0"))?;
            let mut columns: Vec<Column> =
                statement.columns().map(|it| types::column(it.name(), it.decl_type())).collect();
            let Some(table) = table else { return Ok(columns) };
            let plain = table.rsplit('.').next().unwrap_or_default();
            let sql = "SELECT name FROM pragma_table_info(?) WHERE \"notnull\" OR (pk = 1 AND \
                       upper(type) = 'INTEGER')";
            let mut statement = connection.prepare(sql)?;
            let names = statement.query_map([plain], |row| row.get::<_, String>(0))?;
            let never_null = names.collect::<rusqlite::Result<Vec<_>>>()?;
            for column in &mut columns {
                column.nullable = !never_null.contains(&column.name);
            }
            Ok(columns)
        })
        .await
    }

    async fn read_page(&mut self, page: &Page, rows: &mut RowWriter) -> Result<(), SqlError> {
        let mut page = page.clone();
        while page.limit > 0 {
            let part = page.limit.min(PART_ROWS);
            let sql = format!("{} LIMIT {part}", DIALECT.page(&page));
            let width = page.columns.len();
            let (read, whole) =
                self.run(move |connection| read_part(connection, &sql, width)).await?;
            let Some(last) = read.last() else { return Ok(()) };
            page.after = Some(key_of(last, &page)?);
            page.limit -= u32::try_from(read.len()).unwrap_or(page.limit);
            let ended = whole && read.len() < part as usize;
            for row in &read {
                for (column, value) in page.columns.iter().zip(row) {
                    let written = types::push(column, value, rows.value());
                    if let Err(why) = written {
                        rows.refuse(format!("`{}` {why}", column.name));
                    }
                }
                rows.end_row().await?;
            }
            if ended {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// The rows of a part, and whether they are all that it asked for.
fn read_part(
    connection: &Connection,
    sql: &str,
    width: usize,
) -> rusqlite::Result<(Vec<Vec<Cell>>, bool)> {
    let mut statement = connection.prepare(sql)?;
    let mut found = statement.query([])?;
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while let Some(row) = found.next()? {
        let cell = |at| row.get_ref(at).map(Cell::from);
        let values: Vec<Cell> = (0..width).map(cell).collect::<rusqlite::Result<_>>()?;
        bytes += values.iter().map(Cell::size).sum::<usize>();
        rows.push(values);
        if bytes >= PART_BYTES {
            return Ok((rows, false));
        }
    }
    Ok((rows, true))
}

fn key_of(row: &[Cell], page: &Page) -> Result<Key, SqlError> {
    let text = |at: &usize| {
        let mut json = Vec::new();
        // A value that cannot be written is null, and then there is no key.
        types::push(&page.columns[*at], &row[*at], &mut json).ok();
        json
    };
    let values: Vec<Vec<u8>> = page.order.iter().map(text).collect();
    let json = [b"[".to_vec(), values.join(&b","[..]), b"]".to_vec()].concat();
    Key::read(&json).ok_or_else(|| {
        let text = "a row has NULL in its key";
        SqlError::new(Trouble::Refused, text).remedy("name columns in `key` that are never NULL")
    })
}

impl Client for Link {
    fn version(&mut self) -> Doing<'_, String> {
        Box::pin(async { Ok(format!("SQLite {}", rusqlite::version())) })
    }

    fn describe<'a>(&'a mut self, relation: &'a Relation) -> Doing<'a, Vec<Column>> {
        Box::pin(self.columns(relation))
    }

    fn clock<'a>(
        &'a mut self,
        relation: &'a Relation,
        column: &'a Column,
        clock: CursorClock,
        back: Duration,
    ) -> Doing<'a, String> {
        let (from, name) = (DIALECT.relation(relation), (DIALECT.name)(&column.name));
        Box::pin(async move {
            self.run(move |connection| {
                let last = format!(
                    "SELECT {name} FROM {from} WHERE {name} IS NOT NULL ORDER BY {name} DESC LIMIT 1"
                );
                let last = connection
                    .query_row(&last, [], |row| row.get_ref(0).map(Cell::from))
                    .optional()?;
                let sql = types::clock(last.as_ref(), clock, back);
                connection.query_row(&sql, [], |row| row.get::<_, String>(0))
            })
            .await
        })
    }

    fn is_indexed<'a>(
        &'a mut self,
        relation: &'a Relation,
        columns: &'a [&'a str],
    ) -> Doing<'a, Option<bool>> {
        Box::pin(async move {
            let Relation::Table(table) = relation else { return Ok(None) };
            let plain = table.rsplit('.').next().unwrap_or_default().to_owned();
            let wanted: Vec<String> = columns.iter().map(|name| (*name).to_owned()).collect();
            let found = self.run(move |connection| types::indexes(connection, &plain)).await?;
            Ok(Some(found.iter().any(|names| names.starts_with(&wanted))))
        })
    }

    fn has_null<'a>(&'a mut self, relation: &'a Relation, column: &'a str) -> Doing<'a, bool> {
        let sql = DIALECT.has_null(relation, column);
        Box::pin(self.run(move |connection| connection.query_row(&sql, [], |row| row.get(0))))
    }

    fn page<'a>(&'a mut self, page: &'a Page, rows: &'a mut RowWriter) -> Doing<'a, ()> {
        Box::pin(self.read_page(page, rows))
    }
}

fn joined<T>(ended: Result<T, tokio::task::JoinError>) -> Result<T, SqlError> {
    ended.map_err(|error| SqlError::new(Trouble::Query, format!("a thread panicked: {error}")))
}

/// What an error of SQLite means.
fn judge(error: &rusqlite::Error) -> SqlError {
    let text = format!("SQLite: {error}");
    let new = |trouble| SqlError::new(trouble, &text);
    match error.sqlite_error_code() {
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::SchemaChanged
            | ErrorCode::SystemIoFailure
            | ErrorCode::OperationInterrupted,
        ) => new(Trouble::Connection),
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            new(Trouble::Refused).remedy("correct the path, or give this user the right to read it")
        }
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            new(Trouble::Refused).remedy("the file is damaged or no SQLite database")
        }
        _ if text.contains("no such table") || text.contains("no such column") => {
            new(Trouble::Refused).remedy("correct source.sql.tables")
        }
        _ => new(Trouble::Query),
    }
}
