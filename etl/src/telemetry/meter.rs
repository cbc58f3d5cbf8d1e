//! Rates over a sliding window, so that the display follows a change within
//! seconds and does not jump with every batch. Pure: time is passed in.

use std::collections::VecDeque;
use std::time::Duration;

/// Long enough for a batch every second, short enough to follow an outage.
const WINDOW: Duration = Duration::from_secs(10);
/// Below this there is nothing to divide by.
const SPAN_MIN: Duration = Duration::from_secs(1);

/// How fast one counter has moved lately.
#[derive(Debug, Default)]
pub struct Meter {
    /// Time since start and value, oldest first; at five a second, some fifty.
    samples: VecDeque<(Duration, u64)>,
}

impl Meter {
    /// Notes the counter's `value` at `elapsed` since start, which never goes back.
    pub fn note(&mut self, elapsed: Duration, value: u64) {
        self.samples.push_back((elapsed, value));
        while self.samples.get(1).is_some_and(|(second, _)| *second + WINDOW <= elapsed) {
            self.samples.pop_front();
        }
    }

    /// Units a second over the window, negative when the counter shrinks;
    /// `None` before there is a second to look at.
    #[must_use]
    pub fn per_second(&self) -> Option<f64> {
        let ((first, before), (last, now)) = (self.samples.front()?, self.samples.back()?);
        let span = last.checked_sub(*first).filter(|span| *span >= SPAN_MIN)?;
        Some((*now as f64 - *before as f64) / span.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Meter;

    #[test]
    fn a_rate_follows_the_last_ten_seconds_only() {
        let mut meter = Meter::default();
        assert_eq!(meter.per_second(), None);
        meter.note(Duration::ZERO, 0);
        meter.note(Duration::from_millis(900), 90);
        assert_eq!(meter.per_second(), None);
        for second in 1..=30 {
            meter.note(Duration::from_secs(second), second * 100);
        }
        assert_eq!(meter.per_second(), Some(100.0));
        for second in 31..=40 {
            meter.note(Duration::from_secs(second), 3_000 - (second - 30) * 50);
        }
        assert_eq!(meter.per_second(), Some(-50.0));
        assert!(meter.samples.len() <= 12, "bounded");
    }
}
