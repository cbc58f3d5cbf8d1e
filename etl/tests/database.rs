//! Rows into real databases, with the real binary: in every mode, with servers that
//! restart, lock, run full and lose replies, under `kill -9`. What counts is what the
//! database says that it has.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

#[path = "support/either.rs"]
mod either;
#[path = "support/lossy.rs"]
mod lossy;
#[path = "support/postgres.rs"]
mod postgres;
mod support;

use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use either::Database;
use lossy::Lossy;
use postgres::Postgres;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use support::{Bench, Ran, wait_until};

/// Both databases, each with a directory to run in.
fn both() -> Vec<(Bench, Database)> {
    let bench = Bench::new();
    let file = bench.path("data/p/data.db");
    let server = Database::Server(Box::new(Postgres::start()));
    vec![(bench, Database::File(file)), (Bench::new(), server)]
}

/// A pipeline from `rows.csv` into the sink with these settings; the database is the
/// environment's.
fn pipeline(bench: &Bench, csv: &str, table: &str, load: &str) {
    bench.write("rows.csv", csv);
    let text = format!(
        "name: p\nsource:\n  csv: {{ path: rows.csv }}\nload:\n  - database:\n      \
         url: ${{DATABASE_URL:-}}\n      {table}\n    \
         retry: {{ attempts: 3, base: 20ms, cap: 200ms }}\n    {load}\n"
    );
    bench.write("p.yaml", text);
}

fn run_with(bench: &Bench, url: &str, more: &[&str]) -> Ran {
    let args = [&["run", "p.yaml", "--json"], more].concat();
    bench.command(&args).env("DATABASE_URL", url).output().unwrap().into()
}

fn sink(ran: &Ran, column: &str) -> u64 {
    ran.json()["sinks"]["database"][column].as_u64().unwrap_or_else(|| panic!("{}", ran.stdout))
}

/// `id,n` with ids from 1.
fn numbers(count: u32) -> String {
    (1..=count).fold("id,n\n".to_owned(), |mut text, id| {
        writeln!(text, "{id},{}", id * 7).unwrap();
        text
    })
}

/// The table of [`numbers`].
const NUMBERS: &str =
    "table: numbers\n      create: true\n      columns: { id: bigint, n: integer }";

#[track_caller]
fn each_once(database: &Database, count: u32) {
    let sum: u64 = (1..=u64::from(count)).sum();
    let found = database.ask("SELECT count(*), count(DISTINCT id), sum(id) FROM numbers");
    assert_eq!(found, format!("{count}|{count}|{sum}"));
}

#[test]
fn the_earlier_systems_tables_are_made_and_filled() {
    for (bench, database) in both() {
        let csv = "id,userId,title,body,rest\n1,7,\"a \"\"b\"\"\",\"x\ty\\z\",1\n2,,é,,2\n";
        let table = "table: processed_data\n      create: true\n      columns:\n        \
            id: bigint\n        user_id: { type: integer, from: userId }\n        title: text\n        \
            body: text\n        processed_at: { type: timestamptz, generated: now }\n      \
            primary_key: [id]\n      indexes: [[user_id, processed_at]]";
        pipeline(&bench, csv, table, "");
        let ran = run_with(&bench, &database.url(), &[]).exits(0);
        assert_eq!(sink(&ran, "delivered"), 2);
        let sql = "SELECT id, user_id, title, body, processed_at IS NOT NULL AND 1 = 1 FROM processed_data ORDER BY id";
        let rows = database.ask(sql).replace("|t", "|1");
        assert_eq!(rows, "1|7|a \"b\"|x\ty\\z|1\n2||é||1");

        pipeline(&bench, csv, "table: raw_data\n      layout: raw\n      create: true", "");
        run_with(&bench, &database.url(), &["--fresh"]).exits(0);
        let json = match database {
            Database::Server(_) => "data->>'title'",
            Database::File(_) => "json_extract(data, '$.title')",
        };
        let sql = format!(
            "SELECT id, {json}, created_at > '2026-01-01' AND 1 = 1 FROM raw_data ORDER BY id"
        );
        assert_eq!(database.ask(&sql).replace("|t", "|1"), "1|a \"b\"|1\n2|é|1");
        let indexes = match database {
            Database::Server(_) => {
                "SELECT count(*) FROM pg_indexes WHERE indexname IN ('raw_data_created_at_idx', 'processed_data_user_id_processed_at_idx')"
            }
            Database::File(_) => {
                "SELECT count(*) FROM sqlite_master WHERE name IN ('raw_data_created_at_idx', 'processed_data_user_id_processed_at_idx')"
            }
        };
        assert_eq!(database.number(indexes), 2);
    }
}

#[test]
fn upsert_overwrites_by_key_and_the_last_of_a_batch_wins() {
    for (bench, database) in both() {
        let table = "table: people\n      create: true\n      mode: upsert\n      key: [id]\n      \
            columns: { id: bigint, name: text }";
        pipeline(&bench, "id,name\n1,a\n2,b\n1,c\n", table, "");
        run_with(&bench, &database.url(), &[]).exits(0);
        assert_eq!(database.ask("SELECT * FROM people ORDER BY id"), "1|c\n2|b");
        pipeline(&bench, "id,name\n2,d\n3,e\n", table, "");
        run_with(&bench, &database.url(), &[]).exits(0);
        assert_eq!(database.ask("SELECT * FROM people ORDER BY id"), "1|c\n2|d\n3|e");
    }
}

#[test]
fn an_upsert_with_a_version_keeps_the_newer_row_whatever_comes_last() {
    for (bench, database) in both() {
        let table = "table: people\n      create: true\n      mode: upsert\n      key: [id]\n      \
            version: at\n      columns: { id: bigint, at: timestamptz, name: text }";
        let row = |id: u32, day: u32, name: &str| format!("{id},2026-01-0{day}T00:00:00Z,{name}\n");
        let header = "id,at,name\n".to_owned();
        let csv = header.clone() + &row(1, 2, "a") + &row(2, 5, "b") + &row(1, 1, "older");
        pipeline(&bench, &csv, table, "");
        run_with(&bench, &database.url(), &[]).exits(0);
        let people = "SELECT id, name FROM people ORDER BY id";
        assert_eq!(database.ask(people), "1|a\n2|b");
        let csv = header + &row(2, 4, "late") + &row(1, 2, "same") + &row(3, 1, "c");
        pipeline(&bench, &csv, table, "");
        let ran = run_with(&bench, &database.url(), &[]).exits(0);
        assert_eq!(sink(&ran, "delivered"), 3);
        assert_eq!(database.ask(people), "1|same\n2|b\n3|c");
    }
}

#[test]
fn replace_replaces_the_partitions_of_a_run_and_no_others() {
    for (bench, database) in both() {
        let table = "table: days\n      create: true\n      mode: replace\n      partition: day\n      \
            columns: { day: date, n: integer }";
        // Small batches: the later ones of a run must not delete what the first put there.
        let load = "batch: { records: 2 }\n    workers: 3";
        pipeline(
            &bench,
            "day,n\n2026-01-01,1\n2026-01-01,2\n2026-01-02,3\n2026-01-02,4\n,5\n",
            table,
            load,
        );
        run_with(&bench, &database.url(), &[]).exits(0);
        assert_eq!(database.number("SELECT count(*) FROM days"), 5);
        pipeline(&bench, "day,n\n2026-01-02,6\n2026-01-02,7\n2026-01-02,8\n,9\n", table, load);
        run_with(&bench, &database.url(), &[]).exits(0);
        let found = database.ask("SELECT n FROM days ORDER BY n");
        assert_eq!(found.replace('\n', " "), "1 2 6 7 8 9");
    }
}

#[test]
fn a_partition_that_a_newer_run_replaced_is_not_filled_by_an_older_one() {
    let (bench, server) = (Bench::new(), Postgres::start());
    let table = "table: days\n      create: true\n      mode: replace\n      partition: day\n      \
        columns: { day: date, n: integer }";
    let load = "timeout: 2s\n    max_rejected: 100%";
    // The first run finds nobody; its batch stays in the spool.
    pipeline(&bench, "day,n\n2026-01-01,1\n2026-01-02,2\n", table, load);
    run_with(&bench, "postgres://postgres@127.0.0.1:1/etl", &[]).exits(75);
    // A newer one, from elsewhere, replaces one of its days.
    let other = Bench::new();
    pipeline(&other, "day,n\n2026-01-02,22\n", table, load);
    run_with(&other, &server.url(), &[]).exits(0);
    let ran = run_with(&bench, &server.url(), &[]).exits(65);
    assert_eq!(sink(&ran, "replayed"), 1, "{}", ran.stdout);
    assert_eq!(server.ask("SELECT n FROM days ORDER BY n"), "1\n22");
    let dead = bench.etl(&["spool", "cat", "p", "--dead"]).stdout;
    assert!(dead.contains("newer run has replaced"), "{dead}");
}

#[test]
fn killed_at_any_instant_each_row_is_there_once() {
    const ROWS: u32 = 4000;
    for (bench, database) in both() {
        let load = "workers: 4\n    rate: 150/s\n    batch: { records: 25 }";
        pipeline(&bench, &numbers(ROWS), NUMBERS, load);
        let mut midway = 0;
        for kill in 0.. {
            assert!(kill < 60, "the load never ends");
            let mut command = bench.command(&["run", "p.yaml", "--json"]);
            let mut child = command
                .env("DATABASE_URL", database.url())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(Duration::from_millis(90 + 37 * (kill % 11)));
            if kill > 25 {
                child.wait().unwrap();
            }
            child.kill().unwrap();
            child.wait().unwrap();
            let known = match &database {
                Database::Server(_) => {
                    database.ask("SELECT coalesce(to_regclass('numbers')::text, '')")
                }
                Database::File(file) if !file.exists() => continue,
                Database::File(_) => {
                    database.ask("SELECT name FROM sqlite_master WHERE name = 'numbers'")
                }
            };
            if known.is_empty() {
                continue;
            }
            let there = database.number("SELECT count(*) FROM numbers");
            midway += u32::from(there > 0 && there < u64::from(ROWS));
            if there == u64::from(ROWS) {
                break;
            }
        }
        assert!(midway >= 3, "killed midway only {midway} times");
        run_with(&bench, &database.url(), &[]).exits(0);
        each_once(&database, ROWS);
    }
}

#[test]
fn a_restart_of_the_server_and_lost_commit_replies_double_and_lose_nothing() {
    const ROWS: u32 = 3000;
    let bench = Bench::new();
    let mut server = Postgres::start();
    let proxy = Lossy::start(server.port);
    let url = format!("postgres://postgres@127.0.0.1:{}/etl", proxy.port);
    let load = "workers: 4\n    rate: 100/s\n    batch: { records: 25 }\n    timeout: 5s";
    pipeline(&bench, &numbers(ROWS), NUMBERS, load);
    proxy.lose_commits(5);
    let mut command = bench.command(&["run", "p.yaml", "--json"]);
    let child = command.env("DATABASE_URL", &url).spawn().unwrap();
    wait_until("replies are lost and rows are there", || {
        proxy.lost() >= 5 && server.number("SELECT count(*) FROM numbers") > 300
    });
    server.halt();
    std::thread::sleep(Duration::from_millis(300));
    server.go();
    let ran: Ran = child.wait_with_output().unwrap().into();
    assert!(matches!(ran.code, Some(0 | 75)), "{} {}", ran.stdout, ran.stderr);
    // The loss that opens the breaker spools what would be tried again, of all workers.
    assert!(sink(&ran, "retries") >= 1, "{}", ran.stdout);
    let there = server.number("SELECT count(*) FROM numbers");
    assert!(there > 300, "{there}");
    run_with(&bench, &url, &[]).exits(0);
    each_once(&Database::Server(Box::new(server)), ROWS);
}

#[test]
fn bad_rows_are_dead_lettered_with_their_reason_and_the_others_load() {
    for (bench, database) in both() {
        let mut csv = numbers(100);
        csv.push_str("abc,1\n102,\n103,99999999999\n1,3\n,4\n");
        let settings = format!("{}\n      primary_key: [id]", NUMBERS);
        pipeline(&bench, &csv, &settings, "workers: 1\n    batch: { records: 50 }");
        let ran = run_with(&bench, &database.url(), &[]).exits(65);
        assert_eq!((sink(&ran, "delivered"), sink(&ran, "dead_lettered")), (101, 4));
        assert_eq!(database.number("SELECT count(*) FROM numbers"), 101);
        let dead = bench.etl(&["spool", "cat", "p", "--dead"]).stdout;
        let reasons = match database {
            Database::Server(_) => [
                "22P02 invalid input syntax for type bigint",
                "22003 value",
                "23505 duplicate key",
                "23502 null value",
            ],
            Database::File(_) => [
                "id: invalid input for type bigint",
                "n: invalid input for type integer",
                "UNIQUE constraint failed",
                "NOT NULL constraint failed",
            ],
        };
        for reason in reasons {
            assert!(dead.contains(reason), "{reason}: {dead}");
        }
        run_with(&bench, &database.url(), &[]);
        assert_eq!(database.number("SELECT count(*) FROM numbers"), 101);
    }
}

#[test]
fn what_passes_is_waited_for_and_what_does_not_is_refused_with_a_remedy() {
    let (bench, server) = (Bench::new(), Postgres::start());
    let database = Database::Server(Box::new(server));
    let Database::Server(server) = &database else { return };
    let without = NUMBERS.replace("create: true", "create: false");
    pipeline(&bench, &numbers(500), &without, "timeout: 5s\n    batch: { records: 100 }");

    // No table: everything is kept, and the remedy is said.
    let ran = run_with(&bench, &server.url(), &[]).exits(75);
    assert!(ran.stderr.contains("42P01") && ran.stderr.contains("create: true"), "{}", ran.stderr);
    assert_eq!((sink(&ran, "spooled"), sink(&ran, "dead_lettered")), (500, 0));
    // No such database.
    let elsewhere = server.url().replace("/etl", "/none");
    let ran = run_with(&bench, &elsewhere, &[]).exits(75);
    assert!(ran.stderr.contains("3D000"), "{}", ran.stderr);

    // A table that somebody holds: kept, with the server's own word for it.
    server.ask("CREATE TABLE numbers (id bigint, n integer)");
    let mut holder = server
        .psql("etl")
        .args(["-c", "BEGIN; LOCK TABLE numbers; SELECT pg_sleep(600)"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let held = "SELECT count(*) FROM pg_locks WHERE relation = 'numbers'::regclass AND granted";
    wait_until("the table is held", || server.number(held) == 1);
    let ran = run_with(&bench, &server.url(), &[]).exits(75);
    assert!(ran.stderr.contains("55P03"), "{}", ran.stderr);
    server.ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()");
    holder.wait().unwrap();

    // A full disk.
    server.ask(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         RAISE 'could not extend file' USING ERRCODE = '53100'; END $$; \
         CREATE TRIGGER full_disk BEFORE INSERT ON numbers FOR EACH ROW EXECUTE FUNCTION full_disk()",
    );
    let ran = run_with(&bench, &server.url(), &[]).exits(75);
    assert!(ran.stderr.contains("53100"), "{}", ran.stderr);
    assert_eq!(sink(&ran, "dead_lettered"), 0);
    server.ask("DROP TRIGGER full_disk ON numbers");

    run_with(&bench, &server.url(), &[]).exits(0);
    each_once(&database, 500);
}

#[test]
fn a_password_is_nowhere_to_be_found() {
    const PASSWORD: &str = "Canary93f";
    let (bench, mut server) = (Bench::new(), Postgres::start());
    server.ask(&format!("ALTER USER postgres PASSWORD '{PASSWORD}'"));
    server.halt();
    let (none, right) =
        (server.url(), server.url().replace("postgres@", &format!("postgres:{PASSWORD}@")));
    let wrong = right.replace(PASSWORD, "wrong");
    pipeline(&bench, &numbers(50), NUMBERS, "timeout: 2s");
    let mut all = String::new();
    let mut said = |ran: Ran, expected: &str| {
        let text = format!("{}{}", ran.stdout, ran.stderr);
        assert!(text.contains(expected), "{expected}: {text}");
        all.push_str(&text);
    };
    let doctor = |url: &str| -> Ran {
        bench.command(&["doctor", "p.yaml"]).env("DATABASE_URL", url).output().unwrap().into()
    };
    // Nobody is there, then a wrong password, then none, then the right one.
    said(run_with(&bench, &right, &[]).exits(75), "refused");
    said(doctor(&right), "FAIL");
    server.ask_for_passwords();
    server.go();
    said(run_with(&bench, &wrong, &[]).exits(75), "28P01");
    said(run_with(&bench, &none, &[]).exits(75), "asks for a password");
    said(doctor(&right), "PostgreSQL 1");
    said(run_with(&bench, &right, &[]).exits(0), "delivered");
    bench.write("wrong.yaml", format!("name: p\nsource: {{ csv: {{ path: x }} }}\nload:\n  - postgres: {{ url: 'postgres://me:{PASSWORD}@h/x?y', table: t }}\n"));
    said(bench.etl(&["check", "wrong.yaml"]).exits(78), "not known");
    assert!(!all.contains(PASSWORD), "{all}");
    let grep =
        Command::new("grep").args(["-r", "-l", PASSWORD]).arg(bench.path("data")).output().unwrap();
    assert!(grep.stdout.is_empty(), "{}", String::from_utf8_lossy(&grep.stdout));
}

#[test]
fn connections_are_encrypted_and_certificates_checked_as_sslmode_says() {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let (bench, mut server) = (Bench::new(), Postgres::start());
    server.halt();
    server.encrypt(&certificate.pem(), &key.serialize_pem());
    server.go();
    bench.write("ca.pem", issuer.pem());
    let run = |host: &str, mode: &str, tls: &str, code: i32, said: &str| {
        let table = format!("{NUMBERS}\n      sslmode: {mode}\n      tls: {{ {tls} }}");
        pipeline(&bench, &numbers(20), &table, "timeout: 5s");
        let url = server.url().replace("127.0.0.1", host);
        let ran = run_with(&bench, &url, &["--fresh"]).exits(code);
        assert!(ran.stderr.contains(said), "{mode} {tls}: {}", ran.stderr);
    };
    // What is refused stays in the spool, and all of it is there in the end.
    run("127.0.0.1", "disable", "", 75, "28000");
    run("localhost", "verify-full", "", 75, "certificate");
    run("127.0.0.1", "verify-full", "ca: ca.pem", 75, "certificate");
    run("localhost", "verify-full", "ca: ca.pem", 0, "");
    run("127.0.0.1", "require", "", 0, "");
    run("127.0.0.1", "prefer", "", 0, "");
    assert_eq!(server.number("SELECT count(*) FROM numbers"), 6 * 20);
    let bad = format!("{NUMBERS}\n      sslmode: require\n      tls: {{ ca: none.pem }}");
    pipeline(&bench, &numbers(20), &bad, "");
    run_with(&bench, &server.url(), &[]).exits(78);
}
