//! `appliances`: the earlier system's load. Every appliance takes 6 s to answer
//! and a quarter of them are asked at once: four rounds, 24 s, are the ideal.

use std::fs::File;

use etl_fixtures::write_appliances;

use crate::BenchError;
use crate::bulk::run_pipeline;
use crate::limits::APPLIANCES_OVER_IDEAL;
use crate::loader::Loader;
use crate::report::{Medians, Report, Run, Verdict, say};
use crate::sink::Sink;

const ROUNDS: u32 = 4;
const ROUND_SECONDS: u32 = 6;

/// What `cpu_indicators` makes: a record and its five indicators.
const OBJECTS_PER_RECORD: u64 = 6;

/// The limits, in words.
pub(crate) fn limits() -> String {
    format!("{:.1} s, the ideal and 5 %; nothing lost or doubled", wall_seconds_max())
}

fn wall_seconds_max() -> f64 {
    f64::from(ROUNDS * ROUND_SECONDS) * APPLIANCES_OVER_IDEAL
}

/// Polls `4 × in_flight` appliances, `in_flight` of them at once.
pub(crate) fn run(etl: &Loader, in_flight: u32, runs: u32) -> Result<Report, BenchError> {
    let directory = tempfile::tempdir().map_err(BenchError::io("temporary directory"))?;
    let directory = directory.path();
    let appliances = ROUNDS * in_flight;
    File::create(directory.join("appliances.csv"))
        .and_then(|file| write_appliances(file, appliances))
        .map_err(BenchError::io("inventory"))?;

    let sink = Sink::start(OBJECTS_PER_RECORD).map_err(BenchError::io("sink"))?;
    let pipeline = pipeline(in_flight, &sink.url());
    let expected = u64::from(appliances);
    let mut measured = Vec::new();
    for number in 1..=runs {
        say(&format!("appliances: run {number} of {runs}, 24 s at best"));
        let usage = run_pipeline(etl, directory, &pipeline, expected)?;
        measured.push(Run::new(etl.name, &usage, sink.take(), expected));
    }
    let task = format!("{appliances} appliances of 6 s, {in_flight} at once, {runs} runs");
    let name = if in_flight == 1_000 { "appliances" } else { "appliances-in-flight" };
    Ok(Report::new(name, task, measured, judge))
}

fn judge(medians: &Medians<'_>) -> Vec<Verdict> {
    let etl = medians.of("etl");
    vec![Verdict::at_most("wall seconds", etl.wall_seconds, wall_seconds_max())]
}

fn pipeline(in_flight: u32, url: &str) -> String {
    format!(
        "name: appliances\n\
         source:\n  csv: {{ path: appliances.csv, header: false, columns: [ip, hostname] }}\n\
         extract:\n  workers: {in_flight}\n  timeout: 8s\n  \
           simulated: {{ delay: {ROUND_SECONDS}s }}\n\
         transform: [cpu_indicators]\n\
         load:\n  - http: {{ url: \"{url}\" }}\n    workers: 10\n    batch: {{ records: 200 }}\n"
    )
}
