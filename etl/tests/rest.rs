//! An API's pages, each record of them exactly once: whatever way they are linked,
//! with requests that fail, killed and resumed. Believes only the ledger.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

#[path = "support/api.rs"]
mod api;
#[path = "support/rest.rs"]
mod rest;
mod support;

use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use api::{Api, answer, ok, records};
use mock_load_api_server::Faults;
use rest::{ids, input, pipeline, posts, unreliable};
use rustix::process::Signal;
use support::{Bench, Ran, each_exactly_once, mock, signal, wait_until};

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_page_brings_each_record_once() {
    for (rest, count) in [
        ("url: URL/posts", 3_000),
        ("url: URL/posts?_page=1&_limit=90\npagination: link", 3_000),
        (
            "url: URL/posts\npagination: { page: { param: _page, size_param: _limit, size: 110 } }",
            3_000,
        ),
        (
            "url: URL/posts\npagination: { offset: { param: _start, limit_param: _limit, limit: 130 } }",
            3_000,
        ),
        // A full last page: the end is an empty one.
        (
            "url: URL/coins/markets\nquery: { vs_currency: eur }\n\
             pagination: { page: { size_param: per_page, size: 250 } }",
            1_000,
        ),
        ("url: URL/users?results=700&page=3\nrecords: /results", 700),
        ("url: URL/users?results=7\nrecords: /results/3", 1),
    ] {
        let (bench, server) = (Bench::new(), mock(unreliable(3_000)).await);
        pipeline(&bench, &rest.replace("URL", &server.url()), &server, "batch: { records: 70 }");
        let ran = bench.run(&[]).exits(0);
        assert_eq!(
            (ran.total("extracted"), ran.json()["balanced"] == true),
            (count, true),
            "{rest}"
        );
        each_exactly_once(&server, count);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_that_name_the_next_one_in_their_body() {
    let sink = mock(Faults::default()).await;
    let api = Api::start(|request| {
        let from = request.number("from");
        let items = records(from..(from + 40).min(410));
        let more = from + 40 < 410;
        match request.path.as_str() {
            // Relative, absolute to the host, and null at the end.
            "/v1/next" if more => {
                ok(format!(r#"{{"items":{items},"next":"?from={}"}}"#, from + 40))
            }
            "/v1/next" => ok(format!(r#"{{"items":{items},"next":null}}"#)),
            "/v1/cursor" => {
                let cursor =
                    request.param("c").map_or(0, |c| c.trim_start_matches("c%2F").parse().unwrap());
                let items = records(cursor..(cursor + 40).min(410));
                let next = if cursor + 40 < 410 {
                    format!("\"c/{}\"", cursor + 40)
                } else {
                    "\"\"".to_owned()
                };
                ok(format!(r#"{{"items":{items},"meta":{{"next":{next}}}}}"#))
            }
            _ => answer("404 Not Found", ""),
        }
    });
    for pagination in [
        format!("url: {}\npagination: {{ next: {{ pointer: /next }} }}", api.url("/v1/next")),
        format!(
            "url: {}\npagination: {{ cursor: {{ pointer: /meta/next, param: c }} }}",
            api.url("/v1/cursor")
        ),
    ] {
        let bench = Bench::new();
        pipeline(&bench, &format!("{pagination}\nrecords: /items"), &sink, "");
        assert_eq!(bench.run(&[]).exits(0).total("extracted"), 410);
    }
    assert_eq!(ids(&sink), (0..410).collect());
    assert_eq!(api.count(), 22);
}

/// What leads on travels in the body of a POST, as text or number, and nothing else of
/// the body changes.
#[tokio::test(flavor = "multi_thread")]
async fn pages_that_are_asked_for_in_a_body() {
    let api = Api::start(|request| {
        let ours = request.body.starts_with(r#"{ "q": 1.0e2, "from": "#);
        if request.method != "POST" || !ours || request.path.contains('?') {
            return answer("422 Unprocessable Entity", "");
        }
        let body: serde_json::Value = serde_json::from_str(&request.body).unwrap();
        let (from, size) = (&body["from"], body["at"]["size"].as_u64().unwrap() as usize);
        let start = match request.path.as_str() {
            "/text" => from.as_str().map_or(0, |text| text[1..].parse().unwrap()),
            // The pages have numbers from 1.
            "/page" => (from.as_u64().unwrap() as usize - 1) * size,
            "/since" => from.as_u64().unwrap() as usize,
            _ => from.as_u64().unwrap_or(0) as usize,
        };
        let end = (start + size).min(95);
        let next = match request.path.as_str() {
            _ if end == 95 => "null".to_owned(),
            "/text" => format!("\"\\\"{end}\""),
            _ => end.to_string(),
        };
        ok(format!(r#"{{"items":{},"next":{next}}}"#, records(start.min(end)..end)))
    });
    for (path, body, more, count) in [
        ("/text", 20, "pagination: { cursor: { pointer: /next, param: /from } }", 95),
        ("/number", 20, "pagination: { cursor: { pointer: /next, param: /from } }", 95),
        ("/page", 0, "pagination: { page: { param: /from, size_param: /at/size, size: 30 } }", 95),
        (
            "/offset",
            0,
            "pagination: { offset: { param: /from, limit_param: /at/size, limit: 40 } }",
            95,
        ),
        ("/since", 500, "incremental: { field: /id, param: /from, start: \"15\" }", 80),
    ] {
        let (bench, sink) = (Bench::new(), mock(Faults::default()).await);
        let rest = format!(
            "url: {}\nmethod: POST\nrecords: /items\n\
             body: '{{ \"q\": 1.0e2, \"from\": null, \"at\": {{\"size\": {body}}} }}'\n{more}",
            api.url(path)
        );
        pipeline(&bench, &rest, &sink, "");
        assert_eq!(bench.run(&[]).exits(0).total("extracted"), count, "{path}");
        each_exactly_once(&sink, count);
        if path == "/since" {
            // From the highest one on, which this API gives again, or not.
            assert_eq!(bench.run(&[]).exits(0).total("extracted"), 1);
            assert!(api.seen().pop().unwrap().body.contains(r#""from": 94,"#));
        }
    }
}

/// A server may give less at once than it is asked for, and does not say so.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_size_that_the_api_caps_loses_nothing() {
    let sink = mock(Faults::default()).await;
    let api = Api::start(|request| {
        let limit = request.number("limit").min(50);
        let from = match request.path.as_str() {
            "/pages" => (request.number("page") - 1) * limit,
            _ => request.number("offset"),
        };
        ok(records(from.min(333)..(from + limit).min(333)))
    });
    for rest in [
        format!(
            "url: {}\npagination: {{ page: {{ size_param: limit, size: 200 }} }}",
            api.url("/pages")
        ),
        format!("url: {}\npagination: {{ offset: {{ limit: 200 }} }}", api.url("/offset")),
    ] {
        let bench = Bench::new();
        pipeline(&bench, &rest, &sink, "");
        assert_eq!(bench.run(&[]).exits(0).total("extracted"), 333, "{rest}");
    }
    assert_eq!(ids(&sink).len(), 333);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_killed_again_and_again_brings_each_record_once() {
    for pagination in [
        "url: URL/posts?_page=1&_limit=64\npagination: link",
        "url: URL/posts\npagination: { page: { param: _page, size_param: _limit, size: 100 } }",
    ] {
        let faults = Faults { delay: Duration::from_millis(15), ..unreliable(12_000) };
        let (bench, server) = (Bench::new(), mock(faults).await);
        let rest = format!("{}\nrate: 100/s", pagination.replace("URL", &server.url()));
        pipeline(&bench, &rest, &server, "batch: { records: 70 }\nworkers: 2");
        let (mut killed, mut resumed) = (0, 0);
        for records in [1, 1_500, 4_000, 7_000, 10_000] {
            let mut run = bench.start(&[]);
            wait_until("records arrived or the run ended", || {
                server.stats().records >= records || run.try_wait().unwrap().is_some()
            });
            run.kill().unwrap();
            killed += u64::from(run.wait().unwrap().signal().is_some());
        }
        assert!(killed >= 4, "the runs were over too soon");
        for _ in 0..10 {
            let ran = bench.run(&[]);
            resumed = resumed.max(ran.json()["resumed_from"].as_u64().unwrap_or(0));
            if ran.code == Some(0) {
                break;
            }
            ran.exits(75);
        }
        assert!(resumed > 1_000, "{resumed}");
        each_exactly_once(&server, 12_000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_run_goes_on_where_it_stopped() {
    let faults = Faults { delay: Duration::from_millis(10), ..posts(6_000) };
    let (bench, server) = (Bench::new(), mock(faults).await);
    let rest =
        format!("url: {}/posts?_page=1&_limit=50\npagination: link\nrate: 60/s", server.url());
    pipeline(&bench, &rest, &server, "batch: { records: 70 }");
    let mut extracted = 0;
    for _ in 0..2 {
        let run = bench.start(&[]);
        wait_until("records arrived", || server.stats().records >= extracted + 500);
        signal(&run, Signal::TERM);
        let ran = Ran::from(run.wait_with_output().unwrap()).exits(143);
        assert_eq!(ran.json()["balanced"], true, "{}", ran.stdout);
        extracted += ran.total("extracted");
        assert_eq!(server.stats().records, extracted, "all that was read is delivered");
    }
    let ran = bench.run(&[]).exits(0);
    assert_eq!((ran.total("resumed_from"), ran.total("extracted")), (extracted, 6_000 - extracted));
    assert!(input(&ran).starts_with("resumed: run"), "{}", ran.stdout);
    each_exactly_once(&server, 6_000);
    assert_eq!(server.stats().duplicate_batches, 0);
    // It has ended by itself: the next one is a new run.
    assert_eq!(
        bench.run(&["--set", "source.rest.conditional=false"]).exits(0).total("extracted"),
        6_000
    );
}

/// Cut short, and the API has other records since: nothing of what is there now is
/// missing in the end.
#[tokio::test(flavor = "multi_thread")]
async fn pages_that_have_changed_since_are_read_anew() {
    let sink = mock(Faults::default()).await;
    let (shift, broken) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(7)));
    let (shifted, breaks) = (shift.clone(), broken.clone());
    let api = Api::start(move |request| {
        let (page, shift) = (request.number("page"), shifted.load(SeqCst));
        if page == breaks.load(SeqCst) {
            return answer("404 Not Found", "");
        }
        let from = shift + (page - 1) * 100;
        ok(records(from.min(1_000)..(from + 100).min(1_000)))
    });
    let bench = Bench::new();
    let rest = format!("url: {}\npagination: {{ page: {{ size: 100 }} }}", api.url("/"));
    pipeline(&bench, &rest, &sink, "batch: { records: 70 }");
    let ran = bench.run(&[]).exits(69);
    assert_eq!(ran.total("extracted"), 600);
    broken.store(0, SeqCst);
    // Five records are gone: all others have moved up.
    shift.store(5, SeqCst);
    let before = api.count();
    let ran = bench.run(&[]).exits(0);
    assert!(input(&ran).starts_with("resumed: run"), "{}", ran.stdout);
    assert_eq!(ran.json()["balanced"], true, "{}", ran.stdout);
    assert_eq!(api.seen()[before].param("page"), Some("7"));
    // Record 600 to 604 moved to page 6, which was done: as in a run that was not cut
    // short. All others of the pages from there on are there.
    let missing: Vec<u64> = (0..1_000).filter(|id| !ids(&sink).contains(id)).collect();
    assert_eq!(missing, [600, 601, 602, 603, 604]);
    assert_eq!(sink.stats().conflicting_keys, 0);

    // Within a page: 140 of it were settled, and then it is another one.
    let (sink, bench) = (mock(Faults::default()).await, Bench::new());
    let change = Arc::new(AtomicUsize::new(0));
    let changed = change.clone();
    let api = Api::streaming(move |_, out| {
        let from = changed.load(SeqCst);
        let lines = records(from..from + 200).replace("},", "}\n").replace(['[', ']'], "");
        out.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ncontent-length: 90000\r\n\r\n")?;
        out.write_all(lines.as_bytes())?;
        if from == 0 {
            return Err(std::io::Error::other("cut off"));
        }
        out.write_all(" ".repeat(90_000 - lines.len()).as_bytes())
    });
    let rest = format!("url: {}\nformat: ndjson\nretry: {{ attempts: 1 }}", api.url("/"));
    pipeline(&bench, &rest, &sink, "batch: { records: 70 }");
    let ran = bench.run(&[]).exits(69);
    assert!(ran.total("extracted") >= 140, "{}", ran.stdout);
    change.store(1_000, SeqCst);
    let ran = bench.run(&[]).exits(0);
    assert!(ran.total("resumed_from") >= 140, "{}", ran.stdout);
    assert_eq!(ran.total("extracted"), 200);
    assert!(ran.stderr.contains("has changed"), "{}", ran.stderr);
    assert!((1_000..1_200).all(|id| ids(&sink).contains(&id)));
    assert_eq!(ran.json()["balanced"], true, "{}", ran.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_cut_short_too_long_ago_or_of_another_source_is_not_resumed() {
    for (set, word) in [
        ("resume_within=0s", "resume_within is"),
        ("source.rest.pagination.page.size=90", "have changed"),
    ] {
        let (bench, server) = (Bench::new(), mock(posts(1_000)).await);
        let rest = format!(
            "url: {}/posts\npagination: {{ page: {{ param: _page, size_param: _limit, size: 100 }} }}",
            server.url()
        );
        pipeline(&bench, &rest, &server, "");
        bench.run(&["--set", "source.rest.max_pages=4"]).exits(69);
        let ran = bench.run(&["--set", set]).exits(0);
        assert!(
            input(&ran).contains(word) && input(&ran).contains("was cut short"),
            "{}",
            ran.stdout
        );
        assert_eq!(ran.total("extracted"), 1_000);
        assert_eq!(server.stats().unique_records, 1_000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn circles_foreign_places_and_endless_pages_end_the_run() {
    let elsewhere = Api::start(|_| ok(r#"{"items":[{"id":900}]}"#));
    let foreign = elsewhere.url("/more?token=abc");
    let api = Api::start(move |request| match (request.path.as_str(), request.number("page")) {
        ("/circle", page) => ok(format!(
            r#"{{"items":{},"next":"/circle?page={}"}}"#,
            records(page..page + 1),
            (page + 1) % 3
        )),
        ("/same", _) => ok(format!(r#"{{"items":{}}}"#, records(0..5))),
        ("/foreign", _) => ok(format!(r#"{{"items":[{{"id":1}}],"next":"{foreign}"}}"#)),
        ("/file", _) => ok(r#"{"items":[{"id":1}],"next":"file:///etc/passwd"}"#),
        (_, page) => ok(format!(r#"{{"items":{}}}"#, records(page..page + 1))),
    });
    let next = "pagination: { next: { pointer: /next } }";
    let page = "pagination: { page: {} }";
    for (path, more, records, word) in [
        ("/circle", next, 3, "in circles"),
        ("/same", page, 5, "does the API know the parameter page"),
        ("/foreign", next, 1, "leads to another origin, http://127.0.0.1"),
        ("/file", next, 1, "which is no http address"),
        ("/endless", "pagination: { page: {} }\nmax_pages: 9", 9, "max_pages (9)"),
    ] {
        let (bench, sink) = (Bench::new(), mock(Faults::default()).await);
        pipeline(
            &bench,
            &format!("url: {}?key=s3cret\nrecords: /items\n{more}", api.url(path)),
            &sink,
            "",
        );
        let ran = bench.run(&[]).exits(69);
        assert!(ran.stderr.contains(word), "{path}: {}", ran.stderr);
        assert!(ran.stderr.contains(", page "), "{path}: {}", ran.stderr);
        assert!(
            !ran.stderr.contains("token=abc") && !ran.stderr.contains("s3cret"),
            "{}",
            ran.stderr
        );
        assert_eq!(sink.stats().unique_records, records, "{path}");
    }
    assert_eq!(elsewhere.count(), 0, "it was not asked");

    let (bench, sink) = (Bench::new(), mock(Faults::default()).await);
    let rest = format!(
        "url: {}\nrecords: /items\n{next}\nallow_other_origins: true\nheaders: {{ X-Own: s3cret }}\n\
         auth: {{ bearer: s3cret }}",
        api.url("/foreign")
    );
    pipeline(&bench, &rest, &sink, "");
    assert_eq!(bench.run(&[]).exits(0).total("extracted"), 2);
    let asked = &elsewhere.seen()[0];
    assert!(!format!("{asked:?}").contains("s3cret"), "{asked:?}");
    assert!(api.seen().last().unwrap().header("authorization") == "Bearer s3cret");
}
