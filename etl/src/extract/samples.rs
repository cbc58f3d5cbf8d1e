//! The last sample of each target, for percentages between polls.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Targets whose last sample is kept, at about 100 bytes per CPU. Beyond it a target
/// is asked twice in every poll.
const KEPT_MAX: usize = 250_000;

/// Samples by what the target is asked by, so that a changed inventory keeps what has not
/// changed.
#[derive(Debug)]
pub(super) struct Samples<T>(Mutex<HashMap<Box<str>, Arc<T>>>);

impl<T> Default for Samples<T> {
    fn default() -> Self {
        Samples(Mutex::default())
    }
}

impl<T> Samples<T> {
    /// The last sample of a target.
    pub(super) fn last(&self, key: &str) -> Option<Arc<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Keeps a sample in place of the last one.
    pub(super) fn keep(&self, key: &str, sample: Arc<T>) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() < KEPT_MAX || last.contains_key(key) {
            last.insert(key.into(), sample);
        }
    }
}
