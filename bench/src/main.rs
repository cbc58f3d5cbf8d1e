//! `bench`: runs what users run, as child processes, and holds them to limits.
//!
//!     cargo run --release -p bench                   every scenario
//!     cargo run --release -p bench -- bulk --rows 1000000
//!
//! Exits 1 when a limit is missed or a record is lost, 2 when it could not measure.

mod appliances;
mod beside_psql;
mod beside_replay;
mod bulk;
mod flat;
mod fleet;
mod limits;
mod loader;
mod outage;
mod plot;
mod postgres;
mod process;
mod report;
mod shapes;
mod shards;
mod sink;
mod spooled;
mod start;
mod support;
mod syslog_ng;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::loader::Loader;
use crate::report::{Report, say};

/// Runs scenarios with their limits, each loader in turn, and prints medians.
#[derive(Parser)]
#[command(
    version,
    after_help = "\
Peers are measured beside etl when they are on PATH:
  faucet   cargo install faucet-cli --version 1.0.1 --locked \\
             --no-default-features --features source-csv,sink-http
  prometheus   apt-get install prometheus
  syslog-ng    apt-get install syslog-ng-core syslog-ng-mod-http

Results are written to bench/results/SCENARIO.json. Records per second vary by 15 %
from run to run; CPU seconds per million records are steady. Compare only figures of
one run on one machine."
)]
struct Arguments {
    /// Which scenarios; without any, all.
    scenarios: Vec<Scenario>,
    /// Rows of the loads (default: bulk 5000000, outage 4000000,
    /// beside-replay 2000000, flat 10000000, postgres and shards 1000000). Below 5 million the
    /// start of the process shows in bulk.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    rows: Option<u64>,
    /// How often each loader runs; medians are reported.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Appliances polled at once; four times as many are polled in all.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    in_flight: u32,
    /// How often the targets of fleet are polled, seconds; with less, fewer targets at as many
    /// polls a second.
    #[arg(long, default_value_t = fleet::EVERY_SECONDS, value_parser = clap::value_parser!(u32).range(15..=3600))]
    every: u32,
    /// Measure this binary of etl, say an earlier one, instead of building one.
    #[arg(long, value_name = "FILE")]
    etl: Option<PathBuf>,
    /// Hold bulk to wide limits, on a machine that does other things as well.
    #[arg(long)]
    tolerant: bool,
    /// List the scenarios and their limits; measure nothing.
    #[arg(long)]
    list: bool,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// A large CSV file, 200 records a request, to an API that answers at once.
    Bulk,
    /// 100,000 targets a minute from one process, a twentieth of them black holes; exporters
    /// beside Prometheus. A run takes 9 minutes.
    Fleet,
    /// Appliances that take 6 s each: 4,000 of them, 1,000 at once, take 24 s at best.
    Appliances,
    /// The API is down for a whole load, comes back, and is down again.
    Outage,
    /// New rows to an API that was down before, alone and while the spool is replayed.
    BesideReplay,
    /// Ten times the rows take no more memory, and no more CPU for each.
    Flat,
    /// One record, from the start of the process to its end; the binary's size.
    Start,
    /// A CSV file into a table of PostgreSQL, beside psql \copy. Needs a server installed.
    Postgres,
    /// Tables of four databases of PostgreSQL into one table, beside pipes of psql. Needs a
    /// server installed.
    Shards,
}

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
enum BenchError {
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error("{0}")]
    Failed(String),
}

impl BenchError {
    /// Names what was being done, for `map_err`.
    fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> BenchError {
        let what = what.into();
        move |source| BenchError::Io { what, source }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list {
        list();
        return ExitCode::SUCCESS;
    }
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("error: {error}"));
            ExitCode::from(2)
        }
    }
}

/// Runs the scenarios; true when every limit was met and nothing was lost.
fn run(arguments: &Arguments) -> Result<bool, BenchError> {
    let chosen = match arguments.scenarios.as_slice() {
        [] => Scenario::value_variants(),
        chosen => chosen,
    };
    let etl = match &arguments.etl {
        Some(file) => Loader::etl_at(file)?,
        None => Loader::build_etl()?,
    };
    let results = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("results");
    let mut all_met = true;
    for scenario in chosen {
        let report = match scenario {
            Scenario::Bulk => {
                let rows = arguments.rows.unwrap_or(bulk::ROWS);
                bulk::run(&etl, rows, arguments.runs, arguments.tolerant)?
            }
            Scenario::Outage => {
                outage::run(&etl, arguments.rows.unwrap_or(outage::ROWS), arguments.runs)?
            }
            Scenario::BesideReplay => {
                let rows = arguments.rows.unwrap_or(beside_replay::ROWS);
                beside_replay::run(&etl, rows, arguments.runs)?
            }
            Scenario::Flat => {
                flat::run(&etl, arguments.rows.unwrap_or(flat::ROWS), arguments.runs)?
            }
            Scenario::Start => start::run(&etl, arguments.runs)?,
            Scenario::Fleet => {
                let every = Duration::from_secs(arguments.every.into());
                fleet::run(&etl, every, arguments.runs)?
            }
            Scenario::Appliances => appliances::run(&etl, arguments.in_flight, arguments.runs)?,
            Scenario::Postgres => {
                postgres::run(&etl, arguments.rows.unwrap_or(postgres::ROWS), arguments.runs)?
            }
            Scenario::Shards => {
                shards::run(&etl, arguments.rows.unwrap_or(shards::ROWS), arguments.runs)?
            }
        };
        report.print();
        let file = report.write(&results).map_err(BenchError::io("writing results"))?;
        say(&format!("written to {}", file.display()));
        all_met &= report.verdicts().iter().all(|verdict| verdict.met);
    }
    Ok(all_met)
}

fn list() {
    for scenario in Scenario::value_variants() {
        let limits = match scenario {
            Scenario::Bulk => bulk::limits(),
            Scenario::Outage => outage::limits(),
            Scenario::BesideReplay => beside_replay::limits(),
            Scenario::Flat => flat::limits(),
            Scenario::Start => start::limits(),
            Scenario::Fleet => fleet::limits(),
            Scenario::Appliances => appliances::limits(),
            Scenario::Postgres => postgres::limits(),
            Scenario::Shards => shards::limits(),
        };
        if let Some(value) = scenario.to_possible_value() {
            let help = value.get_help().map(ToString::to_string).unwrap_or_default();
            Report::print_line(&format!("{}\n  {help}\n  limit: {limits}", value.get_name()));
        }
    }
}
