//! When something falls due, given the time; and the two clocks that this is told by.

use std::fmt;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use croner::Cron;

use super::zone::Zone;

/// A moment, whatever clock it was read from.
pub type Moment = DateTime<Utc>;

/// The times of a schedule.
#[derive(Clone)]
pub enum Timing {
    /// At a fixed interval.
    Every(Duration),
    /// When the clock on the wall says so.
    Cron {
        /// The five fields.
        cron: Box<Cron>,
        /// Where the wall is.
        zone: Zone,
    },
}

impl fmt::Debug for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Timing::Every(interval) => f.debug_tuple("Every").field(interval).finish(),
            Timing::Cron { cron, zone } => write!(f, "Cron({} {zone})", cron.as_str()),
        }
    }
}

impl fmt::Display for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Timing::Every(interval) => {
                write!(f, "@every {}", humantime::format_duration(*interval))
            }
            Timing::Cron { cron, zone } if *zone == Zone::UTC => f.write_str(cron.as_str()),
            Timing::Cron { cron, zone } => write!(f, "{} {zone}", cron.as_str()),
        }
    }
}

impl Timing {
    /// The first due time after `moment`; for an interval, one of them later.
    #[must_use]
    pub fn next(&self, moment: Moment) -> Option<Moment> {
        match self {
            Timing::Every(interval) => later(moment, *interval),
            Timing::Cron { cron, zone } => {
                let next = cron.find_next_occurrence(&moment.with_timezone(zone), false).ok()?;
                Some(next.with_timezone(&Utc))
            }
        }
    }

    /// The time from one due time to the next.
    #[must_use]
    pub fn interval(&self) -> Option<Duration> {
        match self {
            Timing::Every(interval) => Some(*interval),
            Timing::Cron { .. } => {
                let next = self.next(Utc::now())?;
                (self.next(next)? - next).to_std().ok()
            }
        }
    }
}

/// `moment` and `time` later; none beyond the calendar's end.
pub(super) fn later(moment: Moment, time: Duration) -> Option<Moment> {
    moment.checked_add_signed(TimeDelta::from_std(time).ok()?)
}

/// Tells the time: intervals by a clock that nobody sets, cron by the one on the wall.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    began: Moment,
    since: Instant,
}

impl Clock {
    /// A clock that begins with the time on the wall.
    #[must_use]
    pub fn start() -> Clock {
        Clock { began: Utc::now(), since: Instant::now() }
    }

    /// Now, for a schedule with `timing`.
    #[must_use]
    pub fn now(&self, timing: &Timing) -> Moment {
        match timing {
            Timing::Every(_) => later(self.began, self.since.elapsed()).unwrap_or(self.began),
            Timing::Cron { .. } => Utc::now(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use super::{Moment, Timing};
    use crate::config::{Environment, from_str};

    fn timing(schedule: &str) -> Timing {
        let text = format!(
            "name: p\nschedule: {schedule}\nsource:\n  csv: {{ path: a.csv }}\nload:\n  \
             - http: {{ url: 'http://127.0.0.1:1/load' }}\n"
        );
        let environment = Environment::from_pairs([("FETCH_INTERVAL", "45")]);
        let loaded = from_str("p.yaml", &text, &[], &environment);
        loaded.unwrap_or_else(|report| panic!("{report}")).pipeline.timing().unwrap()
    }

    fn at(text: &str) -> Moment {
        text.parse().unwrap()
    }

    fn next(schedule: &str, after: &str) -> String {
        let next = timing(schedule).next(at(after)).unwrap();
        next.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
    }

    #[test]
    fn texts_and_settings_say_the_same() {
        for (text, settings) in [
            ("'@every 90s'", "{ every: 1m30s }"),
            ("'@daily'", "{ cron: 0 0 * * *, overlap: queue }"),
            ("'@weekly'", "{ cron: '@weekly', jitter: 5s, missed: skip }"),
            ("'@every ${FETCH_INTERVAL:-30}s'", "{ every: '${FETCH_INTERVAL}s' }"),
        ] {
            assert_eq!(timing(text).to_string(), timing(settings).to_string());
        }
        assert_eq!(timing("'@every ${FETCH_INTERVAL:-30}s'").to_string(), "@every 45s");
        assert_eq!(timing("'@every ${NOT_SET:-30}s'").to_string(), "@every 30s");
        let zoned = timing("{ cron: 0 3 * * *, timezone: Europe/Berlin }");
        assert_eq!(zoned.to_string(), "0 3 * * * Europe/Berlin");
    }

    #[test]
    fn due_times_follow_the_fields_and_the_zone() {
        let monday = "2026-11-23T10:00:00Z";
        assert_eq!(next("'@every 90s'", monday), "2026-11-23T10:01:30Z");
        assert_eq!(next("'@hourly'", monday), "2026-11-23T11:00:00Z");
        assert_eq!(next("'@daily'", monday), "2026-11-24T00:00:00Z");
        assert_eq!(next("'@weekly'", monday), "2026-11-29T00:00:00Z");
        assert_eq!(next("'@monthly'", monday), "2026-12-01T00:00:00Z");
        assert_eq!(next("'*/20 8-10 * * mon'", monday), "2026-11-23T10:20:00Z");
        assert_eq!(next("'0 9 * * 7'", monday), "2026-11-29T09:00:00Z");
        let berlin = "{ cron: 30 7 * * *, timezone: Europe/Berlin }";
        assert_eq!(next(berlin, monday), "2026-11-24T06:30:00Z");
        assert_eq!(next(berlin, "2026-07-01T10:00:00Z"), "2026-07-02T05:30:00Z");
    }

    #[test]
    fn a_clock_that_is_set_forward_or_back_makes_one_run_a_day() {
        let half_past_two = "{ cron: 30 2 * * *, timezone: Europe/Berlin }";
        // 2027-03-28: 02:00 becomes 03:00. 2027-10-31: 03:00 becomes 02:00.
        for (from, days) in [("2027-03-26T12:00:00Z", 4), ("2027-10-29T12:00:00Z", 4)] {
            let timing = timing(half_past_two);
            let (mut moment, mut runs) = (at(from), Vec::new());
            let end = moment + chrono::TimeDelta::days(days);
            while let Some(next) = timing.next(moment).filter(|next| *next < end) {
                runs.push(next);
                moment = next;
            }
            assert_eq!(runs.len() as i64, days, "{runs:?}");
        }
    }

    #[test]
    fn the_interval_is_known_for_both_kinds() {
        assert_eq!(timing("'@every 90s'").interval().unwrap().as_secs(), 90);
        assert_eq!(timing("'@hourly'").interval().unwrap().as_secs(), 3600);
        assert_eq!(timing("'@daily'").interval().unwrap().as_secs(), 86_400);
    }
}
