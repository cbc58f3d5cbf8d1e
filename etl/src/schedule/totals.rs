//! What all runs of a pipeline in this process came to together: the books of those
//! that are over, added up, and of the one that is going on.

use std::collections::BTreeMap;

use crate::telemetry::{BooksSnapshot, FleetSnapshot, RequestsSnapshot};

/// Upper ends of the buckets of run durations, seconds; one more takes the rest.
pub const RUN_SECONDS: [f64; 10] = [0.1, 0.5, 1.0, 5.0, 15.0, 30.0, 60.0, 300.0, 900.0, 3600.0];

/// Books added up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Records read.
    pub extracted: u64,
    /// Records refused before any sink.
    pub rejected: u64,
    /// Records dropped on request.
    pub filtered: u64,
    /// Requests to the source.
    pub requests: RequestsSnapshot,
    /// Of a fleet that is polled for good.
    pub fleet: Option<FleetSnapshot>,
    /// Per sink, by its name.
    pub sinks: BTreeMap<String, SinkTotals>,
}

/// One sink's books added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SinkTotals {
    /// Whether it is a database.
    pub database: bool,
    /// Records acknowledged, from the spool too.
    pub delivered: u64,
    /// Of these, records from the spool.
    pub replayed: u64,
    /// Records that ended as dead letters.
    pub dead_lettered: u64,
    /// Batches acknowledged.
    pub batches: u64,
    /// Attempts that were not answered well.
    pub failed: u64,
    /// Attempts after a batch's first.
    pub retries: u64,
    /// Bytes in flight now.
    pub in_flight_bytes: u64,
}

impl Totals {
    /// Adds the books of a run.
    pub fn add(&mut self, books: &BooksSnapshot) {
        self.extracted += books.extracted;
        self.rejected += books.rejected;
        self.filtered += books.filtered;
        self.requests.add(&books.requests);
        if let Some(fleet) = &books.fleet {
            self.fleet.get_or_insert_default().add(fleet);
        }
        for sink in &books.sinks {
            let sum = self.sinks.entry(sink.name.clone()).or_default();
            sum.database = sink.database;
            sum.delivered += sink.delivered + sink.replayed_earlier;
            sum.replayed += sink.replayed;
            sum.dead_lettered += sink.dead_lettered + sink.replay_dead_lettered;
            sum.batches += sink.batches;
            sum.failed += sink.failed;
            sum.retries += sink.retries;
            sum.in_flight_bytes = sink.in_flight_bytes;
        }
    }

    /// Records that came out of the transform.
    #[must_use]
    pub fn transformed(&self) -> u64 {
        self.extracted.saturating_sub(self.rejected + self.filtered)
    }

    /// One number of all sinks together.
    #[must_use]
    pub fn sum(&self, column: fn(&SinkTotals) -> u64) -> u64 {
        self.sinks.values().map(column).sum()
    }
}

/// How long runs took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Durations {
    /// All of them together, seconds.
    pub seconds: f64,
    /// Runs by their time; the last bucket takes what is longer than all.
    pub buckets: [u64; RUN_SECONDS.len() + 1],
}

impl Durations {
    /// Counts one run.
    pub fn add(&mut self, seconds: f64) {
        self.seconds += seconds;
        self.buckets[RUN_SECONDS.partition_point(|end| *end < seconds)] += 1;
    }
}

/// A number that grows whenever anything moves in a run.
pub(super) fn progress(books: &BooksSnapshot) -> u64 {
    let sink_moves = |sink: &crate::telemetry::SinkSnapshot| {
        // A batch that comes out of the spool leaves `spooled` and enters `delivered`.
        2 * (sink.delivered + sink.dead_lettered + sink.replayed) + sink.spooled + sink.batches
    };
    let sinks: u64 = books.sinks.iter().map(sink_moves).sum();
    books.extracted + books.targets_done + sinks
}

#[cfg(test)]
mod tests {
    use super::{Durations, Totals};
    use crate::telemetry::{BooksSnapshot, SinkSnapshot};

    #[test]
    fn runs_add_up_and_a_record_from_the_spool_counts_once() {
        let run = |delivered, replayed, replayed_earlier| BooksSnapshot {
            extracted: 10,
            rejected: 1,
            filtered: 2,
            sinks: vec![SinkSnapshot {
                name: "http".to_owned(),
                delivered,
                replayed,
                replayed_earlier,
                in_flight_bytes: delivered,
                ..SinkSnapshot::default()
            }],
            ..BooksSnapshot::default()
        };
        let mut totals = Totals::default();
        // Three stay in the spool, two of these go out in the same run, one in the next.
        totals.add(&run(6, 2, 0));
        totals.add(&run(7, 1, 1));
        assert_eq!((totals.extracted, totals.transformed()), (20, 14));
        assert_eq!(totals.sum(|sink| sink.delivered), 14);
        assert_eq!(totals.sum(|sink| sink.replayed), 3);
        assert_eq!(totals.sinks["http"].in_flight_bytes, 7, "a level, not a sum");
    }

    #[test]
    fn a_run_falls_into_the_bucket_whose_end_it_does_not_pass() {
        let mut durations = Durations::default();
        [0.0, 0.1, 0.2, 3600.0, 9999.0].into_iter().for_each(|seconds| durations.add(seconds));
        assert_eq!(durations.buckets, [2, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
    }
}
