//! `etl info NAME`: everything about one pipeline, without its secrets.

use chrono::SecondsFormat;
use serde_json::json;

use super::args::InfoArgs;
use super::{list, print};
use crate::cli::check::journey;
use crate::config::{Pipeline, masked};
use crate::exit::Exit;
use crate::http::printable;
use crate::load::unix_seconds;
use crate::manage::status::{self, Status};
use crate::manage::units;
use crate::telemetry::figures::{bytes, count, running_span};

/// Due times shown.
const NEXT: usize = 5;

pub(super) fn run(args: &InfoArgs) -> Result<Exit, Exit> {
    let (found, pipeline) = args.places.find_good(&args.pipeline)?;
    let data_dir = args.places.data_dir(&found.name);
    let server = args.places.server(&found.name)?;
    let status = status::of(&found, &data_dir, server.as_ref());
    let next = status::next_runs(&pipeline, &data_dir, NEXT);
    let next: Vec<String> =
        next.iter().map(|at| at.to_rfc3339_opts(SecondsFormat::Secs, true)).collect();
    let configuration = masked(&pipeline);
    if args.json {
        let text = json!({ "status": status, "next_runs": next, "data_dir": data_dir.display().to_string(),
            "configuration": configuration });
        print(&(text.to_string() + "\n"));
        return Ok(Exit::Delivered);
    }
    let mut text = about(&status, &pipeline, &next);
    text.push_str(&format!("data       {}\n", data_dir.join(&found.name).display()));
    text.push_str(&format!("run by     {}\n", run_by(&status, &pipeline, server.is_some())));
    text.push_str("\nconfiguration, with defaults, secrets hidden:\n");
    text.push_str(&serde_saphyr::to_string(&configuration).unwrap_or_default());
    print(&text);
    Ok(Exit::Delivered)
}

fn about(status: &Status, pipeline: &Pipeline, next: &[String]) -> String {
    let mut text = format!("{}\n", journey(pipeline));
    let mut line = |name: &str, value: &str| text.push_str(&format!("{name:<10} {value}\n"));
    line("file", &printable(status.file.as_bytes(), 500));
    line("state", &status.state);
    line("schedule", status.schedule.as_deref().unwrap_or("none: once, or by hand"));
    for (number, at) in next.iter().enumerate() {
        line(if number == 0 { "next runs" } else { "" }, at);
    }
    match &status.last_run {
        None => line("last run", "never"),
        Some(run) => {
            let books = format!(
                "{}; extracted {}, delivered {}, spooled {}, dead-lettered {}, rejected {}",
                list::last(status),
                count(run.extracted),
                count(run.delivered),
                count(run.spooled),
                count(run.dead_lettered),
                count(run.rejected)
            );
            line("last run", &books);
        }
    }
    line("spool", &list::waiting(&status.spool));
    if let Some(since) = status.spool.oldest_since {
        let age = unix_seconds().saturating_sub(since);
        line("oldest", &running_span(std::time::Duration::from_secs(age)));
    }
    if let Some(memory) = status.memory_bytes {
        line("memory", &bytes(memory));
    }
    if let Some(error) = &status.error {
        line("error", &printable(error.as_bytes(), 500));
    }
    text
}

fn run_by(status: &Status, pipeline: &Pipeline, server: bool) -> String {
    match status.pid {
        Some(pid) if server => format!("etl serve, pid {pid}"),
        Some(pid) => format!("pid {pid}"),
        None if units::is_installed(&status.name) => {
            format!("systemd: {}", units::service_name(&status.name))
        }
        None if pipeline.every().is_some() => "nobody; etl serve".to_owned(),
        None => "nobody; etl service install, or etl serve".to_owned(),
    }
}
