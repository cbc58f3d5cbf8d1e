//! `etl serve` on the example pipelines, every second, while a tenth of all requests to
//! their API fails and PostgreSQL is restarted: tables, files, books and the API's own
//! count agree. Some 20 seconds; as long as wanted with `ETL_SERVE_SECONDS=600`.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
#![allow(clippy::print_stdout, reason = "the figures of the long form are for people")]

#[path = "support/examples.rs"]
mod examples;
#[cfg(feature = "parquet")]
#[path = "support/exporter.rs"]
mod exporter;
#[path = "support/postgres.rs"]
mod postgres;
mod support;

use std::collections::{BTreeMap, BTreeSet};
#[cfg(feature = "parquet")]
use std::path::Path;
use std::time::{Duration, Instant};

use examples::{Example, ExampleSink, command, examples, held, posts, records_below, sum};
use mock_load_api_server::Faults;
use postgres::Postgres;
use serde_json::Value;
use support::serving::{Serving, history};
use support::{Bench, Ran, files_of, mock};

/// The API as it is at the `moment`: other records each time, a tenth of requests fails.
fn api_at(moment: u64) -> Faults {
    Faults { seed: 42 + moment, source_fail: 0.1, ..Faults::default() }
}

/// Records that wait in the spool of a sink.
fn waiting(bench: &Bench, pipeline: &str, sink: &str) -> u64 {
    let files = files_of(&bench.path(&format!("data/{pipeline}/spool/{sink}")));
    let records = |file: &std::path::PathBuf| {
        let file = std::fs::File::open(file).unwrap();
        let batch: Vec<Value> =
            serde_json::from_reader(flate2::read::MultiGzDecoder::new(file)).unwrap();
        batch.len() as u64
    };
    files.iter().map(records).sum()
}

/// Every record that a sink holds, as text.
fn records(
    bench: &Bench,
    database: &Postgres,
    example: &Example,
    sink: &ExampleSink,
) -> Vec<String> {
    let Some(table) = sink.table else {
        let records = records_below(bench, example.name, sink.name);
        return records.iter().map(Value::to_string).collect();
    };
    let sql = match sink.upsert {
        true => format!("SELECT replace(to_jsonb({table}) #>> '{{}}', E'\\n', ' ') FROM {table}"),
        false => format!("SELECT replace(data #>> '{{}}', E'\\n', ' ') FROM {table}"),
    };
    database.ask(&sql).lines().map(str::to_owned).collect()
}

/// What tells the records of one answer of the API apart.
fn key(record: &str) -> String {
    let record: Value = serde_json::from_str(record).unwrap();
    let key = record.get("id").or(record.get("uuid")).unwrap();
    key.to_string()
}

/// Tables and files against the books; gives how many records all sinks hold.
fn audit(bench: &Bench, database: &Postgres, example: &Example) -> u64 {
    let mut all = 0;
    for sink in &example.sinks {
        let place = format!("{} of {}", sink.name, example.name);
        let held = held(bench, example.name, sink.name);
        assert_eq!(sum(bench, example.name, sink.name, "dead_lettered"), 0, "{place}");
        let records = records(bench, database, example, sink);
        let mut distinct = records.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), records.len(), "{place}: a record is there twice");
        if example.name == "posts" && sink.upsert {
            // The same hundred posts, over and over: a row that comes again is the row that
            // is there, and counts in the books each time.
            assert_eq!(records.len(), 100, "{place}");
        } else {
            // Also of users, whose table is upserted: each answer has people of its own, and
            // none is asked for again once it is loaded, however the run was stopped.
            assert_eq!(records.len() as u64, held, "{place}: the books say otherwise");
        }
        all += held;
    }
    all
}

/// Of every answer that was loaded each record is there.
fn whole(bench: &Bench, database: &Postgres, example: &Example) {
    if example.name == "users" {
        let of = |sink| records(bench, database, example, sink);
        let keys = |sink| of(sink).iter().map(|it| key(it)).collect::<BTreeSet<_>>();
        let [files, table] = &example.sinks[..] else { panic!("two sinks") };
        assert_eq!(keys(files), keys(table), "users of one sink that the other does not have");
        for sink in [files, table] {
            assert_eq!(of(sink).len(), keys(sink).len(), "{}: somebody is there twice", sink.name);
        }
    }
    for sink in example.sinks.iter().filter(|_| example.name != "users") {
        let mut times = BTreeMap::<String, u64>::new();
        for record in records(bench, database, example, sink) {
            *times.entry(key(&record)).or_default() += 1;
        }
        let place = format!("{} of {}", sink.name, example.name);
        assert_eq!(times.len(), 100, "{place}");
        let (fewest, most) = (times.values().min(), times.values().max());
        assert_eq!(fewest, most, "{place}: {times:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_requests_and_a_restarted_database_neither_lose_nor_double_a_record() {
    let seconds = std::env::var("ETL_SERVE_SECONDS").map_or(20, |text| text.parse().unwrap());
    let length = Duration::from_secs(seconds);
    let (bench, api, mut database) = (Bench::new(), mock(api_at(0)).await, Postgres::start());
    let files: Vec<String> = examples().iter().map(Example::file).collect();
    let mut args = vec!["serve", "--listen", "127.0.0.1:0"];
    args.extend(files.iter().map(String::as_str));
    let mut serve = command(&bench, &args, &api.url());
    serve.env("DATABASE_URL", database.url()).env("FETCH_INTERVAL", "1");
    let serving = Serving::spawn(serve);

    let began = Instant::now();
    let mut moment = 0;
    let mut turn = |until: Duration| {
        while began.elapsed() < until {
            moment += 1;
            api.set_faults(api_at(moment)).unwrap();
            std::thread::sleep(Duration::from_millis(900));
        }
    };
    turn(length * 4 / 10);
    database.halt();
    turn(length * 6 / 10);
    database.go();
    turn(length);
    let requests = |name: &str| {
        let value = |metric: &str| serving.metric(&format!("{metric}{{pipeline=\"{name}\"}}"));
        let of = |metric| value(metric).unwrap_or_default();
        (of("etl_api_requests_total"), of("etl_api_requests_failed_total"))
    };
    let counted: Vec<_> = examples().iter().map(|it| requests(it.name)).collect();
    let write_errors: f64 = examples()
        .iter()
        .filter_map(|it| {
            let name = it.name;
            serving.metric(&format!("etl_database_write_errors_total{{pipeline=\"{name}\"}}"))
        })
        .sum();
    let (code, said) = serving.stop();
    assert_eq!(code, Some(0), "{said}");
    let asked: f64 = counted.iter().map(|it| it.0).sum();
    let failed: f64 = counted.iter().map(|it| it.1).sum();
    let source_requests = api.stats().source_requests;
    // Between the count and the stop there may have been another run of each.
    assert!(asked <= source_requests as f64, "{asked} {source_requests}");
    assert!(asked + 40.0 >= source_requests as f64, "{asked} {source_requests}");
    assert!(failed >= 1.0 && failed < asked / 2.0, "{failed} of {asked}");

    // Stopped in the middle of it: what a sink does not hold waits in its spool.
    for example in examples() {
        audit(&bench, &database, &example);
        for sink in &example.sinks {
            let waiting = waiting(&bench, example.name, sink.name);
            let ended = sum(&bench, example.name, sink.name, "delivered")
                + sum(&bench, example.name, sink.name, "spooled");
            let there = held(&bench, example.name, sink.name) + waiting;
            assert_eq!(ended, there, "{} of {}", sink.name, example.name);
        }
    }
    assert!(write_errors >= 1.0, "the database was away and nobody noticed: {said}");

    // One run of each brings the rest, also of a page in the middle of which it was stopped.
    api.set_faults(Faults { source_fail: 0.0, ..api_at(moment) }).unwrap();
    for example in examples() {
        let mut run = command(&bench, &["run", &example.file(), "--json"], &api.url());
        Ran::from(run.env("DATABASE_URL", database.url()).output().unwrap()).exits(0);
        let all = audit(&bench, &database, &example);
        whole(&bench, &database, &example);
        for sink in &example.sinks {
            assert_eq!(waiting(&bench, example.name, sink.name), 0, "{}", sink.name);
        }
        let runs = history(&bench, example.name);
        let sum = |key: &str| runs.iter().map(|run| run[key].as_u64().unwrap()).sum::<u64>();
        let word = |word: &str| runs.iter().filter(|run| run["result"] == word).count();
        println!(
            "{}: {} runs ({} complete, {} spooled, {} other), {} records extracted, {all} in {} \
             sinks, {} by way of the spool",
            example.name,
            runs.len(),
            word("complete"),
            word("spooled"),
            runs.len() - word("complete") - word("spooled"),
            sum("extracted"),
            example.sinks.len(),
            sum("replayed"),
        );
        assert!(sum("extracted") >= 200, "{runs:?}");
    }
    println!("{source_requests} requests to the API, of the {asked} counted {failed} failed");
    println!("{write_errors} attempts to write failed while PostgreSQL was away");
}

/// What the examples for shards read, in one shard.
#[cfg(feature = "parquet")]
fn shard() -> Postgres {
    let server = Postgres::start();
    let logons = |table: &str| {
        format!(
            "CREATE TABLE {table} (dealer_id bigint, logon_logoff_time timestamptz, \
             entry_sequence int, user_name text, event text, \
             PRIMARY KEY (dealer_id, logon_logoff_time, entry_sequence)); \
             INSERT INTO {table} SELECT 1, now() - i * interval '1 day', i, 'u', 'logon' \
             FROM generate_series(1, 2) AS i; "
        )
    };
    let customers = "CREATE TABLE customers (customer_id bigint PRIMARY KEY, first_name text, \
                     last_name text, email text, created_at timestamptz, country text, \
                     amount numeric(10,2), updated_at timestamptz NOT NULL); \
                     INSERT INTO customers SELECT i, 'a', 'b', 'c', now(), 'DE', 1.10, \
                     now() - interval '1 hour' FROM generate_series(1, 3) AS i; ";
    let [history, log] = ["user_connection_history", "user_connection_log"].map(logons);
    server.sql("etl", &format!("{customers}{history}{log}"));
    server
}

/// All examples as the README serves them: the whole directory, one command.
#[cfg(feature = "parquet")]
#[tokio::test(flavor = "multi_thread")]
async fn the_directory_of_examples_is_served_as_it_is() {
    use serde_json::json;

    let (bench, api, exporter, shard) =
        (Bench::new(), mock(Faults::default()).await, exporter::Exporter::start(), shard());
    // No SNMP agent: somebody listens there who never answers.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/pipelines");
    let mut names: Vec<String> = std::fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "yaml"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    let args = ["serve", directory.to_str().unwrap(), "--listen", "127.0.0.1:0"];
    let mut serve = command(&bench, &args, &api.url());
    serve
        .env("LOAD_URL", format!("{}/load", api.url()))
        .env("APPLIANCE_URL", api.url())
        .env("NODE_EXPORTER_PORT", exporter.port.to_string())
        .env("SNMP_PORT", silent.local_addr().unwrap().port().to_string())
        .env("SHARD_KIND", "postgres")
        .env_remove("SHARDS")
        .env("SQLSERVER_SHARD_HOSTS", "127.0.0.1")
        .env("SQLSERVER_SHARD_PORTS", shard.port.to_string())
        .env("SOURCE_DB_USER", "postgres")
        .env("SOURCE_DB_NAME", "etl");
    let serving = Serving::spawn(serve);
    let served = serving.json("/pipelines")["pipelines"].as_array().unwrap().clone();
    let mut served: Vec<_> = served.iter().map(|it| it["name"].as_str().unwrap()).collect();
    served.sort_unstable();
    assert_eq!(served, names);

    for (name, extracted) in [
        ("appliances", 4_000),
        ("coins", 100),
        ("cpu-csv", 200),
        ("login-analytics", 4),
        ("node-exporter", exporter::cpus() as u64),
        ("posts", 100),
        ("shards", 3),
        ("users", 100),
    ] {
        serving.until(&format!("a run of {name} is over"), |it| it.runs(name) >= 1);
        let run = history(&bench, name)[0].clone();
        assert_eq!((&run["result"], &run["exit"]), (&json!("complete"), &json!(0)), "{run}");
        assert_eq!(run["extracted"], extracted, "{name}: {run}");
    }
    // The 4,000 appliances of one take half a minute, others are polled for good: they end with
    // the server.
    for name in ["fleet", "simulated"] {
        let metric = format!("etl_records_processed_total{{pipeline=\"{name}\"}}");
        serving.until(&format!("the appliances of {name} answer"), |it| {
            it.metric(&metric).is_some_and(|records| records > 0.0)
        });
    }
    // An agent that is not there is one that fails, and nothing else is the worse for it.
    assert_eq!(serving.metric("etl_fleet_targets{pipeline=\"snmp\"}"), Some(1.0));
    assert_eq!(serving.pipeline("snmp")["state"], "running");
    assert_eq!((serving.get("/health").0, serving.get("/ready").0), (200, 200));
    let (code, said) = serving.stop();
    assert_eq!(code, Some(0), "{said}");
    for name in ["fleet", "simulated", "snmp"] {
        let run = history(&bench, name).pop().unwrap();
        assert_eq!(run["errors"], json!([]), "{run}");
    }
    let sum: u64 = ["appliances", "cpu-csv", "fleet", "node-exporter", "simulated"]
        .iter()
        .map(|name| held(&bench, name, "http"))
        .sum();
    assert_eq!(api.stats().records, sum);
}

/// Each attempt is a request, those that fail too.
#[tokio::test(flavor = "multi_thread")]
async fn requests_to_an_api_are_counted_and_timed_with_those_that_fail() {
    // With this seed the API refuses the first two requests.
    let faults = Faults { seed: 1, source_fail: 0.5, ..Faults::default() };
    let (bench, api) = (Bench::new(), mock(faults).await);
    let example = posts();
    let args = ["serve", "--listen", "127.0.0.1:0", &example.file()];
    let mut serve = command(&bench, &args, &api.url());
    serve.env("FETCH_INTERVAL", "3600");
    let serving = Serving::spawn(serve);
    serving.until("a run is over", |it| it.runs("posts") >= 1);
    let value = |name: &str| serving.metric(&format!("{name}{{pipeline=\"posts\"}}")).unwrap();
    assert_eq!(api.stats().source_requests, 3);
    assert_eq!(value("etl_api_requests_total"), 3.0);
    assert_eq!(value("etl_api_requests_failed_total"), 2.0);
    let duration = "etl_api_request_duration_seconds";
    assert_eq!(value(&format!("{duration}_count")), 3.0);
    assert!(value(&format!("{duration}_sum")) > 0.0);
    let bucket = format!("{duration}_bucket{{le=\"+Inf\",pipeline=\"posts\"}}");
    assert_eq!(serving.metric(&bucket), Some(3.0));
    assert_eq!(value("etl_records_processed_total"), 100.0);
    assert_eq!(serving.stop().0, Some(0));
}
