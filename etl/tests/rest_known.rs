//! What a run of an API knows of the runs before: pages that have not changed are not loaded
//! again, and only what is new is asked for. Believes only the ledger.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

#[path = "support/api.rs"]
mod api;
#[path = "support/rest.rs"]
mod rest;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use api::{Api, answer, ok, records};
use mock_load_api_server::Faults;
use rest::{ids, input, pipeline, posts, unreliable};
use rustix::process::Signal;
use support::{Bench, each_exactly_once, mock, signal, wait_until};

#[tokio::test(flavor = "multi_thread")]
async fn what_has_not_changed_is_not_loaded_again() {
    for rest in [
        "url: URL/posts",
        "url: URL/posts?_page=1&_limit=100\npagination: link",
        "url: URL/posts\npagination: { offset: { param: _start, limit_param: _limit } }",
    ] {
        let (bench, server) = (Bench::new(), mock(posts(450)).await);
        pipeline(&bench, &rest.replace("URL", &server.url()), &server, "");
        bench.run(&[]).exits(0);
        let ran = bench.run(&[]).exits(0);
        assert_eq!(ran.total("extracted"), 0, "{rest}");
        assert!(input(&ran).starts_with("nothing new: GET http://"), "{}", ran.stdout);
        assert!(!input(&ran).contains('?'), "{}", ran.stdout);
        each_exactly_once(&server, 450);
        // The third time too; and more posts are noticed, also on a page of their own.
        bench.run(&[]).exits(0);
        server.set_faults(posts(620)).unwrap();
        let ran = bench.run(&[]).exits(0);
        assert!(ran.total("extracted") >= 170, "{}", ran.stdout);
        assert_eq!(server.stats().unique_records, 620, "{rest}");
        assert_eq!(bench.run(&["--fresh"]).exits(0).total("extracted"), 620);
    }
}

/// A page with a validator, in the ways that an API may have on a bad day.
fn moody(mood: Arc<AtomicUsize>) -> Api {
    Api::streaming(move |request, out| match mood.load(SeqCst) {
        // As ever.
        0 if request.header("if-none-match") == "\"a\"" => {
            out.write_all(&answer("304 Not Modified", ""))
        }
        0 => out.write_all(&answer("200 OK\r\netag: \"a\"", lines(0..20))),
        // Takes the request and says nothing.
        1 => {
            wait_until("its mood is better", || mood.load(SeqCst) != 1);
            Err(std::io::Error::other("cut off"))
        }
        // Another page, of which a half comes.
        2 => {
            let head = "HTTP/1.1 200 OK\r\netag: \"b\"\r\ncontent-length: 9000\r\n\r\n";
            out.write_all(head.as_bytes())?;
            out.write_all(lines(100..110).as_bytes())?;
            out.flush()?;
            wait_until("its mood is better", || mood.load(SeqCst) != 2);
            Err(std::io::Error::other("cut off"))
        }
        _ => out.write_all(&answer("404 Not Found", "")),
    })
}

fn lines(range: std::ops::Range<usize>) -> String {
    records(range).replace("},", "}\n").replace(['[', ']'], "") + "\n"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_took_nothing_leaves_what_was_known() {
    let (bench, sink) = (Bench::new(), mock(Faults::default()).await);
    let mood = Arc::new(AtomicUsize::new(0));
    let api = moody(mood.clone());
    let rest = format!("url: {}\nformat: ndjson\nretry: {{ attempts: 1 }}", api.url("/"));
    pipeline(&bench, &rest, &sink, "");
    bench.run(&[]).exits(0);
    mood.store(1, SeqCst);
    for (stop, asked) in [(Signal::TERM, 2), (Signal::KILL, 3)] {
        let run = bench.start(&[]);
        wait_until("the page is asked for", || api.count() == asked);
        signal(&run, stop);
        run.wait_with_output().unwrap();
    }
    mood.store(3, SeqCst);
    bench.run(&[]).exits(69);
    mood.store(0, SeqCst);
    for _ in 0..2 {
        let ran = bench.run(&[]).exits(0);
        assert_eq!(ran.total("extracted"), 0, "{}", ran.stdout);
        assert!(input(&ran).contains("nothing new: GET http://"), "{}", ran.stdout);
    }
    each_exactly_once(&sink, 20);
}

/// What was sent of a page since is what a sink has: that the page is again as the run
/// before has loaded it must not pass for nothing new.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_sent_a_record_knows_nothing_of_the_pages_before() {
    for stop in [Signal::KILL, Signal::TERM] {
        let (bench, sink) = (Bench::new(), mock(Faults::default()).await);
        let mood = Arc::new(AtomicUsize::new(0));
        let api = moody(mood.clone());
        let rest = format!("url: {}\nformat: ndjson\nretry: {{ attempts: 1 }}", api.url("/"));
        // The ten records are a batch that is full, or one that is cut off.
        let records = if stop == Signal::KILL { 10 } else { 100 };
        pipeline(&bench, &rest, &sink, &format!("batch: {{ records: {records} }}"));
        bench.run(&[]).exits(0);
        mood.store(2, SeqCst);
        let mut run = bench.start(&[]);
        if stop == Signal::KILL {
            wait_until("its records arrive", || sink.stats().records >= 30);
        } else {
            wait_until("its page is asked for", || api.count() == 2);
            let state = |file: &str| std::fs::read_to_string(bench.path(file)).unwrap_or_default();
            wait_until("its records are noted", || {
                ["data/p/state/checkpoint-a.json", "data/p/state/checkpoint-b.json"]
                    .iter()
                    .any(|file| state(file).contains("\"next_record\":10"))
            });
        }
        signal(&run, stop);
        run.wait().unwrap();
        assert_eq!(sink.stats().records, 30);
        mood.store(0, SeqCst);
        let ran = bench.run(&[]).exits(0);
        assert_eq!(ran.total("extracted"), 20, "{}", ran.stdout);
        assert_eq!(api.seen().pop().unwrap().header("if-none-match"), "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_run_that_was_not_settled_everything_is_asked_for() {
    let (bench, server) = (Bench::new(), mock(posts(300)).await);
    let rest = format!(
        "url: {}/posts\npagination: {{ page: {{ param: _page, size_param: _limit, size: 100 }} }}",
        server.url()
    );
    pipeline(&bench, &rest, &server, "");
    bench.run(&["--set", "source.rest.max_pages=2"]).exits(69);
    let ran = bench.run(&["--set", "resume_within=0s"]).exits(0);
    assert_eq!(ran.total("extracted"), 300);
    // Spooled is settled: the spool brings it.
    server.set_faults(Faults { fail: [(503, 1.0)].into(), ..posts(400) }).unwrap();
    bench.run(&[]).exits(75);
    server.set_faults(posts(400)).unwrap();
    let ran = bench.run(&[]).exits(0);
    assert!(input(&ran).starts_with("nothing new"), "{}", ran.stdout);
    assert_eq!(server.stats().unique_records, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incremental_run_brings_only_what_is_new() {
    let (bench, server) = (Bench::new(), mock(unreliable(250)).await);
    let rest = format!(
        "url: {}/posts?_page=1&_limit=40\npagination: link\n\
         incremental: {{ field: /id, param: _after, start: \"50\" }}",
        server.url()
    );
    pipeline(&bench, &rest, &server, "batch: { records: 30 }");
    assert_eq!(bench.run(&[]).exits(0).total("extracted"), 200);
    server.set_faults(unreliable(380)).unwrap();
    // Cut short on its way: the cursor stays where it was until all is settled.
    bench.run(&["--set", "source.rest.max_pages=2"]).exits(69);
    let ran = bench.run(&["--set", "resume_within=0s"]).exits(0);
    assert_eq!(ran.total("extracted"), 130);
    assert_eq!(bench.run(&[]).exits(0).total("extracted"), 0);
    assert_eq!(ids(&server), (51..=380).collect());
    server.set_faults(unreliable(400)).unwrap();
    assert_eq!(bench.run(&[]).exits(0).total("extracted"), 20);
    assert_eq!(bench.run(&["--fresh"]).exits(0).total("extracted"), 350);
}

/// A resumed run knows the highest value of the pages that it does not read again.
#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_run_keeps_the_highest_value() {
    let (bench, server) = (Bench::new(), mock(posts(0)).await);
    let api = Api::start(|request| {
        let since = request.param("since").unwrap_or("none").to_owned();
        match (request.number("page"), since.as_str()) {
            (1, "none") => ok(r#"[{"id":1,"at":"2026-05-05T00:00:00Z"}]"#),
            (2, "none") => ok(r#"[{"id":2,"at":"2026-05-04T00:00:00Z"}]"#),
            _ => ok("[]"),
        }
    });
    let rest = format!(
        "url: {}\npagination: {{ page: {{ size: 1 }} }}\nincremental: {{ field: /at, param: since }}",
        api.url("/")
    );
    pipeline(&bench, &rest, &server, "batch: { records: 1 }");
    bench.run(&["--set", "source.rest.max_pages=1"]).exits(69);
    assert_eq!(bench.run(&[]).exits(0).total("extracted"), 1);
    bench.run(&[]).exits(0);
    let last = api.seen().pop().unwrap();
    assert_eq!(last.param("since"), Some("2026-05-05T00%3A00%3A00Z"));
    each_exactly_once(&server, 2);
}
