//! The example pipelines as their users start them, one command and one variable, on
//! SQLite and on PostgreSQL: what the books say is what tables and files hold.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

#[path = "support/either.rs"]
mod either;
#[path = "support/examples.rs"]
mod examples;
#[path = "support/postgres.rs"]
mod postgres;
mod support;

use either::Database;
use examples::{Example, command, examples, held, posts, records_below};
use mock_load_api_server::{Faults, Server};
use postgres::Postgres;
use support::{Bench, Ran, mock};

/// One command, against this API and database; without a URL it is SQLite.
fn run(bench: &Bench, example: &Example, api: &Server, database: &Database) -> Ran {
    let mut command = command(bench, &["run", &example.file(), "--json"], &api.url());
    if let Database::Server(server) = database {
        command.env("DATABASE_URL", server.url());
    }
    Ran::from(command.output().unwrap()).exits(0)
}

/// Both kinds of database, each with a directory to run `example` in.
fn both(example: &Example) -> Vec<(Bench, Database)> {
    let bench = Bench::new();
    let file = Database::File(bench.path(&format!("data/{}/data.db", example.name)));
    vec![(bench, file), (Bench::new(), Database::Server(Box::new(Postgres::start())))]
}

/// Everybody who looks sees these records: the books of a run, the history, tables, files.
#[track_caller]
fn all_agree(bench: &Bench, example: &Example, database: &Database, all: u64, distinct: u64) {
    for sink in &example.sinks {
        assert_eq!(held(bench, example.name, sink.name), all, "{}: the history", sink.name);
        let there = match sink.table {
            Some(table) => database.number(&format!("SELECT count(*) FROM {table}")),
            None => records_below(bench, example.name, sink.name).len() as u64,
        };
        let expected = if sink.upsert { distinct } else { all };
        assert_eq!(there, expected, "{} of {}", sink.name, example.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_pipeline_runs_in_one_command_and_its_second_run_brings_nothing_new() {
    for example in examples() {
        for (bench, database) in both(&example) {
            let api = mock(Faults::default()).await;
            let first = run(&bench, &example, &api, &database);
            assert_eq!(first.total("extracted"), 100, "{}", first.stdout);
            assert_eq!(first.json()["balanced"], true);
            let sinks = first.json()["sinks"].clone();
            assert_eq!(sinks.as_object().unwrap().len(), example.sinks.len(), "{sinks}");
            for sink in &example.sinks {
                assert_eq!(sinks[sink.name]["delivered"], 100, "{sinks}");
                assert_eq!(sinks[sink.name]["retries"], 0, "{sinks}");
            }
            all_agree(&bench, &example, &database, 100, 100);
            if let Database::File(file) = &database {
                let left = file.with_extension("db-wal");
                assert!(!left.exists(), "the database is one file when the run is over");
            }

            let again = run(&bench, &example, &api, &database);
            assert_eq!(again.total("extracted"), 0, "{}", again.stdout);
            let said = again.json()["input"].as_str().unwrap().to_owned();
            assert!(said.starts_with("nothing new: GET http://"), "{said}");
            all_agree(&bench, &example, &database, 100, 100);

            // Read once more on purpose: what is appended has it twice, what has a key once.
            let args = ["run", &example.file(), "--json", "--fresh"];
            let mut fresh = command(&bench, &args, &api.url());
            if let Database::Server(server) = &database {
                fresh.env("DATABASE_URL", server.url());
            }
            let fresh = Ran::from(fresh.output().unwrap()).exits(0);
            assert_eq!(fresh.total("extracted"), 100, "{}", fresh.stdout);
            all_agree(&bench, &example, &database, 200, 100);
        }
    }
}

/// The tables that queries and dashboards of the earlier systems know.
#[tokio::test(flavor = "multi_thread")]
async fn posts_have_the_tables_that_they_had() {
    let example = posts();
    for (bench, database) in both(&example) {
        let api = mock(Faults::default()).await;
        run(&bench, &example, &api, &database);
        let (columns, indexes) = match &database {
            Database::Server(_) => (
                "SELECT string_agg(column_name || ' ' || data_type, ', ' ORDER BY ordinal_position) \
                 FROM information_schema.columns WHERE table_name = 'TABLE'",
                "SELECT indexdef FROM pg_indexes WHERE tablename = 'TABLE' ORDER BY indexname",
            ),
            Database::File(_) => (
                "SELECT group_concat(name || ' ' || type, ', ') FROM pragma_table_info('TABLE')",
                "SELECT coalesce(sql, 'PRIMARY KEY') FROM sqlite_master \
                 WHERE type = 'index' AND tbl_name = 'TABLE' ORDER BY name",
            ),
        };
        let names = |columns: &str| -> Vec<String> {
            let words = columns.split(", ").map(|it| it.split(' ').next().unwrap().to_owned());
            words.collect()
        };
        let of = |sql: &str, table: &str| database.ask(&sql.replace("TABLE", table));
        assert_eq!(names(&of(columns, "raw_data")), ["id", "data", "created_at"]);
        let processed = ["id", "user_id", "title", "body", "processed_at"];
        assert_eq!(names(&of(columns, "processed_data")), processed);
        assert!(of(indexes, "raw_data").contains("created_at"));
        for column in ["user_id", "processed_at"] {
            let found = of(indexes, "processed_data");
            assert!(
                found.contains(&format!("({column})"))
                    || found.contains(&format!("(\"{column}\")")),
                "{found}"
            );
        }
        if let Database::Server(_) = &database {
            let types = "id bigint, data jsonb, created_at timestamp with time zone";
            assert_eq!(of(columns, "raw_data"), types);
        }
        // The same post in the API's file, the raw table, the processed file and table.
        let raw = &records_below(&bench, "posts", "raw_files")[41];
        let text = |name: &str| raw[name].as_str().unwrap().to_owned();
        let row = format!("42|5|{}|{}", text("title"), text("body"));
        let sql = "SELECT id, user_id, title, body FROM processed_data WHERE id = 42";
        assert_eq!(database.ask(sql), row);
        assert_eq!(&records_below(&bench, "posts", "processed_files")[41], raw);
        let data = match &database {
            Database::Server(_) => "SELECT data FROM raw_data WHERE data->>'id' = '42'",
            Database::File(_) => "SELECT data FROM raw_data WHERE json_extract(data, '$.id') = 42",
        };
        let data: serde_json::Value = serde_json::from_str(&database.ask(data)).unwrap();
        assert_eq!(&data, raw);
    }
}

/// What an unset variable leaves of the address is SQLite; the parts of an address are as
/// good as a whole one.
#[tokio::test(flavor = "multi_thread")]
async fn coins_find_their_database_by_its_parts_and_take_what_the_variables_ask_for() {
    let api = mock(Faults::default()).await;
    let file = Example::new("coins").file();
    let start = |bench: &Bench, variables: &[(&str, &str)]| {
        let mut command = command(bench, &["run", &file, "--json"], &api.url());
        command.envs(variables.iter().copied());
        Ran::from(command.output().unwrap()).exits(0)
    };
    let count = "SELECT count(*) FROM coin_market_raw";
    let bench = Bench::new();
    start(&bench, &[("DATABASE_URL", ""), ("POSTGRES_HOST", ""), ("POSTGRES_DB", "")]);
    assert_eq!(Database::File(bench.path("data/coins/data.db")).number(count), 100);

    let (bench, server) = (Bench::new(), Postgres::start());
    let port = server.port.to_string();
    start(
        &bench,
        &[
            ("POSTGRES_HOST", "127.0.0.1"),
            ("POSTGRES_PORT", &port),
            ("POSTGRES_USER", "postgres"),
            ("POSTGRES_PASSWORD", "ignored where there is trust"),
            ("POSTGRES_DB", "etl"),
            ("VS_CURRENCY", "eur"),
            ("PER_PAGE", "30"),
        ],
    );
    assert_eq!(server.number(count), 30);
    assert!(!bench.path("data/coins/data.db").exists());
    let processed = records_below(&bench, "coins", "processed_files");
    assert!(processed.iter().all(|coin| coin["currency"] == "eur"), "{processed:?}");
    assert_eq!(processed[0]["last_updated"], "2025-11-20T12:00:00Z");
}

/// By day, in files that others read; people that come again are not doubled.
#[cfg(feature = "parquet")]
#[tokio::test(flavor = "multi_thread")]
async fn users_are_in_parquet_files_by_day_and_once_in_their_table() {
    let example = Example::new("users");
    for (bench, database) in both(&example) {
        let api = mock(Faults::default()).await;
        run(&bench, &example, &api, &database);
        api.set_faults(Faults { seed: 7, ..Faults::default() }).unwrap();
        assert_eq!(run(&bench, &example, &api, &database).total("extracted"), 100);
        all_agree(&bench, &example, &database, 200, 200);
        let files = support::files::files_below(&bench.path("data/users/processed"));
        assert_eq!(files.len(), 2, "{files:?}");
        for file in &files {
            let day = file.parent().unwrap().file_name().unwrap().to_str().unwrap();
            let rows = support::files::records_in(file);
            for row in &rows {
                let fetched = row["fetched_at"].as_str().unwrap();
                assert_eq!(format!("date={}", &fetched[..10]), day);
            }
            let uuid = rows[0]["uuid"].as_str().unwrap();
            let sql = format!("SELECT full_name, country, city FROM users WHERE uuid = '{uuid}'");
            let text = |name: &str| rows[0][name].as_str().unwrap().to_owned();
            let row = [text("full_name"), text("location_country"), text("location_city")];
            assert_eq!(database.ask(&sql), row.join("|"));
        }
    }
}
