//! How `etl` speaks: exit codes, one JSON object, errors that say what to do, and
//! no colour codes in a pipe.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use mock_load_api_server::{Faults, Token};
use serde_json::Value;
use support::{Bench, down, mock};

#[tokio::test(flavor = "multi_thread")]
async fn json_is_one_object_with_the_documented_keys_and_stdout_has_nothing_else() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    bench.inventory(50);
    bench.fleet(&server.url(), "");
    let ran = bench.run(&[]).exits(0);
    assert_eq!(ran.stdout.lines().count(), 1);
    let json = ran.json();
    for key in [
        "pipeline",
        "run_id",
        "seconds",
        "extracted",
        "rejected",
        "filtered",
        "balanced",
        "complete",
        "sinks",
    ] {
        assert!(json.get(key).is_some(), "{key} is missing: {json}");
    }
    let sink = json["sinks"]["http"].as_object().unwrap();
    for key in ["delivered", "spooled", "dead_lettered", "replayed", "batches", "retries"] {
        assert!(sink[key].is_u64(), "{key}: {json}");
    }
    assert_eq!((json["pipeline"].as_str(), json["complete"].as_bool()), (Some("p"), Some(true)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_report_shows_the_books_and_neither_it_nor_stderr_has_escape_codes() {
    let (bench, server) = (Bench::new(), mock(down()).await);
    bench.inventory(400);
    bench.fleet(&server.url(), "");
    let ran = bench.etl(&["run", "p.yaml"]).exits(75);
    assert!(ran.stdout.starts_with("FINISHED, 400 STILL SPOOLED"), "{}", ran.stdout);
    assert!(ran.stdout.contains("unaccounted            0   the books balance"), "{}", ran.stdout);
    assert!(ran.stderr.contains("API DOWN  POST http://127.0.0.1:"), "{}", ran.stderr);
    assert!(ran.stderr.contains("safe in data/p/spool/http"), "{}", ran.stderr);
    assert!(!(ran.stdout + &ran.stderr).contains('\x1b'));
}

#[test]
fn every_mistake_of_a_file_comes_in_one_pass_with_the_nearest_key() {
    let bench = Bench::new();
    bench.write(
        "p.yaml",
        "name: p\nsource:\n  csv: { path: rows.csv }\nload:\n  - http: { url: \"${NO_SUCH_URL}\" }\n    \
         bacth: { records: 200 }\n    workers: many\n    timeout: 15\n",
    );
    for command in ["check", "run", "doctor"] {
        let ran = bench.etl(&[command, "p.yaml"]).exits(78);
        for part in [
            "error: unknown key `bacth` in load[0]",
            "--> p.yaml:6:5",
            "did you mean `batch`?",
            "NO_SUCH_URL",
            "p.yaml:7",
            "p.yaml:8",
            "nothing was read or sent",
        ] {
            assert!(ran.stderr.contains(part), "{command}: no {part:?} in {}", ran.stderr);
        }
        assert!(ran.stdout.is_empty(), "{command}: {}", ran.stdout);
    }
    assert!(!bench.path("data").exists());
}

#[test]
fn exit_codes_tell_usage_from_configuration_from_a_missing_source() {
    let bench = Bench::new();
    bench.etl(&["rnu", "p.yaml"]).exits(64);
    bench.etl(&["run"]).exits(64);
    bench.etl(&["run", "missing.yaml"]).exits(78);
    bench.etl(&["--help"]).exits(0);
    bench.etl(&["schema", "laod"]).exits(64);
    bench.write("p.yaml", "name: p\nsource:\n  csv: { path: gone.csv }\nload:\n  - http: { url: \"http://127.0.0.1:9/load\" }\n");
    let ran = bench.etl(&["run", "p.yaml", "--json"]).exits(69);
    assert_eq!(ran.json()["complete"], false);
    assert!(ran.stderr.contains("gone.csv"), "{}", ran.stderr);
}

#[test]
fn the_schema_is_json_schema_and_knows_every_top_level_key() {
    let bench = Bench::new();
    let schema: Value = serde_json::from_str(&bench.etl(&["schema"]).exits(0).stdout).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    for key in ["name", "schedule", "source", "extract", "raw", "transform", "load"] {
        assert!(schema["properties"][key].is_object(), "{key}");
    }
    bench.etl(&["schema", "load"]).exits(0);
}

#[test]
fn every_command_has_help_with_an_example() {
    let bench = Bench::new();
    for command in [
        "run",
        "demo",
        "check",
        "schema",
        "doctor",
        "spool ls",
        "spool cat",
        "spool verify",
        "spool discard",
        "runs",
        "completions",
    ] {
        let words: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let help = bench.etl(&words).exits(0).stdout;
        assert!(help.contains("Example"), "{command}: {help}");
    }
    assert!(bench.etl(&["completions", "bash"]).exits(0).stdout.contains("complete"));
    let first = bench.etl(&[]).exits(0).stdout;
    assert!(first.contains("etl demo") && first.contains("spool: empty"), "{first}");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_is_not_green_on_401_and_says_what_to_do() {
    let faults = Faults { token: Some(Token::new("right")), ..Faults::default() };
    let (bench, server) = (Bench::new(), mock(faults).await);
    bench.inventory(3);
    bench.fleet(&server.url(), "");
    let ran = bench.etl(&["doctor", "p.yaml"]).exits(69);
    assert!(ran.stdout.contains("FAIL  load http"), "{}", ran.stdout);
    assert!(ran.stdout.contains("answered 401") && ran.stdout.contains("http.token"));
    assert_eq!(server.stats().records, 0);

    let token = "load.0.http.token=right";
    let ran = bench.etl(&["doctor", "p.yaml", "--json", "--set", token]).exits(0);
    assert_eq!(ran.json()["ok"], true);
    let gone = "load.0.http.url=http://127.0.0.1:1/load";
    let ran = bench.etl(&["doctor", "p.yaml", "--set", gone]).exits(69);
    assert!(ran.stdout.contains("connection refused"), "{}", ran.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn spool_commands_show_what_waits_and_zcat_and_jq_read_it() {
    let (bench, server) = (Bench::new(), mock(down()).await);
    bench.inventory(400);
    bench.fleet(&server.url(), "");
    bench.run(&[]).exits(75);
    let listed = bench.etl(&["spool", "ls"]).exits(0).stdout;
    assert!(listed.starts_with("SPOOL data/p/spool   400 records"), "{listed}");
    assert_eq!(bench.etl(&["spool", "cat", "p"]).exits(0).stdout.lines().count(), 400);
    assert!(bench.etl(&["spool", "verify"]).exits(0).stdout.contains("all good"));
    let read = std::process::Command::new("bash")
        .args(["-c", "zcat data/p/spool/http/buffer_failed_worker*.json.gz | jq -s 'add | length'"])
        .current_dir(bench.path(""))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&read.stdout).trim(), "400", "zcat and jq must read it");

    // One flipped bit, and verify says which file.
    let file = bench.spool_files().remove(0);
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.len() - 20;
    bytes[at] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let ran = bench.etl(&["spool", "verify"]).exits(65);
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    assert!((ran.stdout + &ran.stderr).contains(&name));
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_remembered() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    bench.inventory(10);
    bench.fleet(&server.url(), "");
    bench.run(&[]).exits(0);
    server.set_faults(down()).unwrap();
    bench.run(&[]).exits(75);
    let json = bench.etl(&["runs", "p", "--json"]).exits(0).json();
    assert_eq!(json["runs"][0]["result"], "spooled");
    assert_eq!(json["runs"][1]["result"], "complete");
    assert!(bench.etl(&["runs"]).exits(0).stdout.contains("spooled"));
}

/// Only the file knows its columns, so `check` cannot say it; a run does before it begins.
#[test]
fn an_address_that_asks_for_a_missing_column_is_refused_before_anything_starts() {
    let bench = Bench::new();
    bench.inventory(10);
    bench.fleet_with("http: { url: \"http://{address}:9100/\" }", "http://127.0.0.1:1", "");
    let ran = bench.run(&[]).exits(78);
    assert!(ran.stderr.contains("{address}"), "{}", ran.stderr);
    assert!(ran.stderr.contains("ip, hostname"), "{}", ran.stderr);
    assert!(!bench.path("data").exists());
}
