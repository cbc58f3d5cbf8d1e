//! `etl spool replay`: what waits goes out without its source, and only what was
//! asked for. The mock's ledger says what arrived.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::time::{Duration, Instant};

use mock_load_api_server::{Faults, Server};
use rustix::process::Signal;
use support::{Bench, Ran, down, each_exactly_once, files_of, mock, signal, wait_until};

/// 400 records in 20 batches wait, and the API is up again.
async fn waiting() -> (Bench, Server) {
    let (bench, server) = (Bench::new(), mock(down()).await);
    bench.inventory(400);
    bench.fleet(&server.url(), "batch: { records: 20 }");
    bench.run(&[]).exits(75);
    assert_eq!(bench.spool_files().len(), 20);
    server.set_faults(Faults::default()).unwrap();
    (bench, server)
}

fn replay(bench: &Bench, more: &[&str]) -> Ran {
    bench.etl(&[&["spool", "replay"], more].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn by_file_by_name_or_alone_everything_goes_out_once_and_no_source_is_read() {
    for what in [&["p.yaml"][..], &["p"], &[]] {
        let (bench, server) = waiting().await;
        std::fs::remove_file(bench.path("appliances.csv")).unwrap();
        let ran = replay(&bench, &[what, &["--json"]].concat()).exits(0);
        assert_eq!((ran.total("extracted"), ran.sink("replayed")), (0, 400), "{}", ran.stdout);
        assert_eq!((ran.sink("delivered"), ran.json()["balanced"].as_bool()), (0, Some(true)));
        each_exactly_once(&server, 400);
        assert!(bench.spool_files().is_empty());
        let runs = bench.etl(&["runs", "--json"]).exits(0).json();
        assert_eq!(runs["runs"].as_array().unwrap().len(), 2, "{runs}");
        let again = replay(&bench, &[]).exits(0);
        assert_eq!(again.stdout, "nothing to send\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_shows_and_sends_nothing() {
    let (bench, server) = waiting().await;
    let ran = replay(&bench, &["p", "--dry-run", "--limit", "3"]).exits(0);
    assert!(ran.stdout.starts_with("WOULD SEND (nothing was sent)\n"), "{}", ran.stdout);
    assert!(ran.stdout.contains("http        3       60"), "{}", ran.stdout);
    assert!(ran.stdout.contains(&format!("to:    POST {}/load", server.url())), "{}", ran.stdout);
    let json = replay(&bench, &["p", "--dry-run", "--json"]).exits(0).json();
    assert_eq!(
        (&json["sinks"][0]["batches"], &json["sinks"][0]["records"]),
        (&20.into(), &400.into())
    );
    assert_eq!(server.stats().requests, 0);
    assert_eq!(bench.spool_files().len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn limit_key_age_and_order_pick_what_is_sent() {
    let (bench, server) = waiting().await;
    let files = bench.spool_files();
    let names: Vec<String> =
        files.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect();
    let mut by_sequence: Vec<(&str, &str)> = names
        .iter()
        .map(|name| {
            let mut parts = name.trim_end_matches(".json.gz").rsplitn(3, '-');
            let key = parts.next().unwrap();
            (parts.next().unwrap(), key)
        })
        .collect();
    by_sequence.sort_unstable();
    let arrived = |server: &Server| -> Vec<String> {
        server.ledger_rows().into_iter().map(|row| row.key.unwrap()[..16].to_owned()).collect()
    };
    // One key, then the newest two, then the oldest one.
    let keys: Vec<&str> = by_sequence.iter().map(|(_, key)| *key).collect();
    replay(&bench, &["p", "--key", &keys[7].to_uppercase()]).exits(75);
    assert_eq!(arrived(&server), [keys[7]]);
    replay(&bench, &["p", "--newest-first", "--limit", "2"]).exits(75);
    let mut expected = vec![keys[7], keys[19], keys[18]];
    expected.sort_unstable();
    let sorted = |mut keys: Vec<String>| {
        keys.sort_unstable();
        keys
    };
    assert_eq!(sorted(arrived(&server)), expected);
    replay(&bench, &["p", "--limit", "1", "--oldest-first"]).exits(75);
    expected.push(keys[0]);
    expected.sort_unstable();
    assert_eq!(sorted(arrived(&server)), expected);
    let none = replay(&bench, &["p", "--older-than", "1h", "--json"]).exits(75);
    assert_eq!(none.sink("replayed"), 0);
    assert_eq!(server.stats().batches, 4);
    replay(&bench, &["p", "--older-than", "0s"]).exits(0);
    each_exactly_once(&server, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_holds_and_ctrl_c_leaves_the_rest_safe() {
    let (bench, server) = waiting().await;
    let args = ["spool", "replay", "p", "--rate", "10/s", "--json"];
    let run = bench.command(&args).spawn().unwrap();
    wait_until("a batch arrived", || server.stats().batches >= 2);
    signal(&run, Signal::INT);
    let ran = Ran::from(run.wait_with_output().unwrap()).exits(130);
    assert!(ran.stderr.contains("stopping: finishing"), "{}", ran.stderr);
    let sent = server.stats().batches;
    assert!(sent < 20, "{sent}");
    assert_eq!(bench.spool_files().len() as u64, 20 - sent);
    let began = Instant::now();
    replay(&bench, &["p", "--rate", "10/s"]).exits(0);
    let least = Duration::from_millis((20 - sent).saturating_sub(3) * 100);
    assert!(began.elapsed() >= least, "{:?}, {least:?}", began.elapsed());
    each_exactly_once(&server, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_is_down_keeps_everything_and_a_run_keeps_the_spool_to_itself() {
    let (bench, server) = waiting().await;
    server.set_faults(down()).unwrap();
    let ran = replay(&bench, &["p", "--json"]).exits(75);
    assert_eq!(ran.sink("replayed"), 0);
    assert_eq!(bench.spool_files().len(), 20);

    let slow = Faults { delay: Duration::from_millis(1500), ..Faults::default() };
    server.set_faults(slow).unwrap();
    let run = bench.start(&[]);
    wait_until("the run works", || server.stats().requests >= 1);
    let second = replay(&bench, &["p"]).exits(69);
    assert!(second.stderr.contains(&run.id().to_string()), "{}", second.stderr);
    Ran::from(run.wait_with_output().unwrap()).exits(0);
    // Two polls of the same appliances within one second give equal records, so the
    // different ones are no measure here; no batch was sent twice.
    let stats = server.stats();
    assert_eq!((stats.records, stats.duplicate_batches, stats.conflicting_keys), (800, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_sink_is_refused_until_it_is_asked_for() {
    let (bench, server) = waiting().await;
    let other = mock(Faults::default()).await;
    bench.fleet(&other.url(), "batch: { records: 20 }");
    let ran = replay(&bench, &["p"]).exits(78);
    assert!(ran.stderr.contains("--to-new-sink"), "{}", ran.stderr);
    assert!(ran.stderr.contains(&server.url()) && ran.stderr.contains(&other.url()));
    assert_eq!((server.stats().requests, other.stats().requests), (0, 0));
    replay(&bench, &["p", "--to-new-sink", "--limit", "1"]).exits(75);
    // Asked for once, it is the known address.
    replay(&bench, &["p"]).exits(0);
    each_exactly_once(&other, 400);
    assert_eq!(server.stats().requests, 0);
}

/// A run warns and goes on: addresses move.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_says_that_the_sink_has_moved_and_goes_on() {
    let (bench, _server) = waiting().await;
    let other = mock(Faults::default()).await;
    bench.fleet(&other.url(), "batch: { records: 20 }");
    bench.inventory(0);
    let ran = bench.run(&[]).exits(0);
    assert!(ran.stderr.contains("the sink has moved"), "{}", ran.stderr);
    each_exactly_once(&other, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_a_usage_error_that_says_what_is() {
    let (bench, server) = waiting().await;
    let ran = replay(&bench, &["q"]).exits(64);
    assert!(ran.stderr.contains("has not run in data"), "{}", ran.stderr);
    let ran = replay(&bench, &["p", "--sink", "htp"]).exits(64);
    assert!(ran.stderr.contains("there are: http"), "{}", ran.stderr);
    replay(&bench, &["p", "--key", "xyz"]).exits(64);
    replay(&bench, &["p", "--rate", "10"]).exits(64);
    std::fs::remove_file(bench.path("p.yaml")).unwrap();
    replay(&bench, &["p"]).exits(78);
    assert_eq!(server.stats().requests, 0);
}

/// Records refused one by one, corrected on the API's side, then sent on request.
async fn dead_letters() -> (Bench, Server) {
    let poison = Faults { poison: Some("device-1".to_owned()), ..Faults::default() };
    let (bench, server) = (Bench::new(), mock(poison).await);
    bench.inventory(20);
    // device-1 and device-10 to device-19.
    bench.fleet(&server.url(), "batch: { records: 5 }\nmax_rejected: 100%");
    let ran = bench.run(&[]).exits(65);
    assert_eq!((ran.sink("dead_lettered"), server.stats().records), (11, 9));
    (bench, server)
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_shown_first_and_sent_only_when_asked() {
    let (bench, server) = dead_letters().await;
    let before = server.stats().requests;
    let ran = replay(&bench, &["p", "--dead"]).exits(0);
    assert!(ran.stdout.starts_with("WOULD SEND"), "{}", ran.stdout);
    assert!(ran.stdout.contains("--yes") && ran.stdout.contains(" 11 "), "{}", ran.stdout);
    assert_eq!(server.stats().requests, before);

    // Refused again: in new files, the old ones gone, still 11 letters.
    let ran = replay(&bench, &["p", "--dead", "--yes", "--json"]).exits(65);
    assert_eq!(ran.sink("replayed"), 0);
    assert_eq!(bench.etl(&["spool", "cat", "p", "--dead"]).stdout.lines().count(), 11);

    // Down: they stay dead letters, and nothing is spooled.
    server.set_faults(down()).unwrap();
    let ran = replay(&bench, &["p", "--dead", "--yes"]).exits(75);
    assert!(ran.stderr.contains("could not be sent"), "{}", ran.stderr);
    assert_eq!(bench.etl(&["spool", "cat", "p", "--dead"]).stdout.lines().count(), 11);
    assert!(bench.spool_files().is_empty());

    server.set_faults(Faults::default()).unwrap();
    let ran = replay(&bench, &["p", "--dead", "--yes", "--json"]).exits(0);
    assert_eq!(ran.sink("replayed"), 11);
    assert!(files_of(&bench.spool().join("dead")).is_empty());
    each_exactly_once(&server, 20);
}

/// A reply that is lost, or a kill, makes the same letters travel twice: under one
/// key, so that they arrive once.
#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_killed_on_the_way_arrive_once() {
    let (bench, server) = dead_letters().await;
    let slow = Faults { delay: Duration::from_millis(400), ..Faults::default() };
    server.set_faults(slow).unwrap();
    let before = server.stats().requests;
    let mut run = bench.command(&["spool", "replay", "p", "--dead", "--yes"]).spawn().unwrap();
    wait_until("something was sent", || server.stats().requests > before);
    run.kill().unwrap();
    run.wait().unwrap();
    assert!(!files_of(&bench.spool().join("dead")).is_empty());
    server.set_faults(Faults { lose_reply: 0.3, ..Faults::default() }).unwrap();
    for _ in 0..10 {
        if replay(&bench, &["p", "--dead", "--yes"]).code == Some(0) {
            break;
        }
    }
    assert!(files_of(&bench.spool().join("dead")).is_empty());
    each_exactly_once(&server, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_during_a_replay_loses_nothing() {
    let (bench, server) = waiting().await;
    let slow = Faults { delay: Duration::from_millis(50), ..Faults::default() };
    server.set_faults(slow).unwrap();
    for arrived in [3, 8, 13] {
        let mut run = bench.command(&["spool", "replay", "p"]).spawn().unwrap();
        wait_until("some arrived", || server.stats().requests >= arrived);
        run.kill().unwrap();
        run.wait().unwrap();
    }
    replay(&bench, &["p"]).exits(0);
    each_exactly_once(&server, 400);
}
