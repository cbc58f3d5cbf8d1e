//! The node_exporter extraction against the real one, as Debian packages it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

#[path = "support/exporter.rs"]
mod exporter;
mod support;

use std::time::{Duration, Instant};

use etl::batch::Rows;
use etl::extract::{Extractor, Target};
use etl::transform::{Chain, RunFacts, Scratch, Verdict};
use exporter::Exporter;
use serde_json::{Value, json};

#[tokio::test]
async fn a_real_node_exporter_gives_percentages_for_every_cpu() {
    let exporter = Exporter::start();
    let extractor = Extractor::new(
        &serde_json::from_value(json!({"timeout": "60s", "http": {
            "url": format!("http://{{ip}}:{}/metrics", exporter.port),
            "format": "node_exporter",
            "sample_interval": "2s",
        }}))
        .unwrap(),
    )
    .unwrap();
    let row = br#"{"ip":"127.0.0.1","hostname":"here"}"#.to_vec();
    let target = Target::new(0, row).unwrap();
    let cpus = exporter::cpus();
    let steps: Vec<_> = serde_json::from_value(json!(["cpu_indicators"])).unwrap();
    let facts = RunFacts { pipeline: "p", run_id: "9f3a61c06920a000" };
    let chain = Chain::new(&steps, facts).unwrap();
    for poll in 0..2 {
        let started = Instant::now();
        let mut rows = Rows::default();
        extractor.extract(&target, &mut rows).await.unwrap();
        let first_poll = started.elapsed() >= Duration::from_secs(2);
        assert_eq!(first_poll, poll == 0, "a second poll needs one sample, a first one two");
        assert_eq!(rows.len(), cpus);
        for (at, row) in rows.iter().enumerate() {
            let parsed: Value = serde_json::from_slice(row).unwrap();
            assert_eq!(parsed["hostname"], "here");
            assert_eq!(parsed["cpu_number"], at.to_string());
            let sum: f64 = ["pidle", "pnice", "puser", "psys", "pirq", "piowait", "psteal"]
                .iter()
                .map(|name| parsed[*name].as_str().unwrap().parse::<f64>().unwrap())
                .sum();
            assert!((99.0..=101.0).contains(&sum), "{parsed}");
            let mut out = Vec::new();
            let verdict = chain.apply(row, &mut Scratch::default(), &mut out).unwrap();
            assert_eq!(verdict, Verdict::Keep);
            let record: Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(record["indicators"].as_array().unwrap().len(), 5);
        }
        tokio::time::sleep(Duration::from_millis(2200)).await;
    }
}
