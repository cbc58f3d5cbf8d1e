//! The outbound rate limit: a token bucket, kept as the time at which the next
//! request is due (the generic cell rate algorithm, ITU-T I.371, which admits
//! exactly what a bucket does without counting tokens). Pure: takes the time.

use std::time::{Duration, Instant};

use crate::config::Rate;

/// Requests may come early by this share of a second's worth: a pause of the
/// process is made up for, and no burst is longer than this.
const BURST: Duration = Duration::from_millis(100);

/// Says when the next request may be made.
#[derive(Debug)]
pub struct Pace {
    /// Between two requests, at the configured rate.
    interval: Duration,
    /// When the next request is due; may lie before the present.
    due: Option<Instant>,
}

impl Pace {
    /// A pace of `rate`; the first request may be made at once.
    #[must_use]
    pub fn new(rate: Rate) -> Pace {
        Pace { interval: rate.per / rate.times.max(1), due: None }
    }

    /// Takes the next place in the order and gives the wait until it is due. A
    /// caller that gives up its place leaves it empty.
    pub fn take(&mut self, now: Instant) -> Duration {
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let due = self.due.map_or(now, |due| due.max(earliest));
        self.due = Some(due + self.interval);
        due.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{BURST, Pace};
    use crate::config::Rate;

    #[test]
    fn requests_are_spread_evenly_from_the_first_on() {
        let (start, rate) = (Instant::now(), Rate { times: 50, per: Duration::from_secs(1) });
        let mut pace = Pace::new(rate);
        let waits: Vec<u128> = (0..5).map(|_| pace.take(start).as_millis()).collect();
        assert_eq!(waits, [0, 20, 40, 60, 80]);
    }

    #[test]
    fn no_second_has_more_than_the_rate_and_a_burst() {
        let rate = Rate { times: 600, per: Duration::from_secs(60) };
        let (start, mut random) = (Instant::now(), fastrand::Rng::with_seed(3));
        let (mut pace, mut now, mut sent) = (Pace::new(rate), start, Vec::new());
        for _ in 0..500 {
            now += pace.take(now);
            sent.push(now);
            // Now and then nobody wants to send for a while.
            if random.u8(..) < 10 {
                now += Duration::from_secs(3);
            }
        }
        for (at, first) in sent.iter().enumerate() {
            let within = sent[at..].iter().filter(|one| **one - *first < Duration::from_secs(1));
            let most = 10 + usize::try_from(BURST.as_millis()).unwrap_or(0) / 100 + 1;
            assert!(within.count() <= most);
        }
    }
}
