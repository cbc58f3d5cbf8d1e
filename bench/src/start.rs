//! `start`: from the start of the process to its end, for as little work as there is.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::BenchError;
use crate::bulk::{generate, pipeline, run_pipeline};
use crate::limits::{START_BINARY_MB, START_CHECK_MS, START_RUN_MS};
use crate::loader::Loader;
use crate::process::measure;
use crate::report::{Medians, Report, Run, Verdict};
use crate::sink::{Counts, Sink};

/// Starts for each run of the bench: they are short.
const STARTS: u32 = 10;

const CHECK: &str = "etl check";

/// The limits, in words.
pub(crate) fn limits() -> String {
    format!(
        "a run of one record within {START_RUN_MS} ms, a check within {START_CHECK_MS} ms, the \
         binary without symbols within {START_BINARY_MB} MB"
    )
}

/// Runs one record and checks its pipeline, `10 × runs` times.
pub(crate) fn run(etl: &Loader, runs: u32) -> Result<Report, BenchError> {
    let directory = tempfile::tempdir().map_err(BenchError::io("temporary directory"))?;
    let directory = directory.path();
    generate(directory, 1)?;
    let sink = Sink::start(1).map_err(BenchError::io("sink"))?;
    let pipeline = pipeline(&sink.url(), "", "workers: 10");
    let mut measured = Vec::new();
    for _ in 0..STARTS * runs {
        let usage = run_pipeline(etl, directory, &pipeline, 1)?;
        measured.push(Run::new(etl.name, &usage, sink.take(), 1));
        let mut command = etl.command(directory)?;
        let usage = measure(command.args(["check", "pipeline.yaml"]))
            .map_err(BenchError::io("etl check"))?;
        if !usage.status.success() {
            return Err(BenchError::Failed(format!("etl check: {}", usage.status)));
        }
        let nothing_to_lose = Counts { records: 1, ..Counts::default() };
        measured.push(Run::new(CHECK, &usage, nothing_to_lose, 1));
    }
    let binary = stripped(etl, directory)?;
    let task = format!("one record, {} runs each", STARTS * runs);
    Ok(Report::new("start", task, measured, |medians| judge(medians, binary)))
}

fn judge(medians: &Medians<'_>, binary: f64) -> Vec<Verdict> {
    let ms = |loader| medians.of(loader).wall_seconds * 1_000.0;
    vec![
        Verdict::at_most("ms of a run of one record", ms("etl"), START_RUN_MS),
        Verdict::at_most("ms of a check", ms(CHECK), START_CHECK_MS),
        Verdict::at_most("MB of the binary without symbols", binary, START_BINARY_MB),
    ]
}

/// Megabytes of the binary without its symbols.
fn stripped(etl: &Loader, directory: &Path) -> Result<f64, BenchError> {
    let copy = directory.join("stripped");
    let status = Command::new("strip")
        .arg("-o")
        .args([&copy, &etl.program])
        .status()
        .map_err(BenchError::io("strip (apt-get install binutils)"))?;
    if !status.success() {
        return Err(BenchError::Failed(format!("strip: {status}")));
    }
    let bytes = fs::metadata(&copy).map_err(BenchError::io("stripped binary"))?.len();
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    Ok(bytes as f64 / 1e6)
}
