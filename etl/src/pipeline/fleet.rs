//! A fleet run: the source is an inventory, and each of its rows is polled. A
//! thread reads the inventory, a bounded channel hands targets out, and as many
//! tasks as are configured poll them; none waits for another.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use async_channel::{Receiver, Sender, bounded};
use tokio::task::JoinSet;
use tracing::{Instrument, Span, info, warn};

use super::intake::{Intake, Workspace};
use super::joined;
use super::rejects::Reject;
use crate::batch::Rows;
use crate::checkpoint::{SettledTargets, Targets};
use crate::config::CsvSource;
use crate::extract::{ExtractError, Extractor, Target};
use crate::source::{CsvRows, Next, SourceError};
use crate::stop::{Stop, Urgency};
use crate::telemetry::Books;

/// Failed targets that are warned about one by one.
const FAILURES_SHOWN: u64 = 5;

/// What a fleet run needs.
#[derive(Debug, Clone)]
pub(super) struct Fleet {
    pub(super) extractor: Arc<Extractor>,
    pub(super) intake: Arc<Intake>,
    pub(super) books: Arc<Books>,
    pub(super) stop: Stop,
    /// Targets that an earlier process has settled: not polled again.
    pub(super) done_before: Arc<Targets>,
    /// What this process settles.
    pub(super) settled: Arc<SettledTargets>,
}

/// An inventory, looked at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Survey {
    /// Targets to poll: without that there is no saying how long a run will take.
    pub(super) targets: u64,
    /// BLAKE3 of the whole inventory.
    pub(super) fingerprint: String,
}

impl Fleet {
    /// Polls `total` targets of the inventory once. Gives the source's error, if it
    /// broke off; what was read before is polled all the same.
    pub(super) async fn run(
        self,
        source: &CsvSource,
        total: u64,
        workers: usize,
    ) -> Result<(), String> {
        self.books.targets_total.store(total, Relaxed);
        let (targets, queue) = bounded(workers.min(1024));
        let reader = self.clone();
        let source = source.clone();
        let handle = tokio::runtime::Handle::current();
        let span = Span::current();
        let reading = tokio::task::spawn_blocking(move || {
            span.in_scope(|| reader.read_inventory(&source, &targets, &handle))
        });
        let mut polls = JoinSet::new();
        for _ in 0..workers.min(usize::try_from(total).unwrap_or(usize::MAX)).max(1) {
            polls.spawn(self.clone().poll_targets(queue.clone()).in_current_span());
        }
        drop(queue);
        while let Some(ended) = polls.join_next().await {
            if let Err(error) = ended {
                warn!(%error, "an extract task ended in a panic");
            }
        }
        joined(reading.await)
    }

    /// Reads the inventory to its end, on a thread that may block.
    fn read_inventory(
        &self,
        source: &CsvSource,
        targets: &Sender<Target>,
        handle: &tokio::runtime::Handle,
    ) -> Result<(), SourceError> {
        let mut rows = CsvRows::open(source)?;
        let mut row = Vec::new();
        for index in 0.. {
            if self.stop.asked() {
                break;
            }
            row.clear();
            let next = rows.next_row(&mut row)?;
            if !matches!(next, Next::End) && self.done_before.contains(index) {
                continue;
            }
            let reject = match next {
                Next::End => break,
                Next::Rejected(rejection) => Reject {
                    place: rejection.place,
                    reason: rejection.reason,
                    record: rejection.record,
                },
                Next::Row => match Target::new(index, std::mem::take(&mut row)) {
                    Ok(target) => {
                        if targets.send_blocking(target).is_err() {
                            break;
                        }
                        continue;
                    }
                    Err(error) => Reject {
                        place: format!("{}: row {}", source.path.display(), index + 1),
                        reason: error.to_string(),
                        record: b"null".to_vec(),
                    },
                },
            };
            warn!(place = reject.place, reason = reject.reason, "source row rejected");
            let sealed = handle.block_on(self.intake.reject(reject));
            self.settled.note(index, sealed.until());
            handle.block_on(sealed.send());
        }
        Ok(())
    }

    /// Polls targets until there are no more or the run should end.
    async fn poll_targets(self, queue: Receiver<Target>) {
        let (mut rows, mut workspace) = (Rows::few(), Workspace::default());
        while let Ok(target) = queue.recv().await {
            if self.stop.asked() {
                break;
            }
            rows.clear();
            self.books.targets_in_flight.fetch_add(1, Relaxed);
            let asked = Instant::now();
            let polled = tokio::select! {
                polled = self.extractor.extract(&target, &mut rows) => Some(polled),
                () = self.stop.reached(Urgency::Drain) => None,
            };
            self.books.targets_in_flight.fetch_sub(1, Relaxed);
            if let Some(polled) = &polled {
                self.books.requests.count(asked.elapsed(), polled.is_ok());
            }
            match polled {
                None => break,
                Some(Ok(())) => {
                    let place = || target.label();
                    let sealed = self.intake.take(&rows, &place, &mut workspace).await;
                    self.settled.note(target.index, sealed.until());
                    sealed.send().await;
                }
                Some(Err(error)) => {
                    self.books.target_failed(|| format!("{}: {error}", target.label()));
                    self.tell_failure(&target.label(), &error);
                }
            }
            self.books.targets_done.fetch_add(1, Relaxed);
        }
    }
}

impl Fleet {
    /// Every failure is in the log; a terminal shows the first few, because a dead
    /// subnet would otherwise push everything else off the screen.
    fn tell_failure(&self, appliance: &str, error: &ExtractError) {
        let failures = self.books.targets_failed.load(Relaxed);
        if failures <= FAILURES_SHOWN {
            warn!(appliance, %error, "extraction failed");
        } else {
            info!(appliance, %error, "extraction failed");
        }
        if failures == FAILURES_SHOWN {
            warn!("more failures are in the log only");
        }
    }
}

/// Reads the inventory once; targets in `done` are not counted.
pub(super) fn survey(source: &CsvSource, done: &Targets) -> Result<Survey, SourceError> {
    let mut rows = CsvRows::open(source)?;
    let (mut row, mut targets) = (Vec::new(), 0);
    for index in 0.. {
        row.clear();
        match rows.next_row(&mut row)? {
            Next::Row => targets += u64::from(!done.contains(index)),
            Next::Rejected(_) => {}
            Next::End => break,
        }
    }
    Ok(Survey { targets, fingerprint: rows.position().fingerprint })
}
