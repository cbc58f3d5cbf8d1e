//! The binary: its first line, its exit codes, its log.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use mock_load_api_server::{Config, start};

fn command(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mock-load-api-server"));
    command.current_dir(directory).env_remove("MOCK_TOKEN").env_remove("RUST_LOG");
    command
}

fn run(directory: &Path, arguments: &[&str]) -> Output {
    command(directory).args(arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn wrong_usage_is_64_and_names_the_mistake() {
    let directory = tempfile::tempdir().unwrap();
    for (arguments, named) in [
        (&["--fial", "503=0.2"][..], "--fail"),
        (&["--fail", "503"], "STATUS=RATE"),
        (&["--reset", "0.6", "--hang", "0.6"], "more than 1"),
    ] {
        let output = run(directory.path(), arguments);
        assert_eq!(output.status.code(), Some(64));
        assert!(stderr(&output).contains(named), "{}", stderr(&output));
    }
    assert_eq!(run(directory.path(), &["--help"]).status.code(), Some(0));
}

#[tokio::test]
async fn a_taken_port_is_69_and_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(Config::default()).await.unwrap();
    let output = run(directory.path(), &["--listen", &server.addr().to_string()]);
    assert_eq!(output.status.code(), Some(69));
    let message = stderr(&output);
    assert!(message.contains("in use") && message.contains(":0 takes a free one"), "{message}");
}

#[test]
fn it_says_where_it_listens_and_ends_on_a_signal() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = command(directory.path())
        .args(["--listen", "127.0.0.1:0"])
        .env("MOCK_TOKEN", "canary-s3cret")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    assert!(first.starts_with("mock-load-api-server listening on http://127.0.0.1:"), "{first}");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let last = lines.next().unwrap().unwrap();
    assert!(last.starts_with("stopped: 0 requests"), "{last}");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let log = std::fs::read_to_string(directory.path().join("mock_server.log")).unwrap();
    assert!(log.contains("listening") && !log.contains("canary-s3cret"), "{log}");
}
