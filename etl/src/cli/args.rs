//! What can be typed: commands, options, and the help that explains them.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};

use super::manage::args::ManageCommand;
use crate::config::{Rate, Size, Span};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "etl",
    version,
    about = "Collects records from CSV, REST, SQL and fleets; loads them; loses none",
    after_help = "Examples:\n  etl demo\n  etl check fixtures/pipelines/appliances.yaml\n  \
                  etl run fixtures/pipelines/appliances.yaml --json\n  etl spool ls\n\n\
                  Exit codes: 0 all delivered, 75 data still spooled, 65 some records rejected, \
                  69 source unavailable,\n78 configuration, 64 usage, 70 internal, 130/143 \
                  interrupted with everything safe."
)]
pub struct Cli {
    /// Without one, `etl` tells what is here and what to do next.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What `etl` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Move the data of one pipeline
    Run(RunArgs),
    /// Manage pipelines by their names.
    #[command(flatten)]
    Manage(ManageCommand),
    /// Run pipelines on their schedules, with metrics and health over HTTP
    Serve(ServeArgs),
    /// Ask a running `etl serve` whether it is well; exits with 69 when not
    Health(HealthArgs),
    /// See it work: a mock API, 4,000 mock appliances, an outage; needs nothing
    Demo(DemoArgs),
    /// Find every mistake in pipeline files; reads and sends nothing
    Check(CheckArgs),
    /// Print the JSON Schema of a pipeline file, or of a section such as `load`
    #[command(after_help = "Examples:\n  etl schema > pipeline.schema.json\n  etl schema load")]
    Schema {
        /// A section: source, extract, load, batch, retry, spool …
        section: Option<String>,
    },
    /// Can I reach everything? Probes source, sinks and disk; sends no record
    Doctor(DoctorArgs),
    /// Look into, check, send and clear what waits on disk
    Spool(SpoolArgs),
    /// The run history
    Runs(RunsArgs),
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  etl completions bash > /etc/bash_completion.d/etl")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Options of `etl run`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  etl run fixtures/pipelines/appliances.yaml\n  \
    etl run p.yaml --set load.0.http.url=http://127.0.0.1:9000/load --json\n  \
    etl run p.yaml --profile        flamegraph under data/PIPELINE/profile")]
pub struct RunArgs {
    /// The pipeline's file.
    #[arg(value_name = "PIPELINE.yaml")]
    pub file: PathBuf,
    /// Where spool, state and profiles are kept.
    #[arg(long, value_name = "DIR", default_value = "data")]
    pub data_dir: PathBuf,
    /// Override one value of the file, as in load.0.workers=4; repeatable.
    #[arg(long, value_name = "PATH=VALUE", action = ArgAction::Append)]
    pub set: Vec<String>,
    /// Print one JSON object on stdout at the end.
    #[arg(long)]
    pub json: bool,
    /// Load a data file from its first row again, poll a whole fleet; what waits in the
    /// spool goes out too.
    #[arg(long)]
    pub fresh: bool,
    /// Write cpu.prof, flamegraph.svg and, when built with it, mem.prof.
    #[arg(long)]
    pub profile: bool,
    /// How long the run history remembers runs.
    #[arg(long, value_name = "TIME", default_value = "90d")]
    pub keep_runs: Span,
    /// How much is logged.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Options of `etl serve`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  etl serve fixtures/pipelines\n  \
    etl serve posts.yaml users.yaml --listen 0.0.0.0:9090\n  \
    curl http://127.0.0.1:9090/pipelines\n\n\
    Files that change, appear or vanish are noticed; a wrong one keeps what was there before.\n\
    Ctrl-C or SIGTERM lets running pipelines finish, 30s at most; again = now. Exit 0 when\n\
    everything is safe, 78 when a file is wrong at the start, 69 when the address is in use.")]
pub struct ServeArgs {
    /// Pipeline files, or directories of them.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Where metrics and health are served; anything but a loopback address lets others
    /// read them, without a password [default: 127.0.0.1:9090].
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,
    /// The port alone, as the earlier services took it; --listen wins.
    #[arg(long, hide = true, env = "SERVER_PORT")]
    pub server_port: Option<u16>,
    /// Where spool, state and profiles are kept.
    #[arg(long, value_name = "DIR", default_value = "data")]
    pub data_dir: PathBuf,
    /// Override one value of every file, as in load.0.workers=4; repeatable.
    #[arg(long, value_name = "PATH=VALUE", action = ArgAction::Append)]
    pub set: Vec<String>,
    /// How long the run history remembers runs.
    #[arg(long, value_name = "TIME", default_value = "90d")]
    pub keep_runs: Span,
    /// A run that has not moved a record for so long makes /ready answer 503.
    #[arg(long, value_name = "TIME", default_value = "10m")]
    pub stuck_after: Span,
    /// How much is logged.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Options of `etl health`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Example:\n  etl health --url http://127.0.0.1:9090/ready")]
pub struct HealthArgs {
    /// What is asked [default: http://127.0.0.1:9090/health].
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// The port alone, as `etl serve` takes it; --url wins.
    #[arg(long, hide = true, env = "SERVER_PORT")]
    pub server_port: Option<u16>,
}

/// How much is logged, and where.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// More log lines on stderr (-v info, -vv debug).
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
    /// Only errors on stderr.
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Log lines as JSON objects.
    #[arg(long)]
    pub log_json: bool,
    /// The log file.
    #[arg(long, value_name = "FILE", default_value = "logs/etl.log")]
    pub log_file: PathBuf,
    /// A larger log file is moved to FILE.1, that one to FILE.2, and so on.
    #[arg(long, value_name = "SIZE", default_value = "100MiB")]
    pub log_max_size: Size,
    /// So is one that was begun longer ago.
    #[arg(long, value_name = "TIME", default_value = "30d")]
    pub log_max_age: Span,
    /// How many of these are kept.
    #[arg(long, value_name = "N", default_value = "5", value_parser = log_keep)]
    pub log_keep: usize,
}

/// Options of `etl demo`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Example:\n  etl demo\n\nEverything it makes is under data/demo and logs/.")]
pub struct DemoArgs {
    /// Where spool, state and profiles are kept.
    #[arg(long, value_name = "DIR", default_value = "data")]
    pub data_dir: PathBuf,
    /// Print one JSON object on stdout at the end.
    #[arg(long)]
    pub json: bool,
    /// How much is logged.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Options of `etl check`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  etl check fixtures/pipelines\n  etl check p.yaml --json")]
pub struct CheckArgs {
    /// Pipeline files, or directories of them.
    #[arg(required = true, value_name = "PIPELINE.yaml")]
    pub files: Vec<PathBuf>,
    /// Override one value of the file, as in load.0.workers=4; repeatable.
    #[arg(long, value_name = "PATH=VALUE", action = ArgAction::Append)]
    pub set: Vec<String>,
    /// Print one JSON object on stdout.
    #[arg(long)]
    pub json: bool,
}

/// Options of `etl doctor`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  etl doctor fixtures/pipelines/appliances.yaml\n  \
    etl doctor pipeline.yaml --alert\n\n\
    Exit 0 when a run could begin, 78 when the file is wrong, 69 when something cannot be reached.")]
pub struct DoctorArgs {
    /// The pipeline's file.
    #[arg(value_name = "PIPELINE.yaml")]
    pub file: PathBuf,
    /// Where spool and state would be kept.
    #[arg(long, value_name = "DIR", default_value = "data")]
    pub data_dir: PathBuf,
    /// Override one value of the file, as in load.0.workers=4; repeatable.
    #[arg(long, value_name = "PATH=VALUE", action = ArgAction::Append)]
    pub set: Vec<String>,
    /// Send a test message to everybody whom `alerts` tells.
    #[arg(long)]
    pub alert: bool,
    /// Print one JSON object on stdout.
    #[arg(long)]
    pub json: bool,
}

/// Options of `etl runs`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  etl runs\n  etl runs appliances --json")]
pub struct RunsArgs {
    /// Only this pipeline.
    pub pipeline: Option<String>,
    /// Where the pipelines' data is.
    #[arg(long, value_name = "DIR", default_value = "data")]
    pub data_dir: PathBuf,
    /// All runs, not only the newest 20.
    #[arg(long)]
    pub all: bool,
    /// Print one JSON object on stdout.
    #[arg(long)]
    pub json: bool,
}

/// Options of `etl spool`.
#[derive(Debug, Clone, Args)]
pub struct SpoolArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub command: SpoolCommand,
}

/// What all spool commands take.
#[derive(Debug, Clone, Args)]
pub struct SpoolWhere {
    /// A pipeline's name, or spool files; without any, all that are under the data directory.
    #[arg(value_name = "PIPELINE|FILE")]
    pub what: Vec<PathBuf>,
    /// Where the spools are.
    #[arg(long, value_name = "DIR", default_value = "data")]
    pub data_dir: PathBuf,
    /// Print one JSON object on stdout.
    #[arg(long)]
    pub json: bool,
}

/// Options of `etl spool replay`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  etl spool replay appliances --dry-run\n  \
    etl spool replay pipeline.yaml --older-than 10m --rate 10/s\n  \
    etl spool replay appliances --dead          (shows what it would send)\n  \
    etl spool replay appliances --dead --yes\n\n\
    Exit 0 when nothing is left, 75 when something still waits, 65 when records were refused,\n\
    69 when a run has the spool.")]
pub struct ReplayArgs {
    /// The pipeline's file, or its name when it has run here; may be left out when
    /// only one pipeline has something waiting.
    #[arg(value_name = "PIPELINE|PIPELINE.yaml")]
    pub pipeline: Option<PathBuf>,
    /// Where the spools are.
    #[arg(long, value_name = "DIR", default_value = "data")]
    pub data_dir: PathBuf,
    /// Override one value of the file, as in load.0.workers=4; repeatable.
    #[arg(long, value_name = "PATH=VALUE", action = ArgAction::Append)]
    pub set: Vec<String>,
    /// Only show what would be sent.
    #[arg(long, conflicts_with = "yes")]
    pub dry_run: bool,
    /// Send dead letters, whose replay is a dry run without this.
    #[arg(long)]
    pub yes: bool,
    /// Only this sink.
    #[arg(long)]
    pub sink: Option<String>,
    /// Only batches that have waited at least so long, as in 10m.
    #[arg(long, value_name = "TIME")]
    pub older_than: Option<Span>,
    /// Only batches whose key begins so; file names carry the first 16 digits.
    #[arg(long, value_name = "PREFIX", value_parser = key_prefix)]
    pub key: Option<String>,
    /// At most so many batches.
    #[arg(long, value_name = "BATCHES", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// At most so many requests, as in 10/s or 30/m.
    #[arg(long, value_name = "N/s")]
    pub rate: Option<Rate>,
    /// The newest batch first.
    #[arg(long)]
    pub newest_first: bool,
    /// The oldest batch first; the default.
    #[arg(long, conflicts_with = "newest_first")]
    pub oldest_first: bool,
    /// Dead letters instead of what waits, as new batches.
    #[arg(long)]
    pub dead: bool,
    /// Send although the sink's address is another than the one the spool was filled for.
    #[arg(long)]
    pub to_new_sink: bool,
    /// Print one JSON object on stdout.
    #[arg(long)]
    pub json: bool,
    /// How much is logged.
    #[command(flatten)]
    pub log: LogArgs,
}

/// How many log files are kept.
fn log_keep(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=1000).contains(number));
    number.ok_or_else(|| "a number from 1 to 1000".to_owned())
}

/// The beginning of a batch's key.
fn key_prefix(text: &str) -> Result<String, String> {
    let text = text.to_ascii_lowercase();
    let is_key = !text.is_empty() && text.len() <= 32;
    if is_key && text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        Ok(text)
    } else {
        Err("a key is up to 32 hexadecimal digits, as in file names".to_owned())
    }
}

/// What can be done with a spool.
#[derive(Debug, Clone, Subcommand)]
pub enum SpoolCommand {
    /// What waits, since when, and why
    #[command(after_help = "Examples:\n  etl spool ls\n  etl spool ls appliances --files --json")]
    Ls {
        /// Which spools.
        #[command(flatten)]
        at: SpoolWhere,
        /// One line per file.
        #[arg(long)]
        files: bool,
        /// Only dead letters.
        #[arg(long)]
        dead: bool,
    },
    /// Print records as JSON lines
    #[command(after_help = "Examples:\n  etl spool cat appliances | jq .name\n  \
        etl spool cat --dead\n  etl spool cat data/appliances/spool/http/*.json.gz")]
    Cat {
        /// Which spools.
        #[command(flatten)]
        at: SpoolWhere,
        /// Dead letters instead of waiting records.
        #[arg(long)]
        dead: bool,
    },
    /// Read every file to its end and check its digest
    #[command(after_help = "Examples:\n  etl spool verify\n  etl spool verify appliances --json")]
    Verify {
        /// Which spools.
        #[command(flatten)]
        at: SpoolWhere,
    },
    /// Send what waits now, without reading the source
    Replay(ReplayArgs),
    /// Delete waiting batches, dead letters or quarantined files on purpose
    #[command(after_help = "Examples:\n  etl spool discard appliances --dead\n  \
        etl spool discard appliances --sink http --yes")]
    Discard {
        /// Which spools.
        #[command(flatten)]
        at: SpoolWhere,
        /// Only this sink.
        #[arg(long)]
        sink: Option<String>,
        /// Dead letters instead of waiting records.
        #[arg(long, conflicts_with = "corrupt")]
        dead: bool,
        /// Quarantined files instead of waiting records.
        #[arg(long)]
        corrupt: bool,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}
