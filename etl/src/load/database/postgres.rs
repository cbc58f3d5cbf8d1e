//! The PostgreSQL sink: one transaction per batch, its rows by `COPY`.

use std::error::Error as _;
use std::pin::pin;
use std::time::Duration;

use futures_util::SinkExt;
use tokio::sync::Mutex;
use tokio_postgres::Error;

use super::DatabaseSinkError;
use super::copy::{Encoded, encode};
use super::link::{Deadlines, Link, Links};
use super::outcome::{superseded, superseded_in_part, was_split};
use super::partitions::{Claim, claim};
use super::sql::{Dialect, Run, literal, quoted};
use super::sqlstate::{Stage, classify};
use super::table::{Table, no_column};
use super::tls::Encryption;
use crate::batch::Payload;
use crate::config::{DatabaseLoad, Load, Secret, Server, WriteMode};
use crate::http::printable;
use crate::load::answer::{Answer, Failure};
use crate::load::sink::{Delivering, Probe, Probing, Reach, Sink};
use crate::telemetry::SinkKind;

/// Bytes of rows handed to the connection at once.
const CHUNK_BYTES: usize = 256 * 1024;
/// The most that is kept of a database's message.
const MESSAGE_BYTES_MAX: usize = 1000;
/// Keys that one start forgets at most, so that it does not take long.
const PRUNED_MAX: usize = 100_000;
/// Held while tables are made, so that two starts do not make them at once.
const MAKING_LOCK: i64 = 0x0065_746c;
/// Where the rows of an upsert are put first; each connection has its own.
const INCOMING: &str = "pg_temp.etl_incoming";

/// Loads batches into one table.
#[derive(Debug)]
pub(super) struct PostgresSink {
    links: Links,
    table: Table,
    timeout: Duration,
    target: String,
    /// Whether the tables were seen or made.
    ready: Mutex<bool>,
}

/// What ended an attempt other than well.
enum Trouble {
    /// The database or the connection.
    Database(Stage, Error),
    /// Decided without an error of the database; the transaction is open.
    Decided(Answer),
}

impl PostgresSink {
    /// Builds the sink; connects to nothing.
    pub(super) fn new(
        server: Server,
        load: &Load,
        database: &DatabaseLoad,
    ) -> Result<PostgresSink, DatabaseSinkError> {
        let encryption =
            Encryption::new(server.sslmode, &database.tls).map_err(DatabaseSinkError::Tls)?;
        let password = match &database.password_file {
            Some(path) => Some(Secret::new(
                std::fs::read_to_string(path)
                    .map_err(|source| DatabaseSinkError::PasswordFile {
                        path: path.clone(),
                        source,
                    })?
                    .trim_end_matches(['\r', '\n']),
            )),
            None => server.password.clone(),
        };
        let deadlines =
            Deadlines { connect: database.connect_timeout.0, attempt: load.timeout().0 };
        Ok(PostgresSink {
            links: Links::new(&server, password.as_ref(), encryption, deadlines),
            table: Table::new(database),
            timeout: load.timeout().0,
            target: super::shown(&server.shown(), database),
            ready: Mutex::new(false),
        })
    }

    async fn attempt(&self, payload: &Payload) -> Answer {
        match tokio::time::timeout(self.timeout, self.exchange(payload)).await {
            Ok(answer) => answer,
            Err(_) => {
                let waited = humantime::format_duration(self.timeout);
                let reason = format!("no answer within {waited}");
                Answer::Retry(Failure { timed_out: true, ..Failure::without_answer(reason) })
            }
        }
    }

    async fn exchange(&self, payload: &Payload) -> Answer {
        let batch = encode(payload, &self.table);
        let mut link = match self.links.take().await {
            Ok(link) => link,
            Err(error) => return judge(Stage::Before, &error),
        };
        let trouble = match self.load(&mut link, payload, &batch).await {
            Ok(()) => {
                self.links.give(link);
                return match batch.failed.is_empty() {
                    true => Answer::Delivered,
                    false => Answer::Partial(batch.failed),
                };
            }
            Err(trouble) => trouble,
        };
        let answer = match trouble {
            Trouble::Decided(answer) => answer,
            Trouble::Database(stage, error) => judge(stage, &error),
        };
        self.settle(link, payload, answer).await
    }

    /// Ends the transaction of a batch that was not loaded. One that will be split is
    /// noted as such first: its parts have keys of their own, so that loading it whole
    /// later would load them twice.
    async fn settle(&self, link: Link, payload: &Payload, answer: Answer) -> Answer {
        if let Answer::Refused(_) = answer {
            // The tables may have been dropped: they are looked for again.
            *self.ready.lock().await = false;
        }
        if link.client.is_closed() {
            self.links.clear();
            return answer;
        }
        let mut sql = "ROLLBACK".to_owned();
        if matches!(answer, Answer::Invalid(_)) && payload.records() > 1 {
            sql += &format!(
                "; INSERT INTO {} (key, target, split) VALUES ({}, {}, true) ON CONFLICT DO NOTHING",
                self.table.ledger,
                literal(&payload.key.to_string()),
                literal(&self.table.plain),
            );
        }
        match link.run(&sql).await {
            Ok(_) => {
                self.links.give(link);
                answer
            }
            Err(error) if matches!(answer, Answer::Invalid(_)) => judge(Stage::Before, &error),
            Err(_) => answer,
        }
    }

    async fn load(
        &self,
        link: &mut Link,
        payload: &Payload,
        batch: &Encoded,
    ) -> Result<(), Trouble> {
        let before = |error| Trouble::Database(Stage::Before, error);
        let records = |error| Trouble::Database(Stage::Records, error);
        self.prepare(link).await.map_err(before)?;
        self.prepare_copy(link).await.map_err(before)?;
        let (key, target) = (literal(&payload.key.to_string()), literal(&self.table.plain));
        let ledger = &self.table.ledger;
        let noted = link
            .run(&format!(
                "BEGIN; INSERT INTO {ledger} (key, target) VALUES ({key}, {target}) \
                 ON CONFLICT DO NOTHING"
            ))
            .await
            .map_err(before)?;
        if noted == 0 {
            let split =
                format!("SELECT split FROM {ledger} WHERE key = {key} AND target = {target}");
            return match link.ask(&split).await.map_err(before)?.as_deref() {
                Some("t") => Err(Trouble::Decided(was_split())),
                _ => link.run("ROLLBACK").await.map(drop).map_err(before),
            };
        }
        let run = Run::of(&payload.run_id);
        match claim(link, &self.table, batch, &run).await.map_err(records)? {
            Claim::Ours => {}
            Claim::SomeSuperseded => return Err(Trouble::Decided(superseded_in_part())),
            Claim::AllSuperseded => {
                return Err(Trouble::Decided(superseded(payload, &batch.failed)));
            }
        }
        copy_in(link, batch).await.map_err(records)?;
        link.run(&format!("{}COMMIT", self.merge())).await.map_err(records)?;
        Ok(())
    }

    /// Moves the rows of an upsert to the table; nothing for the other modes.
    fn merge(&self) -> String {
        if self.table.mode != WriteMode::Upsert {
            return String::new();
        }
        let (names, key) = (
            self.table.loaded_names(),
            super::table::list(self.table.key.iter().map(String::as_str)),
        );
        let version = self.table.version.as_deref().map(quoted);
        let newest = version.map_or(String::new(), |name| format!("{name} DESC NULLS LAST, "));
        format!(
            "INSERT INTO {} ({names}) SELECT {names} FROM (SELECT DISTINCT ON ({key}) * \
             FROM {INCOMING} ORDER BY {key}, {newest}\"etl:row\" DESC) AS latest {}; ",
            self.table.name,
            Dialect::Postgres.on_conflict(&self.table),
        )
    }

    /// Makes what is to be made, once.
    async fn prepare(&self, link: &Link) -> Result<(), Error> {
        let mut ready = self.ready.lock().await;
        if *ready {
            return Ok(());
        }
        let (table, dialect) = (&self.table, Dialect::Postgres);
        link.run(&format!("BEGIN; SELECT pg_advisory_xact_lock({MAKING_LOCK})")).await?;
        let mut wanted = vec![(&table.ledger, dialect.create_ledger(table))];
        if table.mode == WriteMode::Replace {
            wanted.push((&table.partitions, dialect.create_partitions(table)));
        }
        if table.create {
            wanted.push((&table.name, dialect.create(table)));
        }
        for (name, sql) in wanted {
            // CREATE asks for the right to create even where there is nothing to do.
            if !exists(link, name).await? {
                link.run(&sql).await?;
            }
        }
        link.run("COMMIT").await?;
        *ready = true;
        drop(ready);
        self.prune(link).await
    }

    /// Forgets keys that are older than any batch that may still come.
    async fn prune(&self, link: &Link) -> Result<(), Error> {
        let Table { ledger, keep, .. } = &self.table;
        let pruned = link
            .run(&format!(
                "DELETE FROM {ledger} WHERE ctid IN (SELECT ctid FROM {ledger} WHERE target = {} \
                 AND loaded_at < now() - interval '{} seconds' LIMIT {PRUNED_MAX})",
                literal(&self.table.plain),
                keep.as_secs()
            ))
            .await;
        match pruned {
            // An older key more or less does no harm; a broken connection does.
            Err(error) if error.code().is_some() => {
                tracing::warn!(target = self.target, why = reason(&error), "old batch keys stay");
                Ok(())
            }
            other => other.map(drop),
        }
    }

    async fn prepare_copy(&self, link: &mut Link) -> Result<(), Error> {
        if link.copy.is_some() {
            return Ok(());
        }
        let names = self.table.loaded_names();
        let mut into = format!("{} ({names})", self.table.name);
        if self.table.mode == WriteMode::Upsert {
            let (_, incoming) = INCOMING.split_once('.').unwrap_or_default();
            let make = format!(
                "CREATE TEMP TABLE {incoming} ON COMMIT DELETE ROWS AS \
                 SELECT 0::bigint AS \"etl:row\", {names} FROM {} WITH NO DATA",
                self.table.name
            );
            link.run(&make).await?;
            into = format!("{INCOMING} (\"etl:row\", {names})");
        }
        link.copy = Some(link.client.prepare(&format!("COPY {into} FROM STDIN")).await?);
        Ok(())
    }

    /// Connects, and looks at the table; loads nothing.
    async fn ask(&self) -> Probe {
        match tokio::time::timeout(self.timeout, self.look()).await {
            Ok(Ok(probe)) => probe,
            Ok(Err(error)) => self.unready(&error),
            Err(_) => {
                let waited = humantime::format_duration(self.timeout);
                let text = format!("{}: no answer within {waited}", self.target);
                Probe::new(Reach::Unreachable, text, STARTING)
            }
        }
    }

    async fn look(&self) -> Result<Probe, Error> {
        let link = self.links.take().await?;
        let version = link.ask("SHOW server_version").await?.unwrap_or_default();
        let version = printable(version.as_bytes(), 40);
        let reached = format!("connect ok, PostgreSQL {version}");
        let table = printable(self.table.plain.as_bytes(), 120);
        let probe = if !exists(&link, &self.table.name).await? {
            match self.table.create {
                true => Probe::ready(format!("{reached}, the table {table} will be made")),
                false => Probe::new(
                    Reach::Refused,
                    format!("{reached}, no table {table}"),
                    "make the table, set `create: true`, or correct `table`",
                ),
            }
        } else {
            let rights = match self.table.mode {
                WriteMode::Append => "INSERT",
                WriteMode::Upsert => "INSERT, UPDATE, SELECT",
                WriteMode::Replace => "INSERT, DELETE, SELECT",
            };
            let mut missing = Vec::new();
            for right in rights.split(", ") {
                let sql =
                    format!("SELECT has_table_privilege({}, '{right}')", literal(&self.table.name));
                if link.ask(&sql).await?.as_deref() != Some("t") {
                    missing.push(right);
                }
            }
            match missing.as_slice() {
                [] => match missing_columns(&link, &self.table).await? {
                    None => Probe::ready(format!("{reached}, table {table}")),
                    Some(columns) => no_column(&format!("{reached}, table {table}"), &columns),
                },
                missing => Probe::new(
                    Reach::Refused,
                    format!("{reached}, table {table}: no right to {}", missing.join(", ")),
                    format!("GRANT {} ON {} TO the user", missing.join(", "), self.table.plain),
                ),
            }
        };
        self.links.give(link);
        Ok(probe)
    }

    fn unready(&self, error: &Error) -> Probe {
        let (reach, remedy) = match judge(Stage::Before, error) {
            Answer::Refused(failure) => (Reach::Refused, failure.remedy),
            _ if error.code().is_some() => (Reach::NotNow, None),
            _ => (Reach::Unreachable, None),
        };
        let remedy = remedy.unwrap_or_else(|| STARTING.to_owned());
        Probe::new(reach, format!("{}: {}", self.target, reason(error)), remedy)
    }
}

const STARTING: &str =
    "start the database or correct its address; a run would keep everything in the spool";

impl Sink for PostgresSink {
    fn kind(&self) -> SinkKind {
        SinkKind::Database
    }

    fn deliver<'a>(&'a self, payload: &'a Payload) -> Delivering<'a> {
        Box::pin(self.attempt(payload))
    }

    fn probe(&self) -> Probing<'_> {
        Box::pin(self.ask())
    }

    fn target(&self) -> &str {
        &self.target
    }

    fn remedy(&self, _status: Option<u16>) -> String {
        "see the database's message; etl doctor looks at connection, table and rights".to_owned()
    }
}

async fn exists(link: &Link, quoted: &str) -> Result<bool, Error> {
    let sql = format!("SELECT to_regclass({}) IS NOT NULL", literal(quoted));
    Ok(link.ask(&sql).await?.as_deref() == Some("t"))
}

/// The names of loaded columns that the table does not have.
async fn missing_columns(link: &Link, table: &Table) -> Result<Option<String>, Error> {
    let wanted: Vec<String> = table.loaded.iter().map(|column| literal(&column.column)).collect();
    let sql = format!(
        "SELECT string_agg(wanted, ', ') FROM unnest(ARRAY[{}]::text[]) AS wanted WHERE NOT EXISTS \
         (SELECT FROM pg_attribute WHERE attrelid = to_regclass({}) AND attname = wanted \
         AND attnum > 0 AND NOT attisdropped)",
        wanted.join(", "),
        literal(&table.name),
    );
    Ok(link.ask(&sql).await?.filter(|names| !names.is_empty()))
}

async fn copy_in(link: &Link, batch: &Encoded) -> Result<(), Error> {
    let Some(copy) = &link.copy else { return Ok(()) };
    let mut rows = pin!(link.client.copy_in::<_, bytes::Bytes>(copy).await?);
    let mut left = batch.lines.clone();
    while !left.is_empty() {
        rows.feed(left.split_to(left.len().min(CHUNK_BYTES))).await?;
    }
    rows.finish().await.map(drop)
}

fn judge(stage: Stage, error: &Error) -> Answer {
    let mut failure = Failure::without_answer(reason(error));
    if let Some(database) = error.as_db_error() {
        let more = [database.detail(), database.where_(), database.hint()];
        let more: Vec<&str> = more.into_iter().flatten().collect();
        failure.response = printable(more.join("; ").as_bytes(), MESSAGE_BYTES_MAX);
        return classify(database.code().code(), failure, stage);
    }
    // Only a missing password is an error of configuration that the server had no part in.
    if error.to_string().contains("invalid configuration") {
        let remedy =
            "the server asks for a password: set `password`, `password_file` or one in the URL";
        return Answer::Refused(Failure { remedy: Some(remedy.to_owned()), ..failure });
    }
    Answer::Retry(failure)
}

/// An error with its causes, made printable: `22P02 invalid input syntax for type integer: "x"`.
fn reason(error: &Error) -> String {
    if let Some(database) = error.as_db_error() {
        let text = format!("{} {}", database.code().code(), database.message());
        return printable(text.as_bytes(), MESSAGE_BYTES_MAX);
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    printable(text.as_bytes(), MESSAGE_BYTES_MAX)
}
