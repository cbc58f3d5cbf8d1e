//! Shards that are MariaDB, read by the real binary from a real server: every type comes
//! out as the server itself writes it.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

#[path = "support/mariadb.rs"]
mod mariadb;
mod support;

use mariadb::MariaDb;
use serde_json::{Value, json};
use support::Bench;

fn pipeline(server: &MariaDb, databases: &[&str], tables: &str) -> String {
    let urls: Vec<String> = databases.iter().map(|database| server.url(database)).collect();
    format!(
        "name: p\nsource:\n  sql:\n    kind: mysql\n    shards: '{}'\n    names: {}\n    page: 7\n    \
         connect_retry: {{ wait: 100ms }}\n    tables: [{tables}]\n    add: {{ shard: shard }}\n\
         load:\n  - file: {{ format: ndjson }}\n",
        urls.join(","),
        databases.join(",")
    )
}

/// Every record that the file sink has.
fn records(bench: &Bench) -> Vec<Value> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(bench.path("data/p/processed")).into_iter().flatten() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        all.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
    }
    all
}

#[test]
fn every_type_comes_out_as_the_server_writes_it() {
    let server = MariaDb::start();
    server.sql("", "CREATE DATABASE one CHARACTER SET utf8mb4");
    server.sql(
        "one",
        "CREATE TABLE things (id bigint unsigned PRIMARY KEY, tiny tinyint(1), bits bit(12), \
         flag bit(1), amount decimal(30,10), money decimal(10,2), f float, d double, name text, \
         code char(4), raw varbinary(20), blobs blob, day date, t time(3), at datetime(6), \
         ts timestamp(3) NULL, y year, mood enum('sad','glad'), doc json, nothing int); \
         INSERT INTO things VALUES (18446744073709551615, 1, b'100000000001', b'1', \
         '12345678901234567890.0123456789', '12.50', 0.1, 0.1, 'ä😀\"\\\\\\n', 'ab', x'00ff10', x'', \
         '2026-11-21', '-12:00:00.500', '2026-11-21 10:00:00.250000', '2026-11-21 10:00:00.125', \
         2026, 'glad', '{\"a\": 1.10}', NULL); \
         UPDATE things SET ts = FROM_UNIXTIME(1795255200.125)",
    );
    let bench = Bench::new();
    bench.write("p.yaml", pipeline(&server, &["one"], "{ table: things, key: [id] }"));
    bench.run(&[]).balanced(0);
    let mut found = records(&bench);
    assert_eq!(found.len(), 1, "{found:?}");
    let expected = json!({
        "id": 18_446_744_073_709_551_615_u64, "tiny": 1, "bits": 2049, "flag": true,
        "amount": "12345678901234567890.0123456789", "money": 12.50, "f": 0.1, "d": 0.1,
        "name": "ä😀\"\\\n", "code": "ab", "raw": "AP8Q", "blobs": "", "day": "2026-11-21",
        "t": "-12:00:00.500", "at": "2026-11-21T10:00:00.250000", "ts": "2026-11-21T10:00:00.125Z",
        "y": 2026, "mood": "glad", "doc": "{\"a\": 1.10}", "nothing": null, "shard": "one",
    });
    assert_eq!(found.remove(0), expected);
    let doctor = bench.etl(&["doctor", "p.yaml"]).exits(0);
    assert!(doctor.stdout.contains("shard one: connect ok, MariaDB 1"), "{}", doctor.stdout);
    assert!(doctor.stdout.contains("index on (id)"), "{}", doctor.stdout);
}

#[test]
fn pages_by_cursor_and_key_miss_and_repeat_nothing_and_a_server_that_comes_back_is_caught_up() {
    let mut server = MariaDb::start();
    for database in ["one", "two"] {
        server.sql("", &format!("CREATE DATABASE {database}"));
        server.sql(
            database,
            "CREATE TABLE t (a int, b varchar(9), at timestamp(3) NOT NULL, n int, \
             PRIMARY KEY (a, b), KEY (at, a, b)); \
             INSERT INTO t SELECT seq DIV 10, CONCAT('k', seq % 10), \
             NOW(3) - INTERVAL 1 DAY + INTERVAL (seq DIV 30) SECOND, seq FROM seq_1_to_200",
        );
    }
    let bench = Bench::new();
    let table = "{ table: t, key: [a, b], cursor: at, lag: 1s, columns: [n] }";
    bench.write("p.yaml", pipeline(&server, &["one", "two"], table));
    let doctor = bench.etl(&["doctor", "p.yaml"]).exits(0);
    assert!(doctor.stdout.contains("index on (at, a, b)"), "{}", doctor.stdout);
    bench.run(&[]).balanced(0);
    for shard in ["one", "two"] {
        let of = |record: &Value| record["n"].as_u64().filter(|_| record["shard"] == shard);
        let mut numbers: Vec<u64> = records(&bench).iter().filter_map(of).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=200).collect::<Vec<_>>(), "{shard}");
    }
    let change = "UPDATE t SET n = n + 1000, at = NOW(3) - INTERVAL 2 SECOND WHERE n <= 20";
    server.sql("one", change);
    server.halt();
    let ran = bench.run(&[]).balanced(69);
    assert!(ran.stderr.contains("connection lost, trying again"), "{}", ran.stderr);
    assert_eq!(ran.json()["targets"]["failed"], 2);
    server.go();
    let ran = bench.run(&[]).balanced(0);
    assert_eq!(ran.total("extracted"), 20, "{}", ran.stderr);
    assert_eq!(bench.run(&[]).balanced(0).total("extracted"), 0);
}

#[test]
fn a_wrong_password_and_a_type_that_cannot_be_read_are_refused_by_name() {
    let server = MariaDb::start();
    server.sql("", "CREATE DATABASE one");
    server.sql("one", "CREATE TABLE shapes (id int PRIMARY KEY, shape geometry)");
    server.sql(
        "",
        "CREATE USER reader@'%' IDENTIFIED BY 'right'; GRANT SELECT ON one.* TO reader@'%'",
    );
    let bench = Bench::new();
    let tables = "{ table: shapes, key: [id] }";
    bench.write("p.yaml", pipeline(&server, &["one"], tables));
    let ran = bench.run(&[]).balanced(69);
    let named = "shard one, shapes: column `shape` is of type geometry, which cannot be read";
    assert!(ran.stderr.contains(named), "{}", ran.stderr);
    let with = |password: &str| {
        let text = pipeline(&server, &["one"], "{ table: shapes, key: [id], columns: [id] }");
        bench.write("p.yaml", text.replace("root@", &format!("reader:{password}@")));
        bench.run(&[])
    };
    let ran = with("wrong").balanced(69);
    assert!(ran.stderr.contains("correct user and password"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("trying again"), "{}", ran.stderr);
    with("right").balanced(0);
}
