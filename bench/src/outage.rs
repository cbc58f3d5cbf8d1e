//! `outage`: the API is down for a whole load, everything goes into the spool; then it is
//! back and the spool is replayed; then it is down again, on a file system that has just
//! deleted all these files.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use serde_json::Value;

use crate::BenchError;
use crate::bulk::{generate, pipeline};
use crate::limits::{
    OUTAGE_AFTER_REPLAY, OUTAGE_RECORDS_PER_SECOND, OUTAGE_TIMES_SYSLOG_NG,
    REPLAY_CPU_SECONDS_PER_MILLION, REPLAY_RECORDS_PER_SECOND,
};
use crate::loader::Loader;
use crate::process::{Usage, measure};
use crate::report::{Medians, Report, Run, Verdict, say};
use crate::sink::{Counts, Sink, SinkOptions};
use crate::spooled::taken_after;
use crate::syslog_ng;

/// Rows when none are asked for: 20,000 files.
pub(crate) const ROWS: u64 = 4_000_000;

const REPLAY: &str = "etl replay";
const AFTER: &str = "etl after";

/// The exit code of a run whose records wait in the spool.
const SPOOLED: i32 = 75;

/// The limits, in words.
pub(crate) fn limits() -> String {
    format!(
        "{OUTAGE_RECORDS_PER_SECOND} records a second into the spool, {OUTAGE_TIMES_SYSLOG_NG} \
         times as many as syslog-ng's disk buffer, {OUTAGE_AFTER_REPLAY} of that after a replay; {REPLAY_RECORDS_PER_SECOND} a second replayed, at \
         {REPLAY_CPU_SECONDS_PER_MILLION} CPU seconds per million; nothing lost or doubled"
    )
}

/// Spools, replays and spools again, `runs` times.
pub(crate) fn run(etl: &Loader, rows: u64, runs: u32) -> Result<Report, BenchError> {
    let directory = tempfile::tempdir().map_err(BenchError::io("temporary directory"))?;
    let directory = directory.path();
    generate(directory, rows)?;
    let port = free_port()?;
    let url = format!("http://127.0.0.1:{port}/load");
    let workers = "workers: 10\n    spool: { max_bytes: 64GiB }";
    fs::write(directory.join("pipeline.yaml"), pipeline(&url, "", workers))
        .map_err(BenchError::io("pipeline"))?;
    let peer = Loader::on_path(syslog_ng::NAME);
    if peer.is_none() {
        say("outage: syslog-ng is not on PATH and is left out; --help says how to install it");
    }
    let mut measured = Vec::new();
    for number in 1..=runs {
        say(&format!("outage: run {number} of {runs}"));
        // Not removed before the end: ext4 makes files slowly for minutes after many went.
        let data = directory.join("data");
        if data.exists() {
            let earlier = directory.join(format!("data-{number}"));
            fs::rename(&data, earlier).map_err(BenchError::io("earlier run's data"))?;
        }
        let usage = spool(etl, directory, rows)?;
        measured.push(Run::new(etl.name, &usage, counted(rows), rows));
        let options = SinkOptions { port, ..SinkOptions::default() };
        let sink = Sink::start_with(options).map_err(BenchError::io("sink"))?;
        let usage = etl_run(etl, directory, &[], 0)?;
        measured.push(Run::new(REPLAY, &usage, sink.take(), rows));
        drop(sink);
        let usage = spool(etl, directory, rows)?;
        measured.push(Run::new(AFTER, &usage, counted(rows), rows));
        if let Some(peer) = &peer {
            measured.push(syslog_ng::spool_and_deliver(peer, directory, rows, port)?);
        }
    }
    let task = format!("{rows} rows, 200 a batch, {runs} runs each");
    Ok(Report::new("outage", task, measured, judge))
}

fn judge(medians: &Medians<'_>) -> Vec<Verdict> {
    let (spooled, replayed, after) = (medians.of("etl"), medians.of(REPLAY), medians.of(AFTER));
    let mut verdicts = vec![
        Verdict::at_least(
            "records a second into the spool",
            spooled.records_per_second,
            OUTAGE_RECORDS_PER_SECOND,
        ),
        Verdict::at_least(
            "the same after a replay, of before",
            after.records_per_second / spooled.records_per_second,
            OUTAGE_AFTER_REPLAY,
        ),
        Verdict::at_least(
            "records a second replayed",
            replayed.records_per_second,
            REPLAY_RECORDS_PER_SECOND,
        ),
        Verdict::at_most(
            "CPU seconds per million records replayed",
            replayed.cpu_seconds_per_million,
            REPLAY_CPU_SECONDS_PER_MILLION,
        ),
    ];
    if let Some(peer) = medians.find(syslog_ng::NAME) {
        verdicts.push(Verdict::at_least(
            "records a second, of syslog-ng's",
            spooled.records_per_second / peer.records_per_second,
            OUTAGE_TIMES_SYSLOG_NG,
        ));
    }
    verdicts
}

/// Loads all rows while nobody listens; believes the files in the spool. The time is that
/// until the last of them had its name.
pub(crate) fn spool(etl: &Loader, directory: &Path, rows: u64) -> Result<Usage, BenchError> {
    let start = SystemTime::now();
    let usage = etl_run(etl, directory, &["--fresh"], SPOOLED)?;
    let result: Value = serde_json::from_str(&etl.stdout(directory)).unwrap_or_default();
    let spooled = result["sinks"]["http"]["spooled"].as_u64();
    let files = fs::read_dir(directory.join("data/bulk/spool/http"))
        .map_err(BenchError::io("spool"))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".json.gz"))
        .count();
    if spooled != Some(rows) || files as u64 != rows.div_ceil(200) {
        return Err(BenchError::Failed(format!(
            "etl spooled {spooled:?} of {rows} records in {files} files"
        )));
    }
    let wall = taken_after(&directory.join("data/bulk/spool/http"), start)
        .map_err(BenchError::io("spool"))?;
    Ok(Usage { wall, ..usage })
}

pub(crate) fn etl_run(
    etl: &Loader,
    directory: &Path,
    arguments: &[&str],
    code: i32,
) -> Result<Usage, BenchError> {
    let mut command = etl.command(directory)?;
    command.args(["run", "pipeline.yaml", "--json", "--quiet"]).args(arguments);
    let usage = measure(&mut command).map_err(BenchError::io("etl run"))?;
    if usage.status.code() != Some(code) {
        let words = etl.last_words(directory);
        return Err(BenchError::Failed(format!("etl run: {}, not {code}:\n{words}", usage.status)));
    }
    Ok(usage)
}

/// What is in the spool counts as arrived: it was counted there.
fn counted(rows: u64) -> Counts {
    Counts { records: rows, ..Counts::default() }
}

/// A port of this machine that was free a moment ago.
pub(crate) fn free_port() -> Result<u16, BenchError> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0));
    let address = listener.and_then(|listener| listener.local_addr());
    Ok(address.map_err(BenchError::io("a free port"))?.port())
}
