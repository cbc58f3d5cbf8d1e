//! Adaptive concurrency and the outbound rate limit, with the real binary
//! against an API of known speed.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use mock_load_api_server::Faults;
use rustix::process::Signal;
use support::{Bench, Ran, each_exactly_once, mock, signal, wait_until};

fn rows(count: usize) -> String {
    let mut csv = "id,value\n".to_owned();
    for n in 0..count {
        writeln!(csv, "row-{n},{n}").unwrap();
    }
    csv
}

fn delayed(milliseconds: u64) -> Faults {
    Faults { delay: Duration::from_millis(milliseconds), ..Faults::default() }
}

/// An API that takes 100 ms whatever is asked at once: ten workers give 100
/// batches a second, and many more are possible.
#[tokio::test(flavor = "multi_thread")]
async fn adaptive_concurrency_beats_the_default_by_itself_and_delivers_each_record_once() {
    let mut seconds = Vec::new();
    for mode in ["fixed", "adaptive"] {
        let (bench, server) = (Bench::new(), mock(delayed(100)).await);
        let settings = format!("concurrency: {mode}\nbatch: {{ records: 2 }}");
        bench.rows(rows(1600), &server.url(), "", &settings);
        let ran = bench.run(&["-v"]).exits(0);
        each_exactly_once(&server, 1600);
        seconds.push(ran.json()["seconds"].as_f64().unwrap());
        assert_eq!(ran.stderr.contains("concurrency found"), mode == "adaptive", "{}", ran.stderr);
    }
    // Ten workers cannot be faster than 8 s; a busy machine only makes it longer.
    assert!(seconds[0] >= 7.0, "{seconds:?}");
    assert!(seconds[1] < seconds[0] * 0.85, "{seconds:?}");
}

/// Refusals shrink it to as little as one, and nothing is lost on the way.
#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_refuses_the_excess_still_gets_each_record_once() {
    let faults = Faults { fail: [(429, 0.3)].into(), lose_reply: 0.1, ..delayed(5) };
    let (bench, server) = (Bench::new(), mock(faults).await);
    let retry = "retry: { attempts: 8, base: 5ms, cap: 50ms }";
    let settings = format!("concurrency: adaptive\nbatch: {{ records: 10 }}\n{retry}");
    bench.rows(rows(4000), &server.url(), "", &settings);
    let mut ran = bench.run(&[]);
    for _ in 0..10 {
        if ran.code == Some(0) {
            break;
        }
        ran.exits(75);
        ran = bench.etl(&["spool", "replay", "p.yaml", "--json"]);
    }
    ran.exits(0);
    each_exactly_once(&server, 4000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_holds_over_all_workers() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    bench.rows(rows(60), &server.url(), "", "rate: 20/s\nbatch: { records: 2 }");
    let began = Instant::now();
    bench.run(&[]).exits(0);
    // 30 requests: the last is due 29/20 s after the first, less the burst.
    assert!(began.elapsed() >= Duration::from_millis(1300), "{:?}", began.elapsed());
    each_exactly_once(&server, 60);
}

/// A run that waits for its turn is still stopped at once, with everything safe.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_rate_does_not_hold_up_a_stop() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    bench.rows(rows(200), &server.url(), "", "rate: 1/m\nbatch: { records: 10 }");
    let run = bench.start(&[]);
    wait_until("the first batch arrived", || server.stats().batches >= 1);
    let asked = Instant::now();
    signal(&run, Signal::TERM);
    let ran = Ran::from(run.wait_with_output().unwrap()).exits(143);
    // Its turn would have come after a minute, and a drain may take 30 s.
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
    let extracted = ran.total("extracted");
    assert_eq!(ran.sink("delivered") + ran.sink("spooled"), extracted, "{}", ran.stdout);
    assert_eq!(ran.json()["balanced"], true);
}
