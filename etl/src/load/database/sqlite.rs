//! The SQLite sink: a file, written by one thread of its own, since its calls block.
//! Commits are on disk before they are acknowledged.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::fs::{CWD, FileType, Mode};
use tokio::sync::oneshot;

use super::outcome::{superseded, superseded_in_part, was_split};
use super::row::split;
use super::sql::{Dialect, Run, quoted};
use super::sqlstate::{Stage, classify_sqlite};
use super::table::{Table, no_column};
use super::{DatabaseSinkError, values};
use crate::batch::Payload;
use crate::config::{DatabaseLoad, Layout, Load, WriteMode};
use crate::http::printable;
use crate::load::answer::{Answer, FailedRecord, Failure};
use crate::load::sink::{Delivering, Probe, Probing, Reach, Sink};
use crate::telemetry::SinkKind;

/// Keys that one start forgets at most, so that it does not take long.
const PRUNED_MAX: usize = 100_000;

type Job = Box<dyn FnOnce(&mut Store) + Send>;

/// Between two looks at a file that another sink is about to make.
const BUSY_LOOK: Duration = Duration::from_millis(5);
/// How long the end of a run waits until the file is closed. SQLite then puts what is in
/// its `-wal` file into the database, which is one file again and can be copied.
const CLOSING: Duration = Duration::from_secs(2);

/// Loads batches into one table of a file.
#[derive(Debug)]
pub(super) struct SqliteSink {
    jobs: Sender<Job>,
    /// Ends once the file is closed.
    closed: Receiver<()>,
    timeout: Duration,
    target: String,
}

/// The file, on the thread that writes it.
struct Store {
    file: PathBuf,
    table: Table,
    busy: Duration,
    open: Option<Opened>,
}

/// An open file, and which it was: one that is removed or replaced under us takes
/// writes that nobody will ever read.
struct Opened {
    connection: Connection,
    identity: (u64, u64),
}

/// What ended an attempt other than well.
enum Trouble {
    Database(Stage, rusqlite::Error),
    File(String),
    Decided(Answer),
}

impl SqliteSink {
    /// Builds the sink and starts its thread; opens nothing.
    pub(super) fn new(
        file: PathBuf,
        load: &Load,
        database: &DatabaseLoad,
    ) -> Result<SqliteSink, DatabaseSinkError> {
        let target = super::shown(&format!("sqlite:{}", file.display()), database);
        let (jobs, queue) = bounded(load.in_flight_max() + 1);
        let busy = load.timeout().0 * 8 / 10;
        let mut store = Store { file, table: Table::new(database), busy, open: None };
        let (closing, closed) = bounded::<()>(0);
        std::thread::Builder::new()
            .name(format!("sqlite-{}", load.sink_name()))
            .spawn(move || {
                serve(&queue, &mut store);
                drop((store, closing));
            })
            .map_err(DatabaseSinkError::Thread)?;
        Ok(SqliteSink { jobs, closed, timeout: load.timeout().0, target })
    }

    /// Runs `work` on the file's thread; `None` when there was no result in time.
    async fn on_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> T + Send + 'static,
    ) -> Option<T> {
        let (reply, result) = oneshot::channel();
        let mut job: Job = Box::new(move |store| {
            // Nobody waits any more: the batch will come again.
            if !reply.is_closed() {
                drop(reply.send(work(store)));
            }
        });
        let waiting = async {
            while let Err(error) = self.jobs.try_send(job) {
                match error {
                    TrySendError::Full(back) => job = back,
                    TrySendError::Disconnected(_) => return None,
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            result.await.ok()
        };
        tokio::time::timeout(self.timeout, waiting).await.ok().flatten()
    }

    async fn attempt(&self, payload: &Payload) -> Answer {
        let payload = payload.clone();
        match self.on_thread(move |store| store.deliver(&payload)).await {
            Some(answer) => answer,
            None => {
                let waited = humantime::format_duration(self.timeout);
                let reason = format!("no answer within {waited}");
                Answer::Retry(Failure { timed_out: true, ..Failure::without_answer(reason) })
            }
        }
    }

    async fn ask(&self) -> Probe {
        let probed = self.on_thread(|store| store.probe()).await;
        probed.unwrap_or_else(|| {
            let text = format!("{}: no answer in time", self.target);
            Probe::new(Reach::NotNow, text, "is another program writing to it?")
        })
    }
}

impl Sink for SqliteSink {
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
        "see SQLite's message; etl doctor looks at the file and the table".to_owned()
    }
}

impl Drop for SqliteSink {
    fn drop(&mut self) {
        // Without a sender the thread ends; who is late closes by itself.
        self.jobs = bounded(0).0;
        self.closed.recv_timeout(CLOSING).ok();
    }
}

fn serve(queue: &Receiver<Job>, store: &mut Store) {
    queue.iter().for_each(|job| job(store));
}

impl Store {
    fn deliver(&mut self, payload: &Payload) -> Answer {
        let (rows, failed) = encode(payload, &self.table);
        let trouble = match self.load(payload, &rows, &failed) {
            Ok(()) if failed.is_empty() => return Answer::Delivered,
            Ok(()) => return Answer::Partial(failed),
            Err(trouble) => trouble,
        };
        let answer = match trouble {
            Trouble::Decided(answer) => answer,
            Trouble::File(reason) => Answer::Retry(Failure::without_answer(reason)),
            Trouble::Database(stage, error) => classify_sqlite(&error, stage),
        };
        self.settle(payload, answer)
    }

    /// Ends the transaction of a batch that was not loaded; one that will be split is
    /// noted as such first, as the PostgreSQL sink does.
    fn settle(&mut self, payload: &Payload, answer: Answer) -> Answer {
        let Some(Opened { connection, .. }) = &self.open else { return answer };
        if !connection.is_autocommit() && connection.execute_batch("ROLLBACK").is_err() {
            self.open = None;
            return answer;
        }
        if let Answer::Invalid(_) = answer
            && payload.records() > 1
        {
            let sql = format!(
                "INSERT INTO {} (key, target, split) VALUES (?, ?, true) ON CONFLICT DO NOTHING",
                self.table.ledger
            );
            let noted = connection.execute(&sql, (payload.key.to_string(), &self.table.plain));
            if let Err(error) = noted {
                return classify_sqlite(&error, Stage::Before);
            }
        }
        if matches!(answer, Answer::Refused(_) | Answer::Retry(_)) {
            // Opened anew, with everything looked at again.
            self.open = None;
        }
        answer
    }

    fn load(
        &mut self,
        payload: &Payload,
        rows: &[Vec<Value>],
        failed: &[FailedRecord],
    ) -> Result<(), Trouble> {
        self.open()?;
        let Some(Opened { connection, .. }) = &self.open else { return Ok(()) };
        let table = &self.table;
        let before = |error| Trouble::Database(Stage::Before, error);
        let records = |error| Trouble::Database(Stage::Records, error);
        let key = (payload.key.to_string(), &table.plain);
        let ledger = &table.ledger;
        connection.execute_batch("BEGIN IMMEDIATE").map_err(before)?;
        let note =
            format!("INSERT INTO {ledger} (key, target) VALUES (?, ?) ON CONFLICT DO NOTHING");
        if connection.execute(&note, (&key.0, key.1)).map_err(before)? == 0 {
            let sql = format!("SELECT split FROM {ledger} WHERE key = ? AND target = ?");
            let split = connection.query_row(&sql, (&key.0, key.1), |row| row.get::<_, bool>(0));
            if split.map_err(before)? {
                return Err(Trouble::Decided(was_split()));
            }
            return connection.execute_batch("ROLLBACK").map_err(before);
        }
        claim(connection, table, payload, rows, failed)?;
        insert(connection, table, rows).map_err(records)?;
        connection.execute_batch("COMMIT").map_err(records)
    }

    /// Opens the file unless the open one is still in its place; makes what is to be made.
    fn open(&mut self) -> Result<(), Trouble> {
        let there = identity(&self.file);
        if self.open.as_ref().is_some_and(|open| Some(open.identity) == there) {
            return Ok(());
        }
        self.open = None;
        let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        if self.table.create {
            flags |= OpenFlags::SQLITE_OPEN_CREATE;
            self.make_directory()?;
            self.make_file();
        }
        let before = |error| Trouble::Database(Stage::Before, error);
        let connection = Connection::open_with_flags(&self.file, flags).map_err(before)?;
        connection.busy_timeout(self.busy).map_err(before)?;
        self.write_ahead(&connection).map_err(before)?;
        connection
            .execute_batch("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")
            .map_err(before)?;
        self.make_tables(&connection).map_err(before)?;
        let Some(identity) = identity(&self.file) else {
            return Err(Trouble::File(format!("{} vanished", self.file.display())));
        };
        self.open = Some(Opened { connection, identity });
        Ok(())
    }

    /// Turns on the write-ahead log. When two sinks do so in a new file at the same moment,
    /// SQLite refuses one of them at once: its busy timeout does not hold here.
    fn write_ahead(&self, connection: &Connection) -> rusqlite::Result<()> {
        let began = Instant::now();
        loop {
            match connection.execute_batch("PRAGMA journal_mode = WAL;") {
                Err(error)
                    if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                        && began.elapsed() < self.busy =>
                {
                    std::thread::sleep(BUSY_LOOK);
                }
                result => return result,
            }
        }
    }

    /// Makes the file's directory, durably.
    fn make_directory(&self) -> Result<(), Trouble> {
        let Some(directory) = self.file.parent().filter(|path| !path.as_os_str().is_empty()) else {
            return Ok(());
        };
        if directory.is_dir() {
            return Ok(());
        }
        let failed = |error| Trouble::File(format!("cannot make {}: {error}", directory.display()));
        std::fs::create_dir_all(directory).map_err(failed)?;
        let above = directory.parent().filter(|path| !path.as_os_str().is_empty());
        let synced =
            std::fs::File::open(above.unwrap_or(Path::new("."))).and_then(|f| f.sync_all());
        synced.map_err(failed)
    }

    /// Makes the file where there is none, for its owner only. SQLite gives the same rights
    /// to the files that it puts beside it, which hold records too. It is not opened for
    /// that: closing it would take the locks away that another sink has on it by then.
    fn make_file(&self) {
        let mode = Mode::RUSR | Mode::WUSR;
        // What cannot be made cannot be opened either, and SQLite says why.
        rustix::fs::mknodat(CWD, &self.file, FileType::RegularFile, mode, 0).ok();
    }

    fn make_tables(&self, connection: &Connection) -> rusqlite::Result<()> {
        let (table, dialect) = (&self.table, Dialect::Sqlite);
        let mut sql = dialect.create_ledger(table);
        if table.mode == WriteMode::Replace {
            sql += &dialect.create_partitions(table);
        }
        if table.create {
            sql += &dialect.create(table);
        }
        connection.execute_batch(&format!("BEGIN IMMEDIATE;\n{sql}COMMIT;"))?;
        // Keys that are older than any batch that may still come.
        connection.execute(
            &format!(
                "DELETE FROM {0} WHERE rowid IN (SELECT rowid FROM {0} WHERE target = ? \
                 AND loaded_at < strftime('%Y-%m-%dT%H:%M:%fZ', 'now', ?) LIMIT {PRUNED_MAX})",
                table.ledger
            ),
            (&table.plain, format!("-{} seconds", table.keep.as_secs())),
        )?;
        Ok(())
    }

    /// Looks at the file and the table; changes nothing.
    fn probe(&self) -> Probe {
        let (file, table) = (self.file.display(), printable(self.table.plain.as_bytes(), 120));
        let made = |what: String| match self.table.create {
            true => Probe::ready(format!("{what} will be made")),
            false => Probe::new(
                Reach::Refused,
                format!("there is no {what}"),
                "make it, set `create: true`, or correct the settings",
            ),
        };
        if !self.file.exists() {
            return made(format!("file {file}"));
        }
        let found = Connection::open_with_flags(&self.file, OpenFlags::SQLITE_OPEN_READ_WRITE)
            .and_then(|connection| {
                connection.busy_timeout(self.busy)?;
                let bare = self.table.plain.rsplit('.').next().unwrap_or_default();
                let mut columns = connection.prepare("SELECT name FROM pragma_table_info(?)")?;
                columns.query_map([bare], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()
            });
        match found {
            Ok(columns) if !columns.is_empty() => {
                let reached = format!("{file}, SQLite {}, table {table}", rusqlite::version());
                let wanted = self.table.loaded.iter().map(|wanted| wanted.column.as_str());
                // SQLite takes names for the same whatever their case.
                let is_there = |name: &str| columns.iter().any(|it| it.eq_ignore_ascii_case(name));
                let missing: Vec<&str> = wanted.filter(|name| !is_there(name)).collect();
                match missing.as_slice() {
                    [] => Probe::ready(reached),
                    missing => no_column(&reached, &missing.join(", ")),
                }
            }
            Ok(_) => made(format!("table {table} in {file}")),
            Err(error) => {
                let (reach, remedy) = match classify_sqlite(&error, Stage::Before) {
                    Answer::Refused(failure) => (Reach::Refused, failure.remedy),
                    _ => (Reach::NotNow, None),
                };
                let remedy =
                    remedy.unwrap_or_else(|| "is another program writing to it?".to_owned());
                Probe::new(reach, format!("{file}: {error}"), remedy)
            }
        }
    }
}

/// Device and inode of a file.
fn identity(file: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(file).ok().map(|found| (found.dev(), found.ino()))
}

/// The records as rows, and those that the table cannot take.
fn encode(payload: &Payload, table: &Table) -> (Vec<Vec<Value>>, Vec<FailedRecord>) {
    let (mut rows, mut failed) = (Vec::with_capacity(payload.records()), Vec::new());
    let mut found = Vec::with_capacity(table.loaded.len());
    for (index, record) in payload.rows().enumerate() {
        let row = match table.layout {
            Layout::Raw => Ok(vec![Value::Text(String::from_utf8_lossy(record).into_owned())]),
            Layout::Columns => split(record, table, &mut found).and_then(|()| {
                let values = found.iter().zip(&table.loaded);
                values.map(|(value, at)| values::value(*value, at, table.empty_as_null)).collect()
            }),
        };
        match row {
            Ok(row) => rows.push(row),
            Err(reason) => failed.push(FailedRecord { index, reason }),
        }
    }
    (rows, failed)
}

fn insert(connection: &Connection, table: &Table, rows: &[Vec<Value>]) -> rusqlite::Result<()> {
    let marks = vec!["?"; table.loaded.len()].join(", ");
    let conflict = match table.mode {
        WriteMode::Upsert => Dialect::Sqlite.on_conflict(table),
        WriteMode::Append | WriteMode::Replace => String::new(),
    };
    let mut statement = connection.prepare(&format!(
        "INSERT INTO {} ({}) VALUES ({marks}) {conflict}",
        table.name,
        table.loaded_names()
    ))?;
    for row in rows {
        statement.execute(rusqlite::params_from_iter(row))?;
    }
    Ok(())
}

/// `mode: replace`: deletes what earlier runs put into the partitions of this batch,
/// once per run, as the PostgreSQL sink does.
fn claim(
    connection: &Connection,
    table: &Table,
    payload: &Payload,
    rows: &[Vec<Value>],
    failed: &[FailedRecord],
) -> Result<(), Trouble> {
    let Some(at) = table.partition else { return Ok(()) };
    let database = |error| Trouble::Database(Stage::Before, error);
    let run = Run::of(&payload.run_id);
    let mut seen: Vec<(String, &Value)> =
        rows.iter().map(|row| (noted(&row[at]), &row[at])).collect();
    seen.sort_by(|one, other| one.0.cmp(&other.0));
    seen.dedup_by(|one, other| one.0 == other.0);
    let column = quoted(&table.loaded[at].column);
    let mut lost = 0;
    for (noted, value) in &seen {
        let sql = Dialect::Sqlite.claim_partition(table, "?", &run);
        if connection.execute(&sql, [noted]).map_err(database)? == 1 {
            let sql = format!("DELETE FROM {} WHERE {column} IS ?", table.name);
            connection.execute(&sql, [value]).map_err(database)?;
            continue;
        }
        let sql =
            format!("SELECT run FROM {} WHERE target = ? AND partition = ?", table.partitions);
        let holder: String = connection
            .query_row(&sql, (&table.plain, noted), |row| row.get(0))
            .map_err(database)?;
        lost += usize::from(holder != run.id);
    }
    match lost {
        0 => Ok(()),
        all if all == seen.len() => Err(Trouble::Decided(superseded(payload, failed))),
        _ => Err(Trouble::Decided(superseded_in_part())),
    }
}

/// How the ledger of partitions writes a value.
fn noted(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Integer(number) => format!("={number}"),
        Value::Text(text) => format!("={text}"),
        Value::Real(number) => format!("={number}"),
        Value::Blob(_) => "=blob".to_owned(),
    }
}

#[cfg(test)]
mod tests;
