//! `postgres`: a CSV file into a mapped table, beside `psql \copy` of the same file
//! into the same table of the same server, in turn.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;

use etl_fixtures::CpuCsv;

use crate::BenchError;
use crate::bulk::run_pipeline;
use crate::limits::POSTGRES_WALL_OVER_COPY;
use crate::loader::Loader;
use crate::process::{Usage, measure};
use crate::report::{Medians, Report, Run, Verdict, median, say};
use crate::server::Postgres;
use crate::sink::Counts;

const SEED: u64 = 42;

/// Rows when none are asked for: what the promise speaks of.
pub(crate) const ROWS: u64 = 1_000_000;

/// The fixture's columns, `name type`.
const COLUMNS: &str = "ip text, hostname text, cpu_number integer, pidle double precision, \
    puser double precision, psys double precision, pirq double precision, \
    pnice double precision, \"timestamp\" bigint";

/// The limits, in words.
pub(crate) fn limits() -> String {
    format!(
        "at least {:.2} of the speed of psql \\copy; nothing lost or doubled",
        1.0 / POSTGRES_WALL_OVER_COPY
    )
}

/// Loads `rows` rows `runs` times with etl and with psql.
pub(crate) fn run(etl: &Loader, rows: u64, runs: u32) -> Result<Report, BenchError> {
    let psql = Loader::on_path("psql").ok_or_else(|| {
        BenchError::Failed("psql is not on PATH: apt-get install postgresql".to_owned())
    })?;
    let directory = tempfile::tempdir().map_err(BenchError::io("temporary directory"))?;
    let directory = directory.path();
    say(&format!("postgres: generating {rows} rows …"));
    let written = File::create(directory.join("rows.csv"))
        .and_then(|file| CpuCsv::new(rows, SEED).write(file))
        .map_err(BenchError::io("generating rows"))?;
    // As a server comes, but without a checkpoint in the middle of one of the two.
    let server = Postgres::start_with(&["max_wal_size=8GB", "checkpoint_timeout=1h"]);

    let (mut measured, mut copies) = (Vec::new(), Vec::new());
    for number in 1..=runs {
        say(&format!("postgres: run {number} of {runs}"));
        let usage = run_etl(etl, directory, &server, rows)?;
        measured.push(Run::new(etl.name, &usage, counted(&server), rows));
        let usage = run_copy(&psql, directory, &server)?;
        copies.push(usage.wall.as_secs_f64());
        measured.push(Run::new(psql.name, &usage, counted(&server), rows));
    }
    let copy = median(copies);
    let megabytes = written.bytes / 1_000_000;
    let task = format!("{rows} rows, {megabytes} MB, nine columns, {runs} runs each");
    let judge = |medians: &Medians<'_>| {
        let etl = medians.of("etl");
        let ratio = etl.wall_seconds / copy;
        vec![Verdict::at_most("wall time over psql's", ratio, POSTGRES_WALL_OVER_COPY)]
    };
    Ok(Report::new("postgres", task, rows, measured, judge))
}

/// An empty table on a server that has nothing else to do.
fn fresh_table(server: &Postgres) {
    server.ask(&format!("DROP TABLE IF EXISTS cpu; CREATE TABLE cpu ({COLUMNS})"));
    server.ask("CHECKPOINT");
}

fn counted(server: &Postgres) -> Counts {
    Counts { records: server.number("SELECT count(*) FROM cpu"), ..Counts::default() }
}

fn run_etl(
    etl: &Loader,
    directory: &Path,
    server: &Postgres,
    rows: u64,
) -> Result<Usage, BenchError> {
    fresh_table(server);
    let pipeline = format!(
        "name: bulk\n\
         source:\n  csv: {{ path: rows.csv }}\n\
         load:\n  - postgres:\n      url: \"{}\"\n      table: cpu\n      columns:\n        \
           ip: text\n        hostname: text\n        cpu_number: integer\n        \
           pidle: double\n        puser: double\n        psys: double\n        \
           pirq: double\n        pnice: double\n        timestamp: bigint\n    \
           workers: 2\n    channel: 40000\n    timeout: 60s\n    \
           batch: {{ records: 10000, bytes: 8MiB }}\n",
        server.url()
    );
    run_pipeline(etl, directory, &pipeline, rows)
}

fn run_copy(psql: &Loader, directory: &Path, server: &Postgres) -> Result<Usage, BenchError> {
    fresh_table(server);
    let mut command = psql.command(directory)?;
    command
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-c"])
        .arg("\\copy cpu FROM 'rows.csv' WITH (FORMAT csv, HEADER)")
        .arg(server.url())
        .stdin(Stdio::null());
    let usage = measure(&mut command).map_err(BenchError::io("psql"))?;
    if !usage.status.success() {
        let words = psql.last_words(directory);
        return Err(BenchError::Failed(format!("psql: {}:\n{words}", usage.status)));
    }
    Ok(usage)
}
