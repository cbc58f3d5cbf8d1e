//! Signals and rivals: `SIGTERM` at many instants, a run that is stopped for seconds
//! and goes on, two processes on one spool, a clock that goes back.
//!
//!     cargo test -p etl --test crash_signals -- --nocapture
//!     ETL_SIGNALS=100 ETL_STOP_SECONDS=20 \
//!         cargo test --release -p etl --test crash_signals -- --nocapture

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed step is a failed test")]

mod support;

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use mock_load_api_server::Faults;
use rustix::process::Signal;
use support::crash::{Case, Kind, random, span, times, unreliable, wait_at_most};
use support::{Bench, Ran, each_exactly_once, mock, signal, wait_until};

/// A run that was told to end does so within this time, here: its drain is 30 s.
const PATIENCE: Duration = Duration::from_secs(120);

/// Signals come within so much of a run's beginning, where runs start quickly.
const SPAN: Duration = Duration::from_millis(500);

/// Every record that a stopped run counted is delivered or in the spool, and goes
/// out later, once.
#[tokio::test(flavor = "multi_thread")]
async fn a_sigterm_at_any_instant_keeps_every_record_that_was_taken_in() {
    let (signals, began) = (times("ETL_SIGNALS", 16), Instant::now());
    let span = span(SPAN).await;
    let matrix = [(Kind::Fleet, 1), (Kind::Fleet, 10), (Kind::Rows, 1), (Kind::Rows, 10)];
    let (mut sent, mut drained, mut early) = (0, 0, 0);
    for (number, (kind, workers)) in (0u64..).zip(matrix) {
        let share = (signals - sent) / (4 - number);
        let tally = terminated(kind, workers, share, span).await;
        sent += tally.0;
        drained += tally.1;
        early += tally.2;
    }
    tell(&format!(
        "{sent} × SIGTERM in {:.0?}: {drained} runs ended in order, {early} before they had begun, \
         0 lost",
        began.elapsed()
    ));
    assert!(drained > 0, "every signal came before the run had begun");
}

/// Ends `signals` runs; gives their number, how many ended with 143, and how many
/// before they could.
async fn terminated(kind: Kind, workers: u32, signals: u64, span: Duration) -> (u64, u64, u64) {
    let mut random = random(0x7e24 ^ u64::from(workers) ^ (kind as u64) << 16);
    let (mut sent, mut drained, mut early) = (0, 0, 0);
    while sent < signals {
        let mut case = Case::new(kind, 4000, 20, workers, unreliable(random.u64(..))).await;
        for _ in 0..5.min(signals - sent) {
            let began = Instant::now();
            let mut run = case.start(&[]);
            if wait_at_most(&mut run, began, span.mul_f64(random.f64())).is_some() {
                break;
            }
            signal(&run, Signal::TERM);
            let status = wait_at_most(&mut run, Instant::now(), PATIENCE).unwrap();
            sent += 1;
            match status.code() {
                Some(143) => drained += 1,
                // It had done everything when the signal came.
                Some(0 | 75) => {}
                None if status.signal() == Some(15) => early += 1,
                _ => panic!("{status}: {}", case.stderr()),
            }
            if status.code().is_some() {
                balanced(&case);
            }
            case.note_spool();
        }
        case.deliver_all(&[]);
        case.nothing_is_lost();
    }
    (sent, drained, early)
}

/// The books of the run that has just ended.
#[track_caller]
fn balanced(case: &Case) {
    let json = case.json();
    assert_eq!(json["balanced"], true, "{json} {}", case.stderr());
    let number = |value: &serde_json::Value| value.as_u64().unwrap();
    let sink = &json["sinks"]["http"];
    assert_eq!(number(&sink["delivered"]) + number(&sink["spooled"]), number(&json["extracted"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_stopped_for_a_while_goes_on_where_it_was() {
    let seconds = times("ETL_STOP_SECONDS", 3);
    for kind in [Kind::Fleet, Kind::Rows] {
        let faults = Faults { delay: Duration::from_millis(100), ..Faults::default() };
        let case = Case::new(kind, 2000, 20, 4, faults).await;
        let mut run = case.start(&[]);
        wait_until("batches arrived", || case.server.stats().batches >= 5);
        signal(&run, Signal::STOP);
        // The very thing that is tested: longer than every timeout of the run.
        std::thread::sleep(Duration::from_secs(seconds));
        assert_eq!(run.try_wait().unwrap(), None, "it was over before it was stopped");
        let before = case.server.stats().records;
        signal(&run, Signal::CONT);
        let status = wait_at_most(&mut run, Instant::now(), PATIENCE).unwrap();
        assert_eq!(status.code(), Some(0), "{}", case.stderr());
        assert!(before < 2000, "it had delivered everything before it was stopped");
        each_exactly_once(&case.server, 2000);
    }
    tell(&format!("2 runs stopped for {seconds} s went on, 0 lost"));
}

/// Of two processes that start together one has the spool and the other says so;
/// what the one has counted arrives once.
#[tokio::test(flavor = "multi_thread")]
async fn two_processes_that_race_for_a_spool_never_share_it() {
    let (mut refused, mut both) = (0, 0);
    for round in 0..times("ETL_RACES", 8) {
        let faults = Faults { delay: Duration::from_millis(60), ..Faults::default() };
        let (bench, server) = (Bench::new(), mock(faults).await);
        bench.inventory(200);
        bench.fleet(&server.url(), "workers: 2\nbatch: { records: 20 }");
        let start = |_| bench.start(&["--log-file", "/dev/null"]);
        let mut runs: Vec<Child> = (0..2).map(start).collect();
        // Now and then the holder is killed: the lock ends with it.
        if round % 4 == 3 {
            wait_until("a batch arrived", || server.stats().batches > 0);
            runs[0].kill().unwrap();
        }
        let mut extracted = 0;
        for run in runs {
            let ran = Ran::from(run.wait_with_output().unwrap());
            match ran.code {
                Some(0) => {
                    extracted += ran.total("extracted");
                    both += 1;
                }
                Some(69) => {
                    assert!(ran.stderr.contains("nothing was read or sent"), "{}", ran.stderr);
                    refused += 1;
                }
                None if round % 4 == 3 => {}
                code => panic!("{code:?}: {}", ran.stderr),
            }
        }
        let ran = bench.run(&[]).exits(0);
        extracted += ran.total("extracted");
        let stats = server.stats();
        assert_eq!(stats.conflicting_keys, 0, "{stats:?}");
        assert!(bench.spool_files().is_empty());
        if round % 4 != 3 {
            assert_eq!(stats.records, extracted, "{stats:?}");
            assert_eq!(stats.duplicate_batches, 0, "a batch was sent by two processes: {stats:?}");
        }
    }
    tell(&format!("races: {refused} processes refused, {both} ran, no batch sent twice"));
    assert!(refused > 0, "no two processes met");
}

/// What waits keeps its order and its keys when the clock goes back by an hour while
/// a run is going on, and again before the next; a file's rows still arrive once.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_set_back_an_hour_loses_nothing() {
    for kind in [Kind::Fleet, Kind::Rows] {
        let mut case = Case::new(kind, 1000, 20, 4, unreliable(7)).await;
        for (at_first, then) in [("+0s", "-1h"), ("-2h", "-3h"), ("+3h", "-3h")] {
            let mut run = start_at(&case, at_first);
            for (batches, offset) in [(3, then), (6, then)] {
                let known = case.server.stats().batches;
                wait_until("batches arrived, or it was over", || {
                    let over = run.try_wait().unwrap().is_some();
                    over || case.server.stats().batches >= known + batches
                });
                case.bench.write("clock", offset);
            }
            run.kill().unwrap();
            run.wait().unwrap();
            case.note_spool();
        }
        case.deliver_all(&[]);
        case.nothing_is_lost();
        told_the_wrong_time(&case);
    }
}

/// A sink asks for a pause until a date, and then the clock goes back by an hour: the
/// pause is as long as it was when it was asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_set_back_while_a_retry_after_date_is_waited_for_changes_nothing() {
    for kind in [Kind::Fleet, Kind::Rows] {
        let faults = Faults {
            fail: [(429, 1.0)].into(),
            retry_after: Some(Duration::from_secs(4)),
            retry_after_date: true,
            ..Faults::default()
        };
        let case = Case::new(kind, 1000, 20, 4, faults).await;
        let mut run = start_at(&case, "+0s");
        wait_until("the sink asked for a pause", || {
            case.server.stats().by_status.contains_key(&429)
        });
        let began = Instant::now();
        case.server.set_faults(Faults::default()).unwrap();
        // What has already been answered is on its way; each date is read by the old clock.
        wait_until("each pause is noted", || {
            let log = case.log();
            let noted = log.lines().filter(|it| it.contains("load failed") && it.contains("429"));
            noted.count() as u64 >= case.server.stats().by_status[&429]
        });
        case.bench.write("clock", "-1h");
        let status = wait_at_most(&mut run, began, PATIENCE).unwrap();
        assert_eq!(status.code(), Some(0), "{}", case.stderr());
        // A date has whole seconds.
        assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
        told_the_wrong_time(&case);
        each_exactly_once(&case.server, 1000);
    }
}

/// Starts a run whose clock is off by what the file `clock` says, at first `offset`.
fn start_at(case: &Case, offset: &str) -> Child {
    let clock = case.bench.write("clock", offset);
    let mut command = case.bench.command(&["run", "p.yaml", "--json"]);
    command
        .env("LD_PRELOAD", faketime())
        .env("FAKETIME_TIMESTAMP_FILE", &clock)
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    case.spawn(command)
}

/// The log of the runs shows the clock going back, or the test has shown nothing.
fn told_the_wrong_time(case: &Case) {
    let log = case.log();
    let times: Vec<&str> = log.lines().filter_map(|line| line.get(..19)).collect();
    assert!(times.windows(2).any(|two| two[1] < two[0]), "the clock never went back:\n{log}");
}

/// The library that lies about the time.
fn faketime() -> PathBuf {
    let library = std::fs::read_dir("/usr/lib").unwrap().find_map(|entry| {
        let path = entry.unwrap().path().join("faketime/libfaketimeMT.so.1");
        path.exists().then_some(path)
    });
    library.expect("install the Debian package `faketime` (bash .ci/packages)")
}

/// Past the test harness, which would keep it back.
fn tell(text: &str) {
    writeln!(std::io::stderr(), "crash_signals: {text}").ok();
}
