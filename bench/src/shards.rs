//! `shards`: four databases of PostgreSQL into one table, beside `psql \copy … to stdout`
//! piped into `psql \copy … from stdin`, four pipes at once, in turn.

use std::path::Path;

use crate::BenchError;
use crate::beside_psql::{BesidePsql, finish};
use crate::bulk::run_pipeline;
use crate::limits::{SHARDS_RSS_MIB, SHARDS_WALL_OVER_PIPE};
use crate::loader::Loader;
use crate::process::Usage;
use crate::report::{Medians, Report, Verdict, say};
use crate::support::postgres::Postgres;

/// Rows in all when none are asked for: what the promise speaks of.
pub(crate) const ROWS: u64 = 1_000_000;

const SHARDS: [&str; 4] = ["a", "b", "c", "d"];

/// The table of each shard, and of the sink.
const COLUMNS: &str = "customer_id bigint, first_name text, last_name text, email text, \
    created_at timestamptz, country text, amount numeric(10,2), updated_at timestamptz";

/// The limits, in words.
pub(crate) fn limits() -> String {
    format!(
        "at least {:.2} of the speed of four pipes of psql; at most {SHARDS_RSS_MIB} MiB; nothing \
         lost or doubled",
        1.0 / SHARDS_WALL_OVER_PIPE
    )
}

/// Gathers `rows` rows of four shards `runs` times with etl and with psql.
pub(crate) fn run(etl: &Loader, rows: u64, runs: u32) -> Result<Report, BenchError> {
    let bash = Loader::on_path("bash")
        .ok_or_else(|| BenchError::Failed("bash is not on PATH".to_owned()))?;
    let directory = tempfile::tempdir().map_err(BenchError::io("temporary directory"))?;
    let directory = directory.path();
    let beside = BesidePsql::start("gathered", COLUMNS)?;
    let server = &beside.server;
    let rows = rows.next_multiple_of(SHARDS.len() as u64);
    say(&format!("shards: generating {rows} rows …"));
    for (number, shard) in SHARDS.iter().enumerate() {
        fill(server, shard, number as u64, rows / SHARDS.len() as u64);
    }
    let (measured, pipe) = beside.in_turn(
        ("shards", etl),
        (rows, runs),
        || run_etl(etl, directory, server, rows),
        || run_pipes(&bash, &beside, directory),
    )?;
    let task = format!("{rows} rows, eight columns, four shards, {runs} runs each");
    let judge = |medians: &Medians<'_>| {
        let etl = medians.of("etl");
        vec![
            Verdict::at_most(
                "wall time over psql's",
                etl.wall_seconds / pipe,
                SHARDS_WALL_OVER_PIPE,
            ),
            Verdict::at_most("peak RSS, MiB", etl.rss_mib, SHARDS_RSS_MIB),
        ]
    };
    Ok(Report::new("shards", task, measured, judge))
}

fn database(shard: &str) -> String {
    format!("shard_{shard}")
}

fn url(server: &Postgres, shard: &str) -> String {
    server.url().replace("/etl", &format!("/{}", database(shard)))
}

fn fill(server: &Postgres, shard: &str, number: u64, rows: u64) {
    let database = database(shard);
    server.sql("postgres", &format!("CREATE DATABASE {database}"));
    let from = number * rows;
    server.sql(
        &database,
        &format!(
            "CREATE TABLE customers ({COLUMNS}, PRIMARY KEY (customer_id)); \
             INSERT INTO customers SELECT {from} + i, 'first ' || i, 'last ' || i % 9999, \
             'user' || i || '@example.net', now() - i * interval '1 s', \
             (ARRAY['DE', 'FR', 'US'])[1 + i % 3], i * 0.01, \
             now() - interval '2 days' + i * interval '1 ms' FROM generate_series(1, {rows}) AS i; \
             CREATE INDEX ON customers (updated_at, customer_id)"
        ),
    );
    server.sql(&database, "VACUUM ANALYZE customers");
}

fn run_etl(
    etl: &Loader,
    directory: &Path,
    server: &Postgres,
    rows: u64,
) -> Result<Usage, BenchError> {
    let urls: Vec<String> = SHARDS.iter().map(|shard| url(server, shard)).collect();
    let pipeline = format!(
        "name: shards\n\
         source:\n  sql:\n    kind: postgres\n    shards: '{}'\n    tables:\n      \
           - {{ table: customers, key: [customer_id], cursor: updated_at }}\n\
         load:\n  - postgres:\n      url: \"{}\"\n      table: gathered\n      columns:\n        \
           customer_id: bigint\n        first_name: text\n        last_name: text\n        \
           email: text\n        created_at: timestamptz\n        country: text\n        \
           amount: numeric(10,2)\n        updated_at: timestamptz\n    \
           workers: 2\n    channel: 20000\n    timeout: 60s\n    \
           batch: {{ records: 5000, bytes: 8MiB }}\n",
        urls.join(","),
        server.url()
    );
    run_pipeline(etl, directory, &pipeline, rows)
}

/// What a careful person would write instead: one pipe for each shard, all at once.
fn run_pipes(bash: &Loader, beside: &BesidePsql, directory: &Path) -> Result<Usage, BenchError> {
    let program = beside.psql.program.display();
    let pipe = |shard: &&str| {
        format!(
            "{program} -Xq -v ON_ERROR_STOP=1 -c '\\copy customers to stdout' '{}' | \
             {program} -Xq -v ON_ERROR_STOP=1 -c '\\copy gathered from stdin' '{}' & pids+=($!)",
            url(&beside.server, shard),
            beside.server.url()
        )
    };
    let pipes: Vec<String> = SHARDS.iter().map(pipe).collect();
    let script = format!(
        "set -o pipefail; pids=(); {}; for pid in \"${{pids[@]}}\"; do wait \"$pid\" || exit 1; done",
        pipes.join("; ")
    );
    let mut command = bash.command(directory)?;
    command.args(["-c", &script]);
    finish(bash, command, directory)
}
