//! The limit against scripted answers, and against a simulated server.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use super::{Attempt, Limit, LoadSign, SAMPLES_MIN};

const DELAY: Duration = Duration::from_millis(20);

/// A limit that has seen no queue up to `limit`.
fn grown(limit: usize, max: usize) -> (Limit, Instant) {
    let (mut grown, mut now) = (Limit::new(max), Instant::now());
    while grown.now() < limit {
        now = window(&mut grown, now, DELAY);
    }
    assert_eq!(grown.now(), limit);
    (grown, now)
}

/// One whole window of answers that took `latency`; gives the time at its end.
fn window(limit: &mut Limit, now: Instant, latency: Duration) -> Instant {
    let ended = now + latency;
    for _ in 0..limit.now().max(SAMPLES_MIN) {
        let in_flight = limit.now();
        limit.note(&Attempt { began: now, ended, in_flight, sign: LoadSign::Answered });
    }
    ended
}

fn refused(limit: &mut Limit, began: Instant) {
    let ended = began + DELAY;
    limit.note(&Attempt { began, ended, in_flight: limit.now(), sign: LoadSign::Refused });
}

#[test]
fn doubles_until_a_queue_shows_then_grows_by_the_root_and_is_cut_by_the_gradient() {
    let (mut limit, mut now) = grown(64, 256);
    now = window(&mut limit, now, DELAY * 2);
    assert_eq!(limit.now(), 40, "64 / 2 * 1.25");
    now = window(&mut limit, now, DELAY * 4 / 3);
    assert_eq!(limit.now(), 40, "a short queue is right");
    now = window(&mut limit, now, DELAY);
    assert_eq!(limit.now(), 46);
    window(&mut limit, now, DELAY * 100);
    assert_eq!(limit.now(), 23, "at most halved");
}

#[test]
fn one_overload_cuts_once_and_never_below_one() {
    let (mut limit, now) = grown(100, 100);
    refused(&mut limit, now);
    refused(&mut limit, now);
    refused(&mut limit, now + DELAY / 2);
    assert_eq!(limit.now(), 70, "all three began before the cut");
    for n in 1..30 {
        refused(&mut limit, now + DELAY * n);
    }
    assert_eq!(limit.now(), 1);
    let mut later = now + DELAY * 40;
    for _ in 0..100 {
        later = window(&mut limit, later, DELAY);
    }
    assert_eq!(limit.now(), 100, "it comes back");
}

#[test]
fn what_is_not_used_does_not_grow_and_other_failures_say_nothing() {
    let (mut limit, now) = grown(16, 256);
    for _ in 0..100 {
        limit.note(&Attempt {
            began: now,
            ended: now + DELAY,
            in_flight: 2,
            sign: LoadSign::Answered,
        });
        limit.note(&Attempt { began: now, ended: now, in_flight: 16, sign: LoadSign::Unknown });
    }
    assert_eq!(limit.now(), 16);
    assert_eq!(Limit::new(0).now(), 1);
}

#[test]
fn a_sink_that_became_slower_for_good_is_measured_anew() {
    let (mut limit, mut now) = grown(64, 64);
    let began = now;
    let mut least = limit.now();
    while now < began + Duration::from_secs(120) {
        now = window(&mut limit, now, DELAY * 3);
        least = least.min(limit.now());
    }
    assert!(least < 16, "{least}");
    assert_eq!(limit.now(), 64);
}

/// A server that works on `capacity` requests at once, each for [`DELAY`] give or
/// take a share of it; others wait, and beyond `queue` waiting ones are refused at once.
struct Simulation {
    limit: Limit,
    free_at: BinaryHeap<Reverse<Instant>>,
    in_flight: BinaryHeap<Reverse<(Instant, Instant, usize, bool)>>,
    queue: usize,
    noise: f64,
    /// The share of answers that take twice to six times as long, for no reason.
    late: f64,
    random: fastrand::Rng,
}

/// What the simulated server did.
struct Seen {
    answered: u64,
    refused: u64,
    /// The mean of the limit over the second half.
    limit: f64,
}

impl Simulation {
    fn new(capacity: usize, queue: usize, noise: f64) -> (Simulation, Instant) {
        let now = Instant::now();
        let simulation = Simulation {
            limit: Limit::new(256),
            free_at: (0..capacity).map(|_| Reverse(now)).collect(),
            in_flight: BinaryHeap::new(),
            queue,
            noise,
            late: 0.0,
            random: fastrand::Rng::with_seed(7),
        };
        (simulation, now)
    }

    fn ask(&mut self, now: Instant) {
        let others = self.in_flight.len();
        let Some(&Reverse(free)) = self.free_at.peek() else { return };
        if others >= self.free_at.len() + self.queue {
            let ended = now + Duration::from_millis(1);
            self.in_flight.push(Reverse((ended, now, others + 1, false)));
            return;
        }
        self.free_at.pop();
        let done =
            free.max(now) + DELAY.mul_f64(1.0 + self.noise * (2.0 * self.random.f64() - 1.0));
        self.free_at.push(Reverse(done));
        let late = if self.random.f64() < self.late { 1.0 + 4.0 * self.random.f64() } else { 0.0 };
        let ended = done + DELAY.mul_f64(late);
        self.in_flight.push(Reverse((ended, now, others + 1, true)));
    }

    fn run(&mut self, start: Instant, length: Duration) -> Seen {
        let (mut now, mut seen) = (start, Seen { answered: 0, refused: 0, limit: 0.0 });
        let (mut sum, mut looks) = (0.0, 0.0);
        while now < start + length {
            while self.in_flight.len() < self.limit.now() {
                self.ask(now);
            }
            let Some(Reverse((ended, began, in_flight, taken))) = self.in_flight.pop() else {
                return seen;
            };
            now = ended;
            if now > start + length / 2 {
                (sum, looks) = (sum + self.limit.now() as f64, looks + 1.0);
            }
            let sign = if taken { LoadSign::Answered } else { LoadSign::Refused };
            (seen.answered, seen.refused) =
                (seen.answered + u64::from(taken), seen.refused + u64::from(!taken));
            self.limit.note(&Attempt { began, ended, in_flight, sign });
        }
        seen.limit = sum / looks;
        seen
    }
}

#[test]
fn finds_what_a_server_bears_without_being_told() {
    for capacity in [1, 4, 16, 64, 150] {
        for noise in [0.0, 0.1, 0.6] {
            let (mut simulation, now) = Simulation::new(capacity, 10_000, noise);
            let seen = simulation.run(now, Duration::from_secs(20));
            let possible = 20.0 / 0.020 * capacity as f64;
            let share = seen.answered as f64 / possible;
            let most = 1.6 * capacity as f64 + 4.0;
            let enough = if noise > 0.5 { 0.5 } else { 0.9 };
            assert!(
                share > enough,
                "capacity {capacity}, noise {noise}: {share} of the throughput"
            );
            // Without any noise requests move in waves, and a whole wave waits for nothing.
            assert!(
                noise == 0.0 || seen.limit < most,
                "capacity {capacity}, noise {noise}: {}",
                seen.limit
            );
        }
    }
}

/// A machine that is busy with other things gets to many of its answers late.
#[test]
fn answers_that_are_late_now_and_then_are_no_queue() {
    let (mut simulation, now) = Simulation::new(64, 10_000, 0.1);
    simulation.late = 0.4;
    let seen = simulation.run(now, Duration::from_secs(20));
    // 40 % of the requests take 3 delays longer on the average.
    assert!(seen.limit > 64.0, "{}", seen.limit);
    let share = seen.answered as f64 / (20.0 / 0.020 * 64.0);
    assert!(share > 0.6, "{share}");
}

#[test]
fn a_server_that_refuses_the_excess_is_used_well_and_seldom_refuses() {
    let (mut simulation, now) = Simulation::new(40, 0, 0.1);
    let seen = simulation.run(now, Duration::from_secs(20));
    let share = seen.answered as f64 / (20.0 / 0.020 * 40.0);
    assert!(share > 0.75, "{share}");
    let refusals = seen.refused as f64 / seen.answered as f64;
    assert!(refusals < 0.05, "{refusals}");
}
