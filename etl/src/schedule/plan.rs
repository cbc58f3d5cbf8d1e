//! The due times of one pipeline: the first one after a start, and then one after the
//! other. Knows no clock; takes the time as an argument.

use std::time::Duration;

use super::timing::{Moment, Timing, later};
use crate::config::{Missed, Schedule};

/// More missed runs than this are not counted one by one.
const MISSED_MAX: u64 = 1000;

/// When one pipeline is due.
#[derive(Debug, Clone)]
pub struct Plan {
    timing: Timing,
    /// By how much every start is moved.
    offset: Duration,
    /// The next due time, without the offset.
    due: Option<Moment>,
    /// Due times between the last start and this plan's beginning.
    pub missed: u64,
}

impl Plan {
    /// The plan of the pipeline `name`, whose last run began at `last`.
    #[must_use]
    pub fn new(
        name: &str,
        schedule: &Schedule,
        timing: Timing,
        last: Option<Moment>,
        now: Moment,
    ) -> Plan {
        let offset = offset(name, schedule.jitter.0);
        let mut plan = Plan { timing, offset, due: None, missed: 0 };
        // A last start in the future is a clock that was set back: as if there were none.
        let last = last.filter(|last| *last <= now);
        let base = last.and_then(|last| last.checked_sub_signed(delta(offset)));
        let interval = matches!(plan.timing, Timing::Every(_));
        let Some(base) = base else {
            plan.due = if interval { Some(now) } else { plan.timing.next(now) };
            return plan;
        };
        let until = now.checked_sub_signed(delta(offset)).unwrap_or(now);
        let (missed, next) = plan.passed(base, until.max(base));
        plan.missed = missed;
        plan.due = match schedule.missed {
            Missed::RunOnce if missed > 0 => Some(until),
            _ => next,
        };
        plan
    }

    /// When the next run is to begin.
    #[must_use]
    pub fn due(&self) -> Option<Moment> {
        later(self.due?, self.offset)
    }

    /// The schedule's times.
    #[must_use]
    pub fn timing(&self) -> &Timing {
        &self.timing
    }

    /// Goes on to the first due time after `now`; gives the number of those that were
    /// passed over because they are over already, the one that was due not counted.
    pub fn advance(&mut self, now: Moment) -> u64 {
        let Some(due) = self.due.take() else { return 0 };
        let Some(shifted) = now.checked_sub_signed(delta(self.offset)) else { return 0 };
        let (passed, next) = self.passed(due, shifted.max(due));
        self.due = next;
        passed
    }

    /// How many due times lie after `from` and not after `until`, and the next one.
    fn passed(&self, from: Moment, until: Moment) -> (u64, Option<Moment>) {
        if let Timing::Every(interval) = &self.timing {
            let behind = (until - from).to_std().unwrap_or_default();
            let times = behind.as_nanos() / interval.as_nanos().max(1);
            let times = u64::try_from(times).unwrap_or(u64::MAX);
            let factor = u32::try_from(times).unwrap_or(u32::MAX).saturating_add(1);
            let next = later(from, interval.saturating_mul(factor));
            return (times, next.map(|next| next.max(until)));
        }
        let (mut passed, mut moment) = (0, from);
        while let Some(next) = self.timing.next(moment) {
            if next > until {
                return (passed, Some(next));
            }
            passed += 1;
            if passed >= MISSED_MAX {
                return (passed, self.timing.next(until));
            }
            moment = next;
        }
        (passed, None)
    }
}

/// The same for one name, spread evenly over all names.
fn offset(name: &str, jitter: Duration) -> Duration {
    let hash = blake3::hash(name.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    let share = (u64::from_le_bytes(first) >> 11) as f64 / (1u64 << 53) as f64;
    jitter.mul_f64(share)
}

fn delta(time: Duration) -> chrono::TimeDelta {
    chrono::TimeDelta::from_std(time).unwrap_or(chrono::TimeDelta::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use std::time::Duration;

    use chrono::TimeDelta;

    use super::{Moment, Plan, Timing, offset};
    use crate::config::{Missed, Overlap, Schedule, Span};

    const NOW: &str = "2026-11-23T10:00:00Z";

    fn now() -> Moment {
        NOW.parse().unwrap()
    }

    fn schedule(missed: Missed) -> Schedule {
        Schedule {
            every: None,
            cron: None,
            timezone: "UTC".to_owned(),
            jitter: Span(Duration::ZERO),
            overlap: Overlap::Skip,
            missed,
        }
    }

    fn every(seconds: u64) -> Timing {
        Timing::Every(Duration::from_secs(seconds))
    }

    fn daily() -> Timing {
        Timing::Cron {
            cron: Box::new("0 3 * * *".parse().unwrap()),
            zone: crate::schedule::Zone::UTC,
        }
    }

    /// Seconds from now to the first run, and how many were missed.
    fn first(timing: Timing, missed: Missed, last_ago: Option<i64>) -> (i64, u64) {
        let last = last_ago.map(|ago| now() - TimeDelta::seconds(ago));
        let plan = Plan::new("p", &schedule(missed), timing, last, now());
        ((plan.due().unwrap() - now()).num_seconds(), plan.missed)
    }

    #[test]
    fn an_interval_begins_at_once_and_keeps_its_beat_over_a_restart() {
        for missed in [Missed::Skip, Missed::RunOnce] {
            assert_eq!(first(every(60), missed, None), (0, 0));
            assert_eq!(first(every(60), missed, Some(25)), (35, 0));
            assert_eq!(first(every(60), missed, Some(-100)), (0, 0));
        }
        assert_eq!(first(every(60), Missed::RunOnce, Some(205)), (0, 3));
        assert_eq!(first(every(60), Missed::Skip, Some(205)), (35, 3));
    }

    #[test]
    fn missed_times_of_day_are_run_once_or_not_at_all() {
        let (hour, day) = (3600, 86_400);
        assert_eq!(first(daily(), Missed::RunOnce, None), (17 * hour, 0));
        assert_eq!(first(daily(), Missed::RunOnce, Some(hour)), (17 * hour, 0));
        assert_eq!(first(daily(), Missed::RunOnce, Some(8 * hour)), (0, 1));
        assert_eq!(first(daily(), Missed::Skip, Some(3 * day)), (17 * hour, 3));
        let (due, missed) = first(daily(), Missed::RunOnce, Some(4000 * day));
        assert_eq!((due, missed), (0, super::MISSED_MAX));
    }

    #[test]
    fn due_times_stay_on_the_grid_however_late_they_are_noticed() {
        let mut plan = Plan::new("p", &schedule(Missed::Skip), every(10), None, now());
        for (noticed, passed, next) in [(0, 0, 10), (11, 0, 20), (47, 2, 50), (50, 0, 60)] {
            assert_eq!(plan.advance(now() + TimeDelta::seconds(noticed)), passed);
            assert_eq!(plan.due().unwrap(), now() + TimeDelta::seconds(next));
        }
        let mut plan = Plan::new("p", &schedule(Missed::Skip), daily(), None, now());
        assert_eq!(plan.advance(now() + TimeDelta::days(3)), 2);
        assert_eq!(plan.due().unwrap(), now() + TimeDelta::hours(3 * 24 + 17));
        // A clock that was set back starts nothing twice.
        assert_eq!(plan.advance(now()), 0);
        assert_eq!(plan.due().unwrap(), now() + TimeDelta::hours(4 * 24 + 17));
    }

    #[test]
    fn jitter_is_the_same_for_a_name_and_spread_over_names() {
        let minute = Duration::from_secs(60);
        assert_eq!(offset("p", minute), offset("p", minute));
        assert_eq!(offset("p", Duration::ZERO), Duration::ZERO);
        let mut quarters = [0; 4];
        for number in 0..1000 {
            let offset = offset(&format!("pipeline-{number}"), minute);
            quarters[(offset.as_secs() / 15) as usize] += 1;
        }
        assert!(quarters.iter().all(|count| (200..300).contains(count)), "{quarters:?}");
        let mut jittery = schedule(Missed::RunOnce);
        jittery.jitter = Span(minute);
        let mut plan = Plan::new("p", &jittery, every(100), None, now());
        let first = plan.due().unwrap();
        assert_eq!((first - now()).to_std().unwrap(), offset("p", minute));
        plan.advance(first);
        assert_eq!((plan.due().unwrap() - first).num_seconds(), 100);
        // After a restart the beat goes on from the last start, which had the offset in it.
        let again = Plan::new("p", &jittery, every(100), Some(first), first);
        assert_eq!((again.due().unwrap() - first).num_seconds(), 100);
    }
}
