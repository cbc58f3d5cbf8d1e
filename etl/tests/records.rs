//! Single bad records: each is rejected or dead-lettered alone, with its place
//! and reason, and the others go on.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::io::Read;
use std::path::Path;

use mock_load_api_server::Faults;
use serde_json::Value;
use support::{Bench, each_exactly_once, files_of, mock};

fn letters(directory: &Path) -> Vec<Value> {
    let mut letters = Vec::new();
    for file in files_of(directory) {
        let mut text = String::new();
        let file = std::fs::File::open(file).unwrap();
        flate2::read::MultiGzDecoder::new(file).read_to_string(&mut text).unwrap();
        letters.extend(serde_json::from_str::<Vec<Value>>(&text).unwrap());
    }
    letters
}

const HEADER: &str = "hostname,cpu_number,pidle,puser,psys,pirq,pnice,timestamp\n";

/// Row 7: "NaN" became a 0-byte POST that got 200; "n/a" became utilization 100.
#[tokio::test(flavor = "multi_thread")]
async fn row_07_values_that_are_no_percentages_reject_that_record_alone() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    let mut csv = HEADER.to_owned();
    for (host, pidle) in [
        ("a", "90"),
        ("b", "NaN"),
        ("c", "n/a"),
        ("d", ""),
        ("e", "-1"),
        ("f", "101"),
        ("g", "inf"),
        ("h", "10.5"),
    ] {
        csv.push_str(&format!("{host},0,{pidle},1,1,0,0,1763645000\n"));
    }
    bench.rows(csv, &server.url(), "transform: [cpu_indicators]\n", "");
    let ran = bench.run(&[]).exits(65);
    assert_eq!((ran.total("extracted"), ran.total("rejected")), (8, 6));
    assert_eq!(ran.sink("delivered"), 2);
    each_exactly_once(&server, 2);
    let record: Value = serde_json::from_slice(
        &server
            .records()
            .iter()
            .find(|row| row.body.windows(3).any(|w| w == b"\"h\""))
            .unwrap()
            .body,
    )
    .unwrap();
    assert_eq!(record["name"], "h");
    assert_eq!(record["cpu_number"], "0");
    assert_eq!(record["timestamp"], 1_763_645_000);
    assert_eq!(record["indicators"][0]["name"], "utilization");
    assert_eq!(record["indicators"][0]["value"], 89.5);

    let rejected = letters(&bench.path("data/p/spool/rejected/dead"));
    assert_eq!(rejected.len(), 6);
    let reasons: Vec<&str> =
        rejected.iter().map(|letter| letter["reason"].as_str().unwrap()).collect();
    assert!(reasons.iter().any(|r| r.contains("rows.csv:3") && r.contains("NaN")), "{reasons:?}");
    assert!(reasons.iter().any(|r| r.contains("n/a")), "{reasons:?}");
}

/// Row 15: a failed extraction was only logged, and a 400 was replayed for ever.
#[tokio::test(flavor = "multi_thread")]
async fn row_15_a_failed_appliance_is_named_counted_and_stops_nobody() {
    let faults = Faults { appliance_fail: 0.1, ..Faults::default() };
    let (bench, server) = (Bench::new(), mock(faults).await);
    bench.inventory(300);
    let method = format!("http: {{ url: \"{}/appliances/{{ip}}/cpu\" }}", server.url());
    bench.fleet_with(&method, &server.url(), "");
    let ran = bench.run(&[]).exits(69);
    let failed = ran.json()["targets"]["failed"].as_u64().unwrap();
    assert!((1..100).contains(&failed), "{failed}");
    assert_eq!(ran.sink("delivered"), 300 - failed);
    assert_eq!(ran.json()["complete"], false);
    assert!(ran.stderr.contains("device-"), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_15_poison_is_found_and_dead_lettered_and_all_others_are_delivered() {
    for workers in [1, 10] {
        let faults = Faults { poison: Some("device-77\"".to_owned()), ..Faults::default() };
        let (bench, server) = (Bench::new(), mock(faults).await);
        bench.inventory(1000);
        bench.fleet(&server.url(), &format!("workers: {workers}"));
        let ran = bench.run(&[]).exits(65);
        assert_eq!((ran.sink("delivered"), ran.sink("dead_lettered")), (999, 1));
        each_exactly_once(&server, 999);
        let dead = letters(&bench.spool().join("dead"));
        assert_eq!(dead.len(), 1);
        assert_eq!(dead[0]["record"]["name"], "device-77");
        assert_eq!(dead[0]["status"], 422);
        assert!(dead[0]["batch_key"].as_str().unwrap().len() == 32);

        // Poison is not replayed: the next run has nothing to do with it.
        bench.inventory(0);
        let before = server.stats().requests;
        bench.run(&[]).exits(0);
        assert_eq!(server.stats().requests, before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_the_answer_lists_as_failed_are_dead_lettered_and_no_others() {
    for status in [200, 207] {
        let faults = Faults {
            poison: Some("device-7\"".to_owned()),
            partial: true,
            partial_status: status,
            ..Faults::default()
        };
        let (bench, server) = (Bench::new(), mock(faults).await);
        bench.inventory(300);
        bench.fleet(&server.url(), "");
        let ran = bench.run(&[]).exits(65);
        assert_eq!((ran.sink("delivered"), ran.sink("dead_lettered")), (299, 1));
        each_exactly_once(&server, 299);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_too_large_is_split_under_keys_of_its_own() {
    let faults = Faults { max_records: Some(30), ..Faults::default() };
    let (bench, server) = (Bench::new(), mock(faults).await);
    bench.inventory(1000);
    bench.fleet(&server.url(), "");
    let ran = bench.run(&[]).exits(0);
    assert_eq!(ran.sink("delivered"), 1000);
    each_exactly_once(&server, 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_dead_letters_stop_the_run_and_the_rest_stays_in_the_spool() {
    let faults = Faults { poison: Some("\"name\"".to_owned()), ..Faults::default() };
    let (bench, server) = (Bench::new(), mock(faults).await);
    bench.inventory(4000);
    bench.fleet(&server.url(), "workers: 2\nbatch: { records: 20 }\nmax_rejected: 5%");
    let ran = bench.run(&[]);
    assert_eq!(ran.code, Some(75), "{}", ran.stderr);
    assert_eq!(ran.json()["balanced"], true, "{}", ran.stdout);
    let dead = ran.sink("dead_lettered");
    assert!((50..400).contains(&dead), "{dead}");
    assert!(ran.sink("spooled") > 0);
}

/// Row 16: one ragged row aborted the run before the replay; header and BOM were
/// loaded as data.
#[tokio::test(flavor = "multi_thread")]
async fn row_16_ragged_rows_are_rejected_one_by_one_and_a_header_is_no_data() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    let csv = b"\xEF\xBB\xBFip,hostname\r\n10.0.0.1,a\r\n10.0.0.2\r\n10.0.0.3,c,x\r\n\
                10.0.0.4,\"quo\"\"ted, and\nbroken\"\r\n10.0.0.5,bad\xFF\r\n10.0.0.6,last";
    bench.rows(csv, &server.url(), "", "");
    let ran = bench.run(&[]).exits(65);
    assert_eq!((ran.total("extracted"), ran.total("rejected")), (6, 3));
    each_exactly_once(&server, 3);
    let bodies: Vec<Value> =
        server.records().iter().map(|row| serde_json::from_slice(&row.body).unwrap()).collect();
    assert!(bodies.iter().all(|body| body["ip"].as_str().unwrap().starts_with("10.0.0.")));
    assert!(bodies.iter().any(|body| body["hostname"] == "quo\"ted, and\nbroken"));
    let reasons: Vec<String> = letters(&bench.path("data/p/spool/rejected/dead"))
        .iter()
        .map(|letter| letter["reason"].as_str().unwrap().to_owned())
        .collect();
    for place in ["rows.csv:3", "rows.csv:4", "rows.csv:7"] {
        assert!(reasons.iter().any(|reason| reason.contains(place)), "{place} in {reasons:?}");
    }
}
