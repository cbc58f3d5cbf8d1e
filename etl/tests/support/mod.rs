//! What the guarantee tests share: a directory with a pipeline, the `etl` binary
//! run on it, and the mock API's ledger to ask what really arrived.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "each test file uses a part of this, and a failed step is a failed test"
)]

pub mod crash;
pub mod files;
pub mod program;
pub mod serving;

use std::fmt::Write as _;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mock_load_api_server::{Config, Faults, Server};
use serde_json::Value;
use tempfile::TempDir;

pub use self::program::{PATIENCE, signal};

/// A directory of its own for one test, with `etl` at hand.
pub struct Bench {
    dir: TempDir,
}

/// What one run of `etl` came to.
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// The `--json` object.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| {
            panic!("{error}: stdout {:?}, stderr {}", self.stdout, self.stderr)
        })
    }

    /// A number of the `http` sink.
    pub fn sink(&self, column: &str) -> u64 {
        self.json()["sinks"]["http"][column].as_u64().unwrap_or_else(|| panic!("{}", self.stdout))
    }

    /// A number of the run.
    pub fn total(&self, column: &str) -> u64 {
        self.json()[column].as_u64().unwrap_or_else(|| panic!("{}", self.stdout))
    }

    /// Fails the test unless the exit code is `code`.
    #[track_caller]
    pub fn exits(self, code: i32) -> Ran {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Fails the test unless the exit code is `code` and the books balance.
    #[track_caller]
    pub fn balanced(self, code: i32) -> Ran {
        let ran = self.exits(code);
        assert_eq!(ran.json()["balanced"], true, "{}", ran.stdout);
        ran
    }
}

/// A run whose words are heard while it goes on.
pub struct Heard {
    pub child: Child,
    stderr: Arc<Mutex<Vec<u8>>>,
    readers: [JoinHandle<Vec<u8>>; 2],
}

impl Heard {
    fn start(command: &mut Command) -> Heard {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = Arc::<Mutex<Vec<u8>>>::default();
        let readers = [
            listener(child.stdout.take().unwrap(), Arc::default()),
            listener(child.stderr.take().unwrap(), stderr.clone()),
        ];
        Heard { child, stderr, readers }
    }

    /// Waits until the run has said `words` on stderr; fails when it ends without.
    #[track_caller]
    pub fn until_it_says(&mut self, words: &str) {
        wait_until(&format!("the run says `{words}`"), || {
            let over = self.child.try_wait().unwrap();
            if over.is_some() {
                wait_until("its last words are read", || self.readers[1].is_finished());
            }
            let said = text(&self.stderr.lock().unwrap());
            assert!(over.is_none() || said.contains(words), "{over:?} without `{words}`: {said}");
            said.contains(words)
        });
    }

    /// Waits for the end.
    pub fn ends(mut self) -> Ran {
        let code = self.child.wait().unwrap().code();
        let [stdout, stderr] = self.readers.map(|reader| text(&reader.join().unwrap()));
        Ran { code, stdout, stderr }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Reads a pipe to its end, for others to look at meanwhile.
fn listener(
    mut pipe: impl Read + Send + 'static,
    heard: Arc<Mutex<Vec<u8>>>,
) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut some = [0; 4096];
        loop {
            let count = pipe.read(&mut some).unwrap();
            if count == 0 {
                return heard.lock().unwrap().clone();
            }
            heard.lock().unwrap().extend_from_slice(&some[..count]);
        }
    })
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        Ran {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }
}

/// Starts a mock API that keeps every record, with these faults.
pub async fn mock(faults: Faults) -> Server {
    mock_load_api_server::start(Config { keep_records: true, faults, ..Config::default() })
        .await
        .unwrap()
}

/// Faults under which nothing is reachable.
pub fn down() -> Faults {
    Faults { down: true, ..Faults::default() }
}

impl Bench {
    pub fn new() -> Bench {
        Bench { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The spool of the sink `http` of the pipeline `p`.
    pub fn spool(&self) -> PathBuf {
        self.path("data/p/spool/http")
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// An inventory of `count` appliances.
    pub fn inventory(&self, count: usize) {
        let mut rows = "ip,hostname\n".to_owned();
        for n in 0..count {
            writeln!(rows, "192.168.{}.{},device-{n}", n / 256, n % 256).unwrap();
        }
        self.write("appliances.csv", rows);
    }

    /// A pipeline that polls the inventory's appliances, simulated without delay.
    pub fn fleet(&self, url: &str, extra_load: &str) {
        self.fleet_with("simulated: { delay: 0s }", url, extra_load);
    }

    /// A pipeline that polls the inventory's appliances with `method`.
    pub fn fleet_with(&self, method: &str, url: &str, extra_load: &str) {
        self.write(
            "p.yaml",
            format!(
                "name: p\n\
                 source:\n  csv: {{ path: appliances.csv }}\n\
                 extract:\n  workers: 500\n  timeout: 5s\n  attempts: 1\n  {method}\n\
                 transform: [cpu_indicators]\n\
                 load:\n  - http: {{ url: \"{url}/load\" }}\n{}",
                load_settings(extra_load)
            ),
        );
    }

    /// A pipeline whose records are the rows of `rows.csv`.
    pub fn rows(&self, csv: impl AsRef<[u8]>, url: &str, extra: &str, extra_load: &str) {
        self.write("rows.csv", csv);
        self.write(
            "p.yaml",
            format!(
                "name: p\nsource:\n  csv: {{ path: rows.csv }}\n{extra}\
                 load:\n  - http: {{ url: \"{url}/load\" }}\n{}",
                load_settings(extra_load)
            ),
        );
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_etl"));
        command
            .current_dir(self.dir.path())
            .args(args)
            .env_remove("RUST_LOG")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub fn etl(&self, args: &[&str]) -> Ran {
        self.command(args).output().unwrap().into()
    }

    /// `etl run p.yaml --json` and more arguments, to its end.
    pub fn run(&self, more: &[&str]) -> Ran {
        self.etl(&[&["run", "p.yaml", "--json"], more].concat())
    }

    /// `etl run p.yaml --json` in the background.
    pub fn start(&self, more: &[&str]) -> Child {
        self.command(&[&["run", "p.yaml", "--json"], more].concat()).spawn().unwrap()
    }

    /// `etl run p.yaml --json` in the background, listened to.
    pub fn listen(&self, more: &[&str]) -> Heard {
        Heard::start(&mut self.command(&[&["run", "p.yaml", "--json"], more].concat()))
    }

    /// The same by a shell that first does what `before` says, such as `ulimit`.
    pub fn listen_after(&self, before: &str) -> Heard {
        let script = format!("{before}; exec \"$0\" run p.yaml --json --log-file /dev/null");
        let mut command = Command::new("bash");
        command
            .args(["-c", &script, env!("CARGO_BIN_EXE_etl")])
            .current_dir(self.dir.path())
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        Heard::start(&mut command)
    }

    /// The spool files of the sink, waiting ones only.
    pub fn spool_files(&self) -> Vec<PathBuf> {
        files_of(&self.spool())
    }
}

fn load_settings(extra: &str) -> String {
    // Time enough that a busy machine neither gives up on a healthy API nor cuts a
    // batch short because its records came slowly.
    let defaults = [
        "workers: 10",
        "retry: { attempts: 2, base: 20ms, cap: 100ms }",
        "timeout: 15s",
        "batch: { linger: 20s }",
    ];
    let mut text = String::new();
    for setting in defaults {
        let key = setting.split(':').next().unwrap_or_default();
        if !extra.lines().any(|line| line.trim_start().starts_with(&format!("{key}:"))) {
            writeln!(text, "    {setting}").unwrap();
        }
    }
    for line in extra.lines() {
        writeln!(text, "    {line}").unwrap();
    }
    text
}

/// The `*.json.gz` files of a directory, sorted; none where there is no directory.
#[track_caller]
pub fn files_of(directory: &Path) -> Vec<PathBuf> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Vec::new(),
        Err(error) => panic!("{}: {error}", directory.display()),
    };
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(".json.gz"))
        .collect();
    files.sort();
    files
}

/// Removes a directory in which a run goes on making files. Moving it away first
/// would not do: the run holds it open, and would write on unharmed.
#[track_caller]
pub fn remove_while_in_use(directory: &Path) {
    wait_until(&format!("{} is removed", directory.display()), || {
        match std::fs::remove_dir_all(directory) {
            Ok(()) => true,
            // A file was made after the directory was read, or removed by the run itself.
            Err(error) => {
                let kind = error.kind();
                assert!(
                    matches!(kind, ErrorKind::DirectoryNotEmpty | ErrorKind::NotFound),
                    "{}: {error}",
                    directory.display()
                );
                !directory.exists()
            }
        }
    });
}

/// Waits until `condition` holds.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Fails unless the mock has exactly `count` records, each once, under keys that
/// never carried two bodies.
#[track_caller]
pub fn each_exactly_once(server: &Server, count: u64) {
    let stats = server.stats();
    assert_eq!(stats.conflicting_keys, 0, "{stats:?}");
    assert_eq!((stats.records, stats.unique_records), (count, count), "{stats:?}");
}
