//! Tables of SQL Server shards into PostgreSQL, with the real binary; the shards are the TDS
//! server of the tests. What counts is a checksum over the rows that each side has.
//!
//!     cargo test -p etl --features sqlserver --test sqlserver
//!     ETL_SHARD_ROWS=250000 cargo test --release -p etl --features sqlserver --test sqlserver equal -- --nocapture
//!     ETL_SHARD_KILLS=50 ETL_SHARD_ROWS=250000 cargo test --release … --test sqlserver killed -- --nocapture
//!
//! A real SQL Server is read by a test of the client: see docs/sources.md.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed step is a failed test, and figures are shown"
)]

#[path = "support/peak.rs"]
mod peak;
#[path = "support/postgres.rs"]
mod postgres;
#[path = "support/sqlserver_shards.rs"]
mod sqlserver_shards;
mod support;
#[path = "support/tds/mod.rs"]
mod tds;

use std::time::{Duration, Instant};

use sqlserver_shards::{SHARDS, SINK, Shards, ago};
use support::crash::{Ended, kill_at, random, times};
use support::{Bench, Ran};
use tds::{Authority, PASSWORD, ServerError};

/// The most memory that reading four shards may take, MiB.
const PEAK_MIB: u64 = 96;
/// How far reading stays behind the clock.
const LAG: Duration = Duration::from_secs(3);

#[test]
fn four_shards_become_equal_and_stay_so_reading_only_what_changed() {
    let rows = times("ETL_SHARD_ROWS", 2000);
    let mut shards = Shards::start(rows);
    let bench = Bench::new();
    let upsert = "mode: upsert\n      key: [shard, id]";
    bench.write("p.yaml", shards.pipeline(LAG, "", upsert));
    shards.make_sink("PRIMARY KEY (shard, id)");
    let doctor = bench.etl(&["doctor", "p.yaml"]).exits(0);
    assert!(doctor.stdout.contains("SQL Server 16.0"), "{}", doctor.stdout);

    let began = Instant::now();
    let child = bench.command(&["run", "p.yaml", "--json"]).spawn().unwrap();
    let (output, peak) = peak::to_the_end(child);
    let first = Ran::from(output).balanced(0);
    println!("{} rows in {:.1?}, peak {peak} MiB", 4 * rows, began.elapsed());
    assert_eq!((first.total("extracted"), shards.sent()), (4 * rows, 4 * rows));
    assert!(peak <= PEAK_MIB, "{peak} MiB");
    assert!(shards.server(0).state().logins.iter().all(|login| login.read_only));
    shards.are_equal(&[0, 1, 2, 3]);

    // 1 % changes, some rows come, and some come late: with a time within the lag before the
    // one up to which the next run reads.
    let (changed, added) = (rows / 100, 10);
    let late: Vec<String> = (0..5).map(|at| ago(2_000 + at)).collect();
    let expected = changed + added + late.len() as u64;
    shards.change(changed, added, late);
    std::thread::sleep(LAG + Duration::from_millis(500));

    shards.halt_the_last();
    let second = bench.run(&[]).balanced(69);
    assert_eq!(second.total("extracted"), 3 * expected, "only what changed is read");
    assert!(second.stderr.contains("shard d"), "{}", second.stderr);
    shards.start_the_last();
    shards.are_equal(&[0, 1, 2]);

    let third = bench.run(&[]).balanced(0);
    assert_eq!(third.total("extracted"), expected, "the shard that was down is caught up");
    shards.are_equal(&[0, 1, 2, 3]);
    assert_eq!(shards.sent(), 4 * (rows + expected), "no unchanged row left a shard");
    assert_eq!(bench.run(&[]).balanced(0).total("extracted"), 0, "nothing is new");
}

/// Into a table that takes every row it is given: only the ledger of batches stands between a
/// repeated batch and a doubled row.
#[test]
fn killed_at_any_instant_every_row_arrives_once() {
    let (rows, kills) = (times("ETL_SHARD_ROWS", 1000), times("ETL_SHARD_KILLS", 4));
    let shards = Shards::start(rows);
    let bench = Bench::new();
    let pipeline = shards.pipeline(Duration::from_secs(1), "", "mode: append");
    // Small steps, so that a kill finds a part of the rows there.
    bench.write(
        "p.yaml",
        pipeline.replace("page: 700", "page: 90").replace("records: 500", "records: 60"),
    );
    shards.make_sink("CHECK (true)");
    let mut random = random(0x5344_4253);
    let (mut killed, mut parts, mut meant) = (0, 0, Duration::from_secs(20));
    // At least one finds a part of the rows there.
    while killed < kills || parts == 0 && killed < 10 * kills {
        let began = Instant::now();
        let mut run = bench.start(&[]);
        match kill_at(&mut run, began, meant.mul_f64(random.f64())) {
            Ended::Killed => killed += 1,
            Ended::Before(_) => {
                // The run is faster than was thought; what is there is loaded again.
                meant = began.elapsed();
                shards.ask(&format!("TRUNCATE {SINK}, etl_batches"));
                std::fs::remove_dir_all(bench.path("data")).unwrap();
            }
        }
        parts += u64::from((1..4 * rows).contains(&shards.gathered()));
    }
    bench.run(&[]).balanced(0);
    println!("{killed} kills, {parts} of them with a part of the rows there");
    assert!(parts > 0, "no kill met a load");
    assert_eq!(shards.gathered(), 4 * rows, "each row once");
    let distinct = format!("SELECT count(DISTINCT (shard, id)) FROM {SINK}");
    assert_eq!(shards.number(&distinct), 4 * rows);
    shards.are_equal(&[0, 1, 2, 3]);
}

#[test]
fn a_deadlock_and_a_connection_cut_in_the_middle_of_a_result_cost_no_row() {
    let shards = Shards::start(800);
    let bench = Bench::new();
    bench.write("p.yaml", shards.pipeline(Duration::from_secs(1), "", "mode: append"));
    shards.make_sink("CHECK (true)");
    shards.server(0).fail("FROM [dbo].[things]", ServerError::deadlock());
    shards.server(1).cut_after(333);
    let ran = bench.run(&[]).balanced(0);
    assert!(ran.stderr.contains("1205"), "{}", ran.stderr);
    assert_eq!((ran.total("extracted"), shards.gathered()), (3200, 3200));
    shards.are_equal(&[0, 1, 2, 3]);
}

#[test]
fn a_refused_login_and_an_unknown_authority_are_said_and_the_other_shards_are_read() {
    let shards = Shards::start(100);
    let bench = Bench::new();
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let ca = bench.write("ca.pem", ours.pem());
    for at in 0..3 {
        shards.server(at).state().tls = Some(ours.server("127.0.0.1"));
    }
    shards.server(3).state().tls = Some(theirs.server("127.0.0.1"));
    let keys = format!("sslmode: verify-full\n    tls: {{ ca: '{}' }}", ca.display());
    let pipeline = shards.pipeline(Duration::from_secs(1), &keys, "mode: append");
    // The second shard gets a wrong password.
    let right = format!("Password=\"{PASSWORD}\"");
    let second = pipeline.match_indices(&right).nth(1).unwrap().0;
    let (head, tail) = pipeline.split_at(second);
    bench.write("p.yaml", format!("{head}{}", tail.replacen(&right, "Password=wrong-secret", 1)));
    shards.make_sink("CHECK (true)");
    let ran = bench.run(&[]).balanced(69);
    assert_eq!(ran.total("extracted"), 200);
    for words in ["shard b", "Login failed for user", "shard d", "tls.ca"] {
        assert!(ran.stderr.contains(words), "{words} in {}", ran.stderr);
    }
    assert!(!ran.stderr.contains("wrong-secret"), "{}", ran.stderr);
    shards.are_equal(&[0, 2]);
    let encrypted = |at: usize| shards.server(at).state().logins.iter().all(|one| one.encrypted);
    assert!(encrypted(0) && encrypted(2));
    assert!(shards.server(3).state().logins.is_empty(), "the impostor got no password");
    let doctor = bench.etl(&["doctor", "p.yaml"]).exits(69);
    for words in [format!("shard {}", SHARDS[0]), "Login failed".to_owned(), "tls.ca".to_owned()] {
        assert!(doctor.stdout.contains(&words), "{words} in {}", doctor.stdout);
    }
}

#[test]
fn a_type_that_cannot_be_read_is_named_by_the_doctor() {
    let server = tds::Server::start();
    server.run("CREATE TABLE places (id int NOT NULL PRIMARY KEY, at geography, any_ sql_variant)");
    let bench = Bench::new();
    let text = |table: &str| {
        format!(
            "name: p\nsource:\n  sql:\n    kind: sqlserver\n    hosts: 127.0.0.1\n    ports: '{}'\n    \
             user: {}\n    password: '{PASSWORD}'\n    database: {}\n    names: here\n    tables: \
             [{table}]\nload:\n  - file: {{}}\n",
            server.address().port(),
            tds::USER,
            tds::DATABASE
        )
    };
    bench.write("p.yaml", text("{ table: places, key: [id] }"));
    let doctor = bench.etl(&["doctor", "p.yaml"]).exits(69);
    for words in ["`at` is of type geography", "`any_` is of type sql_variant"] {
        assert!(doctor.stdout.contains(words), "{words} in {}", doctor.stdout);
    }
    bench.write("p.yaml", text("{ table: places, key: [id], columns: [id] }"));
    bench.etl(&["doctor", "p.yaml"]).exits(0);
}
