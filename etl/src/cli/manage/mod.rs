//! Pipelines by their names: made, listed, looked at, started, stopped, removed.

pub mod args;
mod delete;
mod generate;
mod info;
mod list;
mod logs;
mod monitor;
mod orders;
mod profile;
mod schedule;
mod service;
mod targets;

use std::io::Write;
use std::path::PathBuf;

use self::args::{ManageCommand, Places};
use super::run::say;
use crate::config::Pipeline;
use crate::exit::Exit;
use crate::manage::find::{self, FindError, Found};
use crate::manage::status::ServerView;
use crate::manage::units;
use crate::telemetry::Terminal;

/// Does what one of the commands says.
pub(super) fn run(command: &ManageCommand) -> Exit {
    let done = match command {
        ManageCommand::Generate(args) => generate::run(args),
        ManageCommand::List(args) => list::run(args),
        ManageCommand::Info(args) => info::run(args),
        ManageCommand::Start(args) => orders::start(args),
        ManageCommand::Stop(args) => orders::stop(args),
        ManageCommand::Logs(args) => logs::run(args),
        ManageCommand::Profile(args) => profile::run(args),
        ManageCommand::Schedule(args) => schedule::run(args),
        ManageCommand::Delete(args) => delete::run(args),
        ManageCommand::Monitor(args) => monitor::run(args),
        ManageCommand::Targets(args) => targets::run(args),
        ManageCommand::Service(args) => service::run(args),
    };
    done.unwrap_or_else(|refused| refused)
}

impl Places {
    /// Where the data of a pipeline is.
    fn data_dir(&self, pipeline: &str) -> PathBuf {
        let installed = || units::is_installed(pipeline).then(|| units::DATA_DIR.into());
        self.data_dir.clone().or_else(installed).unwrap_or_else(|| "data".into())
    }

    /// Where the data of pipelines is that have no unit.
    fn shared_data_dir(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(|| "data".into())
    }

    fn find(&self, what: &str) -> Result<Found, Exit> {
        find::find(&self.dir, what).map_err(|error| refuse(&error, exit_of(&error)))
    }

    /// The pipeline that `what` means, its file without a mistake.
    fn find_good(&self, what: &str) -> Result<(Found, Pipeline), Exit> {
        let found = self.find(what)?;
        match &found.loaded {
            Ok(loaded) => {
                let pipeline = loaded.pipeline.clone();
                Ok((found, pipeline))
            }
            Err(report) => {
                say(&report.render(Terminal::stderr().color));
                Err(Exit::Config)
            }
        }
    }

    fn server(&self, pipeline: &str) -> Result<Option<ServerView>, Exit> {
        ServerView::ask(&self.data_dir(pipeline))
            .map_err(|error| refuse(&error, Exit::SourceUnavailable))
    }
}

fn exit_of(error: &FindError) -> Exit {
    match error {
        FindError::Unknown { .. } | FindError::Twice(..) => Exit::Usage,
        FindError::Read { .. } => Exit::Config,
    }
}

/// Says why not, and gives back the exit code.
fn refuse(error: &dyn std::fmt::Display, exit: Exit) -> Exit {
    say(&format!("error: {error}"));
    exit
}

/// A result, on stdout.
fn print(text: &str) {
    // A closed pipe leaves nobody to tell; the exit code still does.
    drop(std::io::stdout().lock().write_all(text.as_bytes()));
}
