//! `bulk`: a large CSV file to an API that answers at once, 200 records a request.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use etl_fixtures::CpuCsv;
use serde_json::Value;

use crate::BenchError;
use crate::limits::{
    BULK_CPU_OF_FAUCET, BULK_CPU_SECONDS_PER_MILLION, BULK_RSS_MIB, BULK_TIMES_FAUCET,
    GZIP_CPU_SECONDS_PER_MILLION, SLOW_RECORDS_PER_SECOND, SLOW_RSS_MIB,
    TOLERANT_CPU_SECONDS_PER_MILLION, TOLERANT_RSS_MIB,
};
use crate::loader::Loader;
use crate::process::{Usage, measure};
use crate::report::{Medians, Report, Run, Verdict, say};
use crate::sink::{Sink, SinkOptions};

/// Rows when none are asked for.
pub(crate) const ROWS: u64 = 5_000_000;

const SEED: u64 = 42;

/// What the slow API takes for each request.
const SLOW: Duration = Duration::from_millis(20);

/// The same load in other circumstances.
const GZIP: &str = "etl gzip";
const ADAPTIVE: &str = "etl 20 ms";

/// The limits, in words.
pub(crate) fn limits() -> String {
    format!(
        "{BULK_TIMES_FAUCET} times faucet with {BULK_CPU_OF_FAUCET} of its CPU per record (without \
         faucet {BULK_CPU_SECONDS_PER_MILLION} CPU seconds per million) in {BULK_RSS_MIB} MiB; \
         with gzip {GZIP_CPU_SECONDS_PER_MILLION}; with 20 ms of delay \
         {SLOW_RECORDS_PER_SECOND} records a second in {SLOW_RSS_MIB} MiB; nothing lost or doubled"
    )
}

/// Loads `rows` rows `runs` times with etl, and with faucet when it is installed.
pub(crate) fn run(
    etl: &Loader,
    rows: u64,
    runs: u32,
    tolerant: bool,
) -> Result<Report, BenchError> {
    let directory = tempfile::tempdir().map_err(BenchError::io("temporary directory"))?;
    let directory = directory.path();
    let megabytes = generate(directory, rows)? / 1_000_000;
    let sink = Sink::start(1).map_err(BenchError::io("sink"))?;
    let options = SinkOptions { delay: SLOW, ..SinkOptions::default() };
    let slow = Sink::start_with(options).map_err(BenchError::io("slow sink"))?;
    let faucet = Loader::on_path("faucet");
    if faucet.is_none() {
        say("bulk: faucet is not on PATH and is left out; --help says how to install it");
    }
    let plain = pipeline(&sink.url(), "", "workers: 10");
    let gzip = pipeline(&sink.url(), ", compression: gzip", "workers: 10");
    let adaptive = pipeline(&slow.url(), "", "concurrency: adaptive");
    let mut measured = Vec::new();
    // In turn, so that what disturbs the machine disturbs all alike.
    for number in 1..=runs {
        say(&format!("bulk: run {number} of {runs}"));
        let usage = run_pipeline(etl, directory, &plain, rows)?;
        measured.push(Run::new(etl.name, &usage, sink.take(), rows));
        if let Some(faucet) = &faucet {
            let usage = run_faucet(faucet, directory, &sink.url())?;
            measured.push(Run::new(faucet.name, &usage, sink.take(), rows));
        }
        let usage = run_pipeline(etl, directory, &gzip, rows)?;
        measured.push(Run::new(GZIP, &usage, sink.take(), rows));
        let usage = run_pipeline(etl, directory, &adaptive, rows)?;
        measured.push(Run::new(ADAPTIVE, &usage, slow.take(), rows));
    }
    let task = format!("{rows} rows, {megabytes} MB, 200 a request, {runs} runs each");
    let judge = if tolerant { judge_tolerantly } else { judge };
    Ok(Report::new("bulk", task, measured, judge))
}

/// Writes `rows.csv`; gives its bytes.
pub(crate) fn generate(directory: &Path, rows: u64) -> Result<u64, BenchError> {
    say(&format!("generating {rows} rows …"));
    let written = File::create(directory.join("rows.csv"))
        .and_then(|file| CpuCsv::new(rows, SEED).write(file))
        .map_err(BenchError::io("generating rows"))?;
    Ok(written.bytes)
}

/// The rows to `url`, 200 a request.
pub(crate) fn pipeline(url: &str, http: &str, load: &str) -> String {
    format!(
        "name: bulk\n\
         source:\n  csv: {{ path: rows.csv }}\n\
         load:\n  - http: {{ url: \"{url}\"{http} }}\n    {load}\n    batch: {{ records: 200 }}\n"
    )
}

fn judge(medians: &Medians<'_>) -> Vec<Verdict> {
    let (etl, gzip, slow) = (medians.of("etl"), medians.of(GZIP), medians.of(ADAPTIVE));
    let mut verdicts = match medians.find("faucet") {
        Some(faucet) => vec![
            Verdict::at_least(
                "times as fast as faucet",
                etl.records_per_second / faucet.records_per_second,
                BULK_TIMES_FAUCET,
            ),
            Verdict::at_most(
                "CPU per record, of faucet's",
                etl.cpu_seconds_per_million / faucet.cpu_seconds_per_million,
                BULK_CPU_OF_FAUCET,
            ),
        ],
        None => vec![Verdict::at_most(
            "CPU seconds per million records",
            etl.cpu_seconds_per_million,
            BULK_CPU_SECONDS_PER_MILLION,
        )],
    };
    verdicts.extend([
        Verdict::at_most("peak RSS, MiB", etl.rss_mib, BULK_RSS_MIB),
        Verdict::at_most(
            "CPU seconds per million records, gzip -1",
            gzip.cpu_seconds_per_million,
            GZIP_CPU_SECONDS_PER_MILLION,
        ),
        Verdict::at_least(
            "records a second with 20 ms of delay",
            slow.records_per_second,
            SLOW_RECORDS_PER_SECOND,
        ),
        Verdict::at_most("peak RSS with 20 ms of delay, MiB", slow.rss_mib, SLOW_RSS_MIB),
    ]);
    verdicts
}

fn judge_tolerantly(medians: &Medians<'_>) -> Vec<Verdict> {
    let etl = medians.of("etl");
    vec![
        Verdict::at_most(
            "CPU seconds per million records",
            etl.cpu_seconds_per_million,
            TOLERANT_CPU_SECONDS_PER_MILLION,
        ),
        Verdict::at_most("peak RSS, MiB", etl.rss_mib, TOLERANT_RSS_MIB),
    ]
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
