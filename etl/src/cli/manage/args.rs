//! What can be typed to keep pipelines: the commands that make, find, start and remove them.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::manage::generate::Template;
use crate::manage::schedule::Wanted;
use crate::telemetry::live_profile::{SECONDS, SECONDS_MAX};

/// The commands that manage pipelines.
#[derive(Debug, Subcommand)]
pub enum ManageCommand {
    /// Make a new pipeline from a template
    Generate(GenerateArgs),
    /// All pipelines: state, schedule, last run, spool
    List(ListArgs),
    /// One pipeline: configuration, next runs, last run, spool
    Info(InfoArgs),
    /// Let a pipeline run by its schedule, and once now
    Start(StartArgs),
    /// End a pipeline's run in good order and let no other begin
    Stop(StopArgs),
    /// What a pipeline's log says
    Logs(LogsArgs),
    /// Where the time goes in a pipeline that is at work; it goes on
    Profile(ProfileArgs),
    /// Change when a pipeline runs; keeps the file's comments and layout
    Schedule(ScheduleArgs),
    /// Remove a pipeline's files, state and spool
    Delete(DeleteArgs),
    /// How the appliances of a fleet fare that is polled for good
    Targets(TargetsArgs),
    /// One screen for all: state, runs, records, spool, memory, errors
    Monitor(MonitorArgs),
    /// Units for systemd: print, install, uninstall
    Service(ServiceArgs),
}

/// Where pipelines and their data are.
#[derive(Debug, Clone, Args)]
pub struct Places {
    /// Where the pipelines are.
    #[arg(long, value_name = "DIR", default_value = crate::manage::find::DIRECTORY)]
    pub dir: PathBuf,
    /// Where spool, state and history are [default: data; /var/lib/etl for a pipeline with
    /// an installed unit].
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// Options of `etl generate`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  etl generate --name edge-cpu\n  \
    etl generate --name posts --template rest\n\n\
    Makes DIR/NAME/ with pipeline.yaml, .env.template, README.md, Dockerfile. Overwrites nothing.")]
pub struct GenerateArgs {
    /// The pipeline's name: lower-case letters, digits, `-`, `_`.
    #[arg(long)]
    pub name: String,
    /// What it begins as.
    #[arg(long, value_enum, default_value = "appliances")]
    pub template: Template,
    /// Where the pipelines are.
    #[arg(long, value_name = "DIR", default_value = crate::manage::find::DIRECTORY)]
    pub dir: PathBuf,
}

/// Options of `etl list`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  etl list\n  etl list --dir fixtures/pipelines --json")]
pub struct ListArgs {
    /// Where to look.
    #[command(flatten)]
    pub places: Places,
    /// Print one JSON object on stdout.
    #[arg(long)]
    pub json: bool,
}

/// Options of `etl info`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  etl info edge-cpu\n  etl info fixtures/pipelines/posts.yaml\n\n\
    Secrets are hidden, passwords in addresses too."
)]
pub struct InfoArgs {
    /// The pipeline's name or file.
    #[arg(value_name = "NAME|PATH")]
    pub pipeline: String,
    /// Where to look.
    #[command(flatten)]
    pub places: Places,
    /// Print one JSON object on stdout.
    #[arg(long)]
    pub json: bool,
}

/// Options of `etl start`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  etl start edge-cpu\n  etl start pipelines/edge-cpu/pipeline.yaml\n\n\
    The `etl serve` of the data directory does it when it serves the pipeline, else systemd\n\
    when a unit is installed. Exit 69 when nobody is there to run it, with what to do."
)]
pub struct StartArgs {
    /// The pipeline's name or file.
    #[arg(value_name = "NAME|PATH")]
    pub pipeline: String,
    /// Where to look.
    #[command(flatten)]
    pub places: Places,
}

/// Options of `etl stop`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Example:\n  etl stop edge-cpu\n\n\
    The run that is going on finishes or spools what it has, within 30s. The pipeline stays\n\
    stopped, over restarts too, until: etl start edge-cpu")]
pub struct StopArgs {
    /// The pipeline's name or file.
    #[arg(value_name = "NAME|PATH")]
    pub pipeline: String,
    /// Where to look.
    #[command(flatten)]
    pub places: Places,
}

/// Options of `etl profile`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  etl profile edge-cpu\n  \
    etl profile edge-cpu --seconds 30 --out edge.svg\n  \
    etl profile edge-cpu --out edge.prof && go tool pprof -http : edge.prof\n\n\
    Of an `etl serve`, a profile shows everything it does; of an `etl run`, that run. Exit 69\n\
    when nobody runs the pipeline, or a profile is being taken already.")]
pub struct ProfileArgs {
    /// The pipeline's name or file.
    #[arg(value_name = "NAME|PATH")]
    pub pipeline: String,
    /// How long.
    #[arg(long, value_name = "N", default_value_t = SECONDS,
        value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
    pub seconds: u64,
    /// Where to: a flamegraph when it ends in .svg, else for pprof [default: under
    /// DATA/NAME/profile].
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Where to look.
    #[command(flatten)]
    pub places: Places,
}

/// Options of `etl targets`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  etl targets edge-cpu --failing\n  \
    etl targets edge-cpu --json --limit 100000\n\n\
    Asks the `etl serve` of the data directory. For pipelines with extract.every.")]
pub struct TargetsArgs {
    /// The pipeline's name or file.
    #[arg(value_name = "NAME|PATH")]
    pub pipeline: String,
    /// Only those whose last poll failed.
    #[arg(long)]
    pub failing: bool,
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub limit: u32,
    /// Where to look.
    #[command(flatten)]
    pub places: Places,
    /// Print one JSON object on stdout.
    #[arg(long)]
    pub json: bool,
}

/// Options of `etl logs`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  etl logs edge-cpu\n  etl logs edge-cpu -f\n  \
    etl logs edge-cpu --lines 1000 | grep WARN\n\n\
    Of the log that pipelines share, the lines of this one; older files of the log included.")]
pub struct LogsArgs {
    /// The pipeline's name or file.
    #[arg(value_name = "NAME|PATH")]
    pub pipeline: String,
    /// Go on with what is written from now on, until Ctrl-C.
    #[arg(short, long)]
    pub follow: bool,
    /// The newest lines, so many.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 200)]
    pub lines: usize,
    /// The log [default: logs/etl.log; /var/log/etl/NAME/etl.log with an installed unit].
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// Where to look.
    #[command(flatten)]
    pub places: Places,
}

/// Options of `etl schedule`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  etl schedule edge-cpu hourly 2           every second hour\n  \
    etl schedule edge-cpu daily 00:00\n  etl schedule edge-cpu weekly mon 00:00\n  \
    etl schedule edge-cpu monthly 1 00:00\n  etl schedule edge-cpu every 90s\n  \
    etl schedule edge-cpu remove             run once, or by hand\n\n\
    Times are those of the schedule's timezone, UTC without one. A server takes the change up by\n\
    itself; an installed unit needs: etl service install edge-cpu"
)]
pub struct ScheduleArgs {
    /// The pipeline's name or file.
    #[arg(value_name = "NAME|PATH")]
    pub pipeline: String,
    /// Where the pipelines are [default: pipelines].
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// When.
    #[command(subcommand)]
    pub when: Wanted,
}

/// Options of `etl delete`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  etl delete edge-cpu\n  etl delete edge-cpu --yes\n  \
    etl delete edge-cpu --yes --lose-records 3600\n\n\
    Refused while it runs, while a unit is installed, and while records wait in its spool or lie\n\
    in its dead letters, unless their number is given. What it delivered into files or an SQLite\n\
    database under the data directory stays.")]
pub struct DeleteArgs {
    /// The pipeline's name or file.
    #[arg(value_name = "NAME|PATH")]
    pub pipeline: String,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
    /// The number of undelivered records that will be lost.
    #[arg(long, value_name = "N")]
    pub lose_records: Option<u64>,
    /// Where to look.
    #[command(flatten)]
    pub places: Places,
}

/// Options of `etl monitor`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Examples:\n  etl monitor\n  etl monitor --json | jq '.pipelines[].state'\n\n\
    On a terminal it is drawn again every second until Ctrl-C; else it is printed once."
)]
pub struct MonitorArgs {
    /// Where to look.
    #[command(flatten)]
    pub places: Places,
    /// Print once, also on a terminal.
    #[arg(long)]
    pub once: bool,
    /// Print one JSON object on stdout, once.
    #[arg(long)]
    pub json: bool,
}

/// Options of `etl service`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  etl service install edge-cpu --print     show the units\n  \
    sudo etl service install edge-cpu\n  sudo etl service uninstall edge-cpu")]
pub struct ServiceArgs {
    /// What to do.
    pub action: ServiceAction,
    /// The pipeline's name or file.
    #[arg(value_name = "NAME|PATH")]
    pub pipeline: String,
    /// Where the pipelines are.
    #[arg(long, value_name = "DIR", default_value = crate::manage::find::DIRECTORY)]
    pub dir: PathBuf,
    /// Print the units and write nothing.
    #[arg(long)]
    pub print: bool,
    /// Install into the file system under this directory, as for an image; starts nothing.
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
}

/// What is done with a pipeline's units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ServiceAction {
    /// Write a service, and a timer by the schedule, or write them anew
    Install,
    /// Stop and remove them; data and logs stay
    Uninstall,
}
