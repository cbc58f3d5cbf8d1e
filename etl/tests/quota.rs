//! A spool at its cap, a disk that runs low, a spool directory that vanishes: a
//! clear state each time, and every record somewhere.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::fmt::Write as _;
use std::time::Duration;

use mock_load_api_server::{Faults, Server};
use rustix::process::Signal;
use support::{Bench, Ran, down, each_exactly_once, mock, remove_while_in_use, signal, wait_until};

const CAP: u64 = 64 << 10;
const BATCH: u64 = 16 << 10;
const WORKERS: u64 = 4;
/// Batches that may wait for a worker: records in the channel by records in a batch.
const CHANNEL: u64 = 4;

/// 20,000 rows that do not compress, many times more than the cap.
fn rows() -> String {
    let (mut csv, mut random) = ("id,value\n".to_owned(), fastrand::Rng::with_seed(5));
    for n in 0..20_000 {
        writeln!(csv, "{n},{:016x}{:016x}", random.u64(..), random.u64(..)).unwrap();
    }
    csv
}

fn capped(bench: &Bench, server: &Server) {
    let settings = "workers: 4\nchannel: 800\nbatch: { records: 200, bytes: 16KiB }\n\
                    spool: { max_bytes: 64KiB, min_free: 0B }";
    bench.rows(rows(), &server.url(), "", settings);
}

fn spool_bytes(bench: &Bench) -> u64 {
    bench.spool_files().iter().filter_map(|path| path.metadata().ok()).map(|it| it.len()).sum()
}

/// Waits until the spool is at its cap and stays there.
fn wait_until_full(bench: &Bench) -> u64 {
    wait_until("the spool is full", || spool_bytes(bench) >= CAP);
    let mut before = 0;
    wait_until("it stays as it is", || {
        std::thread::sleep(Duration::from_millis(700));
        let now = spool_bytes(bench);
        now == std::mem::replace(&mut before, now)
    });
    before
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_cap_intake_waits_says_so_and_goes_on_when_the_api_is_back() {
    let (bench, server) = (Bench::new(), mock(down()).await);
    capped(&bench, &server);
    let run = bench.start(&[]);
    let held = wait_until_full(&bench);
    // What had been taken in when it filled up still finds room; a file has a header.
    let most = CAP + (WORKERS + CHANNEL + 2) * (BATCH + 1024);
    assert!(held <= most, "{held} bytes, {most} allowed");
    server.set_faults(Faults::default()).unwrap();
    let ran = Ran::from(run.wait_with_output().unwrap()).exits(0);
    assert!(ran.stderr.contains("spool full: intake waits"), "{}", ran.stderr);
    assert!(ran.stderr.contains("spool.max_bytes"), "{}", ran.stderr);
    each_exactly_once(&server, 20_000);
    assert!(bench.spool_files().is_empty());
}

/// The cap is no reason to refuse what was taken in: a stop always finds room.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_while_intake_waits_spools_everything_that_was_taken_in() {
    let (bench, server) = (Bench::new(), mock(down()).await);
    capped(&bench, &server);
    let run = bench.start(&[]);
    wait_until_full(&bench);
    signal(&run, Signal::TERM);
    let ran = Ran::from(run.wait_with_output().unwrap()).exits(143);
    let extracted = ran.total("extracted");
    assert!(extracted < 20_000, "{extracted}");
    assert_eq!((ran.sink("spooled"), ran.json()["balanced"].as_bool()), (extracted, Some(true)));
    server.set_faults(Faults::default()).unwrap();
    bench.etl(&["spool", "replay", "p"]).exits(0);
    each_exactly_once(&server, extracted);
}

#[tokio::test(flavor = "multi_thread")]
async fn below_the_floor_of_free_space_intake_waits_and_says_what_to_do() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    bench.rows(rows(), &server.url(), "", "spool: { min_free: 100000TiB }");
    let mut run = bench.listen(&[]);
    run.until_it_says("disk low: intake waits");
    signal(&run.child, Signal::TERM);
    let ran = run.ends().exits(143);
    assert!(ran.stderr.contains("spool.min_free"), "{}", ran.stderr);
    let extracted = ran.total("extracted");
    assert!(extracted < 20_000, "{extracted}");
    assert_eq!(ran.sink("delivered") + ran.sink("spooled"), extracted);
}

/// The directory goes while batches are in flight: they stay in memory until the
/// API takes them, written ahead or not.
#[tokio::test(flavor = "multi_thread")]
async fn a_spool_directory_that_vanishes_leaves_what_is_in_memory_to_be_delivered() {
    for mode in ["write_ahead", "on_failure"] {
        let (bench, server) = (Bench::new(), mock(Faults { hang: 1.0, ..Faults::default() }).await);
        bench.inventory(2000);
        let settings = format!("timeout: 3s\nspool: {{ mode: {mode} }}");
        bench.fleet(&server.url(), &settings);
        let mut run = bench.listen(&[]);
        wait_until("requests hang", || server.stats().requests >= 10);
        remove_while_in_use(&bench.spool());
        run.until_it_says("start again");
        server.set_faults(Faults::default()).unwrap();
        let ran = run.ends().exits(0);
        assert!(ran.stderr.contains("p/spool/http"), "{mode}: {}", ran.stderr);
        each_exactly_once(&server, 2000);
    }
}

/// Records that were in the directory are nowhere, and that is what the run says.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_in_a_spool_that_vanished_does_not_pass_for_safe() {
    let (bench, server) = (Bench::new(), mock(down()).await);
    bench.inventory(2000);
    bench.fleet_with("simulated: { delay: 200ms }", &server.url(), "");
    let run = bench.start(&["--set", "extract.workers=100"]);
    wait_until("some are spooled", || bench.spool_files().len() >= 3);
    remove_while_in_use(&bench.spool());
    server.set_faults(Faults::default()).unwrap();
    let ran = Ran::from(run.wait_with_output().unwrap()).exits(70);
    assert!(ran.stderr.contains("was removed during the run"), "{}", ran.stderr);
    assert!(ran.stderr.contains("records that waited there are gone"), "{}", ran.stderr);
    assert_eq!(ran.json()["balanced"], false);
    assert_eq!(ran.sink("delivered"), server.stats().records);
}
