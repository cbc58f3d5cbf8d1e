//! `etl generate`: what comes out passes `etl check` with its `.env` filled in, runs to the
//! end, and never takes the place of something.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

#[path = "support/snmpd.rs"]
mod snmpd;
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use mock_load_api_server::{Faults, Server};
use serde_json::Value;
use snmpd::Snmpd;
use support::serving::{Serving, history};
use support::{Bench, Ran, each_exactly_once, mock};

/// Generates `name` and copies its `.env.template` with these values in the place of those
/// that are there.
fn generated(bench: &Bench, name: &str, template: &str, values: &[(&str, &str)]) {
    bench.etl(&["generate", "--name", name, "--template", template]).exits(0);
    let directory = bench.path(&format!("pipelines/{name}"));
    let mut environment = fs::read_to_string(directory.join(".env.template")).unwrap();
    for (variable, value) in values {
        let line = environment.lines().find(|line| line.starts_with(&format!("{variable}=")));
        let line = line.unwrap_or_else(|| panic!("no {variable} in {environment}")).to_owned();
        environment = environment.replace(&line, &format!("{variable}={value}"));
    }
    fs::write(directory.join(".env"), environment).unwrap();
}

/// `etl` without the machine's own variables.
fn command(bench: &Bench, args: &[&str]) -> Command {
    let mut command = bench.command(args);
    let fleets = ["APPLIANCES_CSV", "APPLIANCE_URL", "AGENTS_CSV", "SNMP_COMMUNITY", "SNMP_PORT"];
    let others = ["API_URL", "DATABASE_URL", "LOAD_URL", "SHARDS", "SHARD_KIND", "TABLE"];
    for name in fleets.into_iter().chain(others) {
        command.env_remove(name);
    }
    command
}

fn etl(bench: &Bench, args: &[&str]) -> Ran {
    command(bench, args).output().unwrap().into()
}

fn run(bench: &Bench, name: &str) -> Ran {
    run_of(bench, name, &[])
}

/// Checks a pipeline and runs it once with more arguments.
fn run_of(bench: &Bench, name: &str, more: &[&str]) -> Ran {
    let file = format!("pipelines/{name}/pipeline.yaml");
    etl(bench, &["check", &file]).exits(0);
    etl(bench, &[&["run", &file, "--json"], more].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generated_fleet_runs_to_the_end() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    let (appliances, load) =
        (format!("{}/appliances/{{ip}}/cpu", server.url()), format!("{}/load", server.url()));
    let values = [("APPLIANCE_URL", appliances.as_str()), ("LOAD_URL", load.as_str())];
    generated(&bench, "edge-cpu", "appliances", &values);
    let rows: String = (1..=40).map(|n| format!("192.0.2.{n},device-{n}\n")).collect();
    bench.write("pipelines/edge-cpu/appliances.csv", rows);
    let ran = run(&bench, "edge-cpu").exits(0);
    assert_eq!((ran.total("extracted"), ran.sink("delivered")), (40, 40));
    each_exactly_once(&server, 40);
    // The directory of pipelines is what other commands take.
    etl(&bench, &["check", "pipelines"]).exits(0);
}

/// How many records of each appliance arrived.
fn arrived(server: &Server) -> BTreeMap<String, u64> {
    let mut arrived = BTreeMap::new();
    for record in server.records() {
        let record: Value = serde_json::from_slice(&record.body).unwrap();
        *arrived.entry(record["name"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    arrived
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generated_fleet_is_polled_for_good() {
    const APPLIANCES: usize = 30;
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    let (appliances, load) =
        (format!("{}/appliances/{{ip}}/cpu", server.url()), format!("{}/load", server.url()));
    let values = [("APPLIANCE_URL", appliances.as_str()), ("LOAD_URL", load.as_str())];
    generated(&bench, "edge", "fleet", &values);
    let rows: String = (0..APPLIANCES).map(|n| format!("192.0.2.{n},device-{n}\n")).collect();
    bench.write("pipelines/edge/appliances.csv", rows);
    etl(&bench, &["check", "pipelines"]).exits(0);
    let listed = etl(&bench, &["list"]).exits(0).stdout;
    assert!(listed.contains("each target every 1m"), "{listed}");
    let about = etl(&bench, &["info", "edge"]).exits(0).stdout;
    assert!(about.contains("nobody; etl serve\n"), "{about}");
    let unit = etl(&bench, &["service", "install", "edge", "--print"]).exits(0);
    assert!(unit.stderr.contains("this unit asks everybody once"), "{}", unit.stderr);
    etl(&bench, &["schedule", "edge", "daily", "03:00"]).exits(78);

    let mut args = vec!["serve", "pipelines", "--listen", "127.0.0.1:0"];
    args.extend(["--set", "extract.every=3s", "--set", "extract.timeout=2s"]);
    let serving = Serving::spawn(command(&bench, &args));
    serving.until("each was polled and loaded twice", |_| {
        let arrived = arrived(&server);
        arrived.len() == APPLIANCES && arrived.values().all(|records| *records >= 2)
    });
    let told = etl(&bench, &["targets", "edge"]).exits(0).stdout;
    assert!(told.contains("device-7") || told.contains("192.0.2.7"), "{told}");
    let (code, said) = serving.stop();
    assert_eq!(code, Some(0), "{said}");
    let run = history(&bench, "edge").pop().unwrap();
    assert_eq!((&run["result"], &run["extracted"]), (&"stopped".into(), &run["delivered"]));
    let stats = server.stats();
    assert_eq!((stats.records, stats.duplicate_batches), (run["extracted"].as_u64().unwrap(), 0));

    // The same file by hand is one pass.
    let before = stats.records;
    run_of(&bench, "edge", &[]).exits(0);
    assert_eq!(server.stats().records, before + APPLIANCES as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_snmp_agents_are_asked() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    let agent = Snmpd::start(&[], "");
    let (port, load) = (agent.port.to_string(), format!("{}/load", server.url()));
    generated(&bench, "agents", "snmp", &[("SNMP_PORT", &port), ("LOAD_URL", &load)]);
    bench.write("pipelines/agents/agents.csv", "127.0.0.1,one\n127.0.0.2,two\n");
    etl(&bench, &["check", "pipelines"]).exits(0);
    // An agent that has just started knows its counters after some 8 s, and renews them every 5 s.
    let patient = ["--set", "extract.timeout=59s", "--set", "extract.attempts=20"];
    let ran = run_of(&bench, "agents", &patient).exits(0);
    assert_eq!((ran.total("extracted"), ran.sink("delivered")), (2, 2));
    assert_eq!(arrived(&server), [("one".to_owned(), 1), ("two".to_owned(), 1)].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generated_reader_of_an_api_runs_to_the_end() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    let url = format!("{}/posts", server.url());
    generated(&bench, "posts", "rest", &[("API_URL", url.as_str())]);
    let ran = run(&bench, "posts").exits(0).json();
    let read = ran["extracted"].as_u64().unwrap();
    assert!(read > 0, "{ran}");
    assert_eq!(ran["sinks"]["table"]["delivered"], read);
    let table = rusqlite::Connection::open(bench.path("data/posts/data.db")).unwrap();
    let rows: i64 = table.query_row("select count(*) from records", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, i64::try_from(read).unwrap());
    assert!(fs::read_dir(bench.path("data/posts/raw")).unwrap().count() > 0);
}

#[test]
fn generated_shards_run_to_the_end_and_read_only_what_changed() {
    let bench = Bench::new();
    let shard = |name: &str| rusqlite::Connection::open(bench.path(name)).unwrap();
    for (name, from) in [("one.db", 0), ("two.db", 1000)] {
        shard(name)
            .execute_batch(&format!(
                "create table customers (customer_id integer primary key, first_name text, \
                 last_name text, email text, created_at timestamp, country text, \
                 amount decimal(10,2), updated_at timestamp not null);
                 with recursive n(i) as (select 1 union all select i + 1 from n where i < 50)
                 insert into customers select {from} + i, 'a', 'b', 'c@d', '2026-01-02 03:04:05', \
                 'DE', '12.34', '2026-01-02 03:04:05' from n"
            ))
            .unwrap();
    }
    let address = |name: &str| format!("sqlite:{}", bench.path(name).display());
    let shards = format!("{},{}", address("one.db"), address("two.db"));
    let values =
        [("SHARD_KIND", "sqlite"), ("SHARDS", &shards), ("DATABASE_URL", "sqlite:data.db")];
    generated(&bench, "shards", "sql-shards", &values);
    assert_eq!(run(&bench, "shards").exits(0).total("extracted"), 100);
    let sink = rusqlite::Connection::open(bench.path("data/shards/data.db")).unwrap();
    let ask = |what: &str| -> i64 {
        sink.query_row(&format!("select {what} from sink_table"), [], |row| row.get(0)).unwrap()
    };
    assert_eq!((ask("count(*)"), ask("count(distinct shard_id)")), (100, 2));
    // The next run reads the one that changed.
    let change =
        "update customers set country = 'FR', updated_at = '2026-01-03' where customer_id = 7";
    shard("one.db").execute_batch(change).unwrap();
    assert_eq!(run(&bench, "shards").exits(0).total("extracted"), 1);
    assert_eq!((ask("count(*)"), ask("sum(country = 'FR')")), (100, 1));
}

#[cfg(feature = "parquet")]
#[tokio::test(flavor = "multi_thread")]
async fn a_generated_writer_of_parquet_files_runs_to_the_end() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    let url = format!("{}/users?results=100", server.url());
    generated(&bench, "users", "parquet", &[("API_URL", url.as_str())]);
    let ran = run(&bench, "users").exits(0).json();
    assert_eq!(
        (&ran["extracted"], &ran["sinks"]["parquet"]["delivered"]),
        (&100.into(), &100.into())
    );
    let records = support::files::files_below(&bench.path("data/users/processed"));
    let rows = support::files::python_says(
        "import sys, json, pyarrow.parquet as pq\n\
         print(json.dumps(sum(pq.ParquetFile(f).metadata.num_rows for f in sys.argv[1:])))",
        &records.iter().map(|file| file.to_str().unwrap()).collect::<Vec<_>>(),
    );
    assert_eq!(rows, 100);
}

#[test]
fn without_its_values_a_pipeline_says_which_are_missing() {
    let bench = Bench::new();
    for template in ["appliances", "fleet", "snmp", "rest", "sql-shards"] {
        bench.etl(&["generate", "--name", template, "--template", template]).exits(0);
        let ran = etl(&bench, &["check", &format!("pipelines/{template}/pipeline.yaml")]).exits(78);
        assert!(ran.stderr.contains("is not set"), "{}", ran.stderr);
    }
}

#[test]
fn nothing_is_overwritten_and_a_name_is_a_name() {
    let bench = Bench::new();
    let made = bench.etl(&["generate", "--name", "p"]).exits(0);
    for file in ["pipeline.yaml", ".env.template", "README.md", "Dockerfile"] {
        let path = bench.path("pipelines/p").join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("@NAME@") && !text.contains("@DIR@"), "{file}: {text}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644, "{file}");
        assert!(made.stdout.contains(&format!("wrote  pipelines/p/{file}")), "{}", made.stdout);
    }
    bench.write("pipelines/p/pipeline.yaml", "name: mine\n");
    let again = bench.etl(&["generate", "--name", "p", "--template", "rest"]).exits(64);
    assert!(again.stderr.contains("pipelines/p is there already"), "{}", again.stderr);
    assert_eq!(
        fs::read_to_string(bench.path("pipelines/p/pipeline.yaml")).unwrap(),
        "name: mine\n"
    );
    bench.write("pipelines/file", "");
    for name in ["file", "", "-p", "../p", "P", "a/b", "a b", "é", &"x".repeat(65)] {
        let refused = bench.etl(&["generate", &format!("--name={name}")]).exits(64);
        assert!(!refused.stderr.is_empty() && refused.stdout.is_empty(), "{name}");
    }
    assert_eq!(fs::read_dir(bench.path("pipelines")).unwrap().count(), 2);
    // A directory that cannot be written is told by its name.
    bench.write("blocked", "a file");
    let refused = bench.etl(&["generate", "--name", "q", "--dir", "blocked/pipelines"]).exits(70);
    assert!(refused.stderr.contains("blocked/pipelines"), "{}", refused.stderr);
}
