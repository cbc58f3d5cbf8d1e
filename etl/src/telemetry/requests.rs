//! Requests to the source: how many, how many failed, how long they took. Kept in
//! fixed buckets, so that the counts of many runs can be added up.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper ends of the buckets, seconds; one more takes the rest.
pub const REQUEST_SECONDS: [f64; 11] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Counters of the requests of one run.
#[derive(Debug, Default)]
pub struct Requests {
    failed: AtomicU64,
    micros: AtomicU64,
    buckets: [AtomicU64; REQUEST_SECONDS.len() + 1],
}

/// The requests at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestsSnapshot {
    /// Of all, those without a usable answer.
    pub failed: u64,
    /// The time that all took together, microseconds.
    pub micros: u64,
    /// Requests by their time; the last bucket takes what is longer than all.
    pub buckets: [u64; REQUEST_SECONDS.len() + 1],
}

impl Requests {
    /// Counts one request that took `time` and was answered `well`.
    pub fn count(&self, time: Duration, well: bool) {
        let seconds = time.as_secs_f64();
        let bucket = REQUEST_SECONDS.partition_point(|end| *end < seconds);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.micros.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Relaxed);
        self.failed.fetch_add(u64::from(!well), Relaxed);
    }

    /// The counters now.
    #[must_use]
    pub fn snapshot(&self) -> RequestsSnapshot {
        RequestsSnapshot {
            failed: self.failed.load(Relaxed),
            micros: self.micros.load(Relaxed),
            buckets: std::array::from_fn(|at| self.buckets[at].load(Relaxed)),
        }
    }
}

impl RequestsSnapshot {
    /// All requests.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Adds the requests of another run.
    pub fn add(&mut self, other: &RequestsSnapshot) {
        self.failed += other.failed;
        self.micros = self.micros.saturating_add(other.micros);
        self.buckets.iter_mut().zip(other.buckets).for_each(|(sum, more)| *sum += more);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Requests, RequestsSnapshot};

    #[test]
    fn requests_fall_into_the_bucket_whose_end_they_do_not_pass() {
        let requests = Requests::default();
        for (millis, well) in [(0, true), (5, true), (6, false), (10_000, true), (60_000, false)] {
            requests.count(Duration::from_millis(millis), well);
        }
        let seen = requests.snapshot();
        assert_eq!(seen.buckets, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!((seen.total(), seen.failed, seen.micros), (5, 2, 70_011_000));
        let mut sum = RequestsSnapshot::default();
        sum.add(&seen);
        sum.add(&seen);
        assert_eq!((sum.total(), sum.failed), (10, 4));
    }
}
