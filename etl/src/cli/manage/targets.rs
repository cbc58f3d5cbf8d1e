//! `etl targets`: how the appliances of a fleet fare that `etl serve` polls for good.

use http::{Method, StatusCode};
use serde_json::Value as Json;

use super::args::TargetsArgs;
use super::list::head;
use super::{print, refuse};
use crate::cli::runs::{ago, aligned};
use crate::exit::Exit;
use crate::http::printable;
use crate::load::unix_seconds;
use crate::manage::client::Client;
use crate::telemetry::figures::count;

/// The most of a foreign text that is shown.
const TEXT_MAX: usize = 120;

pub(super) fn run(args: &TargetsArgs) -> Result<Exit, Exit> {
    let what = &args.pipeline;
    let name = match what.contains('/') || what.ends_with(".yaml") || what.ends_with(".yml") {
        true => args.places.find(what)?.name,
        false => what.clone(),
    };
    let state = if args.failing { "failing" } else { "all" };
    let path = format!("/pipelines/{}/targets?state={state}&limit={}", in_url(&name), args.limit);
    let client = Client::new(&args.places.data_dir(&name));
    let asked = client.ask(Method::GET, &path);
    let (status, answer) = asked.map_err(|error| refuse(&error, Exit::SourceUnavailable))?;
    if status != StatusCode::OK {
        let why = answer["error"].as_str().unwrap_or("the server refused");
        let why =
            format!("{}: {}", printable(name.as_bytes(), 100), printable(why.as_bytes(), 200));
        return Err(refuse(&why, Exit::Usage));
    }
    if args.json {
        print(&(answer.to_string() + "\n"));
    } else {
        print(&table(&answer, if args.failing { "failing" } else { "in all" }));
    }
    Ok(Exit::Delivered)
}

fn table(answer: &Json, which: &str) -> String {
    let targets = answer["targets"].as_array().map(Vec::as_slice).unwrap_or_default();
    let total = answer["count"].as_u64().unwrap_or(0);
    let mut rows = vec![head(&["TARGET", "STATE", "FAILURES", "LAST POLL", "WHY"])];
    let text = |value: &Json| printable(value.as_str().unwrap_or_default().as_bytes(), TEXT_MAX);
    for target in targets {
        let polled = target["polled_at"].as_u64();
        let polled = polled.map(|at| ago(unix_seconds().saturating_sub(at)));
        rows.push(vec![
            text(&target["name"]),
            text(&target["state"]),
            target["failures"].to_string(),
            polled.unwrap_or_else(|| "-".to_owned()),
            text(&target["error"]),
        ]);
    }
    let mut shown = if targets.is_empty() { String::new() } else { aligned(&rows, rows[0].len()) };
    shown.push_str(&format!("{} {which}", count(total)));
    if (targets.len() as u64) < total {
        shown.push_str(&format!(", the first {}; more: --limit", count(targets.len() as u64)));
    }
    shown.push('\n');
    shown
}

/// A name as a path can carry it; a name that needs this is none of ours, and is not found.
fn in_url(name: &str) -> String {
    name.chars().filter(|letter| letter.is_ascii_alphanumeric() || "-_".contains(*letter)).collect()
}
