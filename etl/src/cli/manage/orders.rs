//! `etl start` and `etl stop`: by the server that has the pipeline, else by systemd.

use std::path::Path;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};

use super::args::{Places, StartArgs, StopArgs};
use super::{print, refuse};
use crate::cli::run::say;
use crate::exit::Exit;
use crate::history;
use crate::http::printable;
use crate::manage::client::{AskError, Client};
use crate::manage::find::Found;
use crate::manage::status::ServerView;
use crate::manage::systemd::Systemd;
use crate::manage::units;
use crate::pipeline::DRAIN_PATIENCE;
use crate::spool::inspect::run_by;
use crate::telemetry::figures::{count, short_id};

/// How often is looked whether a run is over.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A run that is told to end has its patience for that, and some to write everything down.
const END_WITHIN: Duration = DRAIN_PATIENCE.saturating_add(Duration::from_secs(60));

pub(super) fn start(args: &StartArgs) -> Result<Exit, Exit> {
    let (found, _) = args.places.find_good(&args.pipeline)?;
    let name = &found.name;
    match who(&args.places, &found)? {
        Who::Server(client, _) => {
            order(&client, "start", name)?;
            print(&format!("{name}  started; look: etl monitor, etl logs {name} -f\n"));
        }
        Who::Systemd => {
            Systemd::here().start(name).map_err(|error| refuse(&error, Exit::Internal))?;
            print(&format!(
                "{name}  started by systemd; look: systemctl status {}\n",
                units::service_name(name)
            ));
        }
        Who::Nobody => return Err(nobody(&args.places, &found, "start")),
    }
    Ok(Exit::Delivered)
}

pub(super) fn stop(args: &StopArgs) -> Result<Exit, Exit> {
    // One whose file is wrong can be stopped too.
    let found = args.places.find(&args.pipeline)?;
    let name = &found.name;
    match who(&args.places, &found)? {
        Who::Server(client, view) => {
            let going_on = view.pipeline(name).and_then(|it| it["run"]["run_id"].as_str());
            order(&client, "stop", name)?;
            until_stopped(&args.places.data_dir(name), name)?;
            print(&stopped(&args.places.data_dir(name), name, going_on));
        }
        Who::Systemd => {
            Systemd::here().stop(name).map_err(|error| refuse(&error, Exit::Internal))?;
            print(&format!("{name}  stopped; it stays so until: etl start {name}\n"));
        }
        Who::Nobody => return Err(nobody(&args.places, &found, "stop")),
    }
    Ok(Exit::Delivered)
}

/// Who runs a pipeline.
enum Who {
    Server(Client, ServerView),
    Systemd,
    Nobody,
}

fn who(places: &Places, found: &Found) -> Result<Who, Exit> {
    let data_dir = places.data_dir(&found.name);
    if let Some(view) = places.server(&found.name)?
        && view.pipeline(&found.name).is_some()
    {
        return Ok(Who::Server(Client::new(&data_dir), view));
    }
    let by_systemd = units::is_installed(&found.name) && units::systemd_is_here();
    Ok(if by_systemd { Who::Systemd } else { Who::Nobody })
}

/// Says what to do where nobody is there to run a pipeline, or another server is.
fn nobody(places: &Places, found: &Found, verb: &str) -> Exit {
    let (name, file) = (&found.name, found.file.display());
    let data_dir = places.data_dir(name);
    let mut text = match ServerView::ask(&data_dir) {
        Ok(Some(view)) => format!(
            "error: the etl serve of {} does not serve {name}: it serves {}",
            data_dir.display(),
            printable(view.paths.join(" ").as_bytes(), 500)
        ),
        _ => format!(
            "error: nobody is there to {verb} {name}: no etl serve has {}",
            data_dir.display()
        ),
    };
    if let Some(pid) = run_by(&data_dir, name) {
        text.push_str(&format!(
            "\nit is run by hand, by pid {pid}; that one ends with Ctrl-C, or: kill {pid}"
        ));
    }
    let directory = places.dir.display();
    text.push_str(&match units::systemd_is_here() {
        true => {
            format!("\nto run it for good: sudo etl service install {name}, then: etl start {name}")
        }
        false => {
            format!("\nto run it for good: etl serve {directory}     (there is no systemd here)")
        }
    });
    text.push_str(&format!("\nto run it once: etl run {file}"));
    say(&text);
    Exit::SourceUnavailable
}

/// Sends an order to a server.
pub(super) fn order(client: &Client, verb: &str, name: &str) -> Result<(), Exit> {
    let failed = |error: &dyn std::fmt::Display| refuse(error, Exit::SourceUnavailable);
    let answer = client.ask(Method::POST, &format!("/control/{verb}/{name}"));
    match answer.map_err(|error: AskError| failed(&error))? {
        (StatusCode::OK, _) => Ok(()),
        (_, body) => {
            let why = body["error"].as_str().unwrap_or("the server refused");
            Err(failed(&printable(why.as_bytes(), 500)))
        }
    }
}

/// Waits until the server says that no run is going on any more.
pub(super) fn until_stopped(data_dir: &Path, name: &str) -> Result<(), Exit> {
    let began = Instant::now();
    loop {
        let view = ServerView::ask(data_dir)
            .map_err(|error| refuse(&error, Exit::SourceUnavailable))?
            .ok_or_else(|| refuse(&"the server ended meanwhile", Exit::SourceUnavailable))?;
        let state = view.pipeline(name).and_then(|it| it["state"].as_str());
        match state {
            Some("running" | "retrying" | "waiting") if began.elapsed() < END_WITHIN => {}
            Some("running") => {
                let error = "the run has not ended yet; it was told to, and no other begins";
                return Err(refuse(&error, Exit::Spooled));
            }
            _ => return Ok(()),
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn stopped(data_dir: &Path, name: &str, going_on: Option<&str>) -> String {
    let runs = history::read(data_dir, name).unwrap_or_default();
    let run = runs.iter().rev().find(|run| Some(run.run_id.as_str()) == going_on);
    let books = run.map_or_else(String::new, |run| {
        format!(
            "run {}  {}: extracted {}, delivered {}, spooled {}; ",
            short_id(&run.run_id),
            run.result,
            count(run.extracted),
            count(run.delivered),
            count(run.spooled)
        )
    });
    format!("{name}  stopped; {books}it stays so until: etl start {name}\n")
}
