//! `/pipelines`: what is served, what it is doing, what came of it.

use chrono::SecondsFormat;
use serde_json::{Map, Value as Json, json};

use crate::http::printable;
use crate::load::unix_seconds;
use crate::schedule::{Activity, Figures, Scheduler, Served, Totals};
use crate::telemetry::SinkState;

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

fn pipeline(scheduler: &Scheduler, served: &Served) -> Json {
    let figures = served.figures(scheduler.data_dir());
    let loaded = served.loaded();
    let timing = loaded.as_ref().and_then(|loaded| loaded.pipeline.timing());
    let mut shown = json!({
        "name": served.name,
        "file": loaded.as_ref().map(|loaded| loaded.path.display().to_string()),
        "digest": loaded.as_ref().map(|loaded| loaded.digest.clone()),
        "schedule": timing.map(|timing| timing.to_string()),
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
            "extracted": books.extracted,
            "rejected": books.rejected,
            "filtered": books.filtered,
            "delivered": books.sinks.iter().map(|sink| sink.delivered).sum::<u64>(),
            "spooled": books.sinks.iter().map(|sink| sink.spooled).sum::<u64>(),
        });
    }
    shown
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
