//! Lets what happens within a moment be seen to at once. Of a large fleet something
//! happens several times a millisecond – a target falls due, an answer comes – and to wake
//! a thread for each costs more than what it then does.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// How long events are gathered: short against the lag that is promised.
const MOMENT: Duration = Duration::from_millis(2);
/// Where something happens more rarely than that, nothing waits for more.
const BUSY: Duration = Duration::from_millis(4);
/// Nor where it was not so for some time: a poll and its answer are soon behind each other
/// in the smallest fleet too.
const TIMES: u32 = 16;

thread_local! {
    static IDLE: Cell<Idle> = const { Cell::new(Idle { at: None, soon: 0 }) };
}

/// When a thread had nothing to do the last time, and how often in a row it was soon after
/// the time before.
#[derive(Debug, Clone, Copy)]
struct Idle {
    at: Option<Instant>,
    soon: u32,
}

/// To be called by the fleet's own thread when it has nothing to do: waits a moment if
/// that never lasts.
pub(super) fn before_sleep() {
    let now = IDLE.get().again(Instant::now());
    IDLE.set(now);
    if now.is_rare() {
        std::thread::sleep(MOMENT);
    }
}

impl Idle {
    fn again(self, now: Instant) -> Idle {
        let soon = self.at.is_some_and(|before| now - before < BUSY);
        Idle { at: Some(now), soon: if soon { self.soon.saturating_add(1) } else { 0 } }
    }

    /// Whether there is always something to do.
    fn is_rare(self) -> bool {
        self.soon >= TIMES
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{BUSY, Idle, MOMENT, TIMES};

    #[test]
    fn a_large_fleet_gathers_and_one_that_has_little_to_do_never_waits_for_more() {
        let (mut idle, mut now) = (Idle { at: None, soon: 0 }, Instant::now());
        for _ in 0..10 * TIMES {
            // A poll and its answer, and then nothing for a while.
            idle = idle.again(now).again(now + Duration::from_micros(100));
            assert!(!idle.is_rare());
            now += BUSY + Duration::from_millis(1);
        }
        for _ in 0..=TIMES {
            now += Duration::from_micros(300);
            idle = idle.again(now);
        }
        assert!(idle.is_rare());
        // Gathering itself must not make it look idle.
        assert!(idle.again(now + MOMENT).is_rare());
        assert!(!idle.again(now + BUSY).is_rare());
    }
}
