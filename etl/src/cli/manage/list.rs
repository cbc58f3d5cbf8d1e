//! `etl list`: all pipelines, one line each.

use serde_json::json;

use super::args::{ListArgs, Places};
use super::{exit_of, print, refuse};
use crate::cli::runs::{ago, aligned};
use crate::exit::Exit;
use crate::http::printable;
use crate::load::unix_seconds;
use crate::manage::find;
use crate::manage::status::{self, ServerView, Spool, Status};
use crate::telemetry::figures::{bytes, count, counted};

pub(super) fn run(args: &ListArgs) -> Result<Exit, Exit> {
    let (statuses, _) = gather(&args.places)?;
    if args.json {
        print(&(json!({ "pipelines": statuses }).to_string() + "\n"));
        return Ok(Exit::Delivered);
    }
    if statuses.is_empty() {
        let directory = args.places.dir.display();
        print(&format!("no pipeline in {directory}/; make one with: etl generate --name NAME\n"));
        return Ok(Exit::Delivered);
    }
    let mut rows = vec![head(&["NAME", "STATE", "SCHEDULE", "NEXT", "LAST RUN", "SPOOL", "FILE"])];
    for it in &statuses {
        let schedule = it.schedule.as_deref().unwrap_or("-").to_owned();
        let file = printable(it.file.as_bytes(), 200);
        rows.push(vec![
            it.name.clone(),
            it.state.clone(),
            schedule,
            next(it),
            last(it),
            waiting(&it.spool),
            file,
        ]);
    }
    let mut text = aligned(&rows, rows[0].len());
    for it in &statuses {
        if let Some(problem) = it.error.as_deref().filter(|_| it.state == "wrong") {
            let problem = printable(problem.as_bytes(), 300);
            text.push_str(&format!("{}: {problem}; see: etl check {}\n", it.name, it.file));
        }
    }
    print(&text);
    Ok(Exit::Delivered)
}

/// How all pipelines are, those that a server has from elsewhere included, and the server.
pub(super) fn gather(places: &Places) -> Result<(Vec<Status>, Option<ServerView>), Exit> {
    let mut all = find::all(&places.dir).map_err(|error| refuse(&error, exit_of(&error)))?;
    let shared = places.shared_data_dir();
    let server =
        ServerView::ask(&shared).map_err(|error| refuse(&error, Exit::SourceUnavailable))?;
    if let Some(server) = &server {
        for name in server.names() {
            let known = all.iter().any(|found| found.name == name);
            let file = server.pipeline(name).and_then(|it| it["file"].as_str());
            if let (false, Some(file)) = (known, file) {
                all.push(find::Found::at(file.as_ref()));
            }
        }
    }
    let of =
        |found: &find::Found| status::of(found, &places.data_dir(&found.name), server.as_ref());
    let mut statuses: Vec<Status> = all.iter().map(of).collect();
    statuses.sort_by(|one, two| one.name.cmp(&two.name));
    Ok((statuses, server))
}

pub(super) fn head(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// When it is due, as `in 4m`.
pub(super) fn next(status: &Status) -> String {
    match status.next_run.map(|next| (next - chrono::Utc::now()).num_seconds()) {
        None => "-".to_owned(),
        Some(..=0) => "now".to_owned(),
        Some(seconds @ 1..60) => format!("in {seconds}s"),
        Some(seconds @ 60..3600) => format!("in {}m", seconds / 60),
        Some(seconds @ 3600..86_400) => format!("in {}h", seconds / 3600),
        Some(seconds) => format!("in {}d", seconds / 86_400),
    }
}

/// The last run, as `complete 4m ago`.
pub(super) fn last(status: &Status) -> String {
    match &status.last_run {
        None => "never".to_owned(),
        Some(run) => {
            format!("{} {}", run.result, ago(unix_seconds().saturating_sub(run.began)))
        }
    }
}

/// What waits, as `3,600 records, 309 KiB`; dead letters too.
pub(super) fn waiting(spool: &Spool) -> String {
    let mut parts = Vec::new();
    if spool.batches > 0 {
        let what = match spool.records {
            Some(records) => counted(records, "record"),
            None => counted(spool.batches, "batch"),
        };
        parts.push(format!("{what}, {}", bytes(spool.bytes)));
    }
    match (spool.dead_files, spool.dead_records) {
        (0, _) => {}
        (_, Some(records)) => parts.push(format!("{} dead", count(records))),
        (files, None) => parts.push(format!("{} dead", counted(files, "file"))),
    }
    if spool.corrupt_files > 0 {
        parts.push(format!("{} unreadable", counted(spool.corrupt_files, "file")));
    }
    if parts.is_empty() { "empty".to_owned() } else { parts.join("; ") }
}
