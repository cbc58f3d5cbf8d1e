//! How much a spool holds and whether there is room for more. Counted once when
//! the directory is opened, then kept up to date by every write and removal.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::metadata::unix_now;
use super::name::State;

/// What a spool holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of the batches that wait, pending and failed.
    pub bytes: u64,
    /// Files that wait, pending and failed; a file of the earlier program counts as one.
    pub batches: u64,
    /// Of these, batches without a failed attempt.
    pub pending: u64,
    /// Of these, batches with one.
    pub failed: u64,
    /// Files in `dead/`.
    pub dead_files: u64,
    /// Bytes in `dead/`.
    pub dead_bytes: u64,
    /// Files in `corrupt/`.
    pub corrupt_files: u64,
    /// Bytes in `corrupt/`.
    pub corrupt_bytes: u64,
    /// How long the oldest waiting batch has waited.
    pub oldest: Option<Duration>,
}

/// Whether intake may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// It may.
    Enough,
    /// The spool holds as much as it may, dead letters and quarantined files included.
    Full {
        /// Bytes held.
        used: u64,
        /// Bytes allowed.
        max: u64,
    },
    /// The disk has less free than the spool must leave.
    LowDisk {
        /// Bytes free.
        free: u64,
        /// Bytes that must stay free.
        floor: u64,
    },
}

/// Where a file counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Waiting(State),
    Dead,
    Corrupt,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    tallies: Mutex<Tallies>,
    free: Mutex<Option<(Instant, u64)>>,
}

#[derive(Debug, Default)]
struct Tallies {
    pending: Tally,
    failed: Tally,
    dead: Tally,
    corrupt: Tally,
    /// How many waiting batches there are since each second: bounded by seconds, not by batches.
    since: BTreeMap<u64, u64>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    files: u64,
    bytes: u64,
}

impl Usage {
    /// Everything that counts towards the cap.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.bytes.saturating_add(self.dead_bytes).saturating_add(self.corrupt_bytes)
    }
}

impl Counts {
    pub fn add(&self, place: Place, size: u64, since: u64) {
        let mut tallies = lock(&self.tallies);
        tallies.of(place).add(size);
        if let Place::Waiting(_) = place {
            *tallies.since.entry(since).or_default() += 1;
        }
    }

    pub fn subtract(&self, place: Place, size: u64, since: u64) {
        let mut tallies = lock(&self.tallies);
        tallies.of(place).subtract(size);
        if let Place::Waiting(_) = place
            && let Some(batches) = tallies.since.get_mut(&since)
        {
            *batches -= 1;
            if *batches == 0 {
                tallies.since.remove(&since);
            }
        }
    }

    pub fn usage(&self) -> Usage {
        let tallies = lock(&self.tallies);
        let oldest = tallies.since.first_key_value().map(|(since, _)| *since);
        let Tallies { pending, failed, dead, corrupt, .. } = *tallies;
        Usage {
            bytes: pending.bytes.saturating_add(failed.bytes),
            batches: pending.files + failed.files,
            pending: pending.files,
            failed: failed.files,
            dead_files: dead.files,
            dead_bytes: dead.bytes,
            corrupt_files: corrupt.files,
            corrupt_bytes: corrupt.bytes,
            oldest: oldest.map(|since| Duration::from_secs(unix_now().saturating_sub(since))),
        }
    }

    /// The disk's free bytes, asked of `ask` at most once a second.
    pub fn free(&self, now: Instant, ask: impl FnOnce() -> Option<u64>) -> Option<u64> {
        const FRESH: Duration = Duration::from_secs(1);
        let mut free = lock(&self.free);
        match *free {
            Some((at, bytes)) if now.saturating_duration_since(at) < FRESH => Some(bytes),
            _ => {
                *free = ask().map(|bytes| (now, bytes));
                free.map(|(_, bytes)| bytes)
            }
        }
    }
}

impl Tallies {
    fn of(&mut self, place: Place) -> &mut Tally {
        match place {
            Place::Waiting(State::Pending) => &mut self.pending,
            Place::Waiting(State::Failed) => &mut self.failed,
            Place::Dead => &mut self.dead,
            Place::Corrupt => &mut self.corrupt,
        }
    }
}

impl Tally {
    fn add(&mut self, size: u64) {
        self.files += 1;
        self.bytes = self.bytes.saturating_add(size);
    }

    fn subtract(&mut self, size: u64) {
        self.files = self.files.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(size);
    }
}

/// Counting goes on after a panic elsewhere: the numbers are whole between calls.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Counts, Place};
    use crate::spool::State;

    #[test]
    fn the_oldest_batch_is_known_after_any_removal() {
        let counts = Counts::default();
        let failed = Place::Waiting(State::Failed);
        for since in [30, 10, 20, 10] {
            counts.add(failed, 5, since);
        }
        let age = |counts: &Counts| counts.usage().oldest.map(|age| age.as_secs());
        let (ten, now) = (age(&counts), super::unix_now());
        assert!(ten >= Some(now - 11));
        counts.subtract(failed, 5, 10);
        assert!(age(&counts) >= ten);
        counts.subtract(failed, 5, 10);
        assert!(age(&counts) < ten);
        counts.subtract(failed, 5, 20);
        counts.subtract(failed, 5, 30);
        assert_eq!(counts.usage(), super::Usage::default());
    }

    #[test]
    fn free_space_is_asked_for_once_a_second() {
        let (counts, start) = (Counts::default(), Instant::now());
        assert_eq!(counts.free(start, || Some(7)), Some(7));
        assert_eq!(counts.free(start + Duration::from_millis(999), || Some(8)), Some(7));
        assert_eq!(counts.free(start + Duration::from_secs(1), || Some(8)), Some(8));
        assert_eq!(counts.free(start + Duration::from_secs(2), || None), None);
    }
}
