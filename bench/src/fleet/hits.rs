//! When each target was asked: what the mock fleet knows of the polls.
//!
//! A target's cycles are counted from its first poll, each from half an interval before
//! its moment to half an interval behind it: so no edge of a measurement cuts a cycle.
//! What a target is asked within a poll's deadline is that poll: an exporter is asked twice
//! where there is no earlier sample, and any target where the first answer broke off. A poll
//! too many within that time shows as a record too many.

use std::time::Duration;

/// Cycles that are kept apart; what comes later is counted in the last one.
const CYCLES_MAX: usize = 8;

/// The polls of every target.
#[derive(Debug)]
pub(crate) struct Hits {
    every: Duration,
    deadline: Duration,
    targets: Vec<Target>,
    total: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Target {
    first: Option<Duration>,
    /// When its last poll began.
    last: Duration,
    cycles: [u8; CYCLES_MAX],
}

/// What the cycles were like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Polls of living targets that did not come.
    pub(crate) missed: u64,
    /// Polls in a cycle that had one already, of any target.
    pub(crate) doubled: u64,
}

impl Hits {
    /// For targets that are polled every so often, each poll within a deadline.
    pub(crate) fn new(targets: usize, every: Duration, deadline: Duration) -> Hits {
        Hits { every, deadline, targets: vec![Target::default(); targets], total: 0 }
    }

    /// Notes a request to `target`, `at` after the beginning.
    pub(crate) fn note(&mut self, target: usize, at: Duration) {
        self.total += 1;
        let Some(target) = self.targets.get_mut(target) else { return };
        if target.first.is_some() && at < target.last + self.deadline {
            return;
        }
        target.last = at;
        let first = *target.first.get_or_insert(at);
        let cycle = (at.saturating_sub(first) + self.every / 2).as_nanos() / self.every.as_nanos();
        let cycle = usize::try_from(cycle).unwrap_or(CYCLES_MAX).min(CYCLES_MAX - 1);
        target.cycles[cycle] = target.cycles[cycle].saturating_add(1);
    }

    /// Requests so far, of all targets.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Polls of the targets that `chosen` takes: as many as can have been answered.
    pub(crate) fn polls(&self, chosen: impl Fn(usize) -> bool) -> u64 {
        let of = |target: &Target| target.cycles.iter().map(|polls| u64::from(*polls)).sum::<u64>();
        let chosen =
            |(number, target): (usize, &Target)| if chosen(number) { of(target) } else { 0 };
        self.targets.iter().enumerate().map(chosen).sum()
    }

    /// Holds every target to one poll in its first cycle and in each of `cycles` after it; those that are
    /// not `living` to one at most.
    pub(crate) fn tally(&self, cycles: usize, living: impl Fn(usize) -> bool) -> Tally {
        let mut tally = Tally::default();
        for (number, target) in self.targets.iter().enumerate() {
            let living = living(number);
            for polls in &target.cycles[..=cycles] {
                tally.missed += u64::from(living && *polls == 0);
                tally.doubled += u64::from(polls.saturating_sub(1));
            }
        }
        tally
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Hits, Tally};

    const EVERY: Duration = Duration::from_secs(60);

    fn hits(of: &[&[u64]]) -> Hits {
        let mut hits = Hits::new(of.len(), EVERY, Duration::from_secs(5));
        for (target, seconds) in of.iter().enumerate() {
            for at in *seconds {
                hits.note(target, Duration::from_secs(*at));
            }
        }
        hits
    }

    #[test]
    fn once_a_cycle_is_once_a_cycle_wherever_the_cycle_begins() {
        let exact = hits(&[&[0, 60, 120], &[59, 119, 178], &[30, 34, 91, 149]]);
        assert_eq!(exact.tally(2, |_| true), Tally::default());
        assert_eq!((exact.total(), exact.polls(|_| true)), (10, 9));
        assert_eq!(exact.polls(|target| target == 1), 3);
    }

    #[test]
    fn a_poll_too_few_and_one_too_many_are_told_apart() {
        let late = hits(&[&[0, 120], &[5, 65, 71, 125], &[], &[7, 67, 200]]);
        let tally = late.tally(2, |_| true);
        assert_eq!(tally, Tally { missed: 1 + 3 + 1, doubled: 1 });
    }

    #[test]
    fn black_holes_may_be_left_out_and_not_doubled() {
        let demoted = hits(&[&[0], &[5, 65, 71, 125], &[]]);
        assert_eq!(demoted.tally(2, |_| false), Tally { missed: 0, doubled: 1 });
    }
}
