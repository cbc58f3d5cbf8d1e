//! What is known of one target: where it is on its way, and what its polls have come to.
//! Pure.

/// Failures in a row after which a target is polled less often.
pub const DEMOTE_AFTER: u8 = 3;
/// The most intervals between two polls of a demoted target, before jitter.
const DEMOTED_INTERVALS_MAX: u32 = 16;
/// How a poll ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// With an answer that could be used.
    Answered,
    /// Without one.
    Failed,
    /// With the deadline.
    TimedOut,
    /// It was given up because everything ends; says nothing about the target.
    Abandoned,
}

/// What is known of one target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Its place in the interval, milliseconds.
    pub phase: u32,
    /// The cycle that it waits for or is polled for.
    pub(super) cycle: u32,
    /// Not polled before this cycle: demoted.
    pub resume_cycle: u32,
    /// The last cycle whose records are settled.
    pub settled_cycle: u32,
    /// When its last poll ended, unix seconds; 0 before the first.
    pub polled_at: u32,
    /// Failures in a row.
    pub failures: u8,
    pub(super) place: Place,
    /// Its last poll ran into the deadline.
    pub suspect: bool,
    /// Something other than the scheduler keeps it waiting.
    pub(super) held: bool,
}

/// Where a target is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Idle,
    Waiting,
    Parked,
    Flying,
}

impl Slot {
    /// A target that was never polled.
    #[must_use]
    pub fn new(phase: u32) -> Slot {
        Slot {
            phase,
            cycle: 0,
            resume_cycle: 0,
            settled_cycle: 0,
            polled_at: 0,
            failures: 0,
            place: Place::Idle,
            suspect: false,
            held: false,
        }
    }

    /// Whether it is polled less often than once an interval.
    #[must_use]
    pub fn demoted(&self) -> bool {
        self.failures >= DEMOTE_AFTER
    }

    /// Whether it is being polled.
    #[must_use]
    pub fn flying(&self) -> bool {
        self.place == Place::Flying
    }
}

impl Slot {
    /// Notes how a poll of `cycle` ended at `now_s`, unix seconds.
    pub(super) fn polled(&mut self, outcome: Outcome, cycle: u32, now_s: u32) {
        match outcome {
            Outcome::Abandoned => return,
            Outcome::Answered => (self.failures, self.suspect, self.resume_cycle) = (0, false, 0),
            Outcome::Failed | Outcome::TimedOut => {
                self.failures = self.failures.saturating_add(1);
                self.suspect = outcome == Outcome::TimedOut;
                if self.demoted() {
                    self.resume_cycle = cycle.saturating_add(pause(self.failures, self.phase));
                }
            }
        }
        self.polled_at = now_s;
    }
}

/// Intervals from one poll to the next of a target with so many failures in a row: 2, 4,
/// 8, 16, and up to half as many more, which differ from target to target.
fn pause(failures: u8, phase: u32) -> u32 {
    let doublings = u32::from(failures.saturating_sub(DEMOTE_AFTER)) + 1;
    let pause = 1u32.checked_shl(doublings).unwrap_or(u32::MAX).min(DEMOTED_INTERVALS_MAX);
    let mixed = phase.wrapping_mul(0x9e37_79b9).wrapping_add(u32::from(failures)) >> 8;
    pause + mixed % (pause / 2 + 1)
}

#[cfg(test)]
mod tests {
    use super::{Outcome, Slot};

    #[test]
    fn a_failing_target_is_asked_less_and_less_and_one_success_restores_it() {
        let mut slot = Slot::new(4711);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            slot.polled(Outcome::Failed, 100, 1);
            pauses.push(slot.resume_cycle.saturating_sub(100));
        }
        assert_eq!(pauses[..2], [0, 0]);
        let ranges = [2..=3, 4..=6, 8..=12, 16..=24, 16..=24, 16..=24, 16..=24];
        for (pause, range) in pauses[2..].iter().zip(ranges) {
            assert!(range.contains(pause), "{pauses:?}");
        }
        assert!(slot.demoted() && !slot.suspect);
        slot.polled(Outcome::TimedOut, 100, 1);
        assert!(slot.suspect);
        slot.polled(Outcome::Abandoned, 100, 2);
        assert_eq!((slot.polled_at, slot.failures), (1, 10));
        slot.polled(Outcome::Answered, 100, 3);
        assert_eq!((slot.failures, slot.suspect, slot.resume_cycle), (0, false, 0));
        let pause = |phase| super::pause(5, phase);
        assert!((0..100).any(|phase| pause(phase * 977) != pause(0)), "jitter");
    }
}
