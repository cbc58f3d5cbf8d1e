//! One fleet, polled by one `etl serve` for a cycle that warms up and those that are
//! measured.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::hits::Tally;
use super::mock::{MockFleet, address};
use super::page::Page;
use super::{CYCLES, Size};
use crate::BenchError;
use crate::loader::Loader;
use crate::outage::free_port;
use crate::process::{Running, Usage};
use crate::report::Run;
use crate::sink::Sink;

/// From the start of a process until it polls.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// For the polls of the last cycle whose moment is behind the end of the measurement.
const STRAGGLERS: Duration = Duration::from_secs(3);

/// What was seen of a fleet beside what it cost.
pub(super) struct Seen {
    pub(super) loader: &'static str,
    pub(super) tally: Tally,
    pub(super) lag_p99_ms: f64,
    /// Polls that etl itself says it missed.
    pub(super) missed: f64,
}

/// Polls a fleet. Of the run, `lost` counts polls that were answered and whose record did
/// not arrive, or records that no answer was for.
pub(super) fn poll(etl: &Loader, directory: &Path, size: &Size) -> Result<(Run, Seen), BenchError> {
    let options = size.options;
    let fleet = MockFleet::start(options).map_err(BenchError::io("mock fleet"))?;
    let sink = Sink::start(1).map_err(BenchError::io("sink"))?;
    prepare(directory, size, fleet.port, &sink.url())?;
    let served = Served::start(etl, directory, options.targets)?;
    // Every target has then been asked once, and has answered.
    std::thread::sleep(options.every + options.deadline);

    let (began, cpu_before, before) = (Instant::now(), served.cpu()?, served.page()?);
    let hits_before = fleet.hits().total();
    std::thread::sleep(options.every * CYCLES);
    let (wall, cpu_after, after) = (began.elapsed(), served.cpu()?, served.page()?);
    let hits = fleet.hits().total() - hits_before;
    std::thread::sleep(options.delay + STRAGGLERS);

    let living = |target| options.is_living(target);
    let tally = fleet.hits().tally(CYCLES as usize, living);
    let answered = polls(&served.page()?, "outcome=\"answered\"")?;
    let rss_bytes_max = served.process.rss_bytes_max().map_err(BenchError::io("memory of etl"))?;
    let status = served.stop()?;
    let polls = polls(&after, "")? - polls(&before, "")?;
    if polls.abs_diff(hits) > hits / 10 {
        let text = format!("etl speaks of {polls} polls, the targets of {hits} requests");
        return Err(BenchError::Failed(text));
    }
    let usage = Usage { wall, cpu: cpu_after - cpu_before, rss_bytes_max, status };
    let counts = sink.take();
    // Polls that were in flight at the end may or may not have become records.
    let most = fleet.hits().polls(living).max(answered);
    let due = counts.records.clamp(answered, most);
    let mut run = Run::new(size.loader, &usage, counts.clone(), polls);
    run.lost = due.cast_signed() - counts.records.cast_signed();
    check_books(etl, directory, counts.records)?;
    let lag_p99_ms = after.quantile_since(&before, "etl_fleet_lag_seconds", 0.99) * 1_000.0;
    let missed = |page: &Page| page.value("etl_fleet_polls_missed_total", "").unwrap_or(f64::NAN);
    let missed = missed(&after) - missed(&before);
    Ok((run, Seen { loader: size.loader, tally, lag_p99_ms, missed }))
}

/// Writes the inventory and the pipeline; removes what an earlier run left.
fn prepare(directory: &Path, size: &Size, port: u16, url: &str) -> Result<(), BenchError> {
    let data = directory.join("data");
    if data.exists() {
        fs::remove_dir_all(&data).map_err(BenchError::io("earlier run's data"))?;
    }
    let mut inventory = Vec::new();
    for target in 0..size.options.targets {
        writeln!(inventory, "{},host-{target:06}", address(target))
            .map_err(BenchError::io("inventory"))?;
    }
    fs::write(directory.join("targets.csv"), inventory).map_err(BenchError::io("inventory"))?;
    let pipeline = format!(
        "name: fleet\n\
         source:\n  csv: {{ path: targets.csv, header: false, columns: [ip, hostname] }}\n\
         extract:\n  every: {}s\n  timeout: {}s\n  {}\n\
         load:\n  - http: {{ url: \"{url}\" }}\n    workers: 10\n    batch: {{ records: 200 }}\n",
        size.options.every.as_secs(),
        size.options.deadline.as_secs(),
        size.extract.replace("PORT", &port.to_string())
    );
    fs::write(directory.join("pipeline.yaml"), pipeline).map_err(BenchError::io("pipeline"))
}

/// An `etl serve` that polls.
struct Served<'a> {
    etl: &'a Loader,
    directory: &'a Path,
    process: Running,
    port: u16,
}

impl<'a> Served<'a> {
    /// Starts it and waits until it has all its targets.
    fn start(etl: &'a Loader, directory: &'a Path, targets: usize) -> Result<Self, BenchError> {
        let port = free_port()?;
        let mut command = etl.command(directory)?;
        command.args(["serve", "pipeline.yaml", "--listen", &format!("127.0.0.1:{port}")]);
        let process = Running::start(&mut command).map_err(BenchError::io("etl serve"))?;
        let mut served = Served { etl, directory, process, port };
        let began = Instant::now();
        loop {
            #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
            let all = Some(targets as f64);
            if Page::get(port).is_ok_and(|page| page.value("etl_fleet_targets", "") == all) {
                return Ok(served);
            }
            let ended = served.process.ended().map_err(BenchError::io("etl serve"))?;
            if ended.is_some() || began.elapsed() > READY_WITHIN {
                return Err(served.failed(&format!("does not poll {targets} targets")));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn page(&self) -> Result<Page, BenchError> {
        Page::get(self.port).map_err(|error| self.failed(&format!("/metrics: {error}")))
    }

    fn cpu(&self) -> Result<Duration, BenchError> {
        self.process.cpu().map_err(|error| self.failed(&format!("CPU time: {error}")))
    }

    fn failed(&self, what: &str) -> BenchError {
        let words = self.etl.last_words(self.directory);
        BenchError::Failed(format!("etl serve: {what}:\n{words}"))
    }

    fn stop(self) -> Result<std::process::ExitStatus, BenchError> {
        let Served { etl, directory, process, .. } = self;
        let status = process.stop().map_err(BenchError::io("etl serve"))?;
        if !status.success() {
            let words = etl.last_words(directory);
            return Err(BenchError::Failed(format!("etl serve: {status}:\n{words}")));
        }
        Ok(status)
    }
}

/// Polls that have ended, by a label or all.
fn polls(page: &Page, label: &str) -> Result<u64, BenchError> {
    let name = "etl_fleet_polls_total";
    let value = page.value(name, label);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a counter")]
    let count = value.map(|value| value as u64);
    count.ok_or_else(|| BenchError::Failed(format!("etl serve has no {name}{{{label}}}")))
}

/// What etl's own books say must be what the sink has.
fn check_books(etl: &Loader, directory: &Path, records: u64) -> Result<(), BenchError> {
    let mut command = etl.command(directory)?;
    let status = command.args(["runs", "fleet", "--all", "--json"]).status();
    let status = status.map_err(BenchError::io("etl runs"))?;
    let books: Value = serde_json::from_str(&etl.stdout(directory)).unwrap_or_default();
    let sum = |field: &str| {
        let runs = books["runs"].as_array().map_or(&[][..], Vec::as_slice);
        runs.iter().filter_map(|run| run[field].as_u64()).sum::<u64>()
    };
    let (extracted, delivered) = (sum("extracted"), sum("delivered"));
    if !status.success() || (extracted, delivered) != (records, records) {
        return Err(BenchError::Failed(format!(
            "the sink has {records} records, the books say extracted {extracted}, delivered \
             {delivered}:\n{}",
            etl.last_words(directory)
        )));
    }
    Ok(())
}
