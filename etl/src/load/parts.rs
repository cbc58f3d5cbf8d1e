//! What the workers and the replayer of one sink share.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use tokio::sync::{Notify, Semaphore, watch};
use tracing::{error, info};

use super::away::Delivered;
use super::delivery::{Courier, Ended};
use super::disk::Disk;
use super::gate::Gate;
use super::handed::Waiting;
use super::plan::ReplayPlan;
use super::sink::Sink;
use super::writes::Writes;
use crate::batch::{BatchKey, Payload};
use crate::config::{Retry, SpoolMode};
use crate::spool::{Attempts, DeadLetter, Spool, State, Stored, WriteError};
use crate::stop::{Stop, StopHandle, Urgency};
use crate::telemetry::SinkBooks;

/// The wait before a failed write to the spool is tried again.
const DISK_PAUSE: Duration = Duration::from_secs(1);

/// Records below which the share of dead letters does not stop a run: a handful
/// of bad records in a small run is no sign of a wrong configuration.
const REJECTED_BASE_MIN: u64 = 1000;

/// The shared parts of one sink.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) name: String,
    pub(super) sink: Arc<dyn Sink>,
    pub(super) gate: Gate,
    pub(super) books: Arc<SinkBooks>,
    pub(super) spool: Arc<Spool>,
    pub(super) disk: Disk,
    pub(super) retry: Retry,
    pub(super) mode: SpoolMode,
    pub(super) max_rejected: f64,
    pub(super) stop: Stop,
    pub(super) stop_handle: StopHandle,
    /// Tells this run's batches in the spool from those of earlier runs.
    pub(super) run_id: Arc<str>,
    /// The run's span.
    pub(super) span: tracing::Span,
    /// Files below this are of earlier processes, perhaps of the same run.
    pub(super) first_sequence: u64,
    /// Files of this process with parts of batches that earlier ones had spooled.
    pub(super) adopted: Mutex<HashSet<u64>>,
    /// Sequence numbers of batches that a worker holds: not for the replayer.
    pub(super) held: Mutex<HashSet<u64>>,
    /// What the replayer sends; everything, in a run.
    pub(super) plan: ReplayPlan,
    /// Batches of earlier runs that were tried in this one and still wait, each with
    /// the attempts that were not of this run.
    pub(super) tried_earlier: Mutex<HashMap<BatchKey, u32>>,
    /// Replayed batches whose files are still to be taken away.
    pub(super) delivered: Mutex<Vec<Delivered>>,
    /// Batches that wait to be written to the spool.
    pub(super) writes: Mutex<Writes>,
    /// Places of batches that are written while their workers go on.
    pub(super) handed: Arc<Semaphore>,
    /// Those of them that the disk has not taken.
    pub(super) refused: (Sender<Waiting>, Receiver<Waiting>),
    /// Told when a batch was left in the spool.
    pub(super) spooled: Notify,
    /// Files found unreadable in this run.
    pub(super) corrupt: AtomicU64,
    /// New batches that workers have taken.
    pub(super) live_taken: AtomicU64,
    /// Workers that may still take new batches.
    pub(super) live_workers: AtomicUsize,
    /// Turns true when no worker will take a new batch any more.
    pub(super) live_done: watch::Sender<bool>,
    /// How often the sink was asked once more at the end of the run.
    pub(super) last_probes: AtomicU32,
    /// Whether dead letters stopped the run.
    pub(super) too_many_rejected: AtomicBool,
    /// The last trouble with the spool's disk.
    pub(super) disk_trouble: Mutex<Option<String>>,
}

/// Where the records of one batch are in the end.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) delivered: u64,
    pub(super) spooled: u64,
    pub(super) dead_lettered: u64,
}

impl Placed {
    /// Says what a worker has done with a batch.
    pub(super) fn tell(self, loader: u32, verb: &'static str) {
        let Placed { delivered, spooled, dead_lettered } = self;
        if delivered > 0 {
            info!("loader {loader} {verb} {delivered} records");
        }
        if spooled > 0 {
            info!("loader {loader} left {spooled} records in the spool");
        }
        if dead_lettered > 0 {
            info!("loader {loader} dead-lettered {dead_lettered} records");
        }
    }
}

impl Parts {
    pub(super) fn courier(&self) -> Courier<'_> {
        Courier {
            name: &self.name,
            span: &self.span,
            sink: &*self.sink,
            gate: &self.gate,
            retry: &self.retry,
            books: &self.books,
            stop: &self.stop,
        }
    }

    /// Marks a batch as held by a worker until the guard is dropped.
    pub(super) fn hold(self: &Arc<Self>, sequence: u64) -> Held {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(sequence);
        Held { parts: self.clone(), sequence }
    }

    pub(super) fn is_held(&self, sequence: u64) -> bool {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).contains(&sequence)
    }

    /// Whether a spooled batch is in the books of this process: it is of this run and
    /// was not left by an earlier process, from which the run was resumed.
    pub(super) fn is_ours(&self, run_id: &str, sequence: u64) -> bool {
        run_id == &*self.run_id
            && sequence >= self.first_sequence
            && !self.adopted.lock().unwrap_or_else(PoisonError::into_inner).contains(&sequence)
    }

    /// How many of the `tried` attempts of an earlier run's batch this run did not make.
    pub(super) fn tried_earlier(&self, key: BatchKey, tried: u32) -> u32 {
        let mut known = self.tried_earlier.lock().unwrap_or_else(PoisonError::into_inner);
        *known.entry(key).or_insert(tried)
    }

    /// The batch will not come again.
    pub(super) fn forget_tries(&self, key: BatchKey) {
        self.tried_earlier.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }

    /// Puts everything of an ended batch in its place: dead letters written down,
    /// what is left spooled, and only then the batch's own file removed.
    /// `None` when the run had to end before everything was safe.
    pub(super) async fn place(
        self: &Arc<Self>,
        label: u32,
        whole: &Payload,
        stored: Option<Stored>,
        mut attempts: Attempts,
        ended: Ended,
        ours: bool,
    ) -> Option<Placed> {
        let mut placed = Placed { delivered: ended.delivered, ..Placed::default() };
        placed.dead_lettered += self.bury(ended.dead).await?;
        let is_whole = matches!(&*ended.left, [left] if left.key == whole.key);
        let stored = match stored {
            // A file whose directory was removed holds nothing any more.
            Some(file) if is_whole && !self.spool.vanished() => {
                placed.spooled = whole.records() as u64;
                self.remark(label, whole, file, &attempts).await;
                self.spooled.notify_one();
                return Some(placed);
            }
            other => other,
        };
        let mut open = ended.left;
        open.reverse();
        while let Some(payload) = open.pop() {
            let sequence = self.spool.next_sequence();
            if !ours {
                let mut adopted = self.adopted.lock().unwrap_or_else(PoisonError::into_inner);
                adopted.insert(sequence);
            }
            match self.write(State::Failed, label, sequence, &payload, &attempts).await {
                Ok(_) => {
                    placed.spooled += payload.records() as u64;
                    self.spooled.notify_one();
                }
                // A disk that takes nothing: the records stay in memory, intake
                // waits behind them, and the sink is asked again.
                Err(_) if self.pause_unless_now().await => {
                    let again = self.courier().carry(payload, &mut attempts, 0).await;
                    placed.delivered += again.delivered;
                    placed.dead_lettered += self.bury(again.dead).await?;
                    open.extend(again.left);
                }
                Err(_) => return None,
            }
        }
        if let Some(file) = stored {
            self.remove(file).await;
        }
        Some(placed)
    }

    /// Removes the file of a batch whose records are all safe elsewhere.
    pub(super) async fn remove(&self, file: Stored) {
        let removed = self.disk.run(move |spool| spool.remove(file)).await;
        if let Err(error) | Ok(Err(error)) = removed {
            // The file stays, and the next run sends it again under the same key.
            error!(sink = self.name, %error, "could not remove a delivered spool file");
        }
    }

    /// Writes dead letters down; `None` when the run had to end before.
    async fn bury(&self, letters: Vec<DeadLetter>) -> Option<u64> {
        let count = letters.len() as u64;
        if letters.is_empty() {
            return Some(0);
        }
        let letters: Arc<[DeadLetter]> = letters.into();
        loop {
            let again = letters.clone();
            let written = self.disk.run(move |spool| spool.dead_letter(&again)).await;
            if self.noted(written).is_ok() {
                return Some(count);
            }
            if !self.pause_unless_now().await {
                return None;
            }
        }
    }

    /// Notes more attempts in a batch's own file. When that fails the file still
    /// holds the batch, only with older notes.
    async fn remark(&self, label: u32, payload: &Payload, mut file: Stored, attempts: &Attempts) {
        let (payload, attempts) = (payload.clone(), attempts.clone());
        let updated = self
            .disk
            .run(move |spool| spool.update(&mut file, State::Failed, label, &payload, &attempts))
            .await;
        // Already said and logged by `noted`; the batch itself is safe.
        drop(self.noted(updated));
    }

    /// Stops the run when too large a share of its records was dead-lettered.
    pub(super) fn stop_if_too_many_rejected(&self, dead_lettered: u64) {
        if dead_lettered == 0 {
            return;
        }
        let accepted = self.books.accepted.load(Relaxed).max(REJECTED_BASE_MIN);
        let dead = self.books.dead_lettered();
        #[expect(clippy::cast_precision_loss, reason = "a share of records needs no exactness")]
        let share = dead as f64 / accepted as f64;
        if share > self.max_rejected && !self.too_many_rejected.swap(true, Relaxed) {
            error!(sink = self.name, dead, accepted, "too many records rejected, stopping the run");
            self.stop_handle.ask(Urgency::Now);
        }
    }

    /// Remembers and logs what the disk said, once per kind of trouble.
    pub(super) fn noted<T>(
        &self,
        result: std::io::Result<Result<T, WriteError>>,
    ) -> Result<T, String> {
        let text = match result {
            Ok(Ok(value)) => {
                *self.disk_trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
                return Ok(value);
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        let mut known = self.disk_trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref() != Some(&text) {
            error!(sink = self.name, error = text, "could not write to the spool, trying again");
            *known = Some(text.clone());
        }
        Err(text)
    }

    /// Takes records out of the books that waited in a directory that was removed
    /// under the run: they are nowhere, and must not pass for spooled.
    pub(super) fn note_if_vanished(&self) {
        if !self.spool.vanished() {
            return;
        }
        let (directory, records) = (self.spool.directory().display(), self.books.spool_lost());
        let text = if records > 0 {
            format!(
                "{directory} was removed during the run; {records} records that waited there are gone"
            )
        } else {
            format!("{directory} was removed during the run; no record of this run was in it")
        };
        error!(sink = self.name, %directory, records, "the spool directory was removed during the run");
        *self.disk_trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }

    async fn pause_unless_now(&self) -> bool {
        tokio::select! {
            () = tokio::time::sleep(DISK_PAUSE) => true,
            () = self.stop.reached(Urgency::Now) => false,
        }
    }
}

/// Keeps the replayer away from a batch that a worker holds.
#[derive(Debug)]
#[must_use = "the batch is held only while the guard lives"]
pub(super) struct Held {
    parts: Arc<Parts>,
    sequence: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = self.parts.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.remove(&self.sequence);
    }
}
