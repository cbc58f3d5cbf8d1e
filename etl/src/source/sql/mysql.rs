//! Shards that are MySQL or MariaDB, asked in the text protocol: values come as the
//! server itself writes them, row by row.

mod types;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, DriverError, Error, Opts, OptsBuilder, Row, SslOpts};

use super::client::{Client, Column, Connector, Doing, Page, Relation};
use super::error::{SqlError, Trouble};
use super::rows::RowWriter;
use super::{Kind, SqlSetupError};
use crate::config::{CursorClock, Server, SqlSource, SslMode};
use types::{DIALECT, literal_text};

/// What every connection is told first: it only reads, instants are written in UTC, and
/// backslashes in texts are themselves.
const GREETING: [&str; 3] = [
    "SET NAMES utf8mb4",
    "SET SESSION TRANSACTION READ ONLY",
    "SET SESSION time_zone = '+00:00', sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'",
];
/// How often a server that vanished is looked for on an idle connection.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Connects to one server.
#[derive(Debug)]
pub(super) struct Mysql {
    options: Opts,
    /// For a server that offers no TLS.
    plain: Option<Opts>,
    shown: String,
    connect_timeout: Duration,
    timeout: Duration,
}

/// One connection.
#[derive(Debug)]
struct Link {
    connection: Conn,
    timeout: Duration,
}

impl Mysql {
    pub(super) fn new(source: &SqlSource, server: &Server) -> Result<Arc<Self>, SqlSetupError> {
        let password = server.password.as_ref().map(|password| password.expose().to_owned());
        let mut builder = OptsBuilder::default()
            .user(Some(&server.user))
            .pass(password)
            .db_name(Some(&server.database))
            .prefer_socket(false)
            .tcp_keepalive(Some(KEEPALIVE))
            .init(GREETING.to_vec());
        builder = match server.host.starts_with('/') {
            true => builder.socket(Some(&server.host)).prefer_socket(true),
            false => builder.ip_or_hostname(&server.host).tcp_port(server.port),
        };
        let tls = tls(source, server)?;
        let plain = (server.sslmode == SslMode::Prefer).then(|| Opts::from(builder.clone()));
        Ok(Arc::new(Mysql {
            options: builder.ssl_opts(tls).into(),
            plain,
            shown: format!("mysql://{}:{}/{}", server.host, server.port, server.database),
            connect_timeout: source.connect_timeout.0,
            timeout: source.timeout.0,
        }))
    }

    async fn link(&self) -> Result<Conn, Error> {
        let connected = Conn::new(self.options.clone()).await;
        match (connected, &self.plain) {
            (Err(Error::Driver(DriverError::NoClientSslFlagFromServer)), Some(plain)) => {
                Conn::new(plain.clone()).await
            }
            (connected, _) => connected,
        }
    }
}

/// What of a server's certificate is checked, as for PostgreSQL.
fn tls(source: &SqlSource, server: &Server) -> Result<Option<SslOpts>, SqlSetupError> {
    if server.sslmode == SslMode::Disable || server.host.starts_with('/') {
        return Ok(None);
    }
    let options = SslOpts::default().with_disable_built_in_roots(true);
    if let Some(ca) = &source.tls.ca {
        let named = server.sslmode == SslMode::VerifyFull;
        let options = options.with_root_certs(vec![ca.clone().into()]);
        return Ok(Some(options.with_danger_skip_domain_validation(!named)));
    }
    if server.sslmode != SslMode::VerifyFull {
        let any = options.with_danger_accept_invalid_certs(true);
        return Ok(Some(any.with_danger_skip_domain_validation(true)));
    }
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let text = "this system has no certificate authorities; set `tls.ca`".to_owned();
        return Err(SqlSetupError::Tls(text));
    }
    let roots = found.certs.into_iter().map(|root| root.to_vec().into()).collect();
    Ok(Some(options.with_root_certs(roots)))
}

impl Connector for Mysql {
    fn connect(&self) -> Doing<'_, Box<dyn Client>> {
        Box::pin(async {
            match tokio::time::timeout(self.connect_timeout, self.link()).await {
                Ok(Ok(connection)) => {
                    let link = Link { connection, timeout: self.timeout };
                    Ok(Box::new(link) as Box<dyn Client>)
                }
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
    async fn ask(&mut self, sql: &str) -> Result<Option<String>, SqlError> {
        let asked = self.connection.query_first::<Option<String>, _>(sql);
        let answer = within(self.timeout, "a statement", asked).await?;
        Ok(answer.flatten())
    }

    async fn columns(&mut self, relation: &Relation) -> Result<Vec<Column>, SqlError> {
        let sql = format!("SELECT * FROM {} LIMIT 0", DIALECT.relation(relation));
        let asked = self.connection.query_iter(sql);
        let found = within(self.timeout, "a statement", asked).await?;
        let columns = found.columns_ref().iter().map(types::column).collect();
        within(self.timeout, "a statement", found.drop_result()).await?;
        Ok(columns)
    }

    async fn read_page(&mut self, page: &Page, rows: &mut RowWriter) -> Result<(), SqlError> {
        let sql = format!("{} LIMIT {}", DIALECT.page(page), page.limit);
        let timeout = self.timeout;
        let asked = self.connection.query_iter(sql);
        let mut found = within(timeout, "a statement", asked).await?;
        loop {
            let row = {
                // Most rows are there without a wait.
                let mut next = pin!(found.next());
                match (&mut next).now_or_never() {
                    Some(row) => row.map_err(|error| judge(&error))?,
                    None => within(timeout, "the next row", next).await?,
                }
            };
            let Some(row) = row else { return Ok(()) };
            write(&row, &page.columns, rows);
            rows.end_row().await?;
        }
    }
}

fn write(row: &Row, columns: &[Column], rows: &mut RowWriter) {
    for (at, column) in columns.iter().enumerate() {
        let written = types::push(column, row.as_ref(at), rows.value());
        if let Err(why) = written {
            rows.refuse(format!("`{}` {why}", column.name));
        }
    }
}

async fn within<T>(
    timeout: Duration,
    what: &str,
    asked: impl Future<Output = Result<T, Error>>,
) -> Result<T, SqlError> {
    match tokio::time::timeout(timeout, asked).await {
        Ok(answer) => answer.map_err(|error| judge(&error)),
        Err(_) => Err(SqlError::timed_out(what, timeout)),
    }
}

impl Client for Link {
    fn version(&mut self) -> Doing<'_, String> {
        Box::pin(async {
            let version = self.ask("SELECT version()").await?.unwrap_or_default();
            let name = if version.contains("MariaDB") { "MariaDB" } else { "MySQL" };
            Ok(format!("{name} {}", version.split('-').next().unwrap_or_default()))
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
        let utc = "UTC_TIMESTAMP(6)";
        let local = "CONVERT_TZ(UTC_TIMESTAMP(6), '+00:00', @@global.time_zone)";
        let (time, zone) = match (column.kind, clock) {
            (Kind::Instant, _) => (utc.to_owned(), "Z"),
            (_, CursorClock::Utc) => (utc.to_owned(), ""),
            (_, CursorClock::Local) => (local.to_owned(), ""),
            (_, CursorClock::Earlier) => (format!("LEAST({utc}, {local})"), ""),
        };
        let sql = format!(
            "SELECT DATE_FORMAT({time} - INTERVAL {} MICROSECOND, '%Y-%m-%dT%H:%i:%s.%f{zone}')",
            back.as_micros()
        );
        Box::pin(async move {
            let text = self.ask(&sql).await?;
            text.ok_or_else(|| SqlError::new(Trouble::Query, "the server does not tell its clock"))
        })
    }

    fn is_indexed<'a>(
        &'a mut self,
        relation: &'a Relation,
        columns: &'a [&'a str],
    ) -> Doing<'a, Option<bool>> {
        Box::pin(async move {
            let Relation::Table(name) = relation else { return Ok(None) };
            let (schema, table) = match name.rsplit_once('.') {
                Some((schema, table)) => (literal_text(schema), table),
                None => ("DATABASE()".to_owned(), name.as_str()),
            };
            let sql = format!(
                "SELECT index_name, column_name FROM information_schema.statistics WHERE \
                 table_schema = {schema} AND table_name = {} ORDER BY index_name, seq_in_index",
                literal_text(table)
            );
            let asked = self.connection.query::<(String, Option<String>), _>(sql);
            let parts = within(self.timeout, "a statement", asked).await?;
            Ok(Some(parts.chunk_by(|one, other| one.0 == other.0).any(|index| {
                let names = index.iter().map(|(_, column)| column.as_deref().unwrap_or_default());
                columns.len() <= index.len() && names.zip(columns).all(|(own, other)| own == *other)
            })))
        })
    }

    fn has_null<'a>(&'a mut self, relation: &'a Relation, column: &'a str) -> Doing<'a, bool> {
        let sql = DIALECT.has_null(relation, column);
        Box::pin(async move { Ok(self.ask(&sql).await?.as_deref() == Some("1")) })
    }

    fn page<'a>(&'a mut self, page: &'a Page, rows: &'a mut RowWriter) -> Doing<'a, ()> {
        Box::pin(self.read_page(page, rows))
    }
}

/// What an error of the server or the connection means.
fn judge(error: &Error) -> SqlError {
    let Error::Server(server) = error else {
        return SqlError::new(Trouble::Connection, error.to_string());
    };
    let text = format!("{} {}", server.code, server.message);
    let refused = |remedy: &str| SqlError::new(Trouble::Refused, &text).remedy(remedy);
    match server.code {
        1044 | 1045 | 1698 => refused("correct user and password, or GRANT the user its rights"),
        1142 | 1143 => refused("GRANT this user SELECT on the table"),
        1049 => refused("correct the database's name"),
        1146 => refused("correct the table's name, or make it"),
        1054 => refused("correct the column's name"),
        // Too many connections, shutdown, killed, deadlock, lock timeout, out of resources.
        1040 | 1053 | 1203 | 1205 | 1213 | 1317 | 1927 | 1037 | 1041 | 3024 | 1969 => {
            SqlError::new(Trouble::Connection, text)
        }
        _ => SqlError::new(Trouble::Query, text),
    }
}
