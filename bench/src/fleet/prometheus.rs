//! The peer: Debian's Prometheus scrapes the same exporters as often.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::hits::Tally;
use super::mock::{FleetOptions, MockFleet, address};
use crate::BenchError;
use crate::loader::Loader;
use crate::outage::free_port;
use crate::process::{Running, Usage};
use crate::report::Run;
use crate::sink::Counts;

/// What the report calls it.
pub(super) const NAME: &str = "prometheus";

/// Cycles that are measured; as long as those of etl.
const CYCLES: u32 = super::CYCLES;

/// From its start until it scrapes.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Scrapes for a cycle that warms up and for those that are measured.
pub(super) fn scrape(
    prometheus: &Loader,
    directory: &Path,
    options: FleetOptions,
) -> Result<Run, BenchError> {
    let fleet = MockFleet::start(options).map_err(BenchError::io("mock fleet"))?;
    let data = tempfile::tempdir_in(directory).map_err(BenchError::io("temporary directory"))?;
    fs::write(directory.join("prometheus.yml"), configuration(options, fleet.port))
        .map_err(BenchError::io("prometheus.yml"))?;
    let mut command = prometheus.command(directory)?;
    command
        .arg("--config.file=prometheus.yml")
        .arg(format!("--storage.tsdb.path={}", data.path().display()))
        .arg(format!("--web.listen-address=127.0.0.1:{}", free_port()?));
    let mut process = Running::start(&mut command).map_err(BenchError::io("prometheus"))?;
    let failed = |what: &str| {
        BenchError::Failed(format!("prometheus: {what}:\n{}", prometheus.last_words(directory)))
    };
    let began = Instant::now();
    while fleet.hits().total() == 0 {
        let ended = process.ended().map_err(BenchError::io("prometheus"))?;
        if ended.is_some() || began.elapsed() > READY_WITHIN {
            return Err(failed("does not scrape"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    // It spreads its first scrapes over a cycle, and reads all its configuration meanwhile.
    std::thread::sleep(options.every * 2);

    let cpu = || process.cpu().map_err(BenchError::io("CPU time of prometheus"));
    let (began, cpu_before, hits_before) = (Instant::now(), cpu()?, fleet.hits().total());
    std::thread::sleep(options.every * CYCLES);
    let (wall, cpu_after) = (began.elapsed(), cpu()?);
    let scrapes = fleet.hits().total() - hits_before;
    let rss_bytes_max = process.rss_bytes_max().map_err(BenchError::io("memory"))?;
    let status = process.stop().map_err(BenchError::io("prometheus"))?;
    if !status.success() {
        return Err(failed(&status.to_string()));
    }
    let tally = fleet.hits().tally(CYCLES as usize, |_| true);
    if tally != Tally::default() {
        return Err(failed(&format!("it did not scrape every target once a cycle: {tally:?}")));
    }
    let usage = Usage { wall, cpu: cpu_after - cpu_before, rss_bytes_max, status };
    // It keeps what it scrapes; nothing is sent on.
    let counts = Counts { records: scrapes, ..Counts::default() };
    Ok(Run::new(NAME, &usage, counts, scrapes))
}

fn configuration(options: FleetOptions, port: u16) -> Vec<u8> {
    let seconds = options.every.as_secs();
    let mut text = format!(
        "global: {{ scrape_interval: {seconds}s, scrape_timeout: 5s }}\n\
         scrape_configs:\n  - job_name: exporters\n    static_configs:\n      - targets:\n"
    )
    .into_bytes();
    for target in 0..options.targets {
        // Into memory, which does not fail.
        writeln!(text, "          - \"{}:{port}\"", address(target)).ok();
    }
    text
}
