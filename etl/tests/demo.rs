//! The demo, from the command line to the API's own ledger.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use support::Bench;

#[test]
fn the_demo_delivers_every_record_exactly_once_through_an_outage_and_leaves_its_files() {
    let bench = Bench::new();
    let ran = bench.etl(&["demo", "--json"]).exits(0);
    let json = ran.json();
    assert_eq!(json["extracted"], 4000);
    assert_eq!(json["sinks"]["http"]["delivered"], 4000);
    assert!(json["sinks"]["http"]["replayed"].as_u64().unwrap() > 0, "nothing was spilled: {json}");
    assert!(ran.stderr.contains("API DOWN") && ran.stderr.contains("API BACK"), "{}", ran.stderr);
    assert!(ran.stderr.contains("ledger: 4,000 records"), "{}", ran.stderr);
    assert!(ran.stderr.contains("every record arrived exactly once"), "{}", ran.stderr);

    let profile = bench.path("data/demo/profile");
    let svg = std::fs::read_to_string(profile.join("flamegraph.svg")).unwrap();
    assert!(svg.contains("<svg") && svg.contains("etl::"), "the flamegraph names our functions");
    assert!(std::fs::metadata(profile.join("cpu.prof")).unwrap().len() > 1000);
    let log = std::fs::read_to_string(bench.path("logs/etl.log")).unwrap();
    assert!(log.contains("flushed 200 records"), "{log}");
}
