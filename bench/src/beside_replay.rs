//! `beside-replay`: how fast new rows are loaded while what an outage has left is replayed,
//! beside the same rows loaded alone. The new rows have another name for their first column,
//! by which the sink tells them from the old ones.

use std::fs;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use crate::BenchError;
use crate::bulk::{generate, pipeline};
use crate::limits::LIVE_BESIDE_REPLAY;
use crate::loader::Loader;
use crate::outage::{etl_run, free_port, spool};
use crate::process::Usage;
use crate::report::{Medians, Report, Run, Verdict, say};
use crate::sink::{Counts, Sink, SinkOptions};

/// New rows when none are asked for.
pub(crate) const ROWS: u64 = 2_000_000;

/// Rows that wait in the spool for each new one, so that the replay outlasts the load.
const WAITING: u64 = 3;

const ALONE: &str = "etl alone";
const BESIDE: &str = "etl beside";

/// How every body of new rows begins.
const NEW: &[u8] = b"[{\"new\":";

/// The limit, in words.
pub(crate) fn limits() -> String {
    format!(
        "new rows keep {LIVE_BESIDE_REPLAY} of their speed while a replay goes on, by when they \
         arrive; nothing lost or doubled"
    )
}

/// Loads new rows alone and beside a replay, `runs` times.
pub(crate) fn run(etl: &Loader, rows: u64, runs: u32) -> Result<Report, BenchError> {
    let directory = tempfile::tempdir().map_err(BenchError::io("temporary directory"))?;
    let directory = directory.path();
    let waiting = rows * WAITING;
    generate(directory, waiting)?;
    new_rows(directory, rows).map_err(BenchError::io("new rows"))?;
    let port = free_port()?;
    let url = format!("http://127.0.0.1:{port}/load");
    let workers = "workers: 10\n    spool: { max_bytes: 64GiB }";
    fs::write(directory.join("pipeline.yaml"), pipeline(&url, "", workers))
        .map_err(BenchError::io("pipeline"))?;
    let mut measured = Vec::new();
    for number in 1..=runs {
        say(&format!("beside-replay: run {number} of {runs}"));
        let data = directory.join("data");
        if data.exists() {
            fs::remove_dir_all(&data).map_err(BenchError::io("earlier run's data"))?;
        }
        measured.push(load(ALONE, etl, directory, rows, port, 0)?);
        spool(etl, directory, waiting)?;
        measured.push(load(BESIDE, etl, directory, rows, port, waiting)?);
    }
    let task = format!("{rows} new rows, {waiting} replayed, 200 a batch, {runs} runs each");
    Ok(Report::new("beside-replay", task, measured, judge))
}

fn judge(medians: &Medians<'_>) -> Vec<Verdict> {
    vec![Verdict::at_least(
        "new records a second beside a replay, of alone",
        medians.of(BESIDE).records_per_second / medians.of(ALONE).records_per_second,
        LIVE_BESIDE_REPLAY,
    )]
}

/// Loads the new rows while `waiting` old ones are replayed. The time is that between the
/// first and the last arrival of new rows, the CPU that of the whole run.
fn load(
    what: &'static str,
    etl: &Loader,
    directory: &Path,
    rows: u64,
    port: u16,
    waiting: u64,
) -> Result<Run, BenchError> {
    let options = SinkOptions { port, mark: Some(NEW), ..SinkOptions::default() };
    let sink = Sink::start_with(options).map_err(BenchError::io("sink"))?;
    let arguments = ["--fresh", "--set", "source.csv.path=new.csv"];
    let usage = etl_run(etl, directory, &arguments, 0)?;
    let (all, new) = (sink.take(), sink.take_marked());
    let Some((first, last)) = new.span.filter(|_| all.records == rows + waiting) else {
        let (arrived, new) = (all.records, new.records);
        return Err(BenchError::Failed(format!(
            "{arrived} of {rows} new and {waiting} old records arrived, {new} of them new"
        )));
    };
    if waiting > 0 && new.others_since == 0 {
        return Err(BenchError::Failed("the replay ended before the new rows did".to_owned()));
    }
    let counts = Counts { records: new.records, ..all };
    Ok(Run::new(what, &Usage { wall: last - first, ..usage }, counts, rows))
}

/// The first of the same rows once more, under another header.
fn new_rows(directory: &Path, rows: u64) -> std::io::Result<()> {
    let mut lines = BufReader::new(fs::File::open(directory.join("rows.csv"))?).lines();
    let mut file = BufWriter::new(fs::File::create(directory.join("new.csv"))?);
    let header = lines.next().transpose()?.unwrap_or_default();
    let rest = header.find(',').unwrap_or(header.len());
    writeln!(file, "new{}", &header[rest..])?;
    for line in lines.take(usize::try_from(rows).unwrap_or(usize::MAX)) {
        writeln!(file, "{}", line?)?;
    }
    file.flush()
}
