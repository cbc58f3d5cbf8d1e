//! Transform steps from outside: what a pipeline's steps make of a file is what arrives,
//! the books say what became of the rest, and the examples of `docs/transforms.md` are true.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

#[path = "support/api.rs"]
mod api;
mod support;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use api::{Api, answer, ok};
use etl::config::{Environment, from_str};
use etl::transform::{Chain, RunFacts, Scratch, Verdict};
use mock_load_api_server::{Faults, Server};
use serde_json::{Value, json};
use support::{Bench, each_exactly_once, files_of, mock, wait_until};

fn letters(directory: &Path) -> Vec<Value> {
    let mut letters = Vec::new();
    for file in files_of(directory) {
        let mut text = String::new();
        let file = std::fs::File::open(file).unwrap();
        flate2::read::MultiGzDecoder::new(file).read_to_string(&mut text).unwrap();
        letters.extend(serde_json::from_str::<Vec<Value>>(&text).unwrap());
    }
    letters
}

fn delivered(server: &Server) -> Vec<Value> {
    let mut records: Vec<Value> =
        server.records().iter().map(|row| serde_json::from_slice(&row.body).unwrap()).collect();
    records.sort_by_key(|record| record["key"]["id"].as_u64());
    records
}

const STEPS: &str = r#"transform:
  - trim: all
  - require: [id, email]
  - cast: { id: integer, amount: number, active: boolean }
  - timestamp: { created: { from: "%d/%m/%Y %H:%M", zone: Europe/Berlin } }
  - dedupe: id
  - jq: select(.active)
  - concat: { into: name, from: [first, last], with: " " }
  - rename: { id: key.id }
  - mask: { email: redact }
  - add: { loaded_at: now, run: run_id, origin: source, country: { value: DE } }
  - drop: [first, last, active]
"#;

const ROWS: &str = "id,first,last,email,amount,active,created
1, Ada ,Lovelace,ada@example.org,0012.50,yes,01/07/2026 12:00
2,Bob,,bob@example.org,12345678901234567890.10,yes,01/01/2026 12:00
3,Cy,Twombly,,1,yes,01/01/2026 12:00
1,Ada,Again,ada@example.org,1,yes,01/07/2026 12:00
4,Dee,Dee,dee@example.org,free,yes,01/01/2026 12:00
5,Eve,Eve,eve@example.org,1,no,01/01/2026 12:00
6,Fay,Fay,fay@example.org,1,yes,tomorrow
7,Gus,Gus,gus@example.org,,yes,
";

#[tokio::test(flavor = "multi_thread")]
async fn rows_go_through_all_steps_and_the_books_say_what_became_of_each() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    bench.rows(ROWS, &server.url(), STEPS, "");
    let check = bench.etl(&["check", "p.yaml"]).exits(0);
    let journey = "p: csv -> trim -> require -> cast -> timestamp -> dedupe -> jq -> concat -> \
                   rename -> mask -> add -> drop -> http\n";
    assert!(check.stdout.ends_with(journey), "{}", check.stdout);

    let ran = bench.run(&[]).exits(65);
    assert_eq!((ran.total("extracted"), ran.total("rejected"), ran.total("filtered")), (8, 3, 2));
    assert_eq!((ran.sink("delivered"), ran.json()["balanced"] == true), (3, true));
    each_exactly_once(&server, 3);
    let run = ran.json()["run_id"].as_str().unwrap().to_owned();
    let records = delivered(&server);
    let loaded_at = records[0]["loaded_at"].clone();
    let with = |mut record: Value| {
        let more = json!({
            "email": "***", "loaded_at": loaded_at, "run": run, "origin": "p", "country": "DE",
        });
        record.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        record
    };
    let amount: Value = serde_json::from_str("12345678901234567890.10").unwrap();
    assert_eq!(
        records,
        [
            with(
                json!({ "key": { "id": 1 }, "amount": 12.5, "created": "2026-07-01T10:00:00Z", "name": "Ada Lovelace" })
            ),
            with(
                json!({ "key": { "id": 2 }, "amount": amount, "created": "2026-01-01T11:00:00Z", "name": "Bob" })
            ),
            with(json!({ "key": { "id": 7 }, "amount": null, "created": null, "name": "Gus Gus" })),
        ]
    );
    let bodies: Vec<_> = server.records().iter().map(|row| row.body.clone()).collect();
    let exact = b"\"amount\":12345678901234567890.10,";
    assert!(bodies.iter().any(|body| body.windows(exact.len()).any(|part| part == exact)));

    let reasons: BTreeSet<String> = letters(&bench.path("data/p/spool/rejected/dead"))
        .iter()
        .map(|letter| letter["reason"].as_str().unwrap().to_owned())
        .collect();
    let expected = [
        "rows.csv:4: p: transform[1] require: email is empty",
        "rows.csv:6: p: transform[2] cast: amount \"free\" is not a number",
        "rows.csv:8: p: transform[3] timestamp: created \"tomorrow\" is no time as in %d/%m/%Y %H:%M",
    ];
    assert_eq!(reasons, expected.iter().map(|&reason| reason.to_owned()).collect());
}

/// Rows `from..until`, of which those with the same `n % every` have the same id.
fn repeating(from: usize, until: usize, every: usize) -> String {
    let mut text = String::new();
    for n in from..until {
        writeln!(text, "{},device-{n}", n % every).unwrap();
    }
    text
}

/// Kills a run when the ledger has `records`; says whether it was still at work.
fn kill_at(bench: &Bench, server: &Server, records: u64) -> bool {
    let mut run = bench.start(&[]);
    wait_until("records arrived or the run ended", || {
        server.stats().records >= records || run.try_wait().unwrap().is_some()
    });
    run.kill().unwrap();
    run.wait().unwrap().signal().is_some()
}

fn run_to_the_end(bench: &Bench) {
    for _ in 0..20 {
        if bench.run(&[]).code == Some(0) {
            return;
        }
    }
    panic!("twenty runs have not delivered everything");
}

/// A run that goes on remembers the keys of what it read before it was killed, and only
/// those: what an earlier run of the same file had passed is no duplicate in this one.
#[tokio::test(flavor = "multi_thread")]
async fn dedupe_makes_the_same_of_a_file_however_often_the_run_is_killed() {
    let faults = Faults { delay: Duration::from_millis(8), lose_reply: 0.1, ..Faults::default() };
    let (bench, server) = (Bench::new(), mock(faults).await);
    let file = format!("id,host\n{}", repeating(0, 12_000, 5_000));
    bench.rows(
        file,
        &server.url(),
        "transform: [{ dedupe: id }]\n",
        "workers: 2\nbatch: { records: 50 }",
    );
    let mut killed = 0;
    for records in [500, 2_000, 4_000] {
        killed += u64::from(kill_at(&bench, &server, records));
    }
    assert!(killed >= 2, "the runs were over too soon");
    run_to_the_end(&bench);
    each_exactly_once(&server, 5_000);

    let mut grown = std::fs::OpenOptions::new().append(true).open(bench.path("rows.csv")).unwrap();
    grown.write_all(repeating(15_000, 27_000, 5_000).as_bytes()).unwrap();
    drop(grown);
    let mut killed = 0;
    for records in [6_000, 8_000, 9_500] {
        killed += u64::from(kill_at(&bench, &server, records));
    }
    assert!(killed >= 2, "the runs were over too soon");
    run_to_the_end(&bench);
    each_exactly_once(&server, 10_000);
}

/// A page of records with these ids.
fn page(ids: impl Iterator<Item = usize>) -> Vec<u8> {
    ok(Value::from(ids.map(|id| json!({ "id": id })).collect::<Vec<_>>()).to_string())
}

/// A run that goes on remembers the keys of the pages before; and what was not there when
/// these were read is no duplicate of itself.
#[tokio::test(flavor = "multi_thread")]
async fn dedupe_makes_the_same_of_an_api_whose_run_is_cut_short() {
    for changed in [false, true] {
        let (sink, bench) = (mock(Faults::default()).await, Bench::new());
        let broken = Arc::new(AtomicUsize::new(3));
        let breaks = broken.clone();
        // 250 ids come four times, spread over ten pages.
        let api = Api::start(move |request| {
            let (number, broken) = (request.number("page"), breaks.load(SeqCst));
            let ids = ((number - 1) * 100..(number * 100).min(1_000)).map(|n| n % 250);
            match number {
                _ if number == broken => answer("404 Not Found", ""),
                11.. => ok("[]"),
                // A new record on a page that was done, and again on one that was not.
                1 | 4 if changed && broken == 0 => page(ids.chain([999])),
                _ => page(ids),
            }
        });
        bench.write(
            "p.yaml",
            format!(
                "name: p\nsource:\n  rest: {{ url: '{}', pagination: {{ page: {{}} }} }}\n\
                 transform: [{{ dedupe: id }}]\nload:\n  - http: {{ url: '{}/load' }}\n    \
                 batch: {{ records: 70 }}\n",
                api.url("/"),
                sink.url()
            ),
        );
        assert_eq!(bench.run(&[]).exits(69).total("extracted"), 200);
        assert_eq!(sink.stats().records, 200);
        broken.store(0, SeqCst);
        let ran = bench.run(&[]).exits(0);
        assert_eq!(ran.total("resumed_from"), 200);
        assert_eq!(ran.json()["balanced"], true, "{}", ran.stdout);
        if changed {
            // What was delivered before may come again, and nothing is missing.
            assert!(ran.stderr.contains("has changed"), "{}", ran.stderr);
            assert_eq!(sink.stats().unique_records, 251);
        } else {
            assert_eq!((ran.total("extracted"), ran.total("filtered")), (800, 750));
            each_exactly_once(&sink, 250);
        }
        assert_eq!(sink.stats().conflicting_keys, 0);
    }
}

/// Steps of a `yaml` block and the lines of the `text` block behind it.
fn examples(page: &str) -> Vec<(String, Vec<String>)> {
    let mut examples = Vec::new();
    let mut rest = page;
    while let Some((_, after)) = rest.split_once("```yaml\n") {
        let (steps, after) = after.split_once("```\n").unwrap();
        let after =
            after.strip_prefix("```text\n").unwrap_or_else(|| panic!("no results: {steps}"));
        let (lines, after) = after.split_once("```\n").unwrap();
        examples.push((steps.to_owned(), lines.lines().map(str::to_owned).collect()));
        rest = after;
    }
    examples
}

#[test]
fn every_example_of_the_reference_is_true() {
    let page = include_str!("../../docs/transforms.md");
    let examples = examples(page);
    let mut steps_shown = BTreeSet::new();
    for (steps, lines) in &examples {
        let text = format!(
            "name: shop\nsource: {{ csv: {{ path: a.csv }} }}\ntransform:\n{steps}\
             load: [{{ http: {{ url: 'https://h/' }} }}]\n"
        );
        let loaded = from_str("p.yaml", &text, &[], &Environment::empty());
        let pipeline = loaded.unwrap_or_else(|report| panic!("{steps}: {report}")).pipeline;
        steps_shown.extend(pipeline.transform.iter().map(|step| step.name()));
        let facts = RunFacts { pipeline: "shop", run_id: "9f3a61c06920a000" };
        let chain = Chain::new(&pipeline.transform, facts).unwrap();
        for pair in lines.chunks(2) {
            let [input, expected] = pair else { panic!("{steps}: an input without a result") };
            let row = input.strip_prefix("in   ").unwrap_or_else(|| panic!("{input}"));
            let mut out = Vec::new();
            let result = match chain.apply(row.as_bytes(), &mut Scratch::default(), &mut out) {
                Ok(Verdict::Keep) => format!("out  {}", String::from_utf8(out).unwrap()),
                Ok(Verdict::Filtered) => "dropped".to_owned(),
                Err(rejected) => {
                    let reason = rejected.to_string();
                    format!("rejected  {}", reason.strip_prefix("shop: ").unwrap())
                }
            };
            assert_eq!(&result, expected, "{steps}{row}");
        }
    }
    let all = etl::config::pipeline_schema()["$defs"]["Step"]["oneOf"].as_array().unwrap().len();
    assert_eq!(steps_shown.len(), all, "a step without an example: {steps_shown:?}");
}
