//! `postgres`: a CSV file into a mapped table, beside `psql \copy` of the same file
//! into the same table of the same server, in turn.

use std::fs::File;
use std::path::Path;

use etl_fixtures::CpuCsv;

use crate::BenchError;
use crate::beside_psql::{BesidePsql, finish};
use crate::bulk::run_pipeline;
use crate::limits::POSTGRES_WALL_OVER_COPY;
use crate::loader::Loader;
use crate::process::Usage;
use crate::report::{Medians, Report, Verdict, say};
use crate::support::postgres::Postgres;

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
    let directory = tempfile::tempdir().map_err(BenchError::io("temporary directory"))?;
    let directory = directory.path();
    say(&format!("postgres: generating {rows} rows …"));
    let written = File::create(directory.join("rows.csv"))
        .and_then(|file| CpuCsv::new(rows, SEED).write(file))
        .map_err(BenchError::io("generating rows"))?;
    let beside = BesidePsql::start("cpu", COLUMNS)?;
    let (measured, copy) = beside.in_turn(
        ("postgres", etl),
        (rows, runs),
        || run_etl(etl, directory, &beside.server, rows),
        || run_copy(&beside, directory),
    )?;
    let megabytes = written.bytes / 1_000_000;
    let task = format!("{rows} rows, {megabytes} MB, nine columns, {runs} runs each");
    let judge = |medians: &Medians<'_>| {
        let etl = medians.of("etl");
        let ratio = etl.wall_seconds / copy;
        vec![Verdict::at_most("wall time over psql's", ratio, POSTGRES_WALL_OVER_COPY)]
    };
    Ok(Report::new("postgres", task, measured, judge))
}

fn run_etl(
    etl: &Loader,
    directory: &Path,
    server: &Postgres,
    rows: u64,
) -> Result<Usage, BenchError> {
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

fn run_copy(beside: &BesidePsql, directory: &Path) -> Result<Usage, BenchError> {
    let mut command = beside.psql.command(directory)?;
    command
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-c"])
        .arg("\\copy cpu FROM 'rows.csv' WITH (FORMAT csv, HEADER)")
        .arg(beside.server.url());
    finish(&beside.psql, command, directory)
}
