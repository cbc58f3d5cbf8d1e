//! Shards that are PostgreSQL: pages by `COPY … TO STDOUT`, whose text is what the server
//! itself writes of each value, and which streams.

mod text;
mod types;

use std::error::Error as _;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, Stream, StreamExt};
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode as ServerSslMode;
use tokio_postgres::{Config, Error, SimpleQueryMessage};

use super::client::{Client, Column, Connector, Doing, Page, Relation};
use super::error::{SqlError, Trouble};
use super::rows::RowWriter;
use super::sentence::single_quoted;
use super::{Kind, SqlSetupError};
use crate::config::{CursorClock, Server, SqlSource, SslMode};
use crate::load::Encryption;
use text::Decoder;
use types::DIALECT;

/// Probes on an idle connection, so that a server that vanished is noticed.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// What every connection is told first: it only reads, and writes values in one form.
const GREETING: &str = "SET default_transaction_read_only = on; SET TIME ZONE 'UTC'; \
     SET datestyle = 'ISO, YMD'; SET intervalstyle = 'iso_8601'; SET bytea_output = 'hex'; \
     SET extra_float_digits = 1; SET standard_conforming_strings = on; \
     SET client_min_messages = error; SET xmloption = content";

/// Connects to one server.
#[derive(Debug)]
pub(super) struct Postgres {
    config: Config,
    encryption: Encryption,
    shown: String,
    connect_timeout: Duration,
    timeout: Duration,
}

/// One connection.
#[derive(Debug)]
struct Link {
    client: tokio_postgres::Client,
    driver: JoinHandle<()>,
    timeout: Duration,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Postgres {
    pub(super) fn new(source: &SqlSource, server: &Server) -> Result<Arc<Self>, SqlSetupError> {
        let encryption =
            Encryption::new(server.sslmode, &source.tls).map_err(SqlSetupError::Tls)?;
        let mut config = Config::new();
        config
            .host(&server.host)
            .port(server.port)
            .user(&server.user)
            .dbname(&server.database)
            .application_name("etl")
            .connect_timeout(source.connect_timeout.0)
            .tcp_user_timeout(source.timeout.0)
            .keepalives_idle(KEEPALIVE)
            .ssl_mode(match server.sslmode {
                SslMode::Disable => ServerSslMode::Disable,
                SslMode::Prefer => ServerSslMode::Prefer,
                SslMode::Require | SslMode::VerifyFull => ServerSslMode::Require,
            });
        if let Some(password) = &server.password {
            config.password(password.expose());
        }
        Ok(Arc::new(Postgres {
            config,
            encryption,
            shown: server.shown(),
            connect_timeout: source.connect_timeout.0,
            timeout: source.timeout.0,
        }))
    }

    async fn link(&self) -> Result<Link, Error> {
        let (client, connection) = self.config.connect(self.encryption.clone()).await?;
        let driver = tokio::spawn(async move {
            // Whoever waits for an answer is told by the client; nobody else needs it.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "database connection ended");
            }
        });
        let link = Link { client, driver, timeout: self.timeout };
        link.client.batch_execute(GREETING).await?;
        Ok(link)
    }
}

impl Connector for Postgres {
    fn connect(&self) -> Doing<'_, Box<dyn Client>> {
        Box::pin(async {
            // A server may take the connection and say nothing.
            match tokio::time::timeout(self.connect_timeout, self.link()).await {
                Ok(Ok(link)) => Ok(Box::new(link) as Box<dyn Client>),
                Ok(Err(error)) => {
                    let error = judge(&error);
                    Err(SqlError { text: format!("{}: {}", self.shown, error.text), ..error })
                }
                Err(_) => Err(SqlError::timed_out(&self.shown, self.connect_timeout)),
            }
        })
    }
}

impl Link {
    /// The first column of the first row that `sql` returns; `None` without rows.
    async fn ask(&self, sql: &str) -> Result<Option<String>, SqlError> {
        let asked = self.client.simple_query(sql);
        let messages = self.within(asked).await?;
        Ok(messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
            _ => None,
        }))
    }

    async fn within<T>(
        &self,
        asked: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, SqlError> {
        match tokio::time::timeout(self.timeout, asked).await {
            Ok(answer) => answer.map_err(|error| judge(&error)),
            Err(_) => Err(SqlError::timed_out("a statement", self.timeout)),
        }
    }

    async fn columns(&self, relation: &Relation) -> Result<Vec<Column>, SqlError> {
        let sql = format!("SELECT * FROM {} LIMIT 0", DIALECT.relation(relation));
        let statement = self.within(self.client.prepare(&sql)).await?;
        let mut columns: Vec<Column> = statement.columns().iter().map(types::column).collect();
        if let Relation::Table(_) = relation {
            let sql = format!(
                "SELECT coalesce(json_agg(attname), '[]') FROM pg_attribute WHERE attrelid = \
                 to_regclass({}) AND attnotnull AND attnum > 0 AND NOT attisdropped",
                single_quoted(&DIALECT.relation(relation))
            );
            let never_null: Vec<String> = self
                .ask(&sql)
                .await?
                .and_then(|json| serde_json::from_str(&json).ok())
                .unwrap_or_default();
            for column in &mut columns {
                column.nullable = !never_null.contains(&column.name);
            }
        }
        Ok(columns)
    }

    async fn copy_page(&self, page: &Page, rows: &mut RowWriter) -> Result<(), SqlError> {
        let sql = format!("COPY ({} LIMIT {}) TO STDOUT", DIALECT.page(page), page.limit);
        let lines = self.within(self.client.copy_out(&sql)).await?;
        let mut lines = pin!(lines);
        let mut decoder = Decoder::new(&page.columns);
        while let Some(line) = self.next(&mut lines).await? {
            decoder.write(&line, rows);
            rows.end_row().await?;
        }
        Ok(())
    }

    /// The next row; most are there without a wait.
    async fn next(
        &self,
        lines: &mut (impl Stream<Item = Result<Bytes, Error>> + Unpin),
    ) -> Result<Option<Bytes>, SqlError> {
        let next = match lines.next().now_or_never() {
            Some(next) => next,
            None => match tokio::time::timeout(self.timeout, lines.next()).await {
                Ok(next) => next,
                Err(_) => return Err(SqlError::timed_out("the next row", self.timeout)),
            },
        };
        next.transpose().map_err(|error| judge(&error))
    }
}

impl Client for Link {
    fn version(&mut self) -> Doing<'_, String> {
        Box::pin(async {
            let version = self.ask("SHOW server_version").await?.unwrap_or_default();
            Ok(format!("PostgreSQL {version}"))
        })
    }

    fn describe<'a>(&'a mut self, relation: &'a Relation) -> Doing<'a, Vec<Column>> {
        Box::pin(self.columns(relation))
    }

    fn clock<'a>(
        &'a mut self,
        _: &'a Relation,
        column: &'a Column,
        clock: CursorClock,
        back: Duration,
    ) -> Doing<'a, String> {
        let (now, utc) = ("clock_timestamp()", "timezone('UTC', clock_timestamp())");
        let local = "timezone((SELECT reset_val FROM pg_settings WHERE name = 'TimeZone'), \
                     clock_timestamp())";
        let time = match (column.kind, clock) {
            (Kind::Instant, _) => now.to_owned(),
            (_, CursorClock::Utc) => utc.to_owned(),
            (_, CursorClock::Local) => local.to_owned(),
            (_, CursorClock::Earlier) => format!("least({utc}, {local})"),
        };
        let sql = format!("SELECT {time} - interval '{} milliseconds'", back.as_millis());
        Box::pin(async move {
            let text = self.ask(&sql).await?;
            Ok(text.unwrap_or_default().replacen(' ', "T", 1))
        })
    }

    fn is_indexed<'a>(
        &'a mut self,
        relation: &'a Relation,
        columns: &'a [&'a str],
    ) -> Doing<'a, Option<bool>> {
        Box::pin(async move {
            let Relation::Table(_) = relation else { return Ok(None) };
            let names: Vec<String> = columns.iter().map(|name| single_quoted(name)).collect();
            let sql = format!(
                "SELECT EXISTS (SELECT FROM pg_index WHERE indrelid = to_regclass({}) AND \
                 indisvalid AND indpred IS NULL AND ARRAY[{}]::name[] = (SELECT \
                 array_agg(attname ORDER BY place) FROM unnest(indkey) WITH ORDINALITY AS \
                 keys(number, place) JOIN pg_attribute ON attrelid = indrelid AND attnum = number \
                 WHERE place <= {}))",
                single_quoted(&DIALECT.relation(relation)),
                names.join(", "),
                names.len(),
            );
            Ok(self.ask(&sql).await?.map(|text| text == "t"))
        })
    }

    fn has_null<'a>(&'a mut self, relation: &'a Relation, column: &'a str) -> Doing<'a, bool> {
        let sql = DIALECT.has_null(relation, column);
        Box::pin(async move { Ok(self.ask(&sql).await?.as_deref() == Some("t")) })
    }

    fn page<'a>(&'a mut self, page: &'a Page, rows: &'a mut RowWriter) -> Doing<'a, ()> {
        Box::pin(self.copy_page(page, rows))
    }
}

/// What an error of the server or the connection means.
fn judge(error: &Error) -> SqlError {
    let Some(database) = error.as_db_error() else {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text += &format!(": {error}");
            cause = error.source();
        }
        // Only a missing password is an error of configuration that the server had no part in.
        if text.contains("invalid configuration") {
            let remedy = "the server asks for a password: set `password`, or one in the URL";
            return SqlError::new(Trouble::Refused, text).remedy(remedy);
        }
        return SqlError::new(Trouble::Connection, text);
    };
    let code = database.code().code();
    let text = format!("{code} {}", database.message());
    let refused = |remedy: &str| SqlError::new(Trouble::Refused, &text).remedy(remedy);
    match code {
        "42501" => refused("GRANT this user SELECT on the table"),
        "42P01" => refused("correct the table's name, or make it"),
        "42703" => refused("correct the column's name"),
        "3D000" => refused("correct the database's name"),
        "3F000" => refused("correct the schema's name"),
        _ if code.starts_with("28") => refused("correct user and password"),
        // Connections (08), no resources (53), the operator (57), I/O (58), conflicts (40).
        _ if ["08", "53", "57", "58", "40"].iter().any(|class| code.starts_with(class)) => {
            SqlError::new(Trouble::Connection, text)
        }
        _ => SqlError::new(Trouble::Query, text),
    }
}
