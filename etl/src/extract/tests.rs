//! Extraction against servers that misbehave.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Extractor, Target};
use crate::batch::Rows;
use crate::config::Extract;
use crate::http::testing::{Act, Authority, Server};

fn extractor(settings: Value) -> Extractor {
    Extractor::new(&config(settings)).unwrap()
}

fn config(settings: Value) -> Extract {
    serde_json::from_value(settings).unwrap()
}

fn http(server: &Server, more: Value) -> Extractor {
    let mut settings = json!({
        "timeout": "2s",
        "http": {"url": format!("http://{{host}}:{}/cpu/{{id}}", server.address.port())},
    });
    for (key, value) in more.as_object().unwrap() {
        if matches!(key.as_str(), "timeout" | "attempts") {
            settings[key] = value.clone();
        } else {
            settings["http"][key] = value.clone();
        }
    }
    extractor(settings)
}

fn target() -> Target {
    Target::new(0, br#"{"host":"127.0.0.1","id":7}"#.to_vec()).unwrap()
}

/// The rows, or the error's text; a failed call must leave `rows` as it was.
async fn extract(extractor: &Extractor, target: &Target) -> Result<Vec<Value>, String> {
    let mut rows = Rows::default();
    rows.push(b"{}");
    let ended = extractor.extract(target, &mut rows).await;
    match ended {
        Ok(()) => {
            let new = rows.iter().skip(1).inspect(|row| assert!(!row.contains(&b'\n')));
            Ok(new.map(|row| serde_json::from_slice(row).unwrap()).collect())
        }
        Err(error) => {
            assert_eq!(rows.len(), 1);
            Err(error.to_string())
        }
    }
}

async fn error(act: Act, more: Value) -> String {
    let server = Server::start(move |_, _| act.clone()).await;
    extract(&http(&server, more), &target()).await.unwrap_err()
}

#[test]
fn a_target_is_called_by_its_name() {
    let label = |row: &str| Target::new(3, row.as_bytes().to_vec()).unwrap().label();
    assert_eq!(label(r#"{"ip":"10.0.0.1","hostname":"sw-1"}"#), "sw-1");
    assert_eq!(label(r#"{"ip":"10.0.0.1","hostname":""}"#), "10.0.0.1");
    assert_eq!(label(r#"{"site":"\u001b[31m","x":1}"#), "\\x1b[31m");
    assert_eq!(label("{}"), "target 4");
    assert!(Target::new(0, b"[]".to_vec()).is_err());
}

#[tokio::test]
async fn source_fields_come_first_and_the_answer_wins() {
    let server = Server::start(|_, head| {
        assert!(head.starts_with("GET /cpu/7 HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("user-agent: etl/"), "{head}");
        assert!(head.contains("accept: application/json"), "{head}");
        assert!(head.contains("authorization: Bearer s3cret"), "{head}");
        Act::ok("{\n  \"id\": \"x\",\n \"a\": [1, {\"b\\\"\": \" \\n{\"}],\r\n \"a\": 1.50\n}")
    })
    .await;
    let extractor = http(&server, json!({"token": "s3cret"}));
    assert_eq!(extractor.columns().collect::<Vec<_>>(), ["host", "id"]);
    let mut rows = Rows::default();
    extractor.extract(&target(), &mut rows).await.unwrap();
    let row = String::from_utf8(rows.iter().next().unwrap().to_vec()).unwrap();
    let (fields, timestamp) = row.rsplit_once(",\"timestamp\":").unwrap();
    assert_eq!(fields, r#"{"host":"127.0.0.1","id":"x","a":1.50"#);
    assert!(timestamp.trim_end_matches('}').parse::<u64>().unwrap() > 1_700_000_000);
    assert!(!format!("{extractor:?}").contains("s3cret"));
}

#[tokio::test]
async fn an_array_gives_a_row_each_and_a_pointer_finds_it() {
    let body = r#"{"data":{"a/b":[[], [{"n":1,"timestamp":5},
        {"n":{"deep":[ "x y" ]},"timestamp":6}]]}}"#;
    let server = Server::start(move |_, _| Act::ok(body)).await;
    let rows =
        extract(&http(&server, json!({"records": "/data/a~1b/1"})), &target()).await.unwrap();
    let source = json!({"host": "127.0.0.1", "id": 7});
    let row = |n: Value, timestamp: u64| {
        let mut row = source.clone();
        (row["n"], row["timestamp"]) = (n, json!(timestamp));
        row
    };
    assert_eq!(rows, [row(json!(1), 5), row(json!({"deep": ["x y"]}), 6)]);
    let empty = http(&server, json!({"records": "/data/a~1b/0"}));
    assert_eq!(extract(&empty, &target()).await, Ok(vec![]));
    for pointer in ["/data/nothing", "/data/a~1b/2", "/data/a~1b/01", "/data/a~1b/1/0/n/x"] {
        let error = extract(&http(&server, json!({"records": pointer})), &target()).await;
        assert_eq!(error, Err(format!("the answer has nothing at {pointer}")));
    }
}

#[tokio::test]
async fn what_is_not_json_is_an_error_before_it_is_a_row() {
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    for (body, expected) in [
        ("<html>", "not JSON: expected value at line 1 column 1"),
        ("", "not JSON: EOF while parsing"),
        ("{\"a\":1", "not JSON: EOF while parsing"),
        ("{} {}", "not JSON: trailing characters"),
        ("{\"a\":\"\\ud800\"}", "not JSON: "),
        ("{\"a\":1e999}", "not JSON: number out of range"),
        (deep.as_str(), "not JSON: recursion limit exceeded"),
        ("7", "neither a JSON object nor an array"),
        ("[{},3]", "record 2 of the answer is not a JSON object"),
    ] {
        let error = error(Act::ok(body), json!({})).await;
        assert!(error.contains(expected), "{body}: {error}");
    }
}

#[tokio::test]
async fn only_200_is_success_and_redirects_are_named() {
    let redirect = Act::Answer(
        b"HTTP/1.1 302 Found\r\nlocation: http://e/\x1b\r\ncontent-length: 0\r\n\r\n".to_vec(),
    );
    let text = error(redirect, json!({})).await;
    // hyper refuses the escape; a decent one is named.
    assert!(text.contains("not HTTP") || text.contains("302 Found"), "{text}");
    let redirect = Act::Answer(
        b"HTTP/1.1 302 Found\r\nlocation: http://e/\r\ncontent-length: 0\r\n\r\n".to_vec(),
    );
    assert_eq!(
        error(redirect, json!({})).await,
        "answered 302 Found to http://e/ (redirects are not followed; set the final URL)"
    );
    for status in ["404 Not Found", "503 Service Unavailable", "204 No Content", "401 Unauthorized"]
    {
        assert_eq!(error(Act::status(status, ""), json!({})).await, format!("answered {status}"));
    }
}

#[tokio::test]
async fn passing_failures_are_tried_again_and_lasting_ones_not() {
    let server = Server::start(|number, _| match number {
        0 => Act::status("500 Internal Server Error", "oops"),
        1 => Act::AnswerAndClose(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".to_vec()),
        2 => Act::status("429 Too Many Requests", ""),
        3 => Act::AnswerAndClose(Vec::new()),
        _ => Act::ok("{}"),
    })
    .await;
    let rows = extract(&http(&server, json!({"attempts": 5})), &target()).await.unwrap();
    assert_eq!((rows.len(), server.seen()), (1, 5));

    for (status, requests) in
        [("404 Not Found", 1), ("503 Service Unavailable", 2), ("501 Not Implemented", 1)]
    {
        let server = Server::start(move |_, _| Act::status(status, "")).await;
        extract(&http(&server, json!({})), &target()).await.unwrap_err();
        assert_eq!(server.seen(), requests, "{status}");
    }
    assert_eq!(
        error(Act::AnswerAndClose(Vec::new()), json!({})).await,
        "connection closed without an answer"
    );
}

#[tokio::test]
async fn bodies_are_capped_and_cut_short_is_said() {
    let big = Act::ok(&format!("[{}]", " ".repeat(10_000)));
    assert_eq!(error(big, json!({"max_body": "4KiB"})).await, "body larger than 4 KiB");
    let cut = Act::AnswerAndClose(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{}".to_vec());
    assert_eq!(error(cut, json!({})).await, "answer cut short");
}

#[tokio::test]
async fn one_deadline_lies_over_everything() {
    let started = Instant::now();
    let short = json!({"timeout": "300ms", "attempts": 50});
    let text = error(Act::Hang, short.clone()).await;
    assert_eq!(text, "timed out after 300ms (waiting for the answer)");
    let stuck = Act::Answer(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_vec());
    assert_eq!(error(stuck, short.clone()).await, "timed out after 300ms (reading the answer)");
    let again = error(Act::status("503 Service Unavailable", ""), short.clone()).await;
    assert!(again.starts_with("timed out after 300ms ("), "{again}");
    assert!(again.ends_with("before that: answered 503 Service Unavailable)"), "{again}");
    // A TLS handshake that is never answered.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, Authority::new("ours").pem()).unwrap();
    let url = format!("https://{}/", silent.local_addr().unwrap());
    let https = extractor(json!({
        "timeout": "300ms", "http": {"url": url, "connect_timeout": "5s", "tls": {"ca": ca}},
    }));
    assert_eq!(extract(&https, &target()).await.unwrap_err(), "timed out after 300ms (connecting)");
    assert!(started.elapsed() < Duration::from_secs(3));

    let late = Server::start(|_, _| {
        Act::Late(
            Duration::from_millis(100),
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_vec(),
        )
    })
    .await;
    assert_eq!(extract(&http(&late, json!({})), &target()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_bad_target_fails_alone_and_says_why() {
    let server = Server::start(|_, _| Act::ok("{}")).await;
    let extractor = http(&server, json!({}));
    for (row, expected) in [
        (json!({"host": "127.0.0.1"}), "the source has no column id, which the address needs"),
        (json!({"host": "a/b", "id": 1}), "host \"a/b\" is not a host name or address"),
    ] {
        let target = Target::new(0, row.to_string().into_bytes()).unwrap();
        assert_eq!(extract(&extractor, &target).await.unwrap_err(), expected);
    }
    assert_eq!(server.seen(), 0);
    let closed = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let refused = self::extractor(json!({"http": {"url": format!("http://{closed}/")}}));
    assert_eq!(extract(&refused, &target()).await.unwrap_err(), "connection refused");
}

#[test]
fn a_contradictory_configuration_is_refused() {
    let exporter = |interval: &str| {
        json!({"timeout": "2s", "http": {
            "url": "http://{ip}/", "format": "node_exporter", "sample_interval": interval,
        }})
    };
    for (settings, expected) in [
        (json!({}), "exactly one of simulated, http"),
        (json!({"simulated": {}, "http": {"url": "http://{ip}/"}}), "exactly one of"),
        (json!({"simulated": {"delay": "2s", "delay_max": "1s"}}), "delay_max (1s) is shorter"),
        (json!({"http": {"url": "{ip}"}}), "extract.http.url: it must begin with"),
        (json!({"http": {"url": "http://{ip}/", "records": "data"}}), "extract.http.records"),
        (json!({"http": {"url": "http://{ip}/", "token": "a\nb"}}), "extract.http.token"),
        (
            json!({"http": {"url": "http://{ip}/", "tls": {"ca": "/nowhere"}}}),
            "extract.http.tls.ca",
        ),
        (exporter("2s"), "sample_interval: 2s leaves no time"),
    ] {
        let error = Extractor::new(&config(settings)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert!(Extractor::new(&config(exporter("1s"))).is_ok());
}

#[tokio::test]
async fn simulated_targets_are_the_same_for_the_same_seed() {
    let simulated = |seed: u64| {
        extractor(
            json!({"simulated": {"delay": "1ms", "delay_max": "20ms", "fail": "20%", "seed": seed}}),
        )
    };
    let run = async |extractor: Extractor| {
        let mut rows = Vec::new();
        for index in 0..40 {
            let row = json!({"ip": format!("10.0.0.{index}"), "pidle": "source"}).to_string();
            let target = Target::new(index, row.into_bytes()).unwrap();
            rows.push(extract(&extractor, &target).await.map(|mut rows| {
                assert!(rows[0]["timestamp"].take().as_u64().unwrap() > 1_700_000_000);
                rows.remove(0)
            }));
        }
        rows
    };
    let first = run(simulated(1)).await;
    assert_eq!(first, run(simulated(1)).await);
    assert_ne!(first, run(simulated(2)).await);
    let failed =
        first.iter().filter(|row| row.as_ref().is_err_and(|error| error == "simulated failure"));
    assert!((2..=16).contains(&failed.count()));
    for row in first.iter().flatten() {
        assert_eq!(row["cpu_number"], "0");
        let hundredths: u32 = ["pidle", "pnice", "puser", "psys", "pirq"]
            .iter()
            .map(|name| row[*name].as_str().unwrap().replace('.', "").parse::<u32>().unwrap())
            .sum();
        assert_eq!(hundredths, 10_000, "{row}");
    }
}

#[tokio::test]
async fn ten_thousand_simulated_targets_wait_at_once() {
    let extractor = Arc::new(extractor(json!({"simulated": {"delay": "300ms"}})));
    let started = Instant::now();
    let mut calls = tokio::task::JoinSet::new();
    for index in 0..10_000 {
        let extractor = extractor.clone();
        calls.spawn(async move {
            let target = Target::new(index, br#"{"ip":"::1"}"#.to_vec()).unwrap();
            extractor.extract(&target, &mut Rows::default()).await.unwrap();
        });
    }
    while let Some(ended) = calls.join_next().await {
        ended.unwrap();
    }
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

/// What an exporter with two CPUs serves after `ticks` tenths of a second.
fn exposition(ticks: f64, cpus: &[u32]) -> String {
    let mut text = "# TYPE node_cpu_seconds_total counter\n".to_owned();
    for cpu in cpus {
        for (mode, share) in [
            ("idle", 0.06),
            ("iowait", 0.01),
            ("user", 0.02),
            ("nice", 0.0),
            ("system", 0.005),
            ("irq", 0.002),
            ("softirq", 0.003),
            ("steal", 0.0),
        ] {
            let seconds = 1000.0 + ticks * share;
            text.push_str(&format!(
                "node_cpu_seconds_total{{cpu=\"{cpu}\",mode=\"{mode}\"}} {seconds}\n"
            ));
        }
    }
    text
}

fn exporter(server: &Server) -> Extractor {
    http(server, json!({"format": "node_exporter", "sample_interval": "50ms"}))
}

#[tokio::test]
async fn node_exporter_needs_two_samples_first_and_one_later() {
    let server = Server::start(|number, head| {
        assert!(head.contains("accept: text/plain"), "{head}");
        Act::ok(&exposition(number as f64, &[0, 1]))
    })
    .await;
    let exporter = exporter(&server);
    let rows = extract(&exporter, &target()).await.unwrap();
    assert_eq!((rows.len(), server.seen()), (2, 2));
    let mut row = rows[1].clone();
    assert!(row["timestamp"].take().as_u64().unwrap() > 1_700_000_000);
    assert_eq!(
        row,
        json!({
            "host": "127.0.0.1", "id": 7, "cpu_number": "1", "pidle": "60.00", "pnice": "0.00",
            "puser": "20.00", "psys": "5.00", "pirq": "5.00", "piowait": "10.00", "psteal": "0.00",
            "timestamp": null,
        })
    );
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!(extract(&exporter, &target()).await.unwrap().len(), 2);
    assert_eq!(server.seen(), 3);
    assert_eq!(server.connections.load(SeqCst), 1);
}

#[tokio::test]
async fn node_exporter_restarts_new_cpus_and_still_counters() {
    // Requests 0 and 1 are the first poll; then the exporter has restarted; then a CPU came.
    let server = Server::start(|number, _| match number {
        0 | 1 => Act::ok(&exposition(number as f64, &[0])),
        2 | 3 => Act::ok(&exposition(number as f64 - 10_000.0, &[0])),
        _ => Act::ok(&exposition(number as f64 - 10_000.0, &[0, 1])),
    })
    .await;
    let exporter = exporter(&server);
    for (cpus, requests) in [(1, 2), (1, 4), (2, 6)] {
        assert_eq!(extract(&exporter, &target()).await.unwrap().len(), cpus);
        assert_eq!(server.seen(), requests);
        tokio::time::sleep(Duration::from_millis(60)).await;
    }

    let still = Server::start(|_, _| Act::ok(&exposition(1.0, &[0]))).await;
    let error = extract(&self::exporter(&still), &target()).await.unwrap_err();
    assert!(error.starts_with("the CPU counters did not move in 50ms"), "{error}");
    let other = Server::start(|_, _| Act::ok("<html>")).await;
    let error = extract(&self::exporter(&other), &target()).await.unwrap_err();
    assert_eq!(error, "no node_cpu_seconds_total in the answer");
}
