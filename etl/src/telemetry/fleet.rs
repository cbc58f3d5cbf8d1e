//! The books of a fleet that is polled for good: polls by their end, due times that were
//! missed, how late polls began. Kept in fixed buckets, as requests are.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Upper ends of the buckets of the lag, seconds; one more takes the rest.
pub const LAG_SECONDS: [f64; 13] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Counters of one run.
#[derive(Debug, Default)]
pub struct FleetBooks {
    /// Targets of the inventory that is in force.
    pub targets: AtomicU64,
    /// Polls with a usable answer.
    pub answered: AtomicU64,
    /// Polls without one.
    pub failed: AtomicU64,
    /// Polls that ran into their deadline.
    pub timed_out: AtomicU64,
    /// Due times that came while the target was still waiting or polled.
    pub missed: AtomicU64,
    /// Polls in flight now.
    pub in_flight: AtomicU64,
    /// The most that may be.
    pub in_flight_max: AtomicU64,
    /// Targets that are polled less often because they fail.
    pub demoted: AtomicU64,
    lag_micros: AtomicU64,
    lag: [AtomicU64; LAG_SECONDS.len() + 1],
    /// What people are to be told of the last cycle.
    line: Mutex<Option<String>>,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FleetSnapshot {
    /// Targets of the inventory that is in force.
    pub targets: u64,
    /// Polls with a usable answer.
    pub answered: u64,
    /// Polls without one.
    pub failed: u64,
    /// Polls that ran into their deadline.
    pub timed_out: u64,
    /// Due times that came while the target was still waiting or polled.
    pub missed: u64,
    /// Polls in flight.
    pub in_flight: u64,
    /// The most that may be.
    pub in_flight_max: u64,
    /// Targets that are polled less often because they fail.
    pub demoted: u64,
    /// How late all polls together began, microseconds.
    pub lag_micros: u64,
    /// Polls by how late they began; the last bucket takes what is later than all.
    pub lag: [u64; LAG_SECONDS.len() + 1],
}

impl FleetBooks {
    /// Counts how late a poll began that nothing but the scheduler kept waiting.
    pub fn lag(&self, lag: Duration) {
        let bucket = LAG_SECONDS.partition_point(|end| *end < lag.as_secs_f64());
        self.lag[bucket].fetch_add(1, Relaxed);
        self.lag_micros.fetch_add(u64::try_from(lag.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Leaves a line for people; one that nobody has fetched is replaced.
    pub fn tell(&self, line: String) {
        *self.line.lock().unwrap_or_else(PoisonError::into_inner) = Some(line);
    }

    /// The line for people, once.
    pub fn told(&self) -> Option<String> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The counters now.
    #[must_use]
    pub fn snapshot(&self) -> FleetSnapshot {
        FleetSnapshot {
            targets: self.targets.load(Relaxed),
            answered: self.answered.load(Relaxed),
            failed: self.failed.load(Relaxed),
            timed_out: self.timed_out.load(Relaxed),
            missed: self.missed.load(Relaxed),
            in_flight: self.in_flight.load(Relaxed),
            in_flight_max: self.in_flight_max.load(Relaxed),
            demoted: self.demoted.load(Relaxed),
            lag_micros: self.lag_micros.load(Relaxed),
            lag: std::array::from_fn(|at| self.lag[at].load(Relaxed)),
        }
    }
}

impl FleetSnapshot {
    /// Polls that ended.
    #[must_use]
    pub fn polls(&self) -> u64 {
        self.answered + self.failed + self.timed_out
    }

    /// Adds what another run has counted; of levels, the other's hold.
    pub fn add(&mut self, other: &FleetSnapshot) {
        *self = FleetSnapshot {
            answered: self.answered + other.answered,
            failed: self.failed + other.failed,
            timed_out: self.timed_out + other.timed_out,
            missed: self.missed + other.missed,
            lag_micros: self.lag_micros.saturating_add(other.lag_micros),
            lag: std::array::from_fn(|at| self.lag[at] + other.lag[at]),
            ..*other
        };
    }

    /// What was counted since `before`, an earlier moment of the same run.
    #[must_use]
    pub fn since(&self, before: &FleetSnapshot) -> FleetSnapshot {
        FleetSnapshot {
            answered: self.answered - before.answered,
            failed: self.failed - before.failed,
            timed_out: self.timed_out - before.timed_out,
            missed: self.missed - before.missed,
            lag_micros: self.lag_micros - before.lag_micros,
            lag: std::array::from_fn(|at| self.lag[at] - before.lag[at]),
            ..*self
        }
    }

    /// So many of a hundred polls began at most this late, as far as the buckets tell; none
    /// without polls or beyond the last bucket.
    #[must_use]
    pub fn lag_percentile(&self, percent: u64) -> Option<Duration> {
        let all: u64 = self.lag.iter().sum();
        let wanted = (all * percent).div_ceil(100);
        let mut seen = 0;
        for (count, end) in self.lag.iter().zip(LAG_SECONDS) {
            seen += count;
            if all > 0 && seen >= wanted {
                return Some(Duration::from_secs_f64(end));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;
    use std::time::Duration;

    use super::FleetBooks;

    #[test]
    fn lag_falls_into_buckets_and_runs_add_up() {
        let books = FleetBooks::default();
        assert_eq!(books.snapshot().lag_percentile(99), None);
        (0..98).for_each(|_| books.lag(Duration::from_micros(700)));
        let before = books.snapshot();
        books.lag(Duration::from_millis(4));
        books.lag(Duration::from_secs(60));
        books.answered.store(3, Relaxed);
        books.in_flight.store(2, Relaxed);
        let now = books.snapshot();
        assert_eq!(now.lag_percentile(50), Some(Duration::from_millis(1)));
        assert_eq!(now.lag_percentile(99), Some(Duration::from_millis(5)));
        assert_eq!(now.lag_percentile(100), None);
        assert_eq!(now.since(&before).lag.iter().sum::<u64>(), 2);
        let mut sum = now;
        sum.add(&now);
        assert_eq!((sum.answered, sum.in_flight, sum.lag[0]), (6, 2, 196));
    }

    #[test]
    fn a_line_is_told_once() {
        let books = FleetBooks::default();
        books.tell("one".to_owned());
        books.tell("two".to_owned());
        assert_eq!(books.told().as_deref(), Some("two"));
        assert_eq!(books.told(), None);
    }
}
