//! `flat`: memory and CPU for each row do not depend on how many rows there are, nor on
//! whether they are many or few columns wide, ten bytes or 100 KB long.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::BenchError;
use crate::bulk::{generate, pipeline, run_pipeline};
use crate::limits::{FLAT_CPU, FLAT_RSS};
use crate::loader::Loader;
use crate::report::{Medians, Report, Run, Verdict, say};
use crate::shapes::{SHAPES, Shape};
use crate::sink::Sink;

/// Rows of the long file when none are asked for. With 100,000,000 it has 8.4 GB.
pub(crate) const ROWS: u64 = 10_000_000;
/// Rows of the short file, if the long one has more than ten times as many.
const SHORT_ROWS: u64 = 1_000_000;
/// Bytes of a file of another shape for each row of the long file.
const SHAPE_BYTES: u64 = 100;

const SHORT: &str = "etl short";
const GZIPPED: &str = "etl .csv.gz";

/// The limits, in words.
pub(crate) fn limits() -> String {
    format!(
        "a file of {SHORT_ROWS} rows and one of many times as many take the same memory and CPU for \
         each row (at most {FLAT_RSS} and {FLAT_CPU} times), plain or gzip; so do rows of 1, 10 and \
         200 columns, of 10 bytes and of 100 KB; nothing lost or doubled"
    )
}

/// Loads a long file, a short one, and the long one compressed, `runs` times, then long and
/// short files of other shapes.
pub(crate) fn run(etl: &Loader, rows: u64, runs: u32) -> Result<Report, BenchError> {
    let mut measured = Vec::new();
    let short = (rows / 10).clamp(1, SHORT_ROWS);
    usual(etl, (rows, short), runs, &mut measured)?;
    for shape in &SHAPES {
        say(&format!("flat: {}", shape.long));
        of_shape(etl, shape, rows, runs, &mut measured)?;
    }
    let task = format!("{rows} rows and {short}, files of other shapes, {runs} runs each");
    Ok(Report::new("flat", task, measured, judge))
}

/// Rows as they usually are.
fn usual(
    etl: &Loader,
    (rows, short_rows): (u64, u64),
    runs: u32,
    measured: &mut Vec<Run>,
) -> Result<(), BenchError> {
    let (_directory, [long, short]) = directories()?;
    generate(&long, rows)?;
    generate(&short, short_rows)?;
    compress(&long).map_err(BenchError::io("rows.csv.gz"))?;
    let sink = Sink::start(1).map_err(BenchError::io("sink"))?;
    let plain = pipeline(&sink.url(), "", "workers: 10");
    let gzipped = plain.replace("rows.csv", "rows.csv.gz");
    for number in 1..=runs {
        say(&format!("flat: run {number} of {runs}"));
        let usage = run_pipeline(etl, &long, &plain, rows)?;
        measured.push(Run::new(etl.name, &usage, sink.take(), rows));
        let usage = run_pipeline(etl, &long, &gzipped, rows)?;
        measured.push(Run::new(GZIPPED, &usage, sink.take(), rows));
        let usage = run_pipeline(etl, &short, &plain, short_rows)?;
        measured.push(Run::new(SHORT, &usage, sink.take(), short_rows));
    }
    Ok(())
}

/// A long file of `shape`, and one of a tenth of its rows.
fn of_shape(
    etl: &Loader,
    shape: &Shape,
    rows: u64,
    runs: u32,
    measured: &mut Vec<Run>,
) -> Result<(), BenchError> {
    let (_directory, [long, short]) = directories()?;
    let rows = shape.rows(rows * SHAPE_BYTES, rows);
    let short_rows = (rows / 10).max(1);
    for (directory, rows) in [(&long, rows), (&short, short_rows)] {
        shape.generate(directory, rows).map_err(BenchError::io("generating rows"))?;
    }
    let sink = Sink::start(1).map_err(BenchError::io("sink"))?;
    let plain = pipeline(&sink.url(), "", "workers: 10");
    for _ in 0..runs {
        let usage = run_pipeline(etl, &long, &plain, rows)?;
        measured.push(Run::new(shape.long, &usage, sink.take(), rows));
        let usage = run_pipeline(etl, &short, &plain, short_rows)?;
        measured.push(Run::new(shape.short, &usage, sink.take(), short_rows));
    }
    Ok(())
}

/// One for a long file and one for a short one, within one that goes when it is dropped.
fn directories() -> Result<(tempfile::TempDir, [std::path::PathBuf; 2]), BenchError> {
    let directory = tempfile::tempdir().map_err(BenchError::io("temporary directory"))?;
    let both = ["long", "short"].map(|name| directory.path().join(name));
    for directory in &both {
        fs::create_dir(directory).map_err(BenchError::io("temporary directory"))?;
    }
    Ok((directory, both))
}

fn judge(medians: &Medians<'_>) -> Vec<Verdict> {
    let (long, short, gzipped) = (medians.of("etl"), medians.of(SHORT), medians.of(GZIPPED));
    let cpu = long.cpu_seconds_per_million / short.cpu_seconds_per_million;
    let mut verdicts = vec![
        Verdict::at_most(
            "peak RSS, of that of a short file",
            long.rss_mib / short.rss_mib,
            FLAT_RSS,
        ),
        Verdict::at_most("CPU for each row, of that of a short file", cpu, FLAT_CPU),
        Verdict::at_most(
            "peak RSS from gzip, of that of a short file",
            gzipped.rss_mib / short.rss_mib,
            FLAT_RSS,
        ),
    ];
    let (mut rss, mut cpu) = (0.0_f64, 0.0_f64);
    for shape in &SHAPES {
        let (long, short) = (medians.of(shape.long), medians.of(shape.short));
        rss = rss.max(long.rss_mib / short.rss_mib);
        cpu = cpu.max(long.cpu_seconds_per_million / short.cpu_seconds_per_million);
    }
    verdicts.push(Verdict::at_most("peak RSS, worst of the shapes", rss, FLAT_RSS));
    verdicts.push(Verdict::at_most("CPU for each row, worst of the shapes", cpu, FLAT_CPU));
    verdicts
}

fn compress(directory: &Path) -> io::Result<()> {
    let mut rows = File::open(directory.join("rows.csv"))?;
    let file = File::create(directory.join("rows.csv.gz"))?;
    let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    io::copy(&mut rows, &mut gzip)?;
    gzip.finish().map(drop)
}
