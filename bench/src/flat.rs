//! `flat`: memory and CPU for each row do not depend on how many rows there are.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::BenchError;
use crate::bulk::{generate, pipeline, run_pipeline};
use crate::limits::{FLAT_CPU, FLAT_RSS};
use crate::loader::Loader;
use crate::report::{Medians, Report, Run, Verdict, say};
use crate::sink::Sink;

/// Rows of the long file when none are asked for; the short one has a tenth.
pub(crate) const ROWS: u64 = 10_000_000;

const SHORT: &str = "etl short";
const GZIPPED: &str = "etl .csv.gz";

/// The limits, in words.
pub(crate) fn limits() -> String {
    format!(
        "ten times the rows take at most {FLAT_RSS} times the memory and {FLAT_CPU} times the CPU \
         for each, from a file and from a gzip file; nothing lost or doubled"
    )
}

/// Loads a long file, a tenth of it, and the long one compressed, `runs` times.
pub(crate) fn run(etl: &Loader, rows: u64, runs: u32) -> Result<Report, BenchError> {
    let directory = tempfile::tempdir().map_err(BenchError::io("temporary directory"))?;
    let [long, short] = ["long", "short"].map(|name| directory.path().join(name));
    for (directory, rows) in [(&long, rows), (&short, rows / 10)] {
        fs::create_dir(directory).map_err(BenchError::io("temporary directory"))?;
        generate(directory, rows)?;
    }
    compress(&long).map_err(BenchError::io("rows.csv.gz"))?;
    let sink = Sink::start(1).map_err(BenchError::io("sink"))?;
    let plain = pipeline(&sink.url(), "", "workers: 10");
    let gzipped = plain.replace("rows.csv", "rows.csv.gz");
    let mut measured = Vec::new();
    for number in 1..=runs {
        say(&format!("flat: run {number} of {runs}"));
        let usage = run_pipeline(etl, &long, &plain, rows)?;
        measured.push(Run::new(etl.name, &usage, sink.take(), rows));
        let usage = run_pipeline(etl, &long, &gzipped, rows)?;
        measured.push(Run::new(GZIPPED, &usage, sink.take(), rows));
        let usage = run_pipeline(etl, &short, &plain, rows / 10)?;
        measured.push(Run::new(SHORT, &usage, sink.take(), rows / 10));
    }
    let task = format!("{rows} rows and a tenth of them, {runs} runs each");
    Ok(Report::new("flat", task, measured, judge))
}

fn judge(medians: &Medians<'_>) -> Vec<Verdict> {
    let (long, short, gzipped) = (medians.of("etl"), medians.of(SHORT), medians.of(GZIPPED));
    let cpu = long.cpu_seconds_per_million / short.cpu_seconds_per_million;
    vec![
        Verdict::at_most("peak RSS, of that of a tenth", long.rss_mib / short.rss_mib, FLAT_RSS),
        Verdict::at_most("CPU for each row, of that of a tenth", cpu, FLAT_CPU),
        Verdict::at_most(
            "peak RSS from gzip, of that of a tenth",
            gzipped.rss_mib / short.rss_mib,
            FLAT_RSS,
        ),
    ]
}

fn compress(directory: &Path) -> io::Result<()> {
    let mut rows = File::open(directory.join("rows.csv"))?;
    let file = File::create(directory.join("rows.csv.gz"))?;
    let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    io::copy(&mut rows, &mut gzip)?;
    gzip.finish().map(drop)
}
