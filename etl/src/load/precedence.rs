//! How fast a replay may go beside new batches. Where new batches wait for a worker, the
//! workers see to it; but where reading and encoding new rows is what takes the time, no
//! batch waits, and a replay would take the processor from those that are being made. Pure:
//! takes the time and the count of new batches as arguments.

use std::time::{Duration, Instant};

/// New batches for each replayed one, while they are many.
pub(super) const LIVE_FOR_EACH: u64 = 4;
/// What new batches have earned and a replay has not used, in batches.
const EARNED_MAX: u64 = 64;
/// How often it is seen whether they are many.
const WINDOW: Duration = Duration::from_millis(10);
/// New batches in such a time from which on they are many: fewer leave enough of any
/// processor, and a replay need not wait for them.
const MANY: u64 = 20;

/// The precedence of new batches.
#[derive(Debug)]
pub(super) struct Precedence {
    /// New batches when it was asked last.
    live: u64,
    earned: u64,
    window: (Instant, u64),
    many: bool,
}

impl Precedence {
    /// Nothing is known yet; `live` new batches were taken before.
    pub(super) fn new(now: Instant, live: u64) -> Precedence {
        Precedence { live, earned: 0, window: (now, live), many: false }
    }

    /// Whether a replayed batch may be sent now, when `live` new ones have been taken in
    /// all; if so it counts as sent.
    pub(super) fn allows(&mut self, now: Instant, live: u64) -> bool {
        let came = live.saturating_sub(std::mem::replace(&mut self.live, live));
        self.earned = (self.earned + came).min(EARNED_MAX * LIVE_FOR_EACH);
        let (since, before) = self.window;
        let elapsed = now.saturating_duration_since(since);
        if elapsed >= WINDOW {
            let windows = elapsed.as_secs_f64() / WINDOW.as_secs_f64();
            #[expect(clippy::cast_precision_loss, reason = "a rate needs no exactness")]
            let each = live.saturating_sub(before) as f64 / windows;
            self.many = each >= MANY as f64;
            self.window = (now, live);
        }
        let allowed = !self.many || self.earned >= LIVE_FOR_EACH;
        if allowed {
            self.earned = self.earned.saturating_sub(LIVE_FOR_EACH);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks every 0.1 ms for a second while `each` new batches come meanwhile; gives how
    /// many replayed ones were allowed.
    fn allowed(precedence: &mut Precedence, begin: Instant, from: u64, each: u64) -> u64 {
        let mut allowed = 0;
        for step in 1..=10_000 {
            let now = begin + Duration::from_micros(100) * u32::try_from(step).unwrap_or(0);
            allowed += u64::from(precedence.allows(now, from + each * step));
        }
        allowed
    }

    #[test]
    fn many_new_batches_leave_a_replay_one_in_five_and_few_leave_it_alone() {
        let begin = Instant::now();
        let mut precedence = Precedence::new(begin, 7);
        let beside = allowed(&mut precedence, begin, 7, 2);
        // 20,000 new ones; the first 10 ms do not count.
        assert!((4_900..=5_200).contains(&beside), "{beside}");
        // Nothing new comes any more: after a window it goes on.
        let alone = allowed(&mut precedence, begin + Duration::from_secs(1), 20_007, 0);
        assert!(alone >= 9_800, "{alone}");
        let mut few = Precedence::new(begin, 0);
        let beside_few = (1..=10_000_u64).filter(|step| {
            let now = begin + Duration::from_micros(100) * u32::try_from(*step).unwrap_or(0);
            few.allows(now, step / 10)
        });
        assert_eq!(beside_few.count(), 10_000);
    }
}
