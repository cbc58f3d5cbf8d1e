//! One directory fsync for all who wait for one: what was changed before it began is
//! durable when it has ended well. Whoever comes first does it; who comes while it
//! is going on waits for the next, which one of them does.

use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The fsyncs of one directory.
#[derive(Debug, Default)]
pub(super) struct GroupSync {
    state: Mutex<State>,
    ended: Condvar,
}

/// Names the first fsync that begins after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Change(u64);

#[derive(Debug, Default)]
struct State {
    /// Fsyncs begun; they are numbered from 1 and never overlap.
    begun: u64,
    going_on: bool,
    /// The last one that failed, and the system's word for why.
    failed: Option<(u64, i32)>,
}

impl State {
    fn has_ended(&self, change: Change) -> bool {
        self.begun > change.0 || (self.begun == change.0 && !self.going_on)
    }

    /// What is in doubt counts as failed: a later failure may have been this one's too.
    fn result(&self, change: Change) -> io::Result<()> {
        match self.failed {
            Some((number, errno)) if number >= change.0 => Err(io::Error::from_raw_os_error(errno)),
            _ => Ok(()),
        }
    }
}

impl GroupSync {
    /// Call it after a change was made.
    pub fn change(&self) -> Change {
        Change(self.lock().begun + 1)
    }

    /// Whether an fsync that began after the change has ended well.
    pub fn is_durable(&self, change: Change) -> bool {
        let state = self.lock();
        state.has_ended(change) && state.result(change).is_ok()
    }

    /// Makes durable what was changed before the call, by this thread's `fsync` or
    /// another's that begins from now on.
    ///
    /// # Errors
    /// What that fsync said; every thread that waited for it is told.
    pub fn sync(&self, fsync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut state = self.lock();
        let change = Change(state.begun + 1);
        while state.going_on {
            state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
            if state.has_ended(change) {
                return state.result(change);
            }
        }
        state.begun += 1;
        state.going_on = true;
        let number = state.begun;
        drop(state);
        let result = fsync();
        let mut state = self.lock();
        state.going_on = false;
        if let Err(error) = &result {
            let errno = error.raw_os_error().unwrap_or(rustix::io::Errno::IO.raw_os_error());
            state.failed = Some((number, errno));
        }
        drop(state);
        self.ended.notify_all();
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    use crossbeam_channel::bounded;

    use super::*;

    #[test]
    fn nobody_returns_before_an_fsync_that_began_after_its_change() {
        // The disk, in two counters: changes made, and those that an fsync has covered.
        let (made, covered, fsyncs) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        let group = GroupSync::default();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let mine = made.fetch_add(1, SeqCst) + 1;
                        let change = group.change();
                        let fsync = || {
                            fsyncs.fetch_add(1, SeqCst);
                            let before = made.load(SeqCst);
                            std::thread::yield_now();
                            covered.store(before, SeqCst);
                            Ok(())
                        };
                        group.sync(fsync).unwrap();
                        assert!(covered.load(SeqCst) >= mine && group.is_durable(change));
                    }
                });
            }
        });
        assert!(fsyncs.load(SeqCst) <= 4000);
    }

    #[test]
    fn who_comes_while_one_is_going_on_shares_the_next() {
        let group = GroupSync::default();
        let (begun, is_begun) = bounded(1);
        let (may_end, end) = bounded(1);
        let later = AtomicU64::new(0);
        std::thread::scope(|scope| {
            let first = scope.spawn(|| {
                group.sync(|| {
                    begun.send(()).unwrap();
                    end.recv().map_err(io::Error::other)
                })
            });
            is_begun.recv().unwrap();
            let change = group.change();
            assert!(!group.is_durable(change));
            let others: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        group.sync(|| {
                            later.fetch_add(1, SeqCst);
                            Ok(())
                        })
                    })
                })
                .collect();
            may_end.send(()).unwrap();
            first.join().unwrap().unwrap();
            others.into_iter().for_each(|other| other.join().unwrap().unwrap());
            assert!(group.is_durable(change));
        });
        assert!((1..=4).contains(&later.load(SeqCst)));
    }

    #[test]
    fn a_failure_is_told_to_all_it_covers_and_to_nobody_later() {
        let group = GroupSync::default();
        let change = group.change();
        let failed = group.sync(|| Err(io::Error::from_raw_os_error(5))).unwrap_err();
        assert_eq!(failed.raw_os_error(), Some(5));
        assert!(!group.is_durable(change));
        group.sync(|| Ok(())).unwrap();
        assert!(!group.is_durable(change), "what a failed fsync has lost stays in doubt");
        let later = group.change();
        assert!(!group.is_durable(later), "no fsync began after it");
        group.sync(|| Ok(())).unwrap();
        assert!(group.is_durable(later));
    }
}
