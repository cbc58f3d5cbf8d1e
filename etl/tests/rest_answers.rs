//! What an API may answer: refusals, lies, compressed and broken bodies, bad records,
//! a gigabyte. Each is a clear message, and costs nothing that was loaded before.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a failed step is a failed test, and figures are for people"
)]

#[path = "support/api.rs"]
mod api;
#[path = "support/peak.rs"]
mod peak;
mod support;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use api::{Api, answer, ok, pipeline, records, run};
use mock_load_api_server::Faults;
use support::crash::times;
use support::{Bench, Ran, each_exactly_once, mock};

const PEAK_MIB_MAX: u64 = 128;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

/// 50 records, compressed by node's zlib.brotliCompressSync.
const BROTLI: &[u8] = include_bytes!("support/data/records.json.br");

fn compressed(encoding: &str) -> Vec<u8> {
    match encoding {
        "gzip" => gzip(records(0..50).as_bytes()),
        "zstd" => zstd::bulk::compress(records(0..50).as_bytes(), 3).unwrap(),
        _ => BROTLI.to_vec(),
    }
}

fn encoded(encoding: &str, body: &[u8]) -> Vec<u8> {
    answer(
        &format!("200 OK\r\ncontent-type: application/json\r\ncontent-encoding: {encoding}"),
        body,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_pages_are_read_and_cut_ones_noticed() {
    let api = Api::start(|request| {
        let (_, rest) = request.path.split_at(1);
        let (encoding, cut) = rest.split_once('/').unwrap();
        let body = compressed(encoding);
        encoded(encoding, &body[..body.len() - cut.parse::<usize>().unwrap()])
    });
    for encoding in ["gzip", "zstd", "br"] {
        let (ran, sink, _bench) = run(&api, &format!("/{encoding}/0"), "").await;
        assert_eq!(ran.exits(0).total("extracted"), 50, "{encoding}");
        each_exactly_once(&sink, 50);
        let (ran, sink, _bench) = run(&api, &format!("/{encoding}/9"), "").await;
        let ran = ran.exits(69);
        assert!(
            ran.stderr.contains("page 1: ") && ran.stderr.contains("(3 attempts)"),
            "{}",
            ran.stderr
        );
        assert_eq!(sink.stats().records, 0, "{encoding}");
    }
    let accepted = &api.seen()[0];
    assert_eq!(accepted.header("accept-encoding"), "gzip, zstd, br");
}

/// A few kilobytes that become many megabytes.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_swells_is_refused_in_bounded_memory() {
    let body = vec![b' '; 40 << 20];
    let zipped = encoded("gzip", &gzip(&body));
    let squeezed = encoded("zstd", &zstd::bulk::compress(&body, 1).unwrap());
    let api = Api::start(move |request| match request.path.as_str() {
        "/gzip" => zipped.clone(),
        "/zstd" => squeezed.clone(),
        "/lzw" => encoded("compress", b"x"),
        _ => ok(&body),
    });
    for (path, word) in [
        ("/gzip", "larger than source.rest.max_body (16 MiB)"),
        ("/zstd", "larger than source.rest.max_body (16 MiB)"),
        ("/plain", "larger than source.rest.max_body (16 MiB)"),
        ("/lzw", "content-encoding compress"),
    ] {
        let (bench, sink) = (Bench::new(), mock(Faults::default()).await);
        pipeline(&bench, &format!("url: {}", api.url(path)), &sink.url(), "");
        let (output, peak_mib) = peak::to_the_end(bench.start(&[]));
        let ran = Ran::from(output).exits(69);
        assert!(ran.stderr.contains(word), "{path}: {}", ran.stderr);
        assert!(peak_mib < PEAK_MIB_MAX, "{path}: {peak_mib} MiB");
    }
}

/// Page 3 is bad: the two before it are loaded, and the message says where and what.
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_page_names_itself_and_costs_nothing_before_it() {
    let good = Arc::new(AtomicUsize::new(0));
    let is_good = good.clone();
    let api = Api::start(move |request| {
        let page = request.number("page");
        let items = records((page - 1) * 10..page * 10);
        let body = format!(r#"{{"items":{items}}}"#);
        if page != 3 || is_good.load(SeqCst) > 0 {
            return if page < 5 { ok(body) } else { ok(r#"{"items":[]}"#) };
        }
        match request.path.as_str() {
            "/not-json" => ok("<html>please log in</html>"),
            "/half" => ok(&body[..body.len() / 2]),
            "/cut" => {
                [&b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n"[..], body.as_bytes()].concat()
            }
            "/shape" => ok(r#"{"errors":["no"],"data":null}"#),
            "/word" => ok(r#"{"items":"none"}"#),
            "/empty" => ok(""),
            "/401" => answer("401 Unauthorized", "who are you? s3cret"),
            "/404" => answer("404 Not Found", ""),
            "/302" => answer("302 Found\r\nlocation: http://other/login?next=abc", ""),
            _ => answer("503 Service Unavailable", ""),
        }
    });
    for (path, attempts, word) in [
        ("/not-json", 3, "is not JSON"),
        ("/half", 3, "cut short"),
        ("/shape", 1, "has nothing at /items; check source.rest.records; it has /errors, /data"),
        ("/word", 1, "at /items instead of an object or an array of them"),
        ("/empty", 3, "is empty"),
        ("/401", 1, "answered 401 Unauthorized: who are you? ***; the API refuses us"),
        ("/404", 1, "answered 404 Not Found; check source.rest.url"),
        ("/302", 1, "redirects to http://other/login, which is not followed"),
        ("/503", 3, "answered 503 Service Unavailable (3 attempts)"),
    ] {
        good.store(0, SeqCst);
        let before = api.count();
        let more = "records: /items\npagination: { page: {} }\nauth: { bearer: s3cret }\nquery: { k: hidden }";
        let (ran, sink, bench) = run(&api, path, more).await;
        let ran = ran.exits(69);
        let place = format!("{}, page 3: ", format_args!("GET {}", api.url(path)));
        assert!(ran.stderr.contains(&place) && ran.stderr.contains(word), "{path}: {}", ran.stderr);
        for secret in ["s3cret", "hidden", "next=abc"] {
            assert!(!ran.stderr.contains(secret) && !ran.stdout.contains(secret), "{}", ran.stderr);
        }
        assert_eq!(api.count() - before, 2 + attempts, "{path}");
        assert_eq!(ran.json()["balanced"], true, "{}", ran.stdout);
        each_exactly_once(&sink, 20);
        // Once it is good again, the run goes on with that page.
        good.store(1, SeqCst);
        let ran = bench.run(&[]).exits(0);
        assert_eq!((ran.total("resumed_from"), ran.total("extracted")), (20, 20), "{path}");
        each_exactly_once(&sink, 40);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_asked_for_again() {
    let api = Api::streaming(|_, out| {
        out.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n[{\"id\":1},{\"i")?;
        Err(std::io::Error::other("cut off"))
    });
    let (ran, sink, _bench) = run(&api, "/", "").await;
    let ran = ran.exits(69);
    assert!(ran.stderr.contains("page 1: answer cut short (3 attempts)"), "{}", ran.stderr);
    assert_eq!((api.count(), sink.stats().records), (3, 0));

    let api = Api::streaming(|_, _| {
        std::thread::sleep(Duration::from_secs(30));
        Ok(())
    });
    let more = "timeout: 200ms\nretry: { attempts: 2, base: 1ms }";
    let (ran, _sink, _bench) = run(&api, "/", more).await;
    let ran = ran.exits(69);
    assert!(ran.stderr.contains("no answer within 200ms (2 attempts)"), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_records_are_rejected_one_by_one() {
    let deep = format!("{{\"id\":9,\"x\":{}{}}}", "[".repeat(200), "]".repeat(200));
    let page =
        format!(r#"[{{"id":1}},2,null,"a\u001b[31mb",[3],{{"id":4}},{{"id":5,"x":1e999}},{deep}]"#);
    let lines = format!(
        "{{\"id\":1}}\n2\n\n{{\"id\":\n\u{fffd}\n{{\"id\":4}}\n{deep}\n{{\"id\":\"{}\"}}\n{{\"id\":7}}",
        "x".repeat(5_000)
    );
    let api = Api::start(move |request| ok(if request.path == "/json" { &page } else { &lines }));
    for (path, more, good, bad) in
        [("/json", "", 2, 6), ("/lines", "format: ndjson\nmax_line: 4KiB", 3, 5)]
    {
        let (ran, sink, bench) = run(&api, path, more).await;
        let ran = ran.exits(65);
        assert_eq!(
            (ran.total("rejected"), ran.total("extracted")),
            (bad, good + bad),
            "{}",
            ran.stdout
        );
        assert_eq!(ran.json()["balanced"], true, "{}", ran.stdout);
        each_exactly_once(&sink, good);
        let dead = support::files_of(&bench.path("data/p/spool/rejected/dead"));
        let mut letters = 0;
        for file in dead {
            let file = flate2::read::MultiGzDecoder::new(std::fs::File::open(file).unwrap());
            let found: Vec<serde_json::Value> = serde_json::from_reader(file).unwrap();
            letters += found.len() as u64;
            for letter in &found {
                let reason = letter["reason"].as_str().unwrap();
                assert!(reason.contains(&format!("{path}, page 1, record ")), "{reason}");
            }
        }
        assert_eq!(letters, bad);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_that_break_off_go_on_after_the_last_whole_one() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let api = Api::streaming(move |_, out| {
        let lines: String = (0..1_000).map(|n| format!("{{\"id\":{n}}}\n")).collect();
        let n = count.fetch_add(1, SeqCst);
        write!(out, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", lines.len())?;
        // Further each time, and within a line.
        let until = (n + 1) * 2_503;
        if until < lines.len() {
            out.write_all(&lines.as_bytes()[..until])?;
            return Err(std::io::Error::other("cut off"));
        }
        out.write_all(lines.as_bytes())
    });
    let (ran, sink, _bench) = run(&api, "/", "format: ndjson").await;
    let ran = ran.exits(0);
    assert_eq!((ran.total("extracted"), ran.total("rejected")), (1_000, 0));
    each_exactly_once(&sink, 1_000);
    assert_eq!(asked.load(SeqCst), 5);

    let api = Api::start(|_| ok("[\n{\"id\":1},\n{\"id\":2}\n]"));
    let (ran, sink, _bench) = run(&api, "/", "format: ndjson").await;
    let ran = ran.exits(69);
    assert!(ran.stderr.contains("is not ndjson, it begins with ["), "{}", ran.stderr);
    assert_eq!(sink.stats().records, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_pages_stream_in_little_memory() {
    let pages = usize::try_from(times("ETL_REST_PAGES", 10_000)).unwrap();
    let api = Api::start(move |request| {
        let page = request.number("page").min(pages + 1);
        ok(records((page - 1) * 10..page.min(pages) * 10))
    });
    let (bench, sink) = (Bench::new(), support::mock(Faults::default()).await);
    let rest = format!("url: {}\npagination: {{ page: {{}} }}", api.url("/"));
    pipeline(&bench, &rest, &sink.url(), "batch: { records: 2000 }");
    let (output, peak_mib) = peak::to_the_end(bench.start(&[]));
    let ran = Ran::from(output).exits(0);
    assert_eq!(ran.total("extracted"), pages as u64 * 10);
    each_exactly_once(&sink, pages as u64 * 10);
    assert!(peak_mib < PEAK_MIB_MAX, "{peak_mib} MiB");
    eprintln!("{pages} pages: peak {peak_mib} MiB, {} s", ran.json()["seconds"]);
}

/// As many MiB as `ETL_REST_MIB` says; 1024 is what is promised, fewer are the same to
/// a memory that is bounded, and do not take minutes.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_a_gigabyte_streams_in_little_memory() {
    const LINE: usize = 8 * 1024;
    let mib = times("ETL_REST_MIB", 160);
    let lines = mib * 1024 * 1024 / LINE as u64;
    let api = Api::streaming(move |_, out| {
        write!(out, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", lines * LINE as u64)?;
        let mut out = std::io::BufWriter::with_capacity(1 << 16, out);
        let filling = "0123456789abcdef".repeat(LINE / 16);
        for n in 0..lines {
            let head = format!("{{\"id\":{n},\"text\":\"");
            let room = LINE - head.len() - 3;
            writeln!(out, "{head}{}\"}}", &filling[..room])?;
        }
        out.flush()
    });
    let bench = Bench::new();
    let sink = mock_load_api_server::start(mock_load_api_server::Config::default()).await.unwrap();
    let rest = format!("url: {}\nformat: ndjson", api.url("/"));
    pipeline(&bench, &rest, &sink.url(), "batch: { records: 500 }\nworkers: 4");
    let (output, peak_mib) = peak::to_the_end(bench.start(&[]));
    let ran = Ran::from(output).exits(0);
    assert_eq!(ran.total("extracted"), lines);
    each_exactly_once(&sink, lines);
    assert!(peak_mib < PEAK_MIB_MAX, "{peak_mib} MiB");
    eprintln!("{mib} MiB: peak {peak_mib} MiB, {} s", ran.json()["seconds"]);
}
