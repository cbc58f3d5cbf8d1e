//! What the watermark will pass, remembered in order until it does: places in a
//! data file or an API, targets of a fleet.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::state::{Place, Targets};
use crate::source::Position;

/// Places that may be remembered; beyond that every second one is forgotten, which
/// only means that a resumed run sends again a little of what it has settled.
const PLACES_MAX: usize = if cfg!(test) { 8 } else { 4096 };

/// Per sink, ends of its batches in a source that its watermark has not passed.
#[derive(Debug)]
pub struct Places<P = Position> {
    ahead: Vec<Mutex<VecDeque<Place<P>>>>,
}

/// Targets of a fleet whose records the watermark has not passed.
#[derive(Debug, Default)]
pub struct SettledTargets {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    settled: Targets,
    /// Targets by the number after their last record, which no two share.
    ahead: BTreeMap<u64, u64>,
}

impl<P: Clone> Places<P> {
    /// Places for so many sinks.
    #[must_use]
    pub fn new(sinks: usize) -> Self {
        Places { ahead: (0..sinks).map(|_| Mutex::default()).collect() }
    }

    /// Remembers a place where all sinks' batches end.
    pub fn note_all(&self, place: &Place<P>) {
        for sink in 0..self.ahead.len() {
            self.note(sink, place.clone());
        }
    }

    /// Remembers where a batch of sink number `sink` ends; they come in the
    /// source's order.
    pub fn note(&self, sink: usize, place: Place<P>) {
        let Some(ahead) = self.ahead.get(sink) else { return };
        let mut ahead = lock(ahead);
        if ahead.back().is_some_and(|last| last.records >= place.records) {
            return;
        }
        if ahead.len() >= PLACES_MAX {
            let mut keep = false;
            ahead.retain(|_| {
                keep = !keep;
                keep
            });
        }
        ahead.push_back(place);
    }

    /// The last place at or before the sink's `watermark`, and forgets those before;
    /// `None` when none has been passed since the last call.
    pub fn passed(&self, sink: usize, watermark: u64) -> Option<Place<P>> {
        let mut ahead = lock(self.ahead.get(sink)?);
        let mut passed = None;
        while ahead.front().is_some_and(|place| place.records <= watermark) {
            passed = ahead.pop_front();
        }
        passed
    }
}

impl SettledTargets {
    /// Goes on from what an earlier process had settled.
    #[must_use]
    pub fn new(settled: Targets) -> Self {
        SettledTargets { inner: Mutex::new(Inner { settled, ahead: BTreeMap::new() }) }
    }

    /// Notes that the records of target `index` end before record `until`; `None`
    /// when it had no record.
    pub fn note(&self, index: u64, until: Option<u64>) {
        let mut inner = lock(&self.inner);
        match until {
            Some(until) => drop(inner.ahead.insert(until, index)),
            None => inner.settled.insert(index),
        }
    }

    /// The targets that are settled once everything before `watermark` is.
    #[must_use]
    pub fn passed(&self, watermark: u64) -> Targets {
        let mut inner = lock(&self.inner);
        let still_ahead = inner.ahead.split_off(&watermark.saturating_add(1));
        for index in std::mem::replace(&mut inner.ahead, still_ahead).into_values() {
            inner.settled.insert(index);
        }
        inner.settled.clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Both structures are whole after every single call on them.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::{PLACES_MAX, Place, Places, SettledTargets};

    fn at(records: u64) -> Place {
        Place { records, ..Place::default() }
    }

    #[test]
    fn the_last_place_before_the_watermark_is_given_once() {
        let places = Places::new(1);
        for records in [10, 20, 20, 30] {
            places.note(0, at(records));
        }
        assert_eq!(places.passed(0, 9), None);
        assert_eq!(places.passed(0, 25), Some(at(20)));
        assert_eq!(places.passed(0, 25), None);
        assert_eq!(places.passed(0, 30), Some(at(30)));
    }

    #[test]
    fn too_many_places_are_thinned_and_stay_in_order() {
        let places = Places::new(1);
        for records in 1..=100 {
            places.note(0, at(records));
            assert!(super::lock(&places.ahead[0]).len() <= PLACES_MAX);
        }
        let passed = places.passed(0, 60).map(|place| place.records);
        assert!(passed.is_some_and(|records| (1..=60).contains(&records)), "{passed:?}");
        assert_eq!(places.passed(0, 100), Some(at(100)));
    }

    #[test]
    fn a_target_is_settled_when_all_its_records_are() {
        let targets = SettledTargets::default();
        targets.note(7, Some(20));
        targets.note(3, Some(10));
        targets.note(5, None);
        let of = |watermark| {
            let settled = targets.passed(watermark);
            (0..9).filter(|index| settled.contains(*index)).collect::<Vec<_>>()
        };
        assert_eq!(of(9), [5]);
        assert_eq!(of(19), [3, 5]);
        assert_eq!(of(20), [3, 5, 7]);
    }
}
