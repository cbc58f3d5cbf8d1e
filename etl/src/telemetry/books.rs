//! The run's books: every record that entered the pipeline, and where it went.
//! For every sink `extracted = delivered + spooled + dead_lettered + rejected +
//! filtered`; anything else is a bug and ends the run with 70.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::{FleetBooks, FleetSnapshot, Requests, RequestsSnapshot};
use crate::batch::Outcome;

/// Counters of one run, shared by everything that moves records.
#[derive(Debug, Default)]
pub struct Books {
    /// Records that came out of the source or its extraction, good or bad.
    pub extracted: AtomicU64,
    /// Records refused before any sink saw them.
    pub rejected: AtomicU64,
    /// Records the user asked to drop.
    pub filtered: AtomicU64,
    /// Source records to extract from (an inventory's appliances), or shards of a
    /// database; 0 without either.
    pub targets_total: AtomicU64,
    /// Targets whose extraction ended, well or not.
    pub targets_done: AtomicU64,
    /// Targets whose extraction failed.
    pub targets_failed: AtomicU64,
    /// Calls in flight now.
    pub targets_in_flight: AtomicU64,
    /// Requests to the source.
    pub requests: Requests,
    targets_are: OnceLock<&'static str>,
    /// Of a fleet that is polled for good.
    fleet: OnceLock<FleetBooks>,
    first_rejection: Mutex<Option<String>>,
    first_failure: Mutex<Option<String>>,
}

/// Counters of one sink in one run.
#[derive(Debug, Default)]
pub struct SinkBooks {
    /// Whether the sink is a database.
    pub database: bool,
    /// Records handed to the sink.
    pub accepted: AtomicU64,
    /// Records read again that an earlier process had settled in this sink.
    pub already: AtomicU64,
    /// Records of tables that go to other sinks.
    pub elsewhere: AtomicU64,
    delivered: AtomicU64,
    spooled: AtomicU64,
    dead_lettered: AtomicU64,
    /// Records delivered from spool files, of this run or an earlier one.
    pub replayed: AtomicU64,
    /// Of these, records that were not of this run.
    pub replayed_earlier: AtomicU64,
    /// Requests that ended with an acknowledged batch.
    pub batches: AtomicU64,
    /// Attempts after a batch's first of this run.
    pub retries: AtomicU64,
    /// Attempts that the sink did not answer well.
    pub failed: AtomicU64,
    /// Requests in flight now.
    pub in_flight: AtomicU64,
    /// Bytes of the batches in flight now.
    pub in_flight_bytes: AtomicU64,
    /// Records replayed from earlier runs that ended as dead letters in this one.
    pub replay_dead_lettered: AtomicU64,
}

impl SinkBooks {
    /// The books of a sink, which may be a database.
    #[must_use]
    pub fn of(database: bool) -> SinkBooks {
        SinkBooks { database, ..SinkBooks::default() }
    }

    /// Counts how a batch ended.
    pub fn settle(&self, outcome: Outcome) {
        self.delivered.fetch_add(outcome.delivered, Relaxed);
        self.spooled.fetch_add(outcome.spooled, Relaxed);
        self.dead_lettered.fetch_add(outcome.dead_lettered, Relaxed);
    }

    /// Takes out the records of this run that waited in the spool and are gone; gives
    /// their number. They are then unaccounted for.
    pub fn spool_lost(&self) -> u64 {
        self.spooled.swap(0, Relaxed)
    }

    /// Records of this run in the dead letters.
    #[must_use]
    pub fn dead_lettered(&self) -> u64 {
        self.dead_lettered.load(Relaxed)
    }

    /// Counts records of this run that were spooled and have now ended otherwise.
    /// `outcome.spooled` must be 0.
    pub fn recovered(&self, outcome: Outcome) {
        self.spooled.fetch_sub(outcome.delivered + outcome.dead_lettered, Relaxed);
        self.settle(outcome);
    }
}

impl Books {
    /// Counts one rejected record; the first one's text is kept for the report.
    pub fn reject(&self, what: impl FnOnce() -> String) {
        self.rejected.fetch_add(1, Relaxed);
        keep_first(&self.first_rejection, what);
    }

    /// Takes out rejects that could not be written down: they are nowhere, and
    /// unaccounted for.
    pub fn rejects_lost(&self, count: u64) {
        let left = |rejected: u64| Some(rejected.saturating_sub(count));
        // An update that never declines does not fail.
        self.rejected.fetch_update(Relaxed, Relaxed, left).ok();
    }

    /// Counts one target whose extraction failed; the first one's text is kept.
    pub fn target_failed(&self, what: impl FnOnce() -> String) {
        self.targets_failed.fetch_add(1, Relaxed);
        keep_first(&self.first_failure, what);
    }

    /// Says what the targets are, in the plural.
    pub fn targets_are(&self, word: &'static str) {
        // Said once; a second word would be the same.
        self.targets_are.set(word).ok();
    }

    /// The books of a fleet that is polled for good; with this call it is one.
    pub fn fleet(&self) -> &FleetBooks {
        self.fleet.get_or_init(FleetBooks::default)
    }

    /// What people are to be told of the fleet's last cycle, once.
    pub fn fleet_line(&self) -> Option<String> {
        self.fleet.get().and_then(FleetBooks::told)
    }

    /// The counters now. While the run is going on they need not balance.
    #[must_use]
    pub fn snapshot(&self, sinks: &[(String, Arc<SinkBooks>, SinkInput)]) -> BooksSnapshot {
        BooksSnapshot {
            extracted: self.extracted.load(Relaxed),
            rejected: self.rejected.load(Relaxed),
            filtered: self.filtered.load(Relaxed),
            targets_total: self.targets_total.load(Relaxed),
            targets_done: self.targets_done.load(Relaxed),
            targets_failed: self.targets_failed.load(Relaxed),
            targets_in_flight: self.targets_in_flight.load(Relaxed),
            targets_are: self.targets_are.get().copied().unwrap_or_default(),
            requests: self.requests.snapshot(),
            fleet: self.fleet.get().map(FleetBooks::snapshot),
            first_rejection: kept(&self.first_rejection),
            first_failure: kept(&self.first_failure),
            sinks: sinks
                .iter()
                .map(|(name, books, input)| SinkSnapshot {
                    name: name.clone(),
                    input: *input,
                    database: books.database,
                    accepted: books.accepted.load(Relaxed),
                    already: books.already.load(Relaxed),
                    elsewhere: books.elsewhere.load(Relaxed),
                    delivered: books.delivered.load(Relaxed),
                    spooled: books.spooled.load(Relaxed),
                    dead_lettered: books.dead_lettered.load(Relaxed),
                    replayed: books.replayed.load(Relaxed),
                    replayed_earlier: books.replayed_earlier.load(Relaxed),
                    replay_dead_lettered: books.replay_dead_lettered.load(Relaxed),
                    batches: books.batches.load(Relaxed),
                    retries: books.retries.load(Relaxed),
                    failed: books.failed.load(Relaxed),
                    in_flight: books.in_flight.load(Relaxed),
                    in_flight_bytes: books.in_flight_bytes.load(Relaxed),
                })
                .collect(),
        }
    }
}

/// Whether a sink gets records before or after the transform.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SinkInput {
    /// Records as extracted: transform rejects and filters do not concern it.
    Raw,
    /// Records as transformed.
    #[default]
    Transformed,
}

/// The books at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BooksSnapshot {
    /// Records that came out of the source or its extraction, good or bad.
    pub extracted: u64,
    /// Records refused before any sink saw them.
    pub rejected: u64,
    /// Records the user asked to drop.
    pub filtered: u64,
    /// Source records to extract from; 0 without `extract`.
    pub targets_total: u64,
    /// Targets whose extraction ended, well or not.
    pub targets_done: u64,
    /// Targets whose extraction failed.
    pub targets_failed: u64,
    /// Calls in flight.
    pub targets_in_flight: u64,
    /// What the targets are, in the plural; empty for appliances.
    pub targets_are: &'static str,
    /// Requests to the source.
    pub requests: RequestsSnapshot,
    /// Of a fleet that is polled for good.
    pub fleet: Option<FleetSnapshot>,
    /// The first rejected record and why.
    pub first_rejection: Option<String>,
    /// The first failed target and why.
    pub first_failure: Option<String>,
    /// Per sink, in the order of the pipeline file.
    pub sinks: Vec<SinkSnapshot>,
}

/// One sink's books at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SinkSnapshot {
    /// The sink's name.
    pub name: String,
    /// Which records it gets.
    pub input: SinkInput,
    /// Whether it is a database.
    pub database: bool,
    /// Records handed to the sink.
    pub accepted: u64,
    /// Records read again that an earlier process had settled in this sink.
    pub already: u64,
    /// Records of tables that go to other sinks.
    pub elsewhere: u64,
    /// Records the sink acknowledged.
    pub delivered: u64,
    /// Records of this run that are in the spool.
    pub spooled: u64,
    /// Records of this run in the dead letters.
    pub dead_lettered: u64,
    /// Records delivered from spool files.
    pub replayed: u64,
    /// Of these, records that were not of this run.
    pub replayed_earlier: u64,
    /// Replayed records of earlier runs that became dead letters.
    pub replay_dead_lettered: u64,
    /// Acknowledged batches.
    pub batches: u64,
    /// Attempts after a batch's first of this run.
    pub retries: u64,
    /// Attempts that the sink did not answer well.
    pub failed: u64,
    /// Requests in flight.
    pub in_flight: u64,
    /// Bytes of the batches in flight.
    pub in_flight_bytes: u64,
}

impl BooksSnapshot {
    /// What the targets are, in the plural.
    #[must_use]
    pub fn targets_are(&self) -> &'static str {
        if self.targets_are.is_empty() { "appliances" } else { self.targets_are }
    }

    /// Records of `sink` that are in none of the columns; not 0 at the end of a
    /// run is a bug.
    #[must_use]
    pub fn unaccounted(&self, sink: &SinkSnapshot) -> i128 {
        let before_the_sink = match sink.input {
            SinkInput::Transformed => i128::from(self.rejected) + i128::from(self.filtered),
            // What a raw sink was not handed never was a record to it.
            SinkInput::Raw => i128::from(self.extracted) - i128::from(sink.accepted),
        };
        i128::from(self.extracted)
            - before_the_sink
            - match sink.input {
                SinkInput::Raw => 0,
                SinkInput::Transformed => i128::from(sink.already) + i128::from(sink.elsewhere),
            }
            - i128::from(sink.delivered)
            - i128::from(sink.spooled)
            - i128::from(sink.dead_lettered)
    }

    /// Whether every sink's books balance.
    #[must_use]
    pub fn balanced(&self) -> bool {
        self.sinks.iter().all(|sink| self.unaccounted(sink) == 0)
    }
}

fn keep_first(place: &Mutex<Option<String>>, what: impl FnOnce() -> String) {
    place.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(what);
}

fn kept(place: &Mutex<Option<String>>) -> Option<String> {
    place.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering::Relaxed;

    use super::{Books, SinkBooks, SinkInput};
    use crate::batch::Outcome;

    #[test]
    fn the_books_balance_only_when_every_record_is_somewhere() {
        let (books, sink) = (Books::default(), Arc::new(SinkBooks::default()));
        let sinks = [("http".to_owned(), sink.clone(), SinkInput::Transformed)];
        books.extracted.store(10, Relaxed);
        books.reject(|| "first".to_owned());
        books.reject(|| "second".to_owned());
        books.filtered.store(1, Relaxed);
        sink.settle(Outcome { delivered: 3, spooled: 3, dead_lettered: 0 });
        let snapshot = books.snapshot(&sinks);
        assert_eq!(snapshot.unaccounted(&snapshot.sinks[0]), 1);
        assert!(!snapshot.balanced());
        assert_eq!(snapshot.first_rejection.as_deref(), Some("first"));

        sink.settle(Outcome { delivered: 0, spooled: 0, dead_lettered: 1 });
        assert!(books.snapshot(&sinks).balanced());
        sink.recovered(Outcome { delivered: 2, spooled: 0, dead_lettered: 1 });
        let snapshot = books.snapshot(&sinks);
        assert!(snapshot.balanced());
        assert_eq!((snapshot.sinks[0].delivered, snapshot.sinks[0].spooled), (5, 0));
        assert_eq!(snapshot.sinks[0].dead_lettered, 2);
    }
}
