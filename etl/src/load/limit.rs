//! How many requests to have in flight, found by watching how long they take.
//! Pure: takes the time, latencies and outcomes as arguments.
//!
//! In windows of as many answers as the limit allows, the latency that a quarter
//! of them stayed below is held against the best window's. A queue in the sink
//! holds up all of them; a busy machine or a slow answer now and then only some,
//! which a mean would show and a lower quartile does not. While it stays near the limit doubles (until
//! the first sign of a queue), then grows by its square root; beyond a tolerance
//! it is cut by the gradient. Both are Netflix's Gradient2 (concurrency-limits,
//! 2018), which took the idea from TCP Vegas (L. Brakmo, L. Peterson, 1995). A
//! refusal or a timeout cuts it as CUBIC cuts its window (RFC 9438, 4.6).

use std::time::{Duration, Instant};

/// Below this multiple of the best latency nothing waits in the sink yet: grow.
const GROW_BELOW: f64 = 1.25;
/// Above this multiple, requests only wait in the sink's queue: cut.
const CUT_ABOVE: f64 = 1.5;
/// What is left of the limit after a refusal or a timeout.
const AFTER_REFUSAL: f64 = 0.7;
/// The most that one window of slow answers may cut.
const GRADIENT_MIN: f64 = 0.5;
/// Fewer latencies than this say nothing about their quartile.
const SAMPLES_MIN: usize = 10;
/// How far a shorter latency moves the best one: a lucky window is not the truth.
const BEST_WEIGHT: f64 = 0.25;
/// How long a best latency is believed: a sink that has become slower for good
/// must not be starved for ever.
const BEST_KEPT: Duration = Duration::from_secs(30);

/// What an attempt says about the sink's load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadSign {
    /// It was answered: its latency counts.
    Answered,
    /// 429, 503 or no answer in time: too much was asked.
    Refused,
    /// It failed for another reason, which says nothing about load.
    Unknown,
}

/// One attempt that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    /// When it began.
    pub began: Instant,
    /// When it ended.
    pub ended: Instant,
    /// Attempts in flight when it began, itself included.
    pub in_flight: usize,
    /// What it says.
    pub sign: LoadSign,
}

/// The number of attempts that may be in flight; between 1 and its maximum.
#[derive(Debug)]
pub struct Limit {
    limit: usize,
    max: usize,
    /// Whether no window has shown a queue yet.
    doubling: bool,
    window: Window,
    /// The shortest quartile of a window, and when it was measured.
    best: Option<(Duration, Instant)>,
}

/// Attempts that began since the last decision.
#[derive(Debug)]
struct Window {
    since: Option<Instant>,
    /// At most as many as the limit allows.
    latencies: Vec<Duration>,
    in_flight: usize,
}

impl Limit {
    /// A limit that never exceeds `max`. It begins at 1, where no queue of our own
    /// making can pass for the sink's latency.
    #[must_use]
    pub fn new(max: usize) -> Limit {
        Limit {
            limit: 1,
            max: max.max(1),
            doubling: true,
            window: Window { since: None, latencies: Vec::new(), in_flight: 0 },
            best: None,
        }
    }

    /// How many may be in flight now.
    #[must_use]
    pub fn now(&self) -> usize {
        self.limit
    }

    /// Learns from an attempt that has ended.
    pub fn note(&mut self, attempt: &Attempt) {
        // What began before the last decision was decided on then; in particular,
        // one overload cuts once, however many attempts it hits.
        if self.window.since.is_some_and(|since| attempt.began < since) {
            return;
        }
        match attempt.sign {
            LoadSign::Unknown => {}
            LoadSign::Refused => {
                self.doubling = false;
                self.set(scaled(self.limit, AFTER_REFUSAL), attempt.ended);
            }
            LoadSign::Answered => {
                let latency = attempt.ended.saturating_duration_since(attempt.began);
                self.window.latencies.push(latency);
                self.window.in_flight = self.window.in_flight.max(attempt.in_flight);
                if self.window.latencies.len() >= self.limit.max(SAMPLES_MIN) {
                    self.decide(attempt.ended);
                }
            }
        }
    }

    /// Moves the limit by what a whole window has shown.
    fn decide(&mut self, now: Instant) {
        let quartile = self.window.quartile();
        let best = match self.best {
            Some((best, at)) if best <= quartile => {
                if now.saturating_duration_since(at) >= BEST_KEPT {
                    // Measured anew with half as much in flight, then found again.
                    self.best = None;
                    self.doubling = true;
                    self.set(self.limit.div_ceil(2), now);
                    return;
                }
                best
            }
            Some((best, _)) => {
                let shorter = best - (best - quartile).mul_f64(BEST_WEIGHT);
                self.best = Some((shorter, now));
                shorter
            }
            None => {
                self.best = Some((quartile, now));
                quartile
            }
        };
        // A clock too coarse to see a latency sees no queue either.
        let growth = quartile.as_secs_f64() / best.as_secs_f64().max(1e-6);
        let used = self.window.in_flight * 4 >= self.limit * 3;
        let next = if growth > CUT_ABOVE {
            self.doubling = false;
            scaled(self.limit, (GROW_BELOW / growth).max(GRADIENT_MIN))
        } else if growth > GROW_BELOW {
            self.doubling = false;
            self.limit
        } else if !used {
            // More would not be asked for anyway.
            self.limit
        } else if self.doubling {
            self.limit * 2
        } else {
            self.limit + self.limit.isqrt()
        };
        self.set(next, now);
    }

    fn set(&mut self, limit: usize, now: Instant) {
        self.limit = limit.clamp(1, self.max);
        self.window.latencies.clear();
        self.window.in_flight = 0;
        self.window.since = Some(now);
    }
}

impl Window {
    /// The latency that a quarter of the window's stayed below; zero without any.
    fn quartile(&mut self) -> Duration {
        let place = self.latencies.len() / 4;
        if place >= self.latencies.len() {
            return Duration::ZERO;
        }
        *self.latencies.select_nth_unstable(place).1
    }
}

/// `limit` times a factor below 1, rounded down.
fn scaled(limit: usize, factor: f64) -> usize {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a limit is at most 10,000, and a factor is positive"
    )]
    let scaled = (limit as f64 * factor) as usize;
    scaled
}

#[cfg(test)]
mod tests;
