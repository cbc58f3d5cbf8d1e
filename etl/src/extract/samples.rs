//! The last sample of each target, for percentages between polls.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Targets whose last sample is kept, at about 120 bytes and as many per CPU. Beyond it
/// a target is asked twice in every poll.
const KEPT_MAX: usize = 250_000;

/// Samples by the hash of what the target is asked by, so that a changed inventory keeps
/// what has not changed, and an address takes no more than its hash.
#[derive(Debug)]
pub(super) struct Samples<T>(Mutex<HashMap<u128, Arc<T>>>);

impl<T> Default for Samples<T> {
    fn default() -> Self {
        Samples(Mutex::default())
    }
}

impl<T> Samples<T> {
    /// The last sample of a target.
    pub(super) fn last(&self, key: &str) -> Option<Arc<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&hash(key)).cloned()
    }

    /// Keeps a sample in place of the last one.
    pub(super) fn keep(&self, key: &str, sample: Arc<T>) {
        let key = hash(key);
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() < KEPT_MAX || last.contains_key(&key) {
            last.insert(key, sample);
        }
    }
}

/// The first half of BLAKE3: no two targets share it.
fn hash(key: &str) -> u128 {
    let mut first = [0; 16];
    first.copy_from_slice(&blake3::hash(key.as_bytes()).as_bytes()[..16]);
    u128::from_le_bytes(first)
}
