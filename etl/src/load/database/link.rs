//! Connections to PostgreSQL. Idle ones are kept for the next batch; one whose batch
//! was given up midway is closed, which ends its transaction.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode as ServerSslMode;
use tokio_postgres::{Client, Config, Error, SimpleQueryMessage, Statement};

use super::tls::Encryption;
use crate::config::{Secret, Server, SslMode};

/// Probes on an idle connection, so that a server that vanished is noticed.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Opens connections and keeps the idle ones.
#[derive(Debug)]
pub(super) struct Links {
    config: Config,
    encryption: Encryption,
    /// What every connection is told first.
    greeting: String,
    idle: Mutex<Vec<Link>>,
}

/// One connection. Dropping it closes it.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) client: Client,
    /// The `COPY` of this sink, prepared.
    pub(super) copy: Option<Statement>,
    driver: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    pub(super) connect: Duration,
    pub(super) attempt: Duration,
}

impl Links {
    pub(super) fn new(
        server: &Server,
        password: Option<&Secret>,
        encryption: Encryption,
        deadlines: Deadlines,
    ) -> Links {
        let mut config = Config::new();
        config
            .host(&server.host)
            .port(server.port)
            .user(&server.user)
            .dbname(&server.database)
            .application_name("etl")
            .connect_timeout(deadlines.connect)
            .tcp_user_timeout(deadlines.attempt)
            .keepalives_idle(KEEPALIVE)
            .ssl_mode(match server.sslmode {
                SslMode::Disable => ServerSslMode::Disable,
                SslMode::Prefer => ServerSslMode::Prefer,
                SslMode::Require | SslMode::VerifyFull => ServerSslMode::Require,
            });
        if let Some(password) = password {
            config.password(password.expose());
        }
        let greeting = greeting(deadlines.attempt);
        Links { config, encryption, greeting, idle: Mutex::default() }
    }

    /// An idle connection, or a new one.
    pub(super) async fn take(&self) -> Result<Link, Error> {
        while let Some(link) = self.pop() {
            if !link.client.is_closed() {
                return Ok(link);
            }
        }
        let (client, connection) = self.config.connect(self.encryption.clone()).await?;
        let driver = tokio::spawn(async move {
            // Whoever waits for an answer is told by the client; nobody else needs it.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "database connection ended");
            }
        });
        let link = Link { client, copy: None, driver };
        link.client.batch_execute(&self.greeting).await?;
        Ok(link)
    }

    /// Keeps a connection, which must be outside a transaction, for the next batch.
    pub(super) fn give(&self, link: Link) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(link);
    }

    /// Closes the idle connections: their server is not there any more.
    pub(super) fn clear(&self) {
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        drop(idle);
    }

    fn pop(&self) -> Option<Link> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

impl Link {
    /// Runs statements; gives how many rows the last of them changed or returned.
    pub(super) async fn run(&self, sql: &str) -> Result<u64, Error> {
        let messages = self.client.simple_query(sql).await?;
        let last = messages.iter().rev().find_map(|message| match message {
            SimpleQueryMessage::CommandComplete(rows) => Some(*rows),
            _ => None,
        });
        Ok(last.unwrap_or(0))
    }

    /// The first column of the first row that `sql` returns; `None` without rows.
    pub(super) async fn ask(&self, sql: &str) -> Result<Option<String>, Error> {
        let messages = self.client.simple_query(sql).await?;
        Ok(messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
            _ => None,
        }))
    }
}

/// The server's own deadlines are shorter than ours, so that it says what it waited
/// for. A commit must be on disk before it is acknowledged, whatever the server's default.
fn greeting(attempt: Duration) -> String {
    let ms = attempt.as_millis();
    let (statement, lock, idle) = ((ms * 9 / 10).max(1), (ms * 8 / 10).max(1), (ms * 2).max(1000));
    format!(
        "SET standard_conforming_strings = on; SET client_min_messages = error; \
         SET TIME ZONE 'UTC'; SET statement_timeout = {statement}; SET lock_timeout = {lock}; \
         SET idle_in_transaction_session_timeout = {idle}; \
         SELECT set_config('synchronous_commit', 'on', false) \
         WHERE current_setting('synchronous_commit') = 'off'"
    )
}
