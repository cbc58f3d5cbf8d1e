//! The SQLite sink: a file, written by one thread of its own, since its calls block.
//! Commits are on disk before they are acknowledged.

mod file;
mod rows;

use std::path::PathBuf;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use rusqlite::Connection;
use rusqlite::types::Value;
use tokio::sync::oneshot;

use self::rows::{claim, encode, insert};
use super::DatabaseSinkError;
use super::outcome::was_split;
use super::sqlstate::{Stage, classify_sqlite};
use super::table::Table;
use crate::batch::Payload;
use crate::config::{DatabaseLoad, Load};
use crate::load::answer::{Answer, FailedRecord, Failure};
use crate::load::sink::{Delivering, Probe, Probing, Reach, Sink};
use crate::telemetry::SinkKind;

type Job = Box<dyn FnOnce(&mut Store) + Send>;

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
}

#[cfg(test)]
mod tests;
