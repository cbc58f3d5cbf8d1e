//! The acknowledgement watermark of one sink: batches are tracked in order and
//! resolved in any order; the watermark is the end of the resolved prefix.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, PoisonError};

use super::sync::{Mutex, MutexGuard};

/// Tracks which record ranges of a run are settled in one sink.
#[derive(Debug)]
pub struct Tracker {
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    /// Everything before this sequence number is settled.
    watermark: u64,
    /// Index of the first open range since the start of the run.
    first: u64,
    open: VecDeque<Open>,
}

#[derive(Debug)]
struct Open {
    end: u64,
    resolved: bool,
}

/// Stands for one tracked range until it is resolved. Dropping it unresolved
/// keeps the watermark before the range for good.
#[derive(Debug)]
#[must_use = "a dropped ticket holds the watermark back for good"]
pub struct Ticket {
    tracker: Arc<Tracker>,
    index: u64,
}

impl Tracker {
    /// A tracker whose first record has the sequence number `start`.
    #[must_use]
    pub fn new(start: u64) -> Arc<Self> {
        let window = Window { watermark: start, first: 0, open: VecDeque::new() };
        Arc::new(Tracker { window: Mutex::new(window) })
    }

    /// Tracks `range`, which must begin where the last tracked one ended.
    pub fn track(self: &Arc<Self>, range: &Range<u64>) -> Ticket {
        let mut window = self.window();
        let index = window.first + window.open.len() as u64;
        debug_assert_eq!(
            range.start,
            window.open.back().map_or(window.watermark, |open| open.end),
            "ranges are tracked in order and without gaps"
        );
        window.open.push_back(Open { end: range.end, resolved: false });
        Ticket { tracker: self.clone(), index }
    }

    /// Marks the ticket's range as settled and moves the watermark as far as it goes.
    pub fn resolve(ticket: Ticket) {
        let mut window = ticket.tracker.window();
        let at = ticket.index - window.first;
        if let Some(open) = usize::try_from(at).ok().and_then(|at| window.open.get_mut(at)) {
            open.resolved = true;
        }
        while window.open.front().is_some_and(|open| open.resolved) {
            if let Some(open) = window.open.pop_front() {
                window.watermark = open.end;
                window.first += 1;
            }
        }
    }

    /// The sequence number before which every record is settled.
    #[must_use]
    pub fn watermark(&self) -> u64 {
        self.window().watermark
    }

    /// Ranges tracked and not yet behind the watermark.
    #[must_use]
    pub fn open(&self) -> usize {
        self.window().open.len()
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        // A panic while holding the lock cannot leave the window half changed in
        // a way that claims more than is settled.
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Tracker;

    #[test]
    fn the_watermark_stops_before_the_first_unresolved_range() {
        let tracker = Tracker::new(10);
        let first = tracker.track(&(10..20));
        let second = tracker.track(&(20..25));
        let third = tracker.track(&(25..30));
        Tracker::resolve(second);
        assert_eq!(tracker.watermark(), 10);
        Tracker::resolve(first);
        assert_eq!(tracker.watermark(), 25);
        drop(third);
        assert_eq!(tracker.watermark(), 25);
        assert_eq!(tracker.open(), 1);
    }

    proptest! {
        #[test]
        fn any_order_of_resolution_gives_the_longest_resolved_prefix(
            order in Just((0..40usize).collect::<Vec<_>>()).prop_shuffle(),
            resolved in 0..40usize,
        ) {
            let tracker = Tracker::new(0);
            let mut tickets: Vec<_> =
                (0..40u64).map(|n| Some(tracker.track(&(n..n + 1)))).collect();
            let mut done = [false; 40];
            for index in &order[..resolved] {
                if let Some(ticket) = tickets[*index].take() {
                    Tracker::resolve(ticket);
                    done[*index] = true;
                }
                let prefix = done.iter().take_while(|done| **done).count() as u64;
                prop_assert_eq!(tracker.watermark(), prefix);
            }
        }
    }
}
