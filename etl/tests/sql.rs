//! Tables of shards into PostgreSQL, with real servers and the real binary. What counts
//! is a checksum that each side computes of its own rows.
//!
//!     cargo test -p etl --test sql
//!     ETL_SHARD_ROWS=250000 cargo test --release -p etl --test sql equal -- --nocapture
//!     ETL_SHARD_ROWS=250000 cargo test --release -p etl --test sql from_nothing -- --nocapture
//!     ETL_SHARD_KILLS=50 ETL_SHARD_ROWS=250000 cargo test --release -p etl --test sql killed -- --nocapture

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

#[path = "support/peak.rs"]
mod peak;
#[path = "support/postgres.rs"]
mod postgres;
#[path = "support/shards.rs"]
mod shards;
mod support;

use std::io::Write;
use std::time::{Duration, Instant};

use postgres::Postgres;
use shards::{SINK, Shards, TYPES};
use support::crash::{Ended, kill_at, random, times};
use support::serving::{Serving, history};
use support::{Bench, Ran};

/// The most memory that reading four shards may take, MiB.
const PEAK_MIB: u64 = 96;
/// How far reading stays behind the clock.
const LAG: Duration = Duration::from_secs(4);

/// Past the test harness, which would keep it back.
fn tell(text: &str) {
    writeln!(std::io::stderr(), "sql: {text}").ok();
}

#[test]
fn four_shards_become_equal_and_stay_so_reading_only_what_changed() {
    let rows = times("ETL_SHARD_ROWS", 2000);
    let mut shards = Shards::start(rows);
    let bench = Bench::new();
    bench.write("p.yaml", shards.pipeline(LAG, "mode: upsert", "key: [shard, id]"));
    shards.make_sink("PRIMARY KEY (shard, id)");

    let began = Instant::now();
    let child = bench.command(&["run", "p.yaml", "--json"]).spawn().unwrap();
    let (output, peak) = peak::to_the_end(child);
    let first = Ran::from(output).balanced(0);
    let took = began.elapsed();
    tell(&format!("{} rows of {TYPES} columns in {took:.1?}, peak {peak} MiB", 4 * rows));
    assert_eq!(first.total("extracted"), 4 * rows);
    assert!(peak <= PEAK_MIB, "{peak} MiB");
    shards.are_equal(&[0, 1, 2, 3]);

    // 1 % changes, some rows come, and some come late: with a time that is older than the
    // newest that was read then.
    let (changed, added, late) = (rows / 100, 10, 5);
    shards.change(changed, added, late);
    std::thread::sleep(LAG + Duration::from_millis(500));
    let expected = changed + added + late;

    shards.halt_the_last();
    let second = bench.run(&[]).balanced(69);
    assert_eq!(second.total("extracted"), 3 * expected, "only what changed is read");
    assert_eq!(second.json()["targets"]["failed"], 1);
    assert!(second.stderr.contains("shard d"), "{}", second.stderr);
    shards.start_the_last();
    shards.are_equal(&[0, 1, 2]);

    let third = bench.run(&[]).balanced(0);
    assert_eq!(third.total("extracted"), expected, "the shard that was down is caught up");
    shards.are_equal(&[0, 1, 2, 3]);

    let fourth = bench.run(&[]).balanced(0);
    assert_eq!(fourth.total("extracted"), 0, "nothing is new");
}

/// As a person begins: a pipeline is generated, three lines of its environment are edited, the
/// doctor is asked, and it is started in a server.
#[test]
fn from_nothing_to_a_started_pipeline_with_every_row() {
    let rows = times("ETL_SHARD_ROWS", 2000);
    let shards = Shards::start(rows);
    shards.make_customers();
    let bench = Bench::new();
    bench.etl(&["generate", "--name", "crm", "--template", "sql-shards"]).exits(0);
    let template = std::fs::read_to_string(bench.path("pipelines/crm/.env.template")).unwrap();
    let edited = [
        ("SHARD_KIND=", "postgres".to_owned()),
        ("SHARDS=", shards.urls()),
        ("DATABASE_URL=", shards.url()),
    ];
    let line = |line: &str| match edited.iter().find(|(name, _)| line.starts_with(name)) {
        Some((name, value)) => format!("{name}{value}\n"),
        None => format!("{line}\n"),
    };
    let filled: String = template.lines().map(line).collect();
    assert_eq!(filled.lines().zip(template.lines()).filter(|(one, other)| one != other).count(), 3);
    bench.write("pipelines/crm/.env", filled);
    bench.etl(&["doctor", "pipelines/crm/pipeline.yaml"]).exits(0);

    let began = Instant::now();
    let serving = Serving::start(&bench, "pipelines", &[]);
    bench.etl(&["start", "crm"]).exits(0);
    serving.until_within(Duration::from_secs(600), "a run is over", |it| it.runs("crm") >= 1);
    tell(&format!("{} rows from nothing in {:.1?}", 4 * rows, began.elapsed()));
    let run = history(&bench, "crm").remove(0);
    assert_eq!(
        (&run["result"], &run["extracted"]),
        (&"complete".into(), &(4 * rows).into()),
        "{run}"
    );
    shards.customers_are_equal();
    assert_eq!(serving.stop().0, Some(0));
}

/// Into a table that takes every row it is given: only the ledger of batches stands
/// between a repeated batch and a doubled row.
#[test]
fn killed_at_any_instant_every_row_arrives_once() {
    let (rows, kills) = (times("ETL_SHARD_ROWS", 2000), times("ETL_SHARD_KILLS", 5));
    let shards = Shards::start(rows);
    let bench = Bench::new();
    // A second sink with other batches, so that a resumed run finds the two at different places.
    let second = format!(
        "  - name: second\n    postgres:\n      url: {}\n      table: second\n      create: true\n      \
         columns: {{ shard: text, id: bigint }}\n    batch: {{ records: 333 }}\n    workers: 1\n",
        shards.url()
    );
    let text = shards.pipeline(Duration::from_secs(1), "mode: append", "extra: ignore");
    bench.write("p.yaml", text + &second);
    shards.make_sink("CHECK (true)");
    let mut random = random(0x5348_4152);
    let from_nothing = || {
        shards.ask(&format!("TRUNCATE {SINK}, second, etl_batches"));
        std::fs::remove_dir_all(bench.path("data")).unwrap();
    };
    let began = Instant::now();
    bench.run(&[]).balanced(0);
    let whole = began.elapsed();
    from_nothing();
    let (mut killed, mut partly) = (0, 0);
    while killed < kills || partly == 0 && killed < 10 * kills {
        let began = Instant::now();
        let mut run = bench.start(&[]);
        match kill_at(&mut run, began, whole.mul_f64(0.2 + 0.6 * random.f64())) {
            Ended::Killed => killed += 1,
            // What is there is loaded again.
            Ended::Before(_) => from_nothing(),
        }
        let has = shards.has();
        partly += u64::from(has > 0 && has < 4 * rows);
    }
    let last = bench.run(&[]).balanced(0);
    tell(&format!("{killed} kills, after {partly} of them a part was there: {}", last.stdout));
    assert!(partly > 0, "no kill met a load");
    assert_eq!(shards.has(), 4 * rows, "each row once");
    shards.are_equal(&[0, 1, 2, 3]);
    for table in [SINK, "second"] {
        let counted = format!("SELECT count(*), count(DISTINCT (shard, id)) FROM {table}");
        assert_eq!(shards.ask(&counted), format!("{0}|{0}", 4 * rows), "{table}");
    }
}

#[test]
fn a_type_that_cannot_be_read_is_named_before_any_row_is_and_so_is_a_cursor_that_is_null() {
    let server = Postgres::start();
    server.ask(
        "CREATE TYPE pair AS (a int, b int); \
         CREATE TABLE odd (id bigint PRIMARY KEY, both_ pair); INSERT INTO odd VALUES (1, (1, 2)); \
         CREATE TABLE fine (id bigint PRIMARY KEY, at timestamptz); \
         INSERT INTO fine VALUES (1, '2026-01-01'), (2, NULL)",
    );
    let bench = Bench::new();
    let pipeline = |tables: &str| {
        let text = format!(
            "name: p\nsource:\n  sql:\n    kind: postgres\n    shards: '{}'\n    names: here\n    \
             tables:\n{tables}load:\n  - file: {{ format: ndjson }}\n",
            server.url()
        );
        bench.write("p.yaml", text);
    };
    pipeline("      - { table: odd, key: [id] }\n      - { table: fine, key: [id] }\n");
    let ran = bench.run(&[]).balanced(69);
    assert_eq!(ran.total("extracted"), 2, "the other table is read");
    let named = "shard here, odd: column `both_` is of type public.pair, which cannot be read";
    assert!(ran.stderr.contains(named), "{}", ran.stderr);
    let doctor = bench.etl(&["doctor", "p.yaml"]).exits(69);
    for words in [
        "shard here: connect ok, PostgreSQL 1",
        "shard here, odd: column `both_` is of type public.pair, which cannot be read",
        "cast it to text in a `query`",
        "shard here, fine: 2 columns, index on (id)",
    ] {
        assert!(doctor.stdout.contains(words), "{words} in {}", doctor.stdout);
    }

    pipeline("      - { table: fine, key: [id], cursor: at }\n");
    let ran = bench.run(&["--fresh"]).balanced(69);
    assert_eq!(ran.total("extracted"), 0);
    assert!(ran.stderr.contains("rows with NULL in `at`"), "{}", ran.stderr);
    let doctor = bench.etl(&["doctor", "p.yaml"]).exits(0);
    assert!(doctor.stdout.contains("no index on (at, id)"), "{}", doctor.stdout);
    pipeline("      - { table: fine, key: [id], cursor: at, skip_null_cursor: true }\n");
    assert_eq!(bench.run(&["--fresh"]).balanced(0).total("extracted"), 1);

    let cast = "SELECT id, both_::text AS both_ FROM odd -- as text";
    pipeline(&format!("      - {{ name: odd, key: [id], query: \"{cast}\" }}\n"));
    assert_eq!(bench.run(&["--fresh"]).balanced(0).total("extracted"), 1);
    let written = bench.path("data/p/processed");
    let text: String = std::fs::read_dir(written)
        .unwrap()
        .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    assert!(text.contains("{\"id\":1,\"both_\":\"(1,2)\"}"), "{text}");
}

#[test]
fn a_wrong_password_is_refused_at_once_and_a_server_that_is_away_is_tried_again() {
    let mut server = Postgres::start();
    server.ask("CREATE TABLE t (id bigint PRIMARY KEY)");
    server.ask_for_passwords();
    server.halt();
    server.go();
    let bench = Bench::new();
    let text = format!(
        "name: p\nsource:\n  sql:\n    kind: postgres\n    hosts: 127.0.0.1\n    ports: '{}'\n    \
         user: postgres\n    password: every-secret\n    database: etl\n    connect_retry: {{ wait: \
         100ms }}\n    tables: [{{ table: t, key: [id] }}]\nload:\n  - file: {{}}\n",
        server.port
    );
    bench.write("p.yaml", text);
    let ran = bench.run(&[]).balanced(69);
    assert!(ran.stderr.contains("correct user and password"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("trying again"), "{}", ran.stderr);
    server.halt();
    let ran = bench.run(&[]).balanced(69);
    assert!(ran.stderr.contains("connection lost, trying again"), "{}", ran.stderr);
    let log = std::fs::read_to_string(bench.path("logs/etl.log")).unwrap();
    assert!(!ran.stderr.contains("every-secret") && !log.contains("every-secret"));
}

#[test]
fn tables_go_to_sinks_of_their_own_and_the_first_run_reads_so_far_back() {
    let bench = Bench::new();
    let make = |file: &str, shard: u32| {
        let database = rusqlite::Connection::open(bench.path(file)).unwrap();
        let make = format!(
            "CREATE TABLE history (id INTEGER PRIMARY KEY, at DATETIME NOT NULL, who TEXT);
             CREATE TABLE log (id INTEGER PRIMARY KEY, at DATETIME NOT NULL, what BLOB);
             CREATE INDEX history_at ON history (at, id);
             CREATE INDEX log_at ON log (at, id);
             INSERT INTO history SELECT value, datetime('now', '-' || value || ' days'),
                 'user {shard}-' || value FROM generate_series(1, 20);
             INSERT INTO log SELECT value, datetime('now', '-' || value || ' days'), x'00ff'
                 FROM generate_series(1, 30);"
        );
        let series = "(WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n \
                      WHERE value < 30) SELECT value FROM n)";
        let make = make
            .replace("generate_series(1, 20)", &format!("{series} WHERE value <= 20"))
            .replace("generate_series(1, 30)", series);
        database.execute_batch(&make).unwrap();
    };
    make("one.db", 1);
    make("two.db", 2);
    let path = |file: &str| bench.path(file).display().to_string();
    let text = format!(
        "name: p\nsource:\n  sql:\n    kind: sqlite\n    shards: 'sqlite:{},sqlite:{}'\n    names: \
         one,two\n    tables:\n      \
         - {{ table: history, key: [id], cursor: at, since: 15days, lag: 1s, to: [history] }}\n      \
         - {{ table: log, key: [id], cursor: at, lag: 1s, to: [log] }}\n    \
         add: {{ shard: shard, source_table: source_table, processed_at: processed_at }}\n\
         load:\n  - name: history\n    file: {{ prefix: history, format: ndjson }}\n  - name: log\n    file: {{ \
         prefix: log, format: ndjson }}\n",
        path("one.db"),
        path("two.db")
    );
    bench.write("p.yaml", text);
    let ran = bench.run(&[]).balanced(0);
    let sinks = &ran.json()["sinks"];
    assert_eq!(sinks["history"]["delivered"], 2 * 14, "{sinks}");
    assert_eq!(sinks["log"]["delivered"], 2 * 30, "{sinks}");
    assert_eq!(sinks["history"]["elsewhere"], 2 * 30, "{sinks}");
    let mut all = String::new();
    for entry in std::fs::read_dir(bench.path("data/p/processed")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let table = if path.to_string_lossy().contains("/history_") { "history" } else { "log" };
        assert!(text.contains(&format!("\"source_table\":\"{table}\"")), "{text}");
        all += &text;
    }
    assert!(all.contains("\"what\":\"AP8=\",\"shard\":\"two\""), "{all}");
    assert_eq!(all.matches("user 2-").count(), 14, "{all}");
    let again = bench.run(&[]).balanced(0);
    assert_eq!(again.total("extracted"), 0, "{}", again.stderr);
    // A table that is read whole is read whole again.
    let whole = std::fs::read_to_string(bench.path("p.yaml")).unwrap();
    let whole = whole.replace("cursor: at, lag: 1s, to: [log]", "to: [log]");
    bench.write("p.yaml", whole);
    assert_eq!(bench.run(&[]).balanced(0).total("extracted"), 60);
    assert_eq!(bench.run(&[]).balanced(0).total("extracted"), 60);
}

/// The pipelines of `fixtures/pipelines`, with PostgreSQL in the place of SQL Server.
#[test]
fn the_example_pipelines_gather_their_tables() {
    let server = Postgres::start();
    let mut urls = Vec::new();
    for shard in 1..=2 {
        let database = format!("shard{shard}");
        server.sql("postgres", &format!("CREATE DATABASE {database}"));
        let logons = |table: &str, days: u32| {
            format!(
                "CREATE TABLE {table} (dealer_id bigint, logon_logoff_time timestamptz, \
                 entry_sequence int, user_name text, event text, address inet, \
                 PRIMARY KEY (dealer_id, logon_logoff_time, entry_sequence)); \
                 INSERT INTO {table} SELECT {shard}, now() - i * interval '1 day', i, 'u' || i, \
                 'logon', '10.0.0.1' FROM generate_series(1, {days}) AS i; "
            )
        };
        server.sql(
            &database,
            &format!(
                "CREATE TABLE customers (customer_id bigint PRIMARY KEY, first_name text, \
                 last_name text, email text, created_at timestamptz, country text, \
                 amount numeric(10,2), updated_at timestamptz NOT NULL, secret text); \
                 INSERT INTO customers SELECT {shard}000 + i, 'Zoë', 'O''Neil', i || '@x.net', \
                 '2026-01-01', 'DE', i * 1.10, now() - interval '1 hour', 'x' \
                 FROM generate_series(1, 50) AS i; {}{}",
                logons("user_connection_history", 20),
                logons("user_connection_log", 10),
            ),
        );
        urls.push(server.url().replace("/etl", &format!("/{database}")));
    }
    let bench = Bench::new();
    let run = |name: &str| -> Ran {
        let file = format!("{}/../fixtures/pipelines/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
        let mut command = bench.command(&["run", &file, "--json"]);
        command.env("SHARD_KIND", "postgres").env("SHARDS", urls.join(","));
        command.env("DATABASE_URL", server.url()).output().unwrap().into()
    };
    run("shards").balanced(0);
    let sum = "SELECT count(*), sum(amount), min(first_name || last_name), count(DISTINCT shard_id), \
               count(DISTINCT processed_at) FROM sink_table";
    assert_eq!(server.ask(sum), "100|2805.00|ZoëO'Neil|2|1");
    let change = "UPDATE customers SET amount = 0, updated_at = now() - interval '2 min' \
                  WHERE customer_id = 2007";
    server.sql("shard2", change);
    let ran = run("shards").balanced(0);
    assert_eq!(ran.total("extracted"), 1);
    assert_eq!(server.ask(sum), "100|2797.30|ZoëO'Neil|2|2");

    let ran = run("login-analytics").balanced(0);
    assert_eq!(ran.total("extracted"), 2 * (14 + 10));
    let logons = "SELECT count(*), count(DISTINCT shard_id), max(entry_sequence) FROM";
    assert_eq!(server.ask(&format!("{logons} user_connection_history")), "28|2|14");
    assert_eq!(server.ask(&format!("{logons} user_connection_log")), "20|2|10");
    // All again, over what is there.
    let state = bench.path("data/login-analytics/state");
    std::fs::remove_dir_all(state).unwrap();
    run("login-analytics").balanced(0);
    assert_eq!(server.ask(&format!("{logons} user_connection_history")), "28|2|14");
}
