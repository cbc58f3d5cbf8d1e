//! The command line: one file per command. Only this room writes to stdout.

pub mod args;
pub mod check;
mod completions;
pub mod demo;
pub mod doctor;
mod health;
mod home;
mod limits;
mod manage;
pub mod run;
mod runs;
pub mod schema;
mod serve;
mod signals;
pub mod spool;

use std::io::{self, Write};
use std::path::Path;

use clap::Parser;
use clap::error::ErrorKind;

use self::args::{Cli, Command};
use crate::exit::Exit;
use crate::spool::inspect::{self, Kind};
use crate::telemetry::Terminal;
use crate::{history, load};

/// Reads the command line and does what it says.
#[must_use]
pub fn main() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return explain(&error),
    };
    let color = Terminal::stderr().color;
    match cli.command {
        None => home(),
        Some(Command::Run(args)) => run::run(&args),
        Some(Command::Manage(command)) => manage::run(&command),
        Some(Command::Serve(args)) => serve::run(&args),
        Some(Command::Health(args)) => health::run(&args),
        Some(Command::Demo(args)) => demo::run(&args),
        Some(Command::Check(args)) => check::check(&args.files, &args.set, args.json, color),
        Some(Command::Schema { section }) => schema::schema(section.as_deref()),
        Some(Command::Doctor(args)) => doctor::run(&args),
        Some(Command::Spool(args)) => spool::run(&args),
        Some(Command::Runs(args)) => runs::run(&args),
        Some(Command::Completions { shell }) => completions::print(shell),
    }
}

/// Help and version are results; everything else is a usage error, exit 64.
fn explain(error: &clap::Error) -> Exit {
    // A closed pipe leaves nobody to tell.
    drop(error.print());
    match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Exit::Delivered,
        _ => Exit::Usage,
    }
}

/// `etl` alone: what is here, in the working directory and its `data`.
fn home() -> Exit {
    let data = Path::new("data");
    let views = inspect::sinks(data).unwrap_or_default();
    let mut waiting = home::SpoolHere::default();
    for file in views.iter().flat_map(|view| view.files().unwrap_or_default()) {
        if matches!(file.kind, Kind::Pending | Kind::Spooled) {
            waiting.batches += 1;
            waiting.bytes += file.size;
            waiting.records += file.headline().map_or(0, |headline| headline.records);
        }
    }
    let last_run = |pipeline: &str| {
        let runs = history::read(data, pipeline).ok()?;
        let last = runs.last()?;
        let when = runs::ago(load::unix_seconds().saturating_sub(last.began));
        Some(home::LastRun { when, result: last.result.clone() })
    };
    let text = home::home(&home::look(Path::new("."), waiting, last_run), &Terminal::stdout());
    // A closed pipe leaves nobody to tell.
    drop(io::stdout().lock().write_all(text.as_bytes()));
    Exit::Delivered
}
