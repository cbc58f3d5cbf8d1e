//! `etl profile`: a process that works is looked at, and works on as if nobody had.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::fs;
use std::io::Read;
use std::process::Child;
use std::time::Duration;

use mock_load_api_server::Faults;
use rustix::process::Signal;
use support::serving::Serving;
use support::{Bench, Ran, files_of, mock, signal, wait_until};

/// More rows than are loaded while these tests last, from an API that takes its time.
const ROWS: usize = 1_000_000;
const DELAY: Duration = Duration::from_millis(100);

fn bench(url: &str) -> Bench {
    let bench = Bench::new();
    let mut csv = "id,name,value\n".to_owned();
    for row in 0..ROWS {
        csv.push_str(&format!("{row},row-{row},{}.25\n", row % 997));
    }
    bench.rows(csv, url, "", "");
    bench
}

fn log(bench: &Bench) -> String {
    fs::read_to_string(bench.path("logs/etl.log")).unwrap_or_default()
}

fn output(child: Child) -> Ran {
    child.wait_with_output().unwrap().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_by_hand_is_profiled_once_at_a_time_and_goes_on() {
    let server = mock(Faults { delay: DELAY, ..Faults::default() }).await;
    let bench = bench(&server.url());
    let mut run = bench.start(&[]);
    wait_until("records arrive", || server.stats().records > 0);

    let first = bench.command(&["profile", "p.yaml", "--seconds", "3"]).spawn().unwrap();
    wait_until("a profile is being taken", || log(&bench).contains("a profile is being taken"));
    let second = bench.etl(&["profile", "p.yaml", "--seconds", "1"]).exits(69);
    assert!(second.stderr.contains("a profile is being taken already"), "{}", second.stderr);
    assert!(log(&bench).contains("no profile is taken"), "{}", log(&bench));
    let told = output(first).exits(0).stdout;
    assert!(told.starts_with("p  profile of 3 s: data/p/profile/"), "{told}");
    let files: Vec<&str> = told.trim_end().split(": ").nth(1).unwrap().split("  ").collect();
    let picture = fs::read_to_string(bench.path(files[0])).unwrap();
    assert!(picture.contains("<svg") && picture.contains("etl::"), "{:.500}", picture);
    assert!(fs::metadata(bench.path(files[1])).unwrap().len() > 100);

    let out = bench.etl(&["profile", "p.yaml", "--seconds", "1", "--out", "one.prof"]).exits(0);
    assert!(out.stdout.ends_with("one.prof\n"), "{}", out.stdout);
    assert!(fs::metadata(bench.path("one.prof")).unwrap().len() > 100);
    let left: Vec<_> = fs::read_dir(bench.path("data/p/profile")).unwrap().collect();
    assert_eq!(left.len(), 2, "those of the first alone: {left:?}");

    assert!(run.try_wait().unwrap().is_none(), "the run goes on");
    signal(&run, Signal::TERM);
    let ran = output(run).balanced(143);
    assert_eq!(ran.sink("delivered") + ran.sink("spooled"), ran.total("extracted"));
    assert_eq!(server.stats().unique_records, ran.sink("delivered"));
    assert_eq!(server.stats().conflicting_keys, 0);
    assert_eq!(files_of(&bench.spool()).is_empty(), ran.sink("spooled") == 0);

    let nobody = bench.etl(&["profile", "p.yaml"]).exits(69);
    assert!(nobody.stderr.contains("nobody runs p"), "{}", nobody.stderr);
    assert!(nobody.stderr.contains("etl run") && nobody.stderr.contains("--profile"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_profiled_over_its_socket() {
    let server = mock(Faults { delay: DELAY, ..Faults::default() }).await;
    let bench = bench(&server.url());
    let serving = Serving::start(&bench, "p.yaml", &[]);
    serving.until("records arrive", |_| server.stats().records > 0);
    let told = bench.etl(&["profile", "p.yaml", "--seconds", "1"]).exits(0).stdout;
    let file = told.trim_end().split(": ").nth(1).unwrap();
    assert!(file.starts_with("data/p/profile/") && file.ends_with(".flamegraph.svg"), "{told}");
    let mut picture = String::new();
    fs::File::open(bench.path(file)).unwrap().read_to_string(&mut picture).unwrap();
    assert!(picture.contains("<svg") && picture.contains("etl::"), "{:.500}", picture);

    // The signal that a run takes for a question does not end a server.
    signal(&serving.child, Signal::USR1);
    wait_until("the log has it", || log(&bench).contains("use etl profile"));
    assert_eq!(serving.get("/health").0, 200);
}
