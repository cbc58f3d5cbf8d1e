//! `fleet`: 100,000 targets a minute that take half a second, and 10,000 that take 6 s,
//! from one `etl serve`, a twentieth of them black holes; and 2,000 exporters every 10 s,
//! beside Prometheus. Every target is on this machine and counts how often it is asked.

mod hits;
mod mock;
mod page;
mod poll;
mod prometheus;

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use self::hits::Tally;
use self::mock::FleetOptions;
use self::poll::{Seen, poll};
use crate::BenchError;
use crate::limits::{
    FLEET_CPU_MICROSECONDS, FLEET_CPU_OF_PROMETHEUS, FLEET_LAG_P99_MS, FLEET_RSS_MIB,
};
use crate::loader::Loader;
use crate::report::{Medians, Report, Verdict, say};

/// How often every target is polled when nothing else is asked for, seconds.
pub(crate) const EVERY_SECONDS: u32 = 60;

/// Cycles that are measured, behind one that warms up.
const CYCLES: u32 = 2;

/// The fleets, by what the report calls them.
const FAST: &str = "etl";
const SLOW: &str = "etl 6 s";
const EXPORTERS: &str = "etl 10 s";

/// The limits, in words.
pub(crate) fn limits() -> String {
    format!(
        "with 5 % black holes {FLEET_CPU_MICROSECONDS} µs of CPU a poll, {FLEET_RSS_MIB} MiB, 99 % \
         of the polls within {FLEET_LAG_P99_MS} ms of their moment, every living target exactly \
         once a cycle; a scrape of an exporter with {FLEET_CPU_OF_PROMETHEUS:.2} of the CPU of \
         Prometheus; nothing lost or doubled"
    )
}

/// A fleet and how `etl` is told to poll it.
struct Size {
    loader: &'static str,
    options: FleetOptions,
    extract: &'static str,
}

fn sizes(every: Duration) -> [Size; 2] {
    let a_minute = |targets: u64| {
        let targets = targets * every.as_secs() / u64::from(EVERY_SECONDS);
        usize::try_from(targets).unwrap_or(usize::MAX)
    };
    let options = |targets, seconds, delay| {
        let deadline = Duration::from_secs(seconds);
        FleetOptions { targets, every, deadline, delay, black_holes: true }
    };
    [
        Size {
            loader: FAST,
            options: options(a_minute(100_000), 5, Duration::from_millis(500)),
            extract: "http: { url: \"http://{ip}:PORT/metrics\", format: node_exporter }",
        },
        Size {
            loader: SLOW,
            options: options(a_minute(10_000), 8, Duration::from_secs(6)),
            // No exporter: the first poll of one takes two answers, which are 12 s here.
            extract: "http: { url: \"http://{ip}:PORT/cpu\", format: json }",
        },
    ]
}

/// Polls both fleets every `every`, and exporters beside Prometheus, `runs` times.
pub(crate) fn run(etl: &Loader, every: Duration, runs: u32) -> Result<Report, BenchError> {
    let files = raise_open_files();
    let directory = tempfile::tempdir().map_err(BenchError::io("temporary directory"))?;
    let directory = directory.path();
    let prometheus = Loader::on_path("prometheus");
    if prometheus.is_none() {
        say("fleet: prometheus is not on PATH and is left out; --help says how to install it");
    }
    let (mut measured, mut seen) = (Vec::new(), Vec::new());
    for number in 1..=runs {
        for size in sizes(every) {
            let (targets, seconds) = (size.options.targets, every.as_secs());
            say(&format!(
                "fleet: run {number} of {runs}, {targets} targets every {seconds} s, {} cycles",
                CYCLES + 1
            ));
            let (run, saw) = poll(etl, directory, &size)?;
            measured.push(run);
            seen.push(saw);
        }
        say(&format!("fleet: run {number} of {runs}, exporters"));
        let exporters = exporters();
        let (run, saw) = poll(etl, directory, &exporters)?;
        measured.push(run);
        seen.push(saw);
        if let Some(prometheus) = &prometheus {
            measured.push(prometheus::scrape(prometheus, directory, exporters.options)?);
        }
    }
    let [fast, slow] = sizes(every).map(|size| size.options.targets);
    let task = format!(
        "every {} s {fast} targets of 0.5 s and {slow} of 6 s; 2000 exporters every 10 s; {files} \
         open files; {runs} runs each",
        every.as_secs()
    );
    Ok(Report::new("fleet", task, measured, |medians| judge(medians, &seen)).paced())
}

/// What Prometheus is for: all of them answer at once.
fn exporters() -> Size {
    let (every, deadline) = (Duration::from_secs(10), Duration::from_secs(5));
    let (targets, delay) = (2_000, Duration::ZERO);
    Size {
        loader: EXPORTERS,
        options: FleetOptions { targets, every, deadline, delay, black_holes: false },
        extract: "http: { url: \"http://{ip}:PORT/metrics\", format: node_exporter }",
    }
}

fn judge(medians: &Medians<'_>, seen: &[Seen]) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for (loader, [cpu, rss, lag]) in [
        (FAST, ["µs of CPU a poll", "peak RSS, MiB", "p99 of the lag, ms, worst run"]),
        (
            SLOW,
            ["µs of CPU a poll of 6 s", "peak RSS at 6 s, MiB", "p99 of the lag at 6 s, ms, worst"],
        ),
    ] {
        let median = medians.of(loader);
        let lags = seen.iter().filter(|seen| seen.loader == loader).map(|seen| seen.lag_p99_ms);
        // `f64::max` would forget a lag that could not be read.
        let worst = lags.fold(0.0, |worst, lag| if lag <= worst { worst } else { lag });
        // A second of CPU for a million polls is a millionth for each.
        verdicts.push(Verdict::at_most(
            cpu,
            median.cpu_seconds_per_million,
            FLEET_CPU_MICROSECONDS,
        ));
        verdicts.push(Verdict::at_most(rss, median.rss_mib, FLEET_RSS_MIB));
        verdicts.push(Verdict::at_most(lag, worst, FLEET_LAG_P99_MS));
    }
    if let Some(prometheus) = medians.find(prometheus::NAME) {
        verdicts.push(Verdict::at_most(
            "CPU of a scrape, of Prometheus'",
            medians.of(EXPORTERS).cpu_seconds_per_million / prometheus.cpu_seconds_per_million,
            FLEET_CPU_OF_PROMETHEUS,
        ));
    }
    let sum = |of: fn(&Tally) -> u64| seen.iter().map(|seen| of(&seen.tally)).sum::<u64>();
    #[allow(clippy::cast_precision_loss, reason = "zero is exact, the rest is a failure")]
    let [missed, doubled] =
        [sum(|tally| tally.missed), sum(|tally| tally.doubled)].map(|n| n as f64);
    let told: f64 = seen.iter().map(|seen| seen.missed).sum();
    verdicts.push(Verdict::at_most("polls of living targets missed, all runs", missed, 0.0));
    verdicts.push(Verdict::at_most("polls that etl says it missed, all runs", told, 0.0));
    verdicts.push(Verdict::at_most("polls too many in a cycle, all runs", doubled, 0.0));
    verdicts
}

/// This process holds as many connections as etl does. Gives what it may hold.
fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // What matters is the limit afterwards, which the report tells.
    setrlimit(Resource::Nofile, raised).ok();
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
