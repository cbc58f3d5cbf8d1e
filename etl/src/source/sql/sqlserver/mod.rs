//! Shards in SQL Server, read with tiberius.
//!
//! TLS and the first exchange about it are ours (`prelogin`, `tunnel`), so that there is one TLS
//! implementation in the program; `columns` and `statement` make T-SQL, `values` and `times`
//! JSON, and `failure` says what an error means.

mod columns;
mod connect;
mod failure;
mod prelogin;
mod statement;
#[cfg(test)]
mod tests;
mod times;
mod tunnel;
mod values;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::TryStreamExt;
use tiberius::{ColumnData, Query, QueryItem, Row};
use tokio::time::timeout;

use self::columns::Described;
use self::statement::{DESCRIBE, INDEXES};
use self::tunnel::Tunnel;
use super::client::{Client, Column, Doing, Page, Relation};
use super::error::{SqlError, Trouble};
use super::rows::RowWriter;
use crate::config::CursorClock;

pub(super) use self::connect::SqlServer;

/// What a text has in the place of what is no character.
const REPLACEMENT: char = '\u{fffd}';

/// One connection.
#[derive(Debug)]
struct Session {
    client: tiberius::Client<Tunnel>,
    timeout: Duration,
    /// Set when the shard was found to hold text that is not Unicode; then rows are read with
    /// a replacement for it, and refused.
    broken_text: Arc<AtomicBool>,
    reads_broken_text: bool,
}

impl Session {
    /// All rows of a small result.
    async fn rows(&mut self, query: Query<'static>) -> Result<Vec<Row>, SqlError> {
        let limit = self.timeout;
        let doing = async {
            let stream = query.query(&mut self.client).await?;
            stream.into_first_result().await
        };
        let rows = timeout(limit, doing).await;
        rows.map_err(|_| SqlError::timed_out("a query", limit))?.map_err(failure::failed)
    }

    async fn describe(&mut self, relation: &Relation) -> Result<Vec<Column>, SqlError> {
        let mut query = Query::new(DESCRIBE);
        query.bind(statement::everything(relation));
        let mut columns = Vec::new();
        for row in self.rows(query).await? {
            if let Some(message) = text(&row, "error_message")? {
                let number = match row.get_column_data("error_number") {
                    Ok(ColumnData::I32(Some(number))) => *number,
                    _ => 0,
                };
                let said = format!("{relation}: SQL Server says {number}: {message}");
                return Err(SqlError::new(Trouble::Refused, said));
            }
            let described = Described {
                name: text(&row, "name")?.unwrap_or_default(),
                system: text(&row, "system_type_name")?.unwrap_or_default(),
                user: text(&row, "user_type_name")?.unwrap_or_default(),
                nullable: !matches!(
                    row.get_column_data("is_nullable"),
                    Ok(ColumnData::Bit(Some(false)))
                ),
                collation: text(&row, "collation_name")?.unwrap_or_default(),
            };
            columns.push(described.column());
        }
        Ok(columns)
    }

    async fn clock(
        &mut self,
        column: &Column,
        clock: CursorClock,
        back: Duration,
    ) -> Result<String, SqlError> {
        let rows = self.rows(Query::new("SELECT SYSUTCDATETIME(), SYSDATETIME()")).await?;
        let at = |place: usize| match rows.first().map(|row| row.get_column_data(place)) {
            Some(Ok(ColumnData::DateTime2(Some(now)))) => {
                Ok(values::moment(now.date(), now.time()))
            }
            _ => Err(SqlError::new(Trouble::Query, "the server does not say what time it is")),
        };
        let (utc, local) = (at(0)?, at(1)?);
        let now = match (column.kind, clock) {
            (super::Kind::Instant, _) | (_, CursorClock::Utc) => utc,
            (_, CursorClock::Local) => local,
            (_, CursorClock::Earlier) => utc.min(local),
        };
        let mut out = Vec::new();
        times::push_moment_of(&mut out, now.back(back), column);
        Ok(String::from_utf8_lossy(&out).into_owned())
    }

    async fn is_indexed(
        &mut self,
        relation: &Relation,
        columns: &[&str],
    ) -> Result<Option<bool>, SqlError> {
        let Relation::Table(name) = relation else { return Ok(None) };
        let mut query = Query::new(INDEXES);
        query.bind(columns::table(name));
        let mut indexes: Vec<(i32, bool, Vec<String>)> = Vec::new();
        for row in self.rows(query).await? {
            let (Ok(ColumnData::I32(Some(id))), Ok(ColumnData::U8(Some(kind)))) =
                (row.get_column_data(0), row.get_column_data(1))
            else {
                return Ok(None);
            };
            let name = text(&row, "name")?.unwrap_or_default();
            match indexes.last_mut() {
                Some((last, _, names)) if last == id => names.push(name),
                _ => indexes.push((*id, *kind == 1, vec![name])),
            }
        }
        let clustered = indexes.iter().find(|(_, clustered, _)| *clustered);
        let clustered = clustered.map(|(.., names)| names.clone()).unwrap_or_default();
        // Every other index ends in the columns of the one that is the table itself.
        Ok(Some(indexes.iter().any(|(.., names)| {
            let all = names.iter().chain(&clustered);
            all.zip(columns).take_while(|(own, wanted)| own.eq_ignore_ascii_case(wanted)).count()
                == columns.len()
        })))
    }

    async fn page(&mut self, page: &Page, rows: &mut RowWriter) -> Result<(), SqlError> {
        let query = statement::page(page)?.query();
        let limit = self.timeout;
        let late = |_| SqlError::timed_out("a query", limit);
        let begun = timeout(limit, query.query(&mut self.client)).await.map_err(late)?;
        let mut stream = begun.map_err(failure::failed)?;
        loop {
            let item = match timeout(limit, stream.try_next()).await.map_err(late)? {
                Ok(Some(item)) => item,
                Ok(None) => return Ok(()),
                Err(error) if failure::is_broken_text(&error) => {
                    self.broken_text.store(true, Ordering::Relaxed);
                    let text = "a row has text that is not Unicode; it is read again";
                    return Err(SqlError::new(Trouble::Connection, text));
                }
                Err(error) => return Err(failure::failed(error)),
            };
            let QueryItem::Row(row) = item else { continue };
            for (column, value) in page.columns.iter().zip(row) {
                let broken = self.reads_broken_text
                    && matches!(&value, ColumnData::String(Some(text)) if text.contains(REPLACEMENT));
                values::push(rows.value(), &value);
                if broken {
                    rows.refuse(format!("{} has text that is not Unicode", column.name));
                }
            }
            rows.end_row().await?;
        }
    }
}

/// A text of a row of the server's own tables.
fn text(row: &Row, column: &str) -> Result<Option<String>, SqlError> {
    let found = row.try_get::<&str, _>(column).map_err(failure::failed)?;
    Ok(found.map(str::to_owned))
}

impl Client for Session {
    fn version(&mut self) -> Doing<'_, String> {
        Box::pin(async {
            let version = "SELECT CAST(SERVERPROPERTY('ProductVersion') AS nvarchar(128)) AS name";
            let rows = self.rows(Query::new(version)).await?;
            let number = rows.first().map(|row| text(row, "name")).transpose()?.flatten();
            Ok(format!("SQL Server {}", number.unwrap_or_default()))
        })
    }

    fn describe<'a>(&'a mut self, relation: &'a Relation) -> Doing<'a, Vec<Column>> {
        Box::pin(Session::describe(self, relation))
    }

    fn clock<'a>(
        &'a mut self,
        _: &'a Relation,
        column: &'a Column,
        clock: CursorClock,
        back: Duration,
    ) -> Doing<'a, String> {
        Box::pin(Session::clock(self, column, clock, back))
    }

    fn is_indexed<'a>(
        &'a mut self,
        relation: &'a Relation,
        columns: &'a [&'a str],
    ) -> Doing<'a, Option<bool>> {
        Box::pin(Session::is_indexed(self, relation, columns))
    }

    fn has_null<'a>(&'a mut self, relation: &'a Relation, column: &'a str) -> Doing<'a, bool> {
        Box::pin(async move {
            let query = Query::new(statement::null_row(relation, column));
            Ok(!self.rows(query).await?.is_empty())
        })
    }

    fn page<'a>(&'a mut self, page: &'a Page, rows: &'a mut RowWriter) -> Doing<'a, ()> {
        Box::pin(Session::page(self, page, rows))
    }
}
