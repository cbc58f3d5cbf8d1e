//! A fleet against the run that was cut short: resumed, too old, or another fleet.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::super::fleet::{Survey, survey};
use super::super::keeper::Progress;
use super::{Plan, Source, digest, sink_names};
use crate::batch::new_run_id;
use crate::checkpoint::{FleetState, SettledTargets, Targets};
use crate::config::{CsvSource, Pipeline};
use crate::load::unix_seconds;
use crate::source::SourceError;
use crate::telemetry::figures::{count, short_id, span};

/// The inventory, and everything in the configuration that says what is polled.
fn fleet_digest(pipeline: &Pipeline, csv: &CsvSource, inventory: &str) -> String {
    digest(&json!([
        "fleet 1",
        inventory,
        [json!(csv.header), json!(csv.columns), json!(csv.delimiter), json!(csv.numbers)],
        pipeline.extract,
        sink_names(pipeline).collect::<Vec<_>>(),
    ]))
}

/// A run of the fleet whose inventory is `csv`.
pub(super) fn plan_fleet(
    pipeline: &Pipeline,
    csv: &CsvSource,
    known: Option<&FleetState>,
    fresh: bool,
) -> Result<Plan, SourceError> {
    let Survey { targets: total, fingerprint } = survey(csv, &Targets::default())?;
    let digest = fleet_digest(pipeline, csv, &fingerprint);
    let now = unix_seconds();
    let mut resumed = None;
    let mut input = None;
    if let Some(known) = known.filter(|known| !known.finished) {
        let (run, done) = (short_id(&known.run_id), count(known.settled.len()));
        // A clock that was set back makes a run look younger, never older.
        let age = Duration::from_secs(now.saturating_sub(known.seen));
        let left = format!("run {run} was cut short with {done} appliances done");
        input = Some(if fresh {
            format!(
                "--fresh: {left}; all are polled anew, and what waits in the spool goes out too"
            )
        } else if age >= pipeline.resume_within() {
            let within = span(pipeline.resume_within());
            let age = span(age);
            format!("{left}, {age} ago; resume_within is {within}, and a new run polls all")
        } else if known.digest != digest {
            format!("{left}; inventory or extraction have changed, and a new run polls all")
        } else {
            resumed = Some(known);
            format!("resumed: run {run}, {done} of {} appliances were done", count(total))
        });
    }
    let mut plan = Plan::new(resumed.map_or_else(new_run_id, |known| known.run_id.clone()));
    let done_before = resumed.map(|known| known.settled.clone()).unwrap_or_default();
    let first = resumed.map_or(0, |known| known.next_record);
    let targets = if done_before.is_empty() { total } else { survey(csv, &done_before)?.targets };
    let settled = Arc::new(SettledTargets::new(done_before.clone()));
    let fleet = FleetState {
        run_id: plan.run_id.to_string(),
        began: resumed.map_or(now, |known| known.began),
        seen: now,
        finished: false,
        digest,
        settled: done_before.clone(),
        next_record: first,
    };
    plan.begin.first = first;
    plan.input = input;
    plan.resumed_from = resumed.map(|known| known.settled.len());
    plan.progress = Progress::Fleet { settled: settled.clone(), fleet };
    plan.source = Source::Fleet { targets, done_before: Arc::new(done_before), settled };
    Ok(plan)
}
