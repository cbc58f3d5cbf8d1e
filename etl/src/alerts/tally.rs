//! How much was told, for `/metrics`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use super::channel::ChannelKind;

/// Counters of one process.
#[derive(Debug, Default)]
pub struct Tally {
    sent: [AtomicU64; ChannelKind::ALL.len()],
    failed: [AtomicU64; ChannelKind::ALL.len()],
    problems: Mutex<BTreeMap<String, u64>>,
}

/// The counters at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TallyFigures {
    /// Messages that arrived, by the kind of their way.
    pub sent: Vec<(&'static str, u64)>,
    /// Attempts that failed.
    pub failed: Vec<(&'static str, u64)>,
    /// Problems that there are, by pipeline.
    pub problems: BTreeMap<String, u64>,
}

impl Tally {
    /// Counts an attempt to send a message.
    pub(super) fn count(&self, kind: ChannelKind, arrived: bool) {
        let counters = if arrived { &self.sent } else { &self.failed };
        counters[kind as usize].fetch_add(1, Relaxed);
    }

    /// Notes how many problems each pipeline has.
    pub(super) fn note(&self, problems: BTreeMap<String, u64>) {
        *self.problems.lock().unwrap_or_else(PoisonError::into_inner) = problems;
    }

    /// The counters now.
    #[must_use]
    pub fn figures(&self) -> TallyFigures {
        let of = |counters: &[AtomicU64; ChannelKind::ALL.len()]| {
            ChannelKind::ALL.map(|kind| (kind.name(), counters[kind as usize].load(Relaxed))).into()
        };
        TallyFigures {
            sent: of(&self.sent),
            failed: of(&self.failed),
            problems: self.problems.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}
