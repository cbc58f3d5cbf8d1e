//! How many different records there are: a set of fingerprints that is only added to.
//!
//! Fingerprints wait in a list until there are many, and are then put away drawer by
//! drawer. A drawer is small enough for the processor's caches and address tables, and
//! grows by itself; one large table took several times as long for each record.
//!
//! A drawer keeps 64 bits of a fingerprint and its number is 12 more, so 76 bits are
//! compared: 100 million different records are counted wrongly once in 15 million runs.

use std::sync::{Mutex, MutexGuard};

use crate::ledger::lock;

/// How many fingerprints may wait: 4 MiB.
const WAITING_MAX: usize = 1 << 18;
const DRAWER_BITS: u32 = 12;
const DRAWERS: usize = 1 << DRAWER_BITS;
/// How many slots are fetched from memory at the same time.
const AT_ONCE: usize = 32;
/// The first table of a drawer.
const SLOTS_MIN: usize = 8;

/// The different records.
pub(crate) struct Distinct {
    waiting: Mutex<Vec<u128>>,
    cabinet: Mutex<Cabinet>,
}

struct Cabinet {
    drawers: Vec<Drawer>,
    /// Taken in turns with `Distinct::waiting`, so that neither is allocated again.
    spare: Vec<u128>,
    /// What waited, by drawer; kept so that it is not allocated again.
    sorted: Vec<u64>,
}

/// Open addressing, linear probing; 0 is a free slot.
#[derive(Default)]
struct Drawer {
    slots: Vec<u64>,
    used: usize,
}

impl Distinct {
    pub(crate) fn new() -> Self {
        let drawers = (0..DRAWERS).map(|_| Drawer::default()).collect();
        let cabinet = Cabinet { drawers, spare: Vec::new(), sorted: Vec::new() };
        Self { waiting: Mutex::default(), cabinet: Mutex::new(cabinet) }
    }

    /// Adds records; looks them up later, when there are many.
    pub(crate) fn add(&self, fingerprints: &[u128]) {
        let mut waiting = lock(&self.waiting);
        waiting.extend_from_slice(fingerprints);
        let many = waiting.len() >= WAITING_MAX;
        drop(waiting);
        if many {
            drop(self.put_away());
        }
    }

    /// How many different ones there are.
    pub(crate) fn count(&self) -> usize {
        self.put_away().drawers.iter().map(|drawer| drawer.used).sum()
    }

    fn put_away(&self) -> MutexGuard<'_, Cabinet> {
        let mut cabinet = lock(&self.cabinet);
        std::mem::swap(&mut cabinet.spare, &mut *lock(&self.waiting));
        cabinet.put_away();
        cabinet
    }
}

impl Cabinet {
    /// Puts what is in `spare` into its drawers: a counting sort, then drawer by drawer.
    fn put_away(&mut self) {
        let mut ends = [0_usize; DRAWERS];
        for fingerprint in &self.spare {
            ends[drawer(*fingerprint)] += 1;
        }
        let mut sum = 0;
        for end in &mut ends {
            // Until its records are sorted in, an end is the beginning.
            let count = std::mem::replace(end, sum);
            sum += count;
        }
        self.sorted.resize(self.sorted.len().max(sum), 0);
        for fingerprint in self.spare.drain(..) {
            let end = &mut ends[drawer(fingerprint)];
            // The one that would be a free slot is taken for its neighbour.
            self.sorted[*end] = (fingerprint as u64).max(1);
            *end += 1;
        }
        let mut begin = 0;
        for (drawer, end) in self.drawers.iter_mut().zip(ends) {
            drawer.add(&self.sorted[begin..end]);
            begin = end;
        }
    }
}

impl Drawer {
    fn add(&mut self, fingerprints: &[u64]) {
        self.make_room(fingerprints.len());
        for some in fingerprints.chunks(AT_ONCE) {
            // Reads that do not depend on one another are waited for together; the probing
            // below would wait for each.
            let mask = self.slots.len() - 1;
            let read = some.iter().fold(0, |all, one| all ^ self.slots[*one as usize & mask]);
            std::hint::black_box(read);
            for fingerprint in some {
                self.used += usize::from(insert(&mut self.slots, *fingerprint));
            }
        }
    }

    /// At most every second slot is taken, even if all `more` are new.
    fn make_room(&mut self, more: usize) {
        let needed = 2 * (self.used + more);
        if more == 0 || needed <= self.slots.len() {
            return;
        }
        let larger = vec![0; needed.next_power_of_two().max(SLOTS_MIN)];
        for fingerprint in std::mem::replace(&mut self.slots, larger) {
            if fingerprint != 0 {
                insert(&mut self.slots, fingerprint);
            }
        }
    }
}

/// Whether it was new. `slots` are a power of two, and one of them is free.
#[inline]
fn insert(slots: &mut [u64], fingerprint: u64) -> bool {
    let mask = slots.len() - 1;
    let mut at = fingerprint as usize & mask;
    loop {
        let slot = &mut slots[at & mask];
        if *slot == fingerprint {
            return false;
        }
        if *slot == 0 {
            *slot = fingerprint;
            return true;
        }
        at += 1;
    }
}

/// By the high bits: the drawers keep the low ones.
fn drawer(fingerprint: u128) -> usize {
    (fingerprint >> (128 - DRAWER_BITS)) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{Distinct, WAITING_MAX};
    use crate::hash::fingerprint;

    #[test]
    fn counts_what_a_set_would_however_it_comes() {
        let (distinct, mut set) = (Distinct::new(), HashSet::new());
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..40 {
            // Some of them are old, and in some rounds more come than may wait.
            let many = if round % 13 == 12 { WAITING_MAX + 1 } else { random.usize(0..3000) };
            let range = 3 * set.len() as u64 + 1000;
            let batch: Vec<u128> =
                (0..many).map(|_| fingerprint(&random.u64(0..range).to_le_bytes())).collect();
            distinct.add(&batch);
            set.extend(batch);
            if round % 3 == 0 {
                assert_eq!(distinct.count(), set.len(), "round {round}");
            }
        }
        assert_eq!(distinct.count(), set.len());
        assert!(set.len() > 200_000, "{}", set.len());
    }

    #[test]
    fn the_neighbours_of_nothing_are_counted() {
        let distinct = Distinct::new();
        distinct.add(&[0, u128::MAX, 0, 1 << 64, u128::MAX, 1 << 127]);
        assert_eq!(distinct.count(), 3);
    }

    #[test]
    fn threads_add_at_the_same_time() {
        let distinct = Distinct::new();
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let distinct = &distinct;
                scope.spawn(move || {
                    for n in 0..50_000 {
                        distinct.add(&[fingerprint(&(n + thread * 25_000).to_le_bytes())]);
                    }
                    assert!(distinct.count() >= 50_000);
                });
            }
        });
        assert_eq!(distinct.count(), 125_000);
    }
}
