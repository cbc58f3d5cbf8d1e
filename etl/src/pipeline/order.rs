//! Brings pieces that are finished in any order back into theirs. Nobody waits for a turn:
//! whoever hands in the piece that all wait for takes in those behind it too.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::harvest::Harvest;

/// Pieces cut off and not yet taken in: each may take a few 100 KiB. Enough that each of
/// the tasks has one; what the sink waits for is in its channel.
const AHEAD_MAX: usize = 8;

/// Pieces by number, from 0.
#[derive(Debug)]
pub(super) struct Order {
    inner: Mutex<Inner>,
    /// Told when a piece was taken in, and when none will be any more.
    moved: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    /// The number of the next piece to be taken in.
    next: u64,
    /// From that one on, those that are there.
    waiting: VecDeque<Option<Harvest>>,
    /// Somebody is taking in.
    taking: bool,
    /// A piece will never be handed in.
    broken: bool,
    /// Memory of pieces that are over.
    spare: Vec<Harvest>,
}

/// A piece that is not handed in, or not taken in; dropped before it is finished, it
/// tells the others not to wait for it.
#[must_use = "dropping it says that a piece will never come"]
pub(super) struct Unfinished<'a>(Option<&'a Order>);

impl Order {
    pub(super) fn new() -> Order {
        Order { inner: Mutex::default(), moved: Notify::new() }
    }

    /// Waits until there is room for piece `number`; `false` when there never will be.
    /// For one task at a time.
    pub(super) async fn room(&self, number: u64) -> bool {
        loop {
            {
                let inner = self.inner();
                if inner.broken {
                    return false;
                }
                if number < inner.next + AHEAD_MAX as u64 {
                    return true;
                }
            }
            self.moved.notified().await;
        }
    }

    /// Guards the way of a piece from being cut to being taken in.
    pub(super) fn unfinished(&self) -> Unfinished<'_> {
        Unfinished(Some(self))
    }

    /// Hands in piece `number`. Where that says so, the caller must take in what
    /// [`Order::next`] gives until there is no more.
    #[must_use]
    pub(super) fn put(&self, number: u64, harvest: Harvest) -> bool {
        let mut inner = self.inner();
        let Ok(at) = usize::try_from(number.saturating_sub(inner.next)) else { return false };
        while inner.waiting.len() <= at {
            inner.waiting.push_back(None);
        }
        inner.waiting[at] = Some(harvest);
        !std::mem::replace(&mut inner.taking, true)
    }

    /// The next piece; without one, nobody is taking in any more.
    pub(super) fn next(&self) -> Option<Harvest> {
        let mut inner = self.inner();
        let next = inner.waiting.front_mut().and_then(Option::take);
        match next {
            Some(_) => {
                inner.waiting.pop_front();
                inner.next += 1;
                self.moved.notify_one();
            }
            None => inner.taking = false,
        }
        next
    }

    /// Memory for a piece.
    pub(super) fn spare(&self) -> Harvest {
        self.inner().spare.pop().unwrap_or_default()
    }

    /// Keeps the memory of a piece that is over.
    pub(super) fn give_back(&self, mut harvest: Harvest) {
        harvest.clear();
        let mut inner = self.inner();
        if inner.spare.len() < AHEAD_MAX {
            inner.spare.push(harvest);
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Whole after every call; a panic elsewhere is told by `Unfinished`.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Unfinished<'_> {
    /// The piece has been handed in, and what could be taken in with it has been.
    pub(super) fn finish(mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some(order) = self.0 {
            order.inner().broken = true;
            order.moved.notify_one();
        }
    }
}
