//! `/pipelines`: what is served, what it is doing, what came of it.

use chrono::SecondsFormat;
use http::StatusCode;
use serde_json::{Map, Value as Json, json};

use super::routes::{Answer, json as json_answer};
use crate::http::printable;
use crate::load::unix_seconds;
use crate::pipeline::TargetFilter;
use crate::schedule::{Activity, Figures, Scheduler, Served, Totals};
use crate::telemetry::{FleetSnapshot, SinkState};

/// Targets that are shown unless more are asked for, and the most.
const TARGETS_SHOWN: usize = 100;
const TARGETS_MAX: usize = 100_000;
/// The most of an error that is shown.
const TEXT_MAX: usize = 500;

/// All pipelines, and the files that are wrong.
pub(super) fn all(scheduler: &Scheduler) -> Json {
    let reload = scheduler.reload_state();
    let pipelines: Vec<Json> = scheduler
        .served()
        .iter()
        .map(|served| {
            let mut shown = pipeline(scheduler, served);
            let file = served.loaded().map(|loaded| loaded.path.clone());
            let error = file.and_then(|file| reload.wrong.get(&file).cloned());
            if let (Some(shown), Some(error)) = (shown.as_object_mut(), error) {
                shown.insert("reload_error".to_owned(), text(&error));
            }
            shown
        })
        .collect();
    let wrong: Map<String, Json> = reload
        .wrong
        .iter()
        .map(|(file, error)| (file.display().to_string(), text(error)))
        .collect();
    json!({ "pipelines": pipelines, "wrong_files": wrong })
}

/// The pipeline whose targets a path asks for.
pub(super) fn targets_of(path: &str) -> Option<&str> {
    let name = path.strip_prefix("/pipelines/")?.strip_suffix("/targets")?;
    (!name.contains('/')).then_some(name)
}

/// `/pipelines/NAME/targets`: how the targets of a fleet that is polled for good fare.
pub(super) fn targets(scheduler: &Scheduler, name: &str, query: &str) -> Answer {
    let refuse = |status, error: &str| json_answer(status, &json!({ "error": error }));
    let filter = match filter_of(query) {
        Ok(filter) => filter,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &error),
    };
    let served = scheduler.served();
    let Some(served) = served.iter().find(|served| served.name == name) else {
        return refuse(StatusCode::NOT_FOUND, "no such pipeline is served here");
    };
    let Some(targets) = served.targets() else {
        return refuse(StatusCode::NOT_FOUND, "it polls no fleet for good now; see extract.every");
    };
    let (found, count) = targets.find(&filter);
    json_answer(StatusCode::OK, &json!({ "pipeline": name, "count": count, "targets": found }))
}

/// `state=failing&limit=100&name=…`, in any order.
fn filter_of(query: &str) -> Result<TargetFilter, String> {
    let mut filter = TargetFilter { limit: TARGETS_SHOWN, ..TargetFilter::default() };
    for (key, value) in query
        .split('&')
        .filter(|it| !it.is_empty())
        .map(|it| it.split_once('=').unwrap_or((it, "")))
    {
        match (key, value) {
            ("state", "all") => {}
            ("state", "failing") => filter.failing = true,
            ("state", "demoted") => filter.demoted = true,
            ("state", _) => return Err("state is one of all, failing, demoted".to_owned()),
            ("limit", value) => match value.parse() {
                Ok(limit) if limit <= TARGETS_MAX => filter.limit = limit,
                _ => return Err(format!("limit is a number up to {TARGETS_MAX}")),
            },
            ("name", value) => filter.name = Some(decoded(value)),
            _ => return Err("known are state, limit and name".to_owned()),
        }
    }
    Ok(filter)
}

/// A value of a query without its percent signs.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let hex = behind.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            None => {
                bytes.push(if *first == b'+' { b' ' } else { *first });
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn pipeline(scheduler: &Scheduler, served: &Served) -> Json {
    let figures = served.figures(scheduler.data_dir());
    let loaded = served.loaded();
    let timing = loaded.as_ref().and_then(|loaded| loaded.pipeline.timing());
    let every = loaded.as_ref().and_then(|loaded| loaded.pipeline.every());
    let mut shown = json!({
        "name": served.name,
        "file": loaded.as_ref().map(|loaded| loaded.path.display().to_string()),
        "digest": loaded.as_ref().map(|loaded| loaded.digest.clone()),
        "schedule": timing.map(|timing| timing.to_string()),
        "every": every.map(|every| every.interval.to_string()),
        "state": state(&figures, loaded.is_none()),
        "next_run": figures.due.map(|due| due.to_rfc3339_opts(SecondsFormat::Millis, true)),
        "queued": figures.queued,
        "skipped_runs": figures.skipped,
        "missed_runs": figures.missed,
        "retries": figures.retries,
        "last_success": figures.last_success,
        "last_run": figures.last,
        "runs": figures.results,
        "totals": totals(&figures.totals),
        "sinks": sinks(&figures),
    });
    if let (Activity::Running { run_id, since, idle }, Some(books)) =
        (&figures.activity, &figures.running)
    {
        shown["run"] = json!({
            "run_id": run_id,
            "began": since,
            "seconds": unix_seconds().saturating_sub(*since),
            "unmoved_seconds": idle.as_secs(),
            "fleet": books.fleet.as_ref().map(fleet),
            "extracted": books.extracted,
            "rejected": books.rejected,
            "filtered": books.filtered,
            "delivered": books.sinks.iter().map(|sink| sink.delivered).sum::<u64>(),
            "spooled": books.sinks.iter().map(|sink| sink.spooled).sum::<u64>(),
        });
    }
    shown
}

/// A fleet that is polled for good.
fn fleet(fleet: &FleetSnapshot) -> Json {
    json!({
        "targets": fleet.targets,
        "polls": fleet.polls(),
        "answered": fleet.answered,
        "failed": fleet.failed,
        "timed_out": fleet.timed_out,
        "missed": fleet.missed,
        "demoted": fleet.demoted,
        "in_flight": fleet.in_flight,
        "in_flight_max": fleet.in_flight_max,
    })
}

fn state(figures: &Figures, leaving: bool) -> &'static str {
    match &figures.activity {
        _ if leaving => "leaving",
        Activity::Waiting => "waiting",
        Activity::Running { .. } => "running",
        Activity::Retrying => "retrying",
        Activity::Stopped => "stopped",
        Activity::Ended => "ended",
    }
}

fn totals(totals: &Totals) -> Json {
    json!({
        "extracted": totals.extracted,
        "rejected": totals.rejected,
        "filtered": totals.filtered,
        "delivered": totals.sum(|sink| sink.delivered),
        "dead_lettered": totals.sum(|sink| sink.dead_lettered),
    })
}

fn sinks(figures: &Figures) -> Json {
    let now = unix_seconds();
    let sinks = figures.spools.iter().map(|(name, spool)| {
        let health = figures.sinks.iter().find(|sink| sink.name == *name);
        let (state, why) = match health.map(|sink| &sink.state) {
            None => ("unknown", None),
            Some(SinkState::Up) => ("up", None),
            Some(SinkState::Down { why, .. }) => ("down", Some(text(why))),
            Some(SinkState::Refused { status, .. }) => ("refused", Some(text(status))),
        };
        let shown = json!({
            "state": state,
            "why": why,
            "obstacle": health.and_then(|sink| sink.obstacle.as_deref().map(text)),
            "spool": {
                "batches": spool.batches,
                "bytes": spool.bytes,
                "oldest_seconds": spool.oldest_since.map(|since| now.saturating_sub(since)),
                "dead_letter_records": spool.dead_records,
            },
        });
        (name.clone(), shown)
    });
    Json::Object(sinks.collect())
}

fn text(text: &str) -> Json {
    Json::from(printable(text.as_bytes(), TEXT_MAX))
}
