//! `bulk`: a large CSV file to an API that answers at once, 200 records a request.

use std::fs::{self, File};
use std::path::Path;

use etl_fixtures::CpuCsv;
use serde_json::Value;

use crate::BenchError;
use crate::limits::{BULK_CPU_SECONDS_PER_MILLION, BULK_RSS_MIB};
use crate::loader::Loader;
use crate::process::{Usage, measure};
use crate::report::{Median, Report, Run, Verdict, say};
use crate::sink::Sink;

/// Rows when none are asked for.
pub(crate) const ROWS: u64 = 5_000_000;

const SEED: u64 = 42;

/// The limits, in words.
pub(crate) fn limits() -> String {
    format!(
        "at most {BULK_CPU_SECONDS_PER_MILLION} CPU seconds per million records and \
         {BULK_RSS_MIB} MiB; nothing lost or doubled"
    )
}

/// Loads `rows` rows `runs` times with etl, and with faucet when it is installed.
pub(crate) fn run(etl: &Loader, rows: u64, runs: u32) -> Result<Report, BenchError> {
    let directory = tempfile::tempdir().map_err(BenchError::io("temporary directory"))?;
    let directory = directory.path();
    say(&format!("bulk: generating {rows} rows …"));
    let csv = directory.join("rows.csv");
    let written = File::create(&csv)
        .and_then(|file| CpuCsv::new(rows, SEED).write(file))
        .map_err(BenchError::io("generating rows"))?;

    let sink = Sink::start(1).map_err(BenchError::io("sink"))?;
    let faucet = Loader::on_path("faucet");
    if faucet.is_none() {
        say("bulk: faucet is not on PATH and is left out; --help says how to install it");
    }
    let mut measured = Vec::new();
    // In turn, so that what disturbs the machine disturbs all alike.
    for number in 1..=runs {
        say(&format!("bulk: run {number} of {runs}"));
        let usage = run_etl(etl, directory, &sink.url(), rows)?;
        measured.push(Run::new(etl.name, &usage, sink.take(), rows));
        if let Some(faucet) = &faucet {
            let usage = run_faucet(faucet, directory, &sink.url())?;
            measured.push(Run::new(faucet.name, &usage, sink.take(), rows));
        }
    }
    let megabytes = written.bytes / 1_000_000;
    let task = format!("{rows} rows, {megabytes} MB, 200 a request, {runs} runs each");
    Ok(Report::new("bulk", task, rows, measured, judge))
}

fn judge(etl: &Median) -> Vec<Verdict> {
    vec![
        Verdict::at_most(
            "CPU seconds per million records",
            etl.cpu_seconds_per_million,
            BULK_CPU_SECONDS_PER_MILLION,
        ),
        Verdict::at_most("peak RSS, MiB", etl.rss_mib, BULK_RSS_MIB),
    ]
}

fn run_etl(etl: &Loader, directory: &Path, url: &str, rows: u64) -> Result<Usage, BenchError> {
    let pipeline = format!(
        "name: bulk\n\
         source:\n  csv: {{ path: rows.csv }}\n\
         load:\n  - http: {{ url: \"{url}\" }}\n    workers: 10\n    batch: {{ records: 200 }}\n"
    );
    run_pipeline(etl, directory, &pipeline, rows)
}

/// Runs `pipeline` from its beginning, and believes nothing but the books that
/// etl itself closes; the sink's count is held against them by the report.
pub(crate) fn run_pipeline(
    etl: &Loader,
    directory: &Path,
    pipeline: &str,
    expected: u64,
) -> Result<Usage, BenchError> {
    let data = directory.join("data");
    if data.exists() {
        fs::remove_dir_all(&data).map_err(BenchError::io("earlier run's data"))?;
    }
    fs::write(directory.join("pipeline.yaml"), pipeline).map_err(BenchError::io("pipeline"))?;
    let mut command = etl.command(directory)?;
    command.args(["run", "pipeline.yaml", "--json", "--quiet"]);
    let usage = measure(&mut command).map_err(BenchError::io("etl run"))?;
    let result: Value = serde_json::from_str(&etl.stdout(directory)).unwrap_or_default();
    let complete = result["complete"] == true && result["balanced"] == true;
    if !usage.status.success() || !complete || result["extracted"] != expected {
        return Err(BenchError::Failed(format!(
            "etl run: {}, not {expected} records delivered:\n{}",
            usage.status,
            etl.last_words(directory)
        )));
    }
    Ok(usage)
}

/// The same load as a pipeline of faucet-cli 1.0.1.
fn run_faucet(faucet: &Loader, directory: &Path, url: &str) -> Result<Usage, BenchError> {
    let pipeline = format!(
        "version: 1\nname: bulk\npipeline:\n  \
           source:\n    type: csv\n    config: {{ path: ./rows.csv, batch_size: 200 }}\n  \
           sink:\n    type: http\n    config:\n      \
             url: {url}\n      method: POST\n      auth: {{ type: none }}\n      \
             batch_mode: {{ type: Array }}\n      max_retries: 3\n      concurrency: 10\n      \
             batch_size: 200\n"
    );
    fs::write(directory.join("faucet.yaml"), pipeline).map_err(BenchError::io("faucet.yaml"))?;
    let mut command = faucet.command(directory)?;
    command.args(["run", "faucet.yaml"]);
    let usage = measure(&mut command).map_err(BenchError::io("faucet run"))?;
    if !usage.status.success() {
        return Err(BenchError::Failed(format!(
            "faucet run: {}:\n{}",
            usage.status,
            faucet.last_words(directory)
        )));
    }
    Ok(usage)
}
