//! Writes down how the fleet fares: a few times a second what was settled, every ten
//! seconds all of it. The order is the promise: records and rejects are on disk before a
//! target counts as polled.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use tracing::warn;

use super::files::Files;
use super::shared::Shared;
use super::snapshot::Snapshot;
use crate::checkpoint::Tracker;
use crate::pipeline::rejects::Flusher;
use crate::telemetry::Books;

/// Between two notes: what a kill may cost in polls that are made twice.
const NOTE_EVERY: Duration = Duration::from_millis(100);
/// Between two snapshots.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(10);

/// What tells whether records are settled.
#[derive(Debug)]
pub(in crate::pipeline) struct Sources {
    /// Of each sink.
    pub(in crate::pipeline) trackers: Vec<Arc<Tracker>>,
    pub(in crate::pipeline) flusher: Flusher,
    pub(in crate::pipeline) books: Arc<Books>,
}

/// The thread that writes.
#[derive(Debug)]
pub(super) struct Scribe {
    /// Told at the end whether all rejects are written down.
    end: Sender<bool>,
    thread: JoinHandle<()>,
}

struct Writing {
    shared: Arc<Shared>,
    files: Files,
    sources: Sources,
    /// Rejects that are known to be written down.
    rejects_written: u64,
    snapshot_at: Option<Instant>,
    trouble: Option<String>,
}

impl Scribe {
    pub(super) fn start(shared: Arc<Shared>, files: Files, sources: Sources) -> io::Result<Scribe> {
        let (end, ends) = bounded(1);
        let mut writing = Writing {
            shared,
            files,
            sources,
            rejects_written: 0,
            snapshot_at: None,
            trouble: None,
        };
        let thread = std::thread::Builder::new().name("fleet-state".to_owned());
        let span = tracing::Span::current();
        let thread = thread.spawn(move || span.in_scope(|| writing.write_until(&ends)))?;
        Ok(Scribe { end, thread })
    }

    /// Writes all down for the last time. Blocks.
    pub(super) fn end(self, rejects_written: bool) {
        // Fails only when the thread is gone, which joining tells.
        self.end.send(rejects_written).ok();
        if self.thread.join().is_err() {
            tracing::error!("the state of the fleet was not written to the end: a panic");
        }
    }
}

impl Writing {
    fn write_until(&mut self, ends: &Receiver<bool>) {
        loop {
            let ended = match ends.recv_timeout(NOTE_EVERY) {
                Err(RecvTimeoutError::Timeout) => None,
                Ok(rejects_written) => Some(rejects_written),
                Err(RecvTimeoutError::Disconnected) => Some(false),
            };
            let written = self.write(ended);
            let now = written.err().map(|error| error.to_string());
            if let Some(error) = now.as_ref().filter(|_| now != self.trouble) {
                warn!(error, "could not write the state of the fleet, trying again");
            }
            self.trouble = now;
            if ended.is_some() {
                return;
            }
        }
    }

    /// One round; `end` says that it is the last, and whether all rejects are written.
    fn write(&mut self, end: Option<bool>) -> io::Result<()> {
        // In this order: rejects before the watermarks were handed over before them.
        let marks = self.sources.trackers.iter().map(|tracker| tracker.watermark());
        let watermark = marks.min().unwrap_or(0);
        let safe = end.unwrap_or_else(|| self.rejects_are_written());
        let due = self.snapshot_at.is_none_or(|at| at.elapsed() >= SNAPSHOT_EVERY);
        let seen = self.shared.clock.now_s();
        let mut core = self.shared.core();
        if safe {
            core.settle_before(watermark);
        } else if end.is_none() {
            return Ok(());
        }
        if due || end.is_some() || core.renewed || !self.files.takes_notes() {
            drop(core);
            self.snapshot_at = Some(Instant::now());
            return self.replace(seen);
        }
        let notes = core.take_notes();
        drop(core);
        if notes.is_empty() { Ok(()) } else { self.files.note(&notes, seen) }
    }

    /// Writes a snapshot. The inventory may become another meanwhile: then a new one.
    fn replace(&mut self, seen: u32) -> io::Result<()> {
        loop {
            self.shared.core().begin_snapshot();
            let generation = self.files.next_generation();
            let mut snapshot = Snapshot::begin(&self.shared, generation, seen);
            let written = self.files.replace(|part| snapshot.next(part));
            let overtaken = snapshot.overtaken();
            if written.is_err() {
                // What is noted from now on does not fit what is on disk.
                self.shared.core().renewed = true;
            }
            if !overtaken {
                return written;
            }
        }
    }

    fn rejects_are_written(&mut self) -> bool {
        let rejected = self.sources.books.rejected.load(Relaxed);
        if rejected != self.rejects_written {
            if !self.sources.flusher.flush() {
                return false;
            }
            self.rejects_written = rejected;
        }
        true
    }
}
