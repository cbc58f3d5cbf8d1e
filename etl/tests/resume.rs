//! Cut a run short at any point, run again: it goes on. A data file is loaded once,
//! a fleet is not polled twice for what is settled. Believes only the ledger.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use mock_load_api_server::{Faults, Server};
use rustix::process::Signal;
use support::{Bench, Ran, down, each_exactly_once, mock, signal, wait_until};

/// Rows `from..until` of a data file.
fn lines(from: usize, until: usize) -> String {
    let mut text = String::new();
    for n in from..until {
        writeln!(text, "{n},device-{n},{}", n * 7).unwrap();
    }
    text
}

fn csv(rows: usize) -> String {
    format!("id,hostname,value\n{}", lines(0, rows))
}

fn slow(milliseconds: u64) -> Faults {
    Faults { delay: Duration::from_millis(milliseconds), ..Faults::default() }
}

/// Fails a fifth of all requests and loses replies.
fn unreliable(milliseconds: u64) -> Faults {
    Faults { fail: [(503, 0.2)].into(), lose_reply: 0.1, ..slow(milliseconds) }
}

/// Starts a run and kills it when the ledger has `records`; says whether it was
/// still at work.
fn kill_at(bench: &Bench, server: &Server, records: u64) -> bool {
    let mut run = bench.start(&[]);
    wait_until("records arrived or the run ended", || {
        server.stats().records >= records || run.try_wait().unwrap().is_some()
    });
    run.kill().unwrap();
    run.wait().unwrap().signal().is_some()
}

/// Runs until everything is delivered.
#[track_caller]
fn run_to_the_end(bench: &Bench) -> Ran {
    for _ in 0..20 {
        let ran = bench.run(&[]);
        if ran.code == Some(0) {
            return ran;
        }
        ran.exits(75);
    }
    panic!("twenty runs have not delivered everything");
}

fn input(ran: &Ran) -> String {
    ran.json()["input"].as_str().unwrap_or_default().to_owned()
}

/// The newest checkpoint, as JSON.
fn newest(bench: &Bench) -> (std::path::PathBuf, serde_json::Value) {
    let mut found: Vec<_> = ["a", "b"]
        .iter()
        .filter_map(|name| {
            let path = bench.path(&format!("data/p/state/checkpoint-{name}.json"));
            let text = std::fs::read_to_string(&path).ok()?;
            let value: serde_json::Value = serde_json::from_str(text.lines().nth(1)?).ok()?;
            Some((path, value))
        })
        .collect();
    found.sort_by_key(|(_, value)| value["counter"].as_u64());
    found.pop().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_file_killed_again_and_again_arrives_exactly_once_under_its_keys() {
    for workers in [1, 10] {
        let (bench, server) = (Bench::new(), mock(unreliable(4 * workers)).await);
        let load = format!("workers: {workers}\nbatch: {{ records: 50 }}");
        bench.rows(csv(20_000), &server.url(), "", &load);
        let mut killed = 0;
        for records in [1, 2_000, 6_000, 11_000, 15_000, 19_000] {
            killed += u64::from(kill_at(&bench, &server, records));
        }
        assert!(killed >= 4, "the runs were over too soon");
        let run = newest(&bench).1["inputs"][0]["run_id"].clone();
        let ran = run_to_the_end(&bench);
        assert!(ran.total("extracted") < 20_000, "{}", ran.stdout);
        each_exactly_once(&server, 20_000);
        let state = newest(&bench).1;
        assert_eq!(state["inputs"][0]["run_id"], run, "it was one run all the time");
        assert_eq!(state["inputs"][0]["finished"], true);
        assert_eq!(state["inputs"][0]["sinks"]["http"]["records"], 20_000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_file_again_sends_nothing_unless_asked() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    bench.rows(csv(1_000), &server.url(), "", "");
    let first = bench.run(&[]).exits(0);
    assert_eq!((first.total("extracted"), input(&first)), (1_000, String::new()));
    let requests = server.stats().requests;
    let again = bench.run(&[]).exits(0);
    assert_eq!((again.total("extracted"), server.stats().requests), (0, requests));
    let told = format!(
        "already loaded: rows.csv (1,000 records by run {}); --fresh loads it again",
        &first.json()["run_id"].as_str().unwrap()[..4]
    );
    assert!(input(&again) == told && again.stderr.contains(&told), "{}", again.stderr);

    let fresh = bench.run(&["--fresh"]).exits(0);
    assert_eq!(fresh.total("extracted"), 1_000);
    assert!(fresh.stderr.contains("--fresh: rows.csv is loaded from its first row again"));
    let stats = server.stats();
    assert_eq!((stats.records, stats.unique_records), (2_000, 1_000));
    bench.run(&[]).exits(0);
    assert_eq!(server.stats().records, 2_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_loaded_into_the_spool_only_replays_it() {
    let (bench, server) = (Bench::new(), mock(down()).await);
    bench.rows(csv(600), &server.url(), "", "");
    bench.run(&[]).exits(75);
    let again = bench.run(&[]).exits(75);
    assert!(input(&again).starts_with("already loaded"), "{}", again.stdout);
    server.set_faults(Faults::default()).unwrap();
    let ran = bench.run(&[]).exits(0);
    assert_eq!((ran.total("extracted"), ran.sink("replayed")), (0, 600));
    each_exactly_once(&server, 600);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_has_grown_sends_its_new_rows_only() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    bench.rows(csv(450), &server.url(), "", "");
    bench.run(&[]).exits(0);
    bench.write("rows.csv", csv(1_000));
    let ran = bench.run(&[]).exits(0);
    assert_eq!((ran.total("extracted"), ran.total("resumed_from")), (550, 450));
    assert!(input(&ran).contains("has grown"), "{}", ran.stdout);
    each_exactly_once(&server, 1_000);

    // A last line without its end: a line end may follow, other bytes may not.
    bench.write("rows.csv", csv(1_001).trim_end());
    assert_eq!(bench.run(&[]).exits(0).total("extracted"), 1);
    assert!(input(&bench.run(&[]).exits(0)).starts_with("already loaded"));
    bench.write("rows.csv", csv(1_002));
    assert_eq!(bench.run(&[]).exits(0).total("extracted"), 1);
    each_exactly_once(&server, 1_002);
    bench.write("rows.csv", csv(1_003).trim_end());
    bench.run(&[]).exits(0);
    bench.write("rows.csv", csv(1_003).trim_end().to_owned() + "9\n");
    let ran = bench.run(&[]).exits(0);
    assert!(input(&ran).contains("has changed"), "{}", ran.stdout);
    assert_eq!(ran.total("extracted"), 1_003);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_a_truncated_and_a_replaced_file_are_new_inputs() {
    for (other, word) in [
        (csv(1_000).replacen("device-3,", "device-x,", 1), "has changed"),
        (csv(700), "is shorter"),
        (format!("name,other\n{}", "a,b\n".repeat(9_000)), "has changed"),
    ] {
        let (bench, server) = (Bench::new(), mock(Faults::default()).await);
        bench.rows(csv(1_000), &server.url(), "", "");
        bench.run(&[]).exits(0);
        let rows = other.lines().count() as u64 - 1;
        bench.write("rows.csv", other);
        let ran = bench.run(&[]).exits(0);
        assert_eq!(ran.total("extracted"), rows, "{word}");
        assert!(input(&ran).contains(word), "{word}: {}", ran.stdout);
        assert!(input(&ran).contains("loaded as a new input"), "{}", ran.stdout);
        assert_eq!(server.stats().records, 1_000 + rows);
        assert_eq!(server.stats().conflicting_keys, 0);
        assert!(input(&bench.run(&[]).exits(0)).starts_with("already loaded"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changed_after_its_run_was_cut_short_is_said_and_begun_anew() {
    let (bench, server) = (Bench::new(), mock(slow(20)).await);
    bench.rows(csv(10_000), &server.url(), "", "workers: 2\nbatch: { records: 50 }");
    let mut run = bench.start(&[]);
    wait_until("a checkpoint passed some", || {
        server.stats().records >= 1_000
            && newest(&bench).1["inputs"][0]["sinks"]["http"]["records"].as_u64() > Some(0)
    });
    run.kill().unwrap();
    run.wait().unwrap();
    bench.write("rows.csv", csv(400).replacen("device-3,", "device-x,", 1));
    let ran = bench.run(&[]).exits(0);
    assert_eq!(ran.total("extracted"), 400);
    assert!(input(&ran).contains("that run was cut short"), "{}", ran.stdout);
    assert_eq!(server.stats().conflicting_keys, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gzip_file_is_resumed_and_loaded_once_too() {
    let gzip = |text: &str| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text.as_bytes()).unwrap();
        gzip.finish().unwrap()
    };
    let (bench, server) = (Bench::new(), mock(unreliable(5)).await);
    bench.rows(gzip(&csv(10_000)), &server.url(), "", "workers: 2\nbatch: { records: 50 }");
    for records in [3_000, 7_000] {
        kill_at(&bench, &server, records);
    }
    run_to_the_end(&bench);
    each_exactly_once(&server, 10_000);
    assert!(input(&bench.run(&[]).exits(0)).starts_with("already loaded"));
    bench.write("rows.csv", [gzip(&csv(10_000)), gzip(&lines(10_000, 10_100))].concat());
    run_to_the_end(&bench);
    each_exactly_once(&server, 10_100);
    bench.write("rows.csv", &gzip(&csv(10_100))[..5_000]);
    let ran = bench.run(&[]).exits(69);
    assert!(input(&ran).contains("has changed"), "{}", ran.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_batches_after_a_crash_go_on_as_a_new_run_without_conflicts() {
    let (bench, server) = (Bench::new(), mock(slow(10)).await);
    bench.rows(csv(20_000), &server.url(), "", "workers: 1\nbatch: { records: 50 }");
    let mut run = bench.start(&[]);
    wait_until("a checkpoint passed some", || {
        server.stats().records >= 500
            && newest(&bench).1["inputs"][0]["sinks"]["http"]["records"].as_u64() > Some(0)
    });
    run.kill().unwrap();
    run.wait().unwrap();
    let ran = bench.run(&["--set", "load.0.batch.records=70"]).exits(0);
    assert!(input(&ran).contains("was changed after run"), "{}", ran.stdout);
    let stats = server.stats();
    assert_eq!((stats.unique_records, stats.conflicting_keys), (20_000, 0), "{stats:?}");
    assert!(stats.records < 30_000 && ran.total("resumed_from") > 0, "{stats:?}");
    assert_eq!(ran.total("extracted") + ran.total("resumed_from"), 20_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_run_goes_on_where_it_stopped() {
    let (bench, server) = (Bench::new(), mock(slow(10)).await);
    bench.rows(csv(20_000), &server.url(), "", "workers: 2\nbatch: { records: 70 }");
    let mut extracted = 0;
    for _ in 0..2 {
        let run = bench.start(&[]);
        wait_until("records arrived", || server.stats().records >= extracted + 1_000);
        signal(&run, Signal::TERM);
        let ran = Ran::from(run.wait_with_output().unwrap()).exits(143);
        assert_eq!(ran.json()["balanced"], true, "{}", ran.stdout);
        extracted += ran.total("extracted");
        assert_eq!(server.stats().records, extracted, "all that was read is delivered");
    }
    let ran = bench.run(&[]).exits(0);
    assert_eq!(ran.total("resumed_from"), extracted);
    assert!(input(&ran).starts_with("resumed: run"), "{}", ran.stdout);
    assert_eq!(ran.total("extracted") + extracted, 20_000);
    each_exactly_once(&server, 20_000);
    assert_eq!(server.stats().duplicate_batches, 0);
}

/// The batch that a signal or the file's end cuts off is sent before the last
/// checkpoint; killed in between, it must come again as it was.
#[tokio::test(flavor = "multi_thread")]
async fn killed_while_draining_the_last_batch_keeps_its_end() {
    let (bench, server) = (Bench::new(), mock(slow(1500)).await);
    bench.rows(
        csv(20_000),
        &server.url(),
        "",
        "workers: 1\nchannel: 8000\nbatch: { records: 7000 }",
    );
    let mut run = bench.start(&[]);
    // 7,000 + 7,000 + 6,000: the last one is cut off by the end of the file.
    wait_until("the last batch is cut off", || {
        newest_cut(&bench).is_some() && server.stats().records >= 14_000
    });
    run.kill().unwrap();
    run.wait().unwrap();
    bench.write("rows.csv", csv(21_000));
    let ran = bench.run(&[]).exits(0);
    assert!(input(&ran).starts_with("resumed: run"), "{}", ran.stdout);
    each_exactly_once(&server, 21_000);
}

fn newest_cut(bench: &Bench) -> Option<u64> {
    if !bench.path("data/p/state/checkpoint-a.json").exists() {
        return None;
    }
    newest(bench).1["inputs"][0]["cuts"]["http"][0].as_u64()
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_rows_are_written_down_before_the_checkpoint_passes_them() {
    let (bench, server) = (Bench::new(), mock(slow(10)).await);
    let mut text = csv(0);
    for n in 0..10_000 {
        text.push_str(&if n % 100 == 0 { format!("{n}\n") } else { lines(n, n + 1) });
    }
    text.push_str("broken\n");
    bench.rows(text, &server.url(), "", "workers: 1\nbatch: { records: 50 }");
    for records in [1_500, 5_000] {
        kill_at(&bench, &server, records);
    }
    bench.run(&[]).exits(65);
    each_exactly_once(&server, 9_900);
    let mut places = std::collections::BTreeSet::new();
    for file in support::files_of(&bench.path("data/p/spool/rejected/dead")) {
        let file = flate2::read::MultiGzDecoder::new(std::fs::File::open(file).unwrap());
        let letters: Vec<serde_json::Value> = serde_json::from_reader(file).unwrap();
        places.extend(letters.iter().map(|it| it["reason"].as_str().unwrap().to_owned()));
    }
    assert_eq!(places.len(), 101);
    assert!(input(&bench.run(&[]).exits(0)).starts_with("already loaded"));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sinks_come_back_each_to_its_own_place() {
    let (fast, slowly) = (mock(Faults::default()).await, mock(slow(25)).await);
    let bench = Bench::new();
    bench.write("rows.csv", csv(20_000));
    let sink = |name: &str, server: &Server, records: u32| {
        format!(
            "  - name: {name}\n    http: {{ url: \"{}/load\" }}\n    workers: 1\n    \
             channel: 4000\n    batch: {{ records: {records} }}\n    \
             retry: {{ attempts: 2, base: 20ms, cap: 100ms }}\n",
            server.url()
        )
    };
    let pipeline = format!(
        "name: p\nsource:\n  csv: {{ path: rows.csv }}\nload:\n{}{}",
        sink("a", &fast, 30),
        sink("b", &slowly, 110)
    );
    bench.write("p.yaml", pipeline);
    for records in [1_500, 5_000] {
        kill_at(&bench, &slowly, records);
    }
    slowly.set_faults(down()).unwrap();
    let ran = bench.run(&[]).exits(75);
    assert_eq!(ran.json()["balanced"], true, "{}", ran.stdout);
    each_exactly_once(&fast, 20_000);
    slowly.set_faults(Faults::default()).unwrap();
    let ran = bench.run(&[]).exits(0);
    assert!(input(&ran).starts_with("already loaded"), "{}", ran.stdout);
    each_exactly_once(&fast, 20_000);
    each_exactly_once(&slowly, 20_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_checkpoint_costs_repetition_at_most() {
    let (bench, server) = (Bench::new(), mock(slow(10)).await);
    bench.rows(csv(20_000), &server.url(), "", "workers: 1\nbatch: { records: 50 }");
    let mut run = bench.start(&[]);
    wait_until("some checkpoints", || {
        server.stats().records >= 500 && newest(&bench).1["counter"].as_u64() >= Some(4)
    });
    run.kill().unwrap();
    run.wait().unwrap();
    let (path, _) = newest(&bench);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let ran = bench.run(&[]).exits(0);
    assert!(ran.stderr.contains("going on from the older checkpoint"), "{}", ran.stderr);
    assert!(input(&ran).starts_with("resumed: run"), "{}", ran.stdout);
    each_exactly_once(&server, 20_000);

    for name in ["a", "b"] {
        bench.write(&format!("data/p/state/checkpoint-{name}.json"), "no checkpoint");
    }
    let ran = bench.run(&[]).exits(0);
    assert!(ran.stderr.contains("no checkpoint is left; a new run begins"), "{}", ran.stderr);
    assert_eq!(ran.total("extracted"), 20_000);
    let aside = std::fs::read_dir(bench.path("data/p/state/corrupt")).unwrap().count();
    assert!(aside >= 3, "{aside}");
    assert_eq!(server.stats().conflicting_keys, 0);
}

fn fleet(bench: &Bench, server: &Server, more: &str) {
    bench.inventory(2_000);
    let method = format!("http: {{ url: \"{}/appliances/{{ip}}/cpu\" }}", server.url());
    bench.fleet_with(&method, &server.url(), "batch: { records: 20, linger: 100ms }");
    let text = std::fs::read_to_string(bench.path("p.yaml")).unwrap();
    let text = text.replace("workers: 500", "workers: 20").replace("name: p\n", more);
    bench.write("p.yaml", text);
}

/// Kills a run of the fleet when some targets are settled; how many it had.
fn kill_fleet(bench: &Bench, server: &Server) -> u64 {
    let mut run = bench.start(&[]);
    wait_until("targets are settled", || {
        server.stats().records >= 200 && newest(bench).1["fleet"]["next_record"].as_u64() > Some(0)
    });
    run.kill().unwrap();
    assert!(run.wait().unwrap().signal().is_some(), "the run was over too soon");
    let settled = newest(bench).1["fleet"]["settled"].as_str().unwrap().to_owned();
    settled.chars().map(|digit| u64::from(digit.to_digit(16).unwrap().count_ones())).sum()
}

fn appliances(milliseconds: u64) -> Faults {
    let delay = Duration::from_millis(milliseconds);
    let appliance_delay = mock_load_api_server::DelayRange { min: delay, max: delay };
    Faults { appliance_delay, ..Faults::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_run_cut_short_polls_only_the_rest() {
    let (bench, server) = (Bench::new(), mock(appliances(30)).await);
    fleet(&bench, &server, "name: p\n");
    let settled = kill_fleet(&bench, &server);
    assert!(settled > 0);
    let before = server.stats().source_requests;
    let ran = bench.run(&[]).exits(0);
    assert_eq!(ran.total("resumed_from"), settled);
    assert!(input(&ran).starts_with("resumed: run"), "{}", ran.stdout);
    assert_eq!(server.stats().source_requests - before, 2_000 - settled);
    assert_eq!(ran.json()["targets"]["total"], 2_000 - settled);
    assert_eq!(ran.json()["balanced"], true, "{}", ran.stdout);
    let stats = server.stats();
    assert_eq!(stats.conflicting_keys, 0);
    assert!(stats.records >= 2_000, "{stats:?}");

    // A run that has ended is not resumed: the next one polls all.
    let before = server.stats().source_requests;
    let ran = bench.run(&[]).exits(0);
    assert_eq!((input(&ran), ran.total("extracted")), (String::new(), 2_000));
    assert_eq!(server.stats().source_requests - before, 2_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_run_cut_short_too_long_ago_or_of_another_inventory_is_not_resumed() {
    for (more, args, word) in [
        ("name: p\nresume_within: 0s\n", &[][..], "resume_within is"),
        ("name: p\n", &["--fresh"], "--fresh"),
        ("name: p\n", &["--set", "source.csv.path=other.csv"], "have changed"),
    ] {
        let (bench, server) = (Bench::new(), mock(appliances(30)).await);
        fleet(&bench, &server, more);
        assert!(kill_fleet(&bench, &server) > 0);
        let rows = std::fs::read_to_string(bench.path("appliances.csv")).unwrap();
        bench.write("other.csv", rows.replace("device-7\n", "device-x\n"));
        let ran = bench.run(args).exits(0);
        assert!(input(&ran).contains(word), "{word}: {}", ran.stdout);
        assert!(input(&ran).contains("was cut short with"), "{}", ran.stdout);
        assert_eq!((ran.total("extracted"), ran.json()["balanced"] == true), (2_000, true));
        assert_eq!(server.stats().conflicting_keys, 0);
    }
}
