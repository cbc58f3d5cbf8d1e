//! The log from outside: it is moved away when it is too large or too old, so many are kept,
//! and two processes that write one log lose no line of each other.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

use mock_load_api_server::Faults;
use support::{Bench, mock};

/// A pipeline whose run writes many lines: each appliance fails and is named.
fn noisy(bench: &Bench, name: &str, appliances: usize, url: &str) {
    let rows: String = (0..appliances).map(|n| format!("192.0.2.{n},{name}-{n:04}\n")).collect();
    bench.write(&format!("{name}.csv"), rows);
    bench.write(
        &format!("{name}.yaml"),
        format!(
            "name: {name}\nsource:\n  csv: {{ path: {name}.csv, header: false, columns: [ip, hostname] }}\n\
             extract:\n  workers: 1\n  attempts: 1\n  simulated: {{ delay: 1ms, fail: 100% }}\n\
             load:\n  - http: {{ url: \"{url}/load\" }}\n"
        ),
    );
}

fn start(bench: &Bench, name: &str, more: &[&str]) -> Child {
    let file = format!("{name}.yaml");
    bench.command(&[&["run", &file], more].concat()).spawn().unwrap()
}

/// The log and what was moved away, the oldest first.
fn logs(bench: &Bench) -> Vec<PathBuf> {
    let older = |number: &usize| bench.path(&format!("logs/etl.log.{number}"));
    let mut files: Vec<PathBuf> =
        (1..).take_while(|number| older(number).exists()).map(|number| older(&number)).collect();
    files.reverse();
    files.push(bench.path("logs/etl.log"));
    files
}

fn lines(bench: &Bench) -> Vec<String> {
    let texts = logs(bench).into_iter().map(|file| fs::read_to_string(file).unwrap());
    texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_log_is_moved_away_and_two_processes_lose_no_line() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    let names = ["one", "two"];
    for name in names {
        noisy(&bench, name, 250, &server.url());
    }
    let limits = ["--log-max-size", "4KiB", "--log-keep", "900"];
    let mut runs = names.map(|name| start(&bench, name, &limits));
    for run in &mut runs {
        assert_eq!(run.wait().unwrap().code(), Some(69), "all appliances fail");
    }
    let (files, lines) = (logs(&bench), lines(&bench));
    assert!(files.len() > 10, "{} files", files.len());
    for file in &files {
        let about = fs::metadata(file).unwrap();
        assert_eq!(about.permissions().mode() & 0o777, 0o600, "{}", file.display());
    }
    for name in names {
        for n in 0..250 {
            let device = format!("{name}-{n:04}");
            let told = lines
                .iter()
                .filter(|line| line.contains("extraction failed") && line.contains(&device))
                .count();
            assert_eq!(told, 1, "{device}");
        }
    }
    // Each line is whole: it begins with a time.
    assert!(lines.iter().all(|line| line.starts_with("20") && line.contains("Z ")), "{lines:#?}");
    // `etl logs` finds them in all files, and tells the two apart.
    let told = bench.etl(&["logs", "one.yaml", "--lines", "100000"]).exits(0).stdout;
    assert!(told.contains("one-0000") && told.contains("one-0249"), "{told}");
    assert!(!told.contains("two-0"), "{told}");

    // With a smaller number the rest goes at the next rotation.
    let few = ["--log-max-size", "4KiB", "--log-keep", "2"];
    assert_eq!(start(&bench, "one", &few).wait().unwrap().code(), Some(69));
    let kept = logs(&bench);
    assert_eq!(kept.len(), 3);
    assert!(kept.iter().all(|file| fs::metadata(file).unwrap().len() <= 12 << 10));
    assert!(!bench.path("logs/etl.log.3").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_log_is_moved_away() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    noisy(&bench, "p", 1, &server.url());
    let run = || start(&bench, "p", &["--log-max-age", "1s"]).wait().unwrap().code();
    assert_eq!(run(), Some(69));
    let first = fs::read_to_string(bench.path("logs/etl.log")).unwrap();
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(run(), Some(69));
    assert!(fs::read_to_string(bench.path("logs/etl.log.1")).unwrap().starts_with(&first));
    let second = fs::read_to_string(bench.path("logs/etl.log")).unwrap();
    assert!(!second.is_empty() && !second.contains(&first));
}

#[test]
fn limits_that_make_no_sense_are_refused() {
    let bench = Bench::new();
    for (option, value) in
        [("--log-keep", "0"), ("--log-keep", "x"), ("--log-max-size", "5"), ("--log-max-age", "1")]
    {
        bench.etl(&["run", "p.yaml", option, value]).exits(64);
    }
}
