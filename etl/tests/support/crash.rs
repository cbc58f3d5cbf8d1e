//! What the crash tests share: runs that end at chosen instants, what lay in the
//! spool at a moment, and what the mock's ledger must say about it in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mock_load_api_server::{Faults, Server};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Bench, files_of, mock, wait_until};

/// Which of the two kinds of pipeline is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An inventory that is polled; written ahead.
    Fleet,
    /// The rows of a file; spooled on failure, covered by the checkpoint.
    Rows,
}

/// No run of these tests takes as long, on any machine.
const PATIENCE: Duration = Duration::from_secs(150);

/// The sealed batches found in a spool: the key's digits in the file name, and
/// the records byte by byte.
pub type Sealed = BTreeMap<String, Vec<Bytes>>;

/// How often a test does its thing: `short`, unless the environment asks for more.
pub fn times(variable: &str, short: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")),
        Err(_) => short,
    }
}

/// Fails the test, naming the Debian package, unless `program` can be run.
#[track_caller]
pub fn require(program: &str, version: &str, package: &str) {
    let found = Command::new(program).arg(version).output();
    assert!(
        found.is_ok_and(|output| output.status.success()),
        "{program} is missing; install the Debian package `{package}` (bash .ci/packages)"
    );
}

/// What the seeded choices of a test are made of; `ETL_CRASH_SEED` repeats a run.
pub fn random(salt: u64) -> fastrand::Rng {
    let seed = times("ETL_CRASH_SEED", 42);
    fastrand::Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ salt)
}

/// Within so much of a run's beginning a signal may hit anything: `shortest`, or
/// longer where a run takes long to send its first request.
pub async fn span(shortest: Duration) -> Duration {
    let case = Case::new(Kind::Fleet, 20, 20, 1, Faults::default()).await;
    let began = Instant::now();
    let mut run = case.start(&[]);
    wait_until("the first request arrives", || case.server.stats().requests > 0);
    let start_up = began.elapsed();
    assert!(run.wait().unwrap().success(), "{}", case.stderr());
    shortest.max(start_up * 5)
}

/// An API that fails a fifth of the requests, loses replies and resets connections.
pub fn unreliable(seed: u64) -> Faults {
    Faults {
        delay: Duration::from_millis(3),
        fail: [(503, 0.2)].into(),
        lose_reply: 0.1,
        reset: 0.05,
        truncate: 0.03,
        lie: 0.02,
        seed,
        ..Faults::default()
    }
}

/// One pipeline, its data and the API that it loads into.
pub struct Case {
    pub bench: Bench,
    pub server: Server,
    pub kind: Kind,
    pub records: u64,
    /// Every batch that was seen in the spool after a crash.
    pub sealed: Sealed,
}

impl Case {
    /// A pipeline of `records` appliances or rows, in batches of `batch`.
    pub async fn new(kind: Kind, records: u64, batch: u64, workers: u32, faults: Faults) -> Case {
        let (bench, server) = (Bench::new(), mock(faults).await);
        let load = format!(
            "workers: {workers}\ntimeout: 2s\nbatch: {{ records: {batch}, linger: 50ms }}\n\
             spool: {{ min_free: 1MiB }}"
        );
        match kind {
            Kind::Fleet => {
                bench.inventory(usize::try_from(records).unwrap());
                bench.fleet(&server.url(), &load);
            }
            Kind::Rows => bench.rows(csv_of(records), &server.url(), "", &load),
        }
        Case { bench, server, kind, records, sealed: Sealed::new() }
    }

    /// Starts a run; what it says is kept in files, so that it never waits for a reader.
    pub fn start(&self, more: &[&str]) -> Child {
        let arguments = [&["run", "p.yaml", "--json"], more].concat();
        self.spawn(self.bench.command(&arguments))
    }

    /// Starts `command` with its output in files.
    pub fn spawn(&self, mut command: Command) -> Child {
        let file = |name| File::create(self.bench.path(name)).unwrap();
        command.stdout(file("stdout")).stderr(file("stderr")).spawn().unwrap()
    }

    /// What the last started run printed on stderr.
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(self.bench.path("stderr")).unwrap_or_default()
    }

    /// What all runs have logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.bench.path("logs/etl.log")).unwrap_or_default()
    }

    /// The `--json` object of the last started run; null when it did not get that far.
    pub fn json(&self) -> Value {
        let text = std::fs::read_to_string(self.bench.path("stdout")).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Notes what lies in the spool now; every file under a batch's name must be whole.
    #[track_caller]
    pub fn note_spool(&mut self) -> usize {
        let found = sealed_in(&self.bench.spool());
        let files = found.len();
        for (key, records) in found {
            if let Some(known) = self.sealed.insert(key.clone(), records.clone()) {
                assert_eq!(known, records, "{key}: a spooled batch changed");
            }
        }
        files
    }

    /// Runs with an API in good health until everything is delivered.
    #[track_caller]
    pub fn deliver_all(&self, more: &[&str]) {
        self.server.set_faults(Faults::default()).unwrap();
        for _ in 0..4 {
            let (mut run, began) = (self.start(more), Instant::now());
            let Some(status) = wait_at_most(&mut run, began, PATIENCE) else {
                run.kill().unwrap();
                panic!("a run is not over after {PATIENCE:?}: {}", self.stderr());
            };
            if status.success() {
                return;
            }
            assert_eq!(status.code(), Some(75), "{}", self.stderr());
        }
        panic!("not everything is delivered after 4 runs: {}", self.stderr());
    }

    /// The ledger's verdict: nothing lost, nothing doubled, no key with two bodies.
    #[track_caller]
    pub fn nothing_is_lost(&self) {
        let stats = self.server.stats();
        assert_eq!(stats.conflicting_keys, 0, "{stats:?}");
        let left = files_of(&self.bench.spool());
        assert!(left.is_empty(), "left in the spool: {left:?}");
        let corrupt = files_of(&self.bench.spool().join("corrupt"));
        assert!(corrupt.is_empty(), "a kill alone must not damage a file: {corrupt:?}");
        arrived_exactly_once(&self.server, &self.sealed);
        match self.kind {
            Kind::Fleet => every_appliance_arrived(&self.server, self.records),
            Kind::Rows => every_row_arrived(&self.server, self.records),
        }
    }
}

/// Rows that tell each other apart.
pub fn csv_of(records: u64) -> String {
    use std::fmt::Write as _;
    let mut text = "id,name,value\n".to_owned();
    for id in 0..records {
        writeln!(text, "{id},row-{id},{}.{}", id * 7 % 100, id % 10).unwrap();
    }
    text
}

/// The sealed batches in a spool directory; fails when one is not whole.
#[track_caller]
pub fn sealed_in(spool: &Path) -> Sealed {
    files_of(spool).iter().map(|path| (key_digits(path), records_of(path))).collect()
}

/// The digits of the key at the end of a spool file's name.
fn key_digits(path: &Path) -> String {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let middle = name.strip_suffix(".json.gz").unwrap();
    middle.rsplit('-').next().unwrap().to_owned()
}

#[track_caller]
fn records_of(path: &Path) -> Vec<Bytes> {
    read_records(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What `zcat FILE | jq -c '.[]'` prints, byte by byte.
fn read_records(path: &Path) -> std::io::Result<Vec<Bytes>> {
    let mut json = Vec::new();
    flate2::read::MultiGzDecoder::new(File::open(path)?).read_to_end(&mut json)?;
    let records: Vec<&RawValue> = serde_json::from_slice(&json)?;
    Ok(records.iter().map(|record| Bytes::copy_from_slice(record.get().as_bytes())).collect())
}

/// The first digits of the keys of what the API has stored, with the records.
pub fn stored_by(server: &Server) -> Vec<(String, Vec<Bytes>)> {
    let digits = |key: Option<String>| {
        key.expect("a batch without a key").trim_matches('"')[..16].to_owned()
    };
    server.ledger_rows().into_iter().map(|row| (digits(row.key), row.records)).collect()
}

/// How many of `batches` are not in the spool directory, or not whole.
#[track_caller]
pub fn missing_from(spool: &Path, batches: &[(String, Vec<Bytes>)]) -> usize {
    let whole = |path: &PathBuf| match read_records(path) {
        Ok(records) => Some((key_digits(path), records)),
        // A disk that cannot be read says nothing about what is on it.
        Err(error) if error.raw_os_error().is_some() => panic!("{}: {error}", path.display()),
        Err(_) => None,
    };
    let there: Sealed = files_of(spool).iter().filter_map(whole).collect();
    batches.iter().filter(|(key, records)| there.get(key) != Some(records)).count()
}

/// Each of these batches is in the ledger once, under its key, byte for byte.
#[track_caller]
pub fn arrived_exactly_once(server: &Server, sealed: &Sealed) {
    let mut rows: BTreeMap<String, Vec<Vec<Bytes>>> = BTreeMap::new();
    for (key, records) in stored_by(server) {
        rows.entry(key).or_default().push(records);
    }
    for (key, records) in sealed {
        let arrived = rows.get(key).map_or(&[][..], Vec::as_slice);
        assert_eq!(arrived.len(), 1, "batch {key} was spooled and arrived {} times", arrived.len());
        assert_eq!(&arrived[0], records, "batch {key} arrived changed");
    }
}

/// The names in the ledger's records.
fn names(server: &Server) -> BTreeSet<String> {
    let name = |record: Bytes| {
        let record: Value = serde_json::from_slice(&record).unwrap();
        record["name"].as_str().unwrap_or_else(|| panic!("no name: {record}")).to_owned()
    };
    server.ledger_rows().into_iter().flat_map(|row| row.records).map(name).collect()
}

#[track_caller]
fn every_appliance_arrived(server: &Server, appliances: u64) {
    assert_eq!(names(server).len() as u64, appliances, "appliances that arrived");
}

/// Wherever its runs were cut short, a file's rows go out under the same keys, so
/// that a deduplicating API has each of them exactly once.
#[track_caller]
fn every_row_arrived(server: &Server, rows: u64) {
    let stats = server.stats();
    assert_eq!((stats.unique_records, stats.records), (rows, rows), "{stats:?}");
}

/// How a run ended that was to be stopped at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was still going on, and was killed.
    Killed,
    /// It was over before.
    Before(ExitStatus),
}

/// Kills `run` at `instant` after its start unless it ends before.
pub fn kill_at(run: &mut Child, began: Instant, instant: Duration) -> Ended {
    if let Some(status) = wait_at_most(run, began, instant) {
        return Ended::Before(status);
    }
    run.kill().unwrap();
    let status = run.wait().unwrap();
    if status.code().is_some() { Ended::Before(status) } else { Ended::Killed }
}

/// Waits for `run` until `instant` after its start; `None` when it is still going on.
pub fn wait_at_most(run: &mut Child, began: Instant, instant: Duration) -> Option<ExitStatus> {
    loop {
        if let Some(status) = run.try_wait().unwrap() {
            return Some(status);
        }
        let left = instant.saturating_sub(began.elapsed());
        if left.is_zero() {
            return None;
        }
        std::thread::sleep(left.min(Duration::from_millis(2)));
    }
}
