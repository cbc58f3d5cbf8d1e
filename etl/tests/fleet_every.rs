//! A fleet that is polled for good, from outside: every target once a cycle, whatever
//! else happens. The appliances and the mock's ledger have the last word.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

#[path = "support/appliances.rs"]
mod appliances;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use appliances::{AT_ONCE, Appliances, Does, cycles, delivered, one_by_one, place};
use mock_load_api_server::{Faults, Server};
use rustix::process::Signal;
use serde_json::Value;
use support::serving::{Serving, history};
use support::{Bench, down, each_exactly_once, mock, signal, wait_until};

const TARGETS: usize = 300;
const HOSTS: usize = 5;

fn fleet_metric(serving: &Serving, name: &str) -> f64 {
    serving.metric(&format!("{name}{{pipeline=\"p\"}}")).unwrap_or(-1.0)
}

fn polls(serving: &Serving, outcome: &str) -> f64 {
    let series = format!("etl_fleet_polls_total{{pipeline=\"p\",outcome=\"{outcome}\"}}");
    serving.metric(&series).unwrap_or(0.0)
}

/// Waits until every appliance of `0..count` was asked `times` more often than in `before`.
#[track_caller]
fn asked(appliances: &Appliances, before: &BTreeMap<usize, Vec<u64>>, count: usize, times: usize) {
    wait_until(&format!("all were asked {times} times"), || {
        let hits = appliances.hits();
        let of = |hits: &BTreeMap<usize, Vec<u64>>, id| hits.get(&id).map_or(0, Vec::len);
        (0..count).all(|id| of(&hits, id) >= of(before, id) + times)
    });
}

/// Fails unless all runs in the history balance, and gives the sum of a column.
fn sum(bench: &Bench, column: &str) -> u64 {
    history(bench, "p").iter().map(|run| run[column].as_u64().unwrap()).sum()
}

fn targets(serving: &Serving, query: &str) -> Value {
    serving.json(&format!("/pipelines/p/targets?{query}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_target_is_polled_once_a_cycle_at_its_place_also_after_a_restart() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    let appliances = Appliances::start().await;
    let interval = Duration::from_secs(4);
    appliances.inventory(&bench, 0..TARGETS, HOSTS);
    appliances.pipeline(&bench, "4s", "  timeout: 2s\n", &server.url());
    let mut said = Vec::new();
    for _ in 0..2 {
        let before = appliances.hits();
        let serving = Serving::start(&bench, "p.yaml", &[]);
        asked(&appliances, &before, TARGETS, 1);
        serving.until("the cycle is told", |it| it.stderr().contains("p  cycle  "));
        assert_eq!(fleet_metric(&serving, "etl_fleet_targets"), TARGETS as f64);
        assert_eq!(fleet_metric(&serving, "etl_fleet_polls_missed_total"), 0.0);
        let (code, words) = serving.stop();
        assert_eq!(code, Some(0), "{words}");
        said.push(words);
    }
    assert!(said[1].contains("missed 0"), "{said:?}");
    let (mut in_place, mut all) = (0, 0);
    for (id, hits) in appliances.hits() {
        one_by_one(id, &cycles(id, HOSTS, interval, &hits));
        let (grid, phase) = place(id, HOSTS, interval);
        let late = hits.iter().map(|hit| hit - grid.due_ms(grid.cycle_at(*hit, phase), phase));
        in_place += late.filter(|late| *late < 1000).count();
        all += hits.len();
    }
    assert!(in_place * 10 >= all * 8, "{in_place} of {all} at their place");
    // Stopped in the middle of a cycle, twice: everything polled was delivered, once.
    each_exactly_once(&server, appliances.count() as u64);
    assert_eq!(sum(&bench, "extracted"), appliances.count() as u64);
    let runs = history(&bench, "p");
    assert!(runs.iter().all(|run| run["result"] == "stopped"), "{runs:?}");
}

/// Cycles of each appliance whose record arrived.
fn arrived(
    server: &Server,
    appliances: &Appliances,
    interval: Duration,
) -> BTreeMap<usize, Vec<u32>> {
    let hits = appliances.hits();
    let mut arrived: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
    for (id, n) in delivered(server) {
        let cycle = cycles(id, HOSTS, interval, &hits[&id][n..=n])[0];
        arrived.entry(id).or_default().push(cycle);
    }
    arrived
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_a_cycle_it_polls_again_what_was_not_safe_and_loses_no_cycle() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    let appliances = Appliances::start().await;
    let interval = Duration::from_secs(5);
    appliances.inventory(&bench, 0..TARGETS, HOSTS);
    appliances.pipeline(&bench, "5s", "  timeout: 2s\n", &server.url());
    let mut serving = Serving::start(&bench, "p.yaml", &[]);
    asked(&appliances, &BTreeMap::new(), TARGETS, 1);
    // In the middle of the second cycle.
    let count = appliances.count();
    wait_until("it is under way", || appliances.count() >= count + TARGETS / 2);
    signal(&serving.child, Signal::KILL);
    serving.child.wait().unwrap();
    let killed_at = appliances.hits();
    let serving = Serving::start(&bench, "p.yaml", &[]);
    asked(&appliances, &killed_at, TARGETS, 1);
    let (code, words) = serving.stop();
    assert_eq!(code, Some(0), "{words}");

    let stats = server.stats();
    assert_eq!((stats.conflicting_keys, stats.records), (0, stats.unique_records), "{stats:?}");
    let mut twice = 0;
    for (id, mut cycles) in arrived(&server, &appliances, interval) {
        let all = cycles.len();
        cycles.sort_unstable();
        cycles.dedup();
        twice += all - cycles.len();
        one_by_one(id, &cycles);
    }
    assert_eq!(arrived(&server, &appliances, interval).len(), TARGETS);
    // What became safe in the last moment before the kill may not have been noted.
    assert!(twice <= TARGETS / 5, "{twice} records of a cycle that had arrived");
    // Polls of which nothing is left were only in memory.
    let lost = appliances.count() - delivered(&server).len();
    assert!(lost <= TARGETS, "{lost} polls without a record");
}

#[tokio::test(flavor = "multi_thread")]
async fn black_holes_starve_nobody_are_demoted_and_come_back() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    let appliances = Appliances::start().await;
    let (good, all) = (60, 80);
    appliances.inventory(&bench, 0..all, HOSTS);
    appliances.let_them(good..all, Does::Hang);
    // Twelve polls at once: the black holes alone could fill them.
    appliances.pipeline(&bench, "2s", "  timeout: 800ms\n  workers: 12\n", &server.url());
    let serving = Serving::start(&bench, "p.yaml", &[]);
    serving.until("they are demoted", |it| fleet_metric(it, "etl_fleet_demoted") == 20.0);
    assert_eq!(fleet_metric(&serving, "etl_fleet_in_flight_max"), 12.0);
    assert!(polls(&serving, "timed_out") >= 60.0 && polls(&serving, "failed") == 0.0);
    for (id, hits) in appliances.hits().into_iter().take(good) {
        one_by_one(id, &cycles(id, HOSTS, Duration::from_secs(2), &hits));
    }
    let failing = targets(&serving, "state=failing&limit=7");
    assert_eq!(
        (failing["count"].as_u64(), failing["targets"].as_array().unwrap().len()),
        (Some(20), 7)
    );
    let first = &failing["targets"][0];
    assert_eq!(first["state"], "demoted");
    assert!(first["error"].as_str().unwrap().contains("timed out after 800ms"), "{first}");
    let one = targets(&serving, "name=127.0.7.1&limit=1000");
    assert_eq!(one["count"].as_u64(), Some(all as u64 / HOSTS as u64), "{one}");
    assert_eq!(serving.get("/pipelines/p/targets?state=odd").0, 400);
    assert_eq!(serving.get("/pipelines/q/targets").0, 404);
    assert_eq!(serving.get("/ready").0, 200, "failing appliances are no trouble of the server");
    assert_eq!(serving.get("/health").0, 200);

    appliances.let_them(good..all, AT_ONCE);
    serving.until("all are restored", |it| fleet_metric(it, "etl_fleet_demoted") == 0.0);
    serving.until("none is failing", |it| targets(it, "state=failing")["count"] == 0);
    let shown = bench.etl(&["targets", "p", "--json"]).exits(0).json();
    assert_eq!(shown["count"].as_u64(), Some(all as u64), "{shown}");
    let shown = bench.etl(&["targets", "p", "--failing"]).exits(0).stdout;
    assert!(shown.contains("0 failing"), "{shown}");
    assert_eq!(serving.stop().0, Some(0));
    each_exactly_once(&server, sum(&bench, "extracted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_polled_in_time_is_missed_and_counted() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    let appliances = Appliances::start().await;
    appliances.inventory(&bench, 0..20, 1);
    appliances.let_them(0..20, Does::Answer(Duration::from_millis(300)));
    appliances.pipeline(&bench, "2s", "  timeout: 1s\n  workers: 1\n", &server.url());
    let serving = Serving::start(&bench, "p.yaml", &[]);
    serving
        .until("polls are missed", |it| fleet_metric(it, "etl_fleet_polls_missed_total") >= 20.0);
    assert_eq!(serving.stop().0, Some(0));
    assert_eq!(appliances.most_at_once().1, 1);
    for (id, hits) in appliances.hits() {
        let cycles = cycles(id, 1, Duration::from_secs(2), &hits);
        let distinct: BTreeSet<_> = cycles.iter().collect();
        assert_eq!(distinct.len(), cycles.len(), "appliance {id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_and_subnets_bear_no_more_than_they_are_said_to() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    for (limits, of_a_host, of_all) in [("per_host: 2", 2, 10), ("per_subnet: 3", 3, 3)] {
        let appliances = Appliances::start().await;
        appliances.inventory(&bench, 0..60, HOSTS);
        appliances.let_them(0..60, Does::Answer(Duration::from_millis(100)));
        let every = format!("{{ interval: 3s, {limits} }}");
        appliances.pipeline(&bench, &every, "  timeout: 2s\n", &server.url());
        let serving = Serving::start(&bench, "p.yaml", &[]);
        asked(&appliances, &BTreeMap::new(), 60, 2);
        assert_eq!(serving.stop().0, Some(0));
        let (host, all) = appliances.most_at_once();
        assert!(host <= of_a_host && all <= of_all, "{limits}: {host} of a host, {all} of all");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_inventory_is_taken_up_and_a_missing_one_leaves_the_last_in_force() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    let appliances = Appliances::start().await;
    appliances.inventory(&bench, 0..40, HOSTS);
    appliances.let_them([3], Does::Fail);
    let every = "{ interval: 2s, reload: 200ms }";
    appliances.pipeline(&bench, every, "  timeout: 1s\n", &server.url());
    let serving = Serving::start(&bench, "p.yaml", &[]);
    asked(&appliances, &BTreeMap::new(), 40, 3);
    serving.until("one is demoted", |it| fleet_metric(it, "etl_fleet_demoted") == 1.0);

    // The first ten go, ten come, the failing one stays as it is.
    appliances.inventory(&bench, [3].into_iter().chain(10..50), HOSTS);
    serving.until("it is taken up", |it| fleet_metric(it, "etl_fleet_targets") == 41.0);
    assert_eq!(fleet_metric(&serving, "etl_fleet_demoted"), 1.0, "what is known is kept");
    let before = appliances.hits();
    wait_until("the new ones are asked", || {
        let hits = appliances.hits();
        (40..50).all(|id| hits.get(&id).is_some_and(|hits| hits.len() >= 2))
    });
    let gone = |hits: &BTreeMap<usize, Vec<u64>>| -> Vec<usize> {
        (0..10).filter(|id| *id != 3).map(|id| hits[&id].len()).collect()
    };
    // One that was in flight may have ended meanwhile.
    let more: usize =
        gone(&appliances.hits()).iter().sum::<usize>() - gone(&before).iter().sum::<usize>();
    assert!(more <= 1, "{more} polls of appliances that are gone");
    for (id, hits) in appliances.hits().into_iter().filter(|(id, _)| *id > 10) {
        one_by_one(id, &cycles(id, HOSTS, Duration::from_secs(2), &hits));
    }

    std::fs::remove_file(bench.path("appliances.csv")).unwrap();
    let log = || std::fs::read_to_string(bench.path("logs/etl.log")).unwrap();
    wait_until("it is told", || log().contains("the one before stays in force"));
    let before = appliances.hits();
    wait_until("all go on", || {
        let hits = appliances.hits();
        (11..50).all(|id| hits[&id].len() > before[&id].len())
    });
    // A bad row is rejected once, however often the file is read.
    for more in ["bad\n", "bad\n\n", "bad\n\n\n"] {
        bench.write("appliances.csv", format!("id,ip\n12,127.0.7.3\n{more}"));
        std::thread::sleep(Duration::from_millis(700));
    }
    serving.until("one is left", |it| fleet_metric(it, "etl_fleet_targets") == 1.0);
    assert_eq!(serving.stop().0, Some(0));
    assert_eq!(sum(&bench, "rejected"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_is_away_costs_no_record_and_the_file_may_change() {
    let (bench, server) = (Bench::new(), mock(down()).await);
    let appliances = Appliances::start().await;
    appliances.inventory(&bench, 0..50, HOSTS);
    appliances.pipeline(&bench, "2s", "  timeout: 1s\n", &server.url());
    let serving = Serving::start(&bench, "p.yaml", &[]);
    asked(&appliances, &BTreeMap::new(), 50, 2);
    wait_until("batches wait", || !bench.spool_files().is_empty());
    server.set_faults(Faults::default()).unwrap();
    wait_until("the spool is empty", || bench.spool_files().is_empty());

    // Another interval: the run ends and another begins.
    appliances.pipeline(&bench, "3s", "  timeout: 1s\n", &server.url());
    serving.until("it has begun anew", |it| it.pipeline("p")["every"] == "3s" && it.runs("p") == 1);
    let before = appliances.hits();
    asked(&appliances, &before, 50, 2);
    assert!(bench.etl(&["stop", "p.yaml"]).exits(0).stdout.contains('p'));
    serving.until("it is stopped", |it| it.pipeline("p")["state"] == "stopped");
    bench.etl(&["start", "p.yaml"]).exits(0);
    let before = appliances.hits();
    asked(&appliances, &before, 50, 1);
    assert_eq!(serving.stop().0, Some(0));
    each_exactly_once(&server, appliances.count() as u64);
    assert_eq!(sum(&bench, "extracted"), appliances.count() as u64);
    let runs = history(&bench, "p");
    assert_eq!(runs.len(), 3, "{runs:?}");
    assert!(runs.iter().all(|run| run["result"] == "stopped"), "{runs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_state_is_set_aside_and_costs_nothing_but_polls() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    let appliances = Appliances::start().await;
    appliances.inventory(&bench, 0..20, HOSTS);
    appliances.pipeline(&bench, "2s", "  timeout: 1s\n", &server.url());
    for round in 0..2 {
        let before = appliances.hits();
        let serving = Serving::start(&bench, "p.yaml", &[]);
        asked(&appliances, &before, 20, 1);
        let (code, words) = serving.stop();
        assert_eq!(code, Some(0), "{words}");
        assert_eq!(words.contains("targets.bin is damaged"), round == 1, "{words}");
        bench.write("data/p/state/fleet/targets.bin", "etl fleet 1\nnonsense");
    }
    assert!(bench.path("data/p/state/fleet/corrupt").exists());
    each_exactly_once(&server, appliances.count() as u64);
    // One pass by hand polls all of the same file once.
    let before = appliances.count();
    bench.run(&[]).balanced(0);
    assert_eq!(appliances.count(), before + 20);
}
