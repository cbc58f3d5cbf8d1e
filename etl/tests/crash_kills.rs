//! `SIGKILL` at random instants, also while an earlier kill is being recovered from
//! and replayed: nothing is lost, nothing is doubled, no key ever has two bodies.
//!
//!     cargo test -p etl --test crash_kills -- --nocapture
//!     ETL_KILLS=1000 cargo test --release -p etl --test crash_kills -- --nocapture
//!
//! The instants are seeded (`ETL_CRASH_SEED`); what they hit depends on the machine.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::io::Write;
use std::time::{Duration, Instant};

use support::crash::{Case, Ended, Kind, kill_at, random, span, times, unreliable};

/// Kills between two healings: late ones find what all earlier ones left.
const SERIES_KILLS: u64 = 8;

/// Instants lie within so much of a run's beginning, where runs start quickly.
const SPAN: Duration = Duration::from_millis(600);

/// What the kills of one part of the matrix hit.
#[derive(Debug, Default)]
struct Tally {
    kills: u64,
    series: u64,
    /// Runs that were over before their instant.
    over: u64,
    /// Kills of runs that had an earlier run's batches to replay.
    replaying: u64,
    /// Kills before the first request of their run: while starting and recovering.
    starting: u64,
    /// Batches found in the spool after a kill.
    batches: u64,
    /// Requests that repeated a batch the API had stored already.
    repeated: u64,
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_at_random_instants_lose_nothing() {
    let (kills, began) = (times("ETL_KILLS", 50), Instant::now());
    let span = span(SPAN).await;
    let matrix = [(Kind::Fleet, 1), (Kind::Fleet, 10), (Kind::Rows, 1), (Kind::Rows, 10)];
    let mut total = Tally::default();
    for (number, (kind, workers)) in (0u64..).zip(matrix) {
        let share = (kills - total.kills) / (4 - number);
        let tally = part(kind, workers, share, span).await;
        tell(&format!("{kind:?} × {workers} workers: {tally:?}"));
        total.add(&tally);
    }
    let took = began.elapsed();
    tell(&format!("{} kills in {took:.0?}, 0 lost, 0 conflicting keys", total.kills));
    assert_eq!(total.kills, kills);
    // How much of a run lies within the span depends on the machine; something must.
    assert!(total.replaying * 5 > kills, "hardly a kill during a replay: {total:?}");
    assert!(total.starting * 10 < kills * 9, "hardly a run had begun: {total:?}");
    assert!(total.batches > 0 && total.repeated > 0, "the test is too kind: {total:?}");
}

impl Tally {
    fn add(&mut self, other: &Tally) {
        self.kills += other.kills;
        self.series += other.series;
        self.over += other.over;
        self.replaying += other.replaying;
        self.starting += other.starting;
        self.batches += other.batches;
        self.repeated += other.repeated;
    }
}

/// Series of kills until there were `kills` of them.
async fn part(kind: Kind, workers: u32, kills: u64, span: Duration) -> Tally {
    let mut tally = Tally::default();
    let mut random = random(u64::from(workers) << 8 | kind as u64);
    while tally.kills < kills {
        let wanted = SERIES_KILLS.min(kills - tally.kills);
        let (records, batch) = if kind == Kind::Fleet { (600, 20) } else { (12_000, 20) };
        let faults = unreliable(random.u64(..));
        let mut case = Case::new(kind, records, batch, workers, faults).await;
        series(&mut case, wanted, span, &mut random, &mut tally).await;
    }
    tally
}

/// Kills up to `wanted` runs of one pipeline, each at an instant within `span`,
/// then lets it finish and asks the ledger.
async fn series(
    case: &mut Case,
    wanted: u64,
    span: Duration,
    random: &mut fastrand::Rng,
    tally: &mut Tally,
) {
    tally.series += 1;
    let (mut killed, mut over, mut waiting) = (0, 0, 0);
    while killed < wanted && over < 4 {
        let (asked_before, began) = (case.server.stats().requests, Instant::now());
        let mut run = case.start(&[]);
        // Every fourth falls into the start, where the spool is opened and recovered.
        let latest = if killed % 4 == 3 { span / 8 } else { span };
        match kill_at(&mut run, began, latest.mul_f64(random.f64())) {
            Ended::Killed => {
                killed += 1;
                tally.replaying += u64::from(waiting > 0);
                tally.starting += u64::from(case.server.stats().requests == asked_before);
            }
            Ended::Before(status) => {
                assert!(matches!(status.code(), Some(0 | 75)), "{status}: {}", case.stderr());
                over += 1;
            }
        }
        waiting = case.note_spool();
        tally.batches += waiting as u64;
    }
    tally.kills += killed;
    tally.over += over;
    case.deliver_all(&[]);
    case.nothing_is_lost();
    tally.repeated += case.server.stats().duplicate_batches;
}

/// Past the test harness, which would keep it back.
fn tell(text: &str) {
    writeln!(std::io::stderr(), "crash_kills: {text}").ok();
}
