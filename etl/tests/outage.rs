//! The API is down, and then it is not: nothing is lost, nothing is doubled.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::path::PathBuf;
use std::time::Duration;

use mock_load_api_server::Faults;
use support::{Bench, down, each_exactly_once, mock, wait_until};

const APPLIANCES: u64 = 4000;

/// Row 1 of the earlier loader's bugs: one fixed file per worker, truncated each
/// time, lost 2,000 of 4,000 records and exited 0.
#[tokio::test(flavor = "multi_thread")]
async fn row_01_a_run_against_a_dead_api_spools_every_record_and_says_so() {
    let (bench, server) = (Bench::new(), mock(down()).await);
    bench.inventory(APPLIANCES as usize);
    bench.fleet(&server.url(), "");
    let ran = bench.run(&[]).exits(75);
    assert_eq!(ran.total("extracted"), APPLIANCES);
    assert_eq!(ran.sink("spooled"), APPLIANCES);
    assert_eq!(ran.json()["balanced"], true);
    assert_eq!(ran.json()["complete"], false);
    assert_eq!(bench.spool_files().len(), 20);

    // A second run against the dead API keeps the first one's records.
    bench.run(&[]).exits(75);
    assert_eq!(bench.spool_files().len(), 40);

    server.set_faults(Faults::default()).unwrap();
    let ran = bench.run(&[]).exits(0);
    assert_eq!(ran.sink("replayed"), 2 * APPLIANCES);
    assert_eq!(server.stats().records, 3 * APPLIANCES);
    assert_eq!(server.stats().conflicting_keys, 0);
    assert!(bench.spool_files().is_empty());
}

/// Rows 3 and 4: replay before the loaders start hung; a worker number out of
/// range panicked. Here the number is a label.
#[tokio::test(flavor = "multi_thread")]
async fn row_04_ten_workers_then_two_then_one_deliver_each_record_exactly_once() {
    for (before, after) in [(10, 2), (1, 10), (10, 1), (1, 1)] {
        let (bench, server) = (Bench::new(), mock(down()).await);
        bench.inventory(APPLIANCES as usize);
        bench.fleet(&server.url(), &format!("workers: {before}"));
        bench.run(&[]).exits(75);

        server.set_faults(Faults::default()).unwrap();
        bench.inventory(0);
        let workers = format!("load.0.workers={after}");
        let ran = bench.run(&["--set", &workers]).exits(0);
        assert_eq!(ran.sink("replayed"), APPLIANCES, "{before} workers, then {after}");
        each_exactly_once(&server, APPLIANCES);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_within_a_run_is_over_before_the_run_is() {
    let server = mock(down()).await;
    let bench = Bench::new();
    bench.inventory(2000);
    bench.fleet_with("simulated: { delay: 100ms, delay_max: 900ms }", &server.url(), "");
    let run = bench.start(&["--set", "extract.workers=300"]);
    let failed = |path: &PathBuf| path.to_string_lossy().contains("buffer_failed");
    wait_until("a batch is spooled", || bench.spool_files().iter().any(failed));
    server.set_faults(Faults::default()).unwrap();
    let ran = support::Ran::from(run.wait_with_output().unwrap()).exits(0);
    assert_eq!(ran.sink("delivered"), 2000);
    assert!(ran.sink("replayed") > 0, "{}", ran.stdout);
    each_exactly_once(&server, 2000);
    assert!(bench.spool_files().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_that_fails_and_loses_replies_gets_each_record_exactly_once() {
    for workers in [1, 10] {
        let faults = Faults {
            fail: [(503, 0.15), (500, 0.05)].into(),
            lose_reply: 0.1,
            reset: 0.05,
            truncate: 0.05,
            lie: 0.05,
            ..Faults::default()
        };
        let (bench, server) = (Bench::new(), mock(faults).await);
        bench.inventory(2000);
        let load = format!("workers: {workers}\nbatch: {{ records: 20 }}");
        bench.fleet(&server.url(), &load);
        let mut ran = bench.run(&[]);
        for _ in 0..20 {
            if ran.code == Some(0) {
                break;
            }
            ran.exits(75);
            bench.inventory(0);
            ran = bench.run(&[]);
        }
        ran.exits(0);
        each_exactly_once(&server, 2000);
        assert!(server.stats().duplicate_batches > 0, "no reply was lost: the test is too kind");
    }
}

/// Row 8: a 302 was followed as GET and its 200 logged as success.
#[tokio::test(flavor = "multi_thread")]
async fn row_08_refusals_and_redirects_keep_everything_and_never_count_as_success() {
    for status in [301, 302, 307, 308, 401, 403, 404, 405, 501] {
        let faults = Faults { fail: [(status, 1.0)].into(), ..Faults::default() };
        let (bench, server) = (Bench::new(), mock(faults).await);
        bench.inventory(400);
        bench.fleet(&server.url(), "");
        let ran = bench.run(&[]).exits(75);
        assert_eq!(ran.sink("spooled"), 400, "{status}");
        assert_eq!(server.stats().records, 0, "{status}");
        assert!(server.stats().requests <= 12, "{status}: {} requests", server.stats().requests);

        server.set_faults(Faults::default()).unwrap();
        bench.inventory(0);
        bench.run(&[]).exits(0);
        each_exactly_once(&server, 400);
    }
}

/// Row 9: 200 with `{"errors": true}` counted as success.
#[tokio::test(flavor = "multi_thread")]
async fn row_09_a_200_that_reports_errors_is_no_success() {
    let (bench, server) = (Bench::new(), mock(Faults { lie: 1.0, ..Faults::default() }).await);
    bench.inventory(200);
    bench.fleet(&server.url(), "");
    let ran = bench.run(&[]).exits(75);
    assert_eq!((ran.sink("delivered"), ran.sink("spooled")), (0, 200));
}

/// Row 10: the server commits, the client gives up before the reply; the records
/// were delivered and spooled, without a key to tell.
#[tokio::test(flavor = "multi_thread")]
async fn row_10_a_late_or_lost_reply_is_sent_again_under_the_same_key_and_bytes() {
    let slow = Faults { delay: Duration::from_millis(900), ..Faults::default() };
    for faults in [slow, Faults { lose_reply: 1.0, ..Faults::default() }] {
        let (bench, server) = (Bench::new(), mock(faults).await);
        bench.inventory(600);
        bench.fleet(&server.url(), "timeout: 300ms");
        bench.run(&[]).exits(75);
        server.set_faults(Faults::default()).unwrap();
        bench.inventory(0);
        bench.run(&["--set", "load.0.timeout=15s"]).exits(0);
        each_exactly_once(&server, 600);
        let sent_twice = server.ledger_rows().iter().filter(|row| row.arrivals > 1).count();
        assert!(sent_twice > 0, "nothing was sent twice: the test is too kind");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_honoured_and_shared_by_all_workers() {
    let faults = Faults {
        fail: [(429, 1.0)].into(),
        retry_after: Some(Duration::from_secs(1)),
        ..Faults::default()
    };
    let (bench, server) = (Bench::new(), mock(faults).await);
    bench.inventory(1000);
    bench.fleet(&server.url(), "workers: 2\nretry: { attempts: 2, base: 1ms, cap: 2ms }");
    let began = std::time::Instant::now();
    bench.run(&[]).exits(75);
    let seconds = began.elapsed().as_secs();
    assert!(seconds >= 1, "{seconds} s");
    // Without a common wait, 2 workers with waits of 2 ms would ask hundreds of times.
    let asked_at_most = 2 * (seconds + 2) + 5;
    assert!(server.stats().requests <= asked_at_most, "{seconds} s, {:?}", server.stats());
}

/// The first attempt that a run makes with a batch is no retry, whatever earlier runs
/// have tried; every other is.
#[tokio::test(flavor = "multi_thread")]
async fn retries_are_the_attempts_after_a_batchs_first_of_the_run() {
    let failing = || Faults { fail: [(503, 1.0)].into(), ..Faults::default() };
    let (bench, server) = (Bench::new(), mock(failing()).await);
    bench.inventory(20);
    bench.fleet(&server.url(), "workers: 1\nretry: { attempts: 3, base: 5ms, cap: 10ms }");
    let mut asked = 0;
    // One batch of this run; then that one, as an earlier run's, and one more.
    for batches in [1, 2] {
        let ran = bench.run(&[]).exits(75);
        let requests = server.stats().requests - asked;
        asked += requests;
        assert!(requests > batches, "{requests}");
        assert_eq!(ran.sink("retries"), requests - batches, "{requests} requests");
    }
    server.set_faults(Faults::default()).unwrap();
    bench.inventory(0);
    let ran = bench.run(&[]).exits(0);
    assert_eq!((ran.sink("replayed"), ran.sink("retries")), (40, 0), "{}", ran.stdout);
    assert_eq!(server.stats().requests - asked, 2);
}

/// Row 17: an error's body was read without bound and logged raw.
#[tokio::test(flavor = "multi_thread")]
async fn row_17_an_endless_error_body_is_read_to_a_bound_and_never_logged_raw() {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            std::thread::spawn(move || {
                let mut request = [0; 65536];
                if stream.read(&mut request).is_err() {
                    return;
                }
                let head = b"HTTP/1.1 500 Oops\r\nContent-Length: 100000000\r\n\r\n";
                let mut sent = stream.write_all(head);
                while sent.is_ok() {
                    sent = stream.write_all(&b"\x1b[31mred\x07\n".repeat(4096));
                }
            });
        }
    });
    let bench = Bench::new();
    bench.inventory(200);
    bench.fleet(&url, "");
    let ran = bench.run(&["-vv"]).exits(75);
    assert_eq!(ran.sink("spooled"), 200);
    let log = std::fs::read_to_string(bench.path("logs/etl.log")).unwrap();
    assert!(ran.stderr.contains("500"), "{}", ran.stderr);
    for text in [&ran.stderr, &log] {
        assert!(!text.contains("\x1b[31m") && !text.contains('\x07'));
        assert!(text.len() < 256 * 1024, "{} bytes", text.len());
    }
}

/// Row 18: the mock bound all interfaces, logged bodies, never parsed, always said 200.
#[tokio::test(flavor = "multi_thread")]
async fn row_18_the_mock_listens_on_loopback_and_refuses_what_is_no_batch() {
    let server = mock(Faults::default()).await;
    assert!(server.addr().ip().is_loopback());
    let bench = Bench::new();
    for body in ["", "NaN", "{\"a\":1}", "[{\"a\":", "[1]"] {
        bench.write("body", body);
        let status = std::process::Command::new("python3")
            .args(["-c", POST, &format!("{}/load", server.url()), "body"])
            .current_dir(bench.path(""))
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&status.stdout).trim(), "400", "{body:?}");
    }
    assert_eq!(server.stats().records, 0);
}

/// Posts a file and prints the status, with nothing of this project.
const POST: &str = "import sys, urllib.request as u, urllib.error as e
try:
    body = open(sys.argv[2], 'rb').read()
    json = {'Content-Type': 'application/json'}
    print(u.urlopen(u.Request(sys.argv[1], body, json)).status)
except e.HTTPError as refused:
    print(refused.code)";
