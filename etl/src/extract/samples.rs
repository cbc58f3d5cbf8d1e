//! The last sample of each target, for percentages between polls.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Targets whose last sample is kept. Beyond it a target is asked twice in every poll.
pub(super) const KEPT_MAX: usize = 250_000;

/// Samples by the hash of what the target is asked by, so that a changed inventory keeps
/// what has not changed, and an address takes no more than its hash.
#[derive(Debug)]
pub(super) struct Samples<T>(Mutex<HashMap<u64, T, BuildHasherDefault<AsItIs>>>);

/// What a target's samples are kept by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key(u64);

impl Key {
    /// The first quarter of BLAKE3: among a million targets two share it once in 37 million
    /// fleets.
    pub(super) fn of(text: &str) -> Key {
        let mut first = [0; 8];
        first.copy_from_slice(&blake3::hash(text.as_bytes()).as_bytes()[..8]);
        Key(u64::from_le_bytes(first))
    }

    pub(super) fn number(self) -> u64 {
        self.0
    }
}

impl<T> Default for Samples<T> {
    fn default() -> Self {
        Samples(Mutex::default())
    }
}

impl<T> Samples<T> {
    /// What `look` makes of the last sample of a target.
    pub(super) fn last<R>(&self, key: Key, look: impl FnOnce(&T) -> R) -> Option<R> {
        self.lock().get(&key.0).map(look)
    }

    /// Keeps a sample in place of the last one.
    pub(super) fn keep(&self, key: Key, sample: T) {
        let mut last = self.lock();
        if last.len() < KEPT_MAX || last.contains_key(&key.0) {
            last.insert(key.0, sample);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, T, BuildHasherDefault<AsItIs>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A key is a hash already.
#[derive(Debug, Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
