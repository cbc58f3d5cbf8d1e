//! What the running display asks a run: its books, how far it is, and how each
//! sink is doing. The engine implements [`Watch`]; tests script it.

use std::path::PathBuf;
use std::time::Duration;

use super::BooksSnapshot;

/// What stays the same during a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunHeader {
    /// The pipeline's name.
    pub pipeline: String,
    /// The run as people see it: `9f3a`.
    pub run_id_short: String,
    /// Records, or targets of a fleet, that the source is expected to have;
    /// used until [`Progress::total`] knows better.
    pub source_total: Option<u64>,
    /// Whether the source's records are targets to extract from.
    pub fleet: bool,
}

/// What can be watched. Called about five times a second from the display's thread.
pub trait Watch: Send + Sync {
    /// The counters now.
    fn books(&self) -> BooksSnapshot;
    /// How far the source is.
    fn progress(&self) -> Progress;
    /// Every sink, in the order of the pipeline file.
    fn sinks(&self) -> Vec<SinkHealth>;
}

/// How far the source is: in targets for a fleet, else in records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Done so far.
    pub done: u64,
    /// Expected in all; an estimate unless the source is a fleet.
    pub total: Option<u64>,
}

/// What kind of place a sink is, as far as people are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SinkKind {
    /// An HTTP API.
    #[default]
    Api,
    /// A database: it is asked for its health, and its batches are database writes.
    Database,
    /// Files on a disk of this machine, or one that it mounts.
    Disk,
    /// An object store.
    Store,
}

impl SinkKind {
    /// In the middle of a sentence: `until the API answers`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            SinkKind::Api => "API",
            SinkKind::Database => "database",
            SinkKind::Disk => "disk",
            SinkKind::Store => "store",
        }
    }

    /// At the head of a notice: `DATABASE`.
    #[must_use]
    pub fn title(self) -> String {
        self.word().to_uppercase()
    }
}

/// How one sink is doing now.
#[derive(Debug, Clone, PartialEq)]
pub struct SinkHealth {
    /// The sink's name.
    pub name: String,
    /// What kind of place it is.
    pub kind: SinkKind,
    /// 95 of 100 answers took at most this, in milliseconds; `None` before the first answers.
    pub p95_ms: Option<f64>,
    /// Whether it takes what it is given.
    pub state: SinkState,
    /// Bytes in its spool, of this run and earlier ones.
    pub spool_bytes: u64,
    /// The most its spool may hold.
    pub spool_max: u64,
    /// Where its spool is.
    pub spool_dir: PathBuf,
    /// What keeps intake waiting or its spool from being written, and what to do.
    pub obstacle: Option<String>,
    /// Records queued or in flight.
    pub waiting: u64,
    /// A request is in flight and nothing has been answered for this long.
    pub silent_for: Option<Duration>,
}

/// Whether a sink takes what it is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SinkState {
    /// It does.
    Up,
    /// It does not, and is tried again.
    Down {
        /// How long it has been down.
        since: Duration,
        /// The last failure: `connection refused`.
        why: String,
        /// Attempts since it went down.
        tries: u32,
        /// Time until the next attempt.
        next_try_in: Duration,
        /// `POST https://…`, without query and user information.
        target: String,
    },
    /// It answered that we may not, or that nothing is there (401, 403, 404, 3xx).
    Refused {
        /// `401 Unauthorized`.
        status: String,
        /// What to change, naming the setting.
        remedy: String,
        /// `POST https://…`, without query and user information.
        target: String,
    },
}
