//! An API against the run before: one that was cut short and goes on, one that is too
//! old or was asked for something else, and what a new run may leave out.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::super::intake::Begin;
use super::super::keeper::Progress;
use super::super::rest::{RestOutcome, RestRun};
use super::{Plan, Source, digest, limits, sink_names};
use crate::batch::new_run_id;
use crate::checkpoint::{Place, Places, RestState};
use crate::config::{Pipeline, RestSource};
use crate::load::unix_seconds;
use crate::source::rest::Spot;
use crate::telemetry::figures::{count, short_id, span};

/// A run of the API `rest`.
pub(super) fn plan_rest(
    pipeline: &Pipeline,
    rest: &RestSource,
    known: Option<&RestState>,
    fresh: bool,
) -> Plan {
    let (now, digest, identity) = (unix_seconds(), pages_digest(pipeline, rest), identity(rest));
    let mut notes = Vec::new();
    let resumed = known.filter(|known| !known.finished).filter(|known| {
        let age = Duration::from_secs(now.saturating_sub(known.seen));
        let (note, resumes) = judge(pipeline, known, &digest, age, fresh);
        notes.push(note);
        resumes
    });
    // What was settled before is left out only of what it was settled of.
    let same = known.filter(|known| !fresh && known.identity == identity);
    let high = same.and_then(|known| known.high.clone());
    if !fresh && high.is_none() && known.is_some_and(|known| known.high.is_some()) {
        notes.push("source.rest asks for something else than before: it begins anew".to_owned());
    }
    if let (Some(high), Some(known)) = (&high, known)
        && let Some(sink) = sink_names(pipeline).find(|name| !known.sinks.contains_key(*name))
    {
        notes.push(format!(
            "sink {sink} is new and gets what came after {}; --fresh loads all again",
            crate::http::printable(high.text().as_bytes(), 60)
        ));
    }
    // A run that was cut short before it sent anything leaves what the one before it knew.
    let conditional = same.filter(|known| rest.asks_conditionally() && known.digest == digest);
    let pages = conditional.map(|known| known.known.clone()).unwrap_or_default();
    let known_by = conditional.map(loaded_by).unwrap_or_default();
    let places = |name: &str| -> Place<Spot> {
        resumed.and_then(|known| known.sinks.get(name).cloned()).unwrap_or_default()
    };
    let starts: Vec<(String, Place<Spot>)> =
        sink_names(pipeline).map(|name| (name.to_owned(), places(name))).collect();
    let first = starts.iter().map(|(_, place)| place).min_by_key(|place| place.records);
    let first = first.cloned().unwrap_or_default();
    let mut marks: Vec<_> =
        starts.iter().map(|(_, place)| (place.records, place.position.trace)).collect();
    marks.retain(|(records, _)| *records > 0);
    marks.sort_by_key(|(records, _)| *records);
    marks.dedup();
    let run_id = resumed.map_or_else(new_run_id, |known| known.run_id.clone());
    let ahead = marks.last().map_or(0, |(records, _)| *records);
    let numbered = resumed.map_or(0, |known| known.next_record.max(ahead));
    let outcome = Arc::new(RestOutcome::default());
    let state = RestState {
        run_id: run_id.clone(),
        began: resumed.map_or(now, |known| known.began),
        seen: resumed.map_or(now, |known| known.seen),
        finished: false,
        digest,
        identity,
        sinks: resumed.map(|known| known.sinks.clone()).unwrap_or_default(),
        cuts: resumed.map(|known| known.cuts.clone()).unwrap_or_default(),
        next_record: numbered,
        high: high.clone(),
        known: pages.clone(),
        known_by: known_by.clone(),
    };
    let settled = Arc::new(Places::new(starts.len()));
    let run = RestRun {
        begins: (first.records > 0).then(|| first.position.page.clone()),
        next: first.records,
        marks: marks.into(),
        numbered,
        since: high,
        known: pages,
        known_by,
        places: settled.clone(),
        outcome: outcome.clone(),
    };
    Plan {
        input: (!notes.is_empty()).then(|| notes.join("; ")),
        outcome: Some(outcome.clone()),
        resumed_from: resumed.map(|_| first.records),
        begin: Begin { first: first.records, rejects_until: numbered, ..Begin::default() },
        starts: starts.into_iter().map(|(name, place)| (name, place.records)).collect(),
        cuts: state.cuts.clone(),
        progress: Progress::Rest { places: settled, outcome, rest: Box::new(state) },
        source: Source::Rest(Box::new(run)),
        ..Plan::new(run_id)
    }
}

/// The run that has loaded the known pages; states did not always name it.
fn loaded_by(known: &RestState) -> String {
    if known.known_by.is_empty() { &known.run_id } else { &known.known_by }.clone()
}

/// Whether a run that was cut short goes on, and what is said about it.
fn judge(
    pipeline: &Pipeline,
    known: &RestState,
    digest: &str,
    age: Duration,
    fresh: bool,
) -> (String, bool) {
    let run = short_id(&known.run_id);
    let settled = sink_names(pipeline)
        .map(|name| known.sinks.get(name).map_or(0, |place| place.records))
        .min()
        .unwrap_or(0);
    let left = format!("run {run} was cut short at record {}", count(settled));
    let within = pipeline.resume_within();
    if fresh {
        (
            format!("--fresh: {left}; all is read anew, and what waits in the spool goes out too"),
            false,
        )
    } else if age >= within {
        let (age, within) = (span(age), span(within));
        (format!("{left}, {age} ago; resume_within is {within}, and a new run reads all"), false)
    } else if known.digest != digest {
        (format!("{left}; source, transform or sinks have changed, and a new run reads all"), false)
    } else {
        (format!("resumed: run {run} at record {}", count(settled)), true)
    }
}

/// What the highest incremental value belongs to.
fn identity(rest: &RestSource) -> String {
    let incremental = rest.incremental.as_ref().map(|it| [&it.field, &it.param]);
    let asked = [json!(rest.url), json!(rest.method), json!(rest.query), json!(rest.body)];
    digest(&json!(["rest source 1", asked, json!(incremental)]))
}

/// Everything in the configuration that shapes pages and batches.
fn pages_digest(pipeline: &Pipeline, rest: &RestSource) -> String {
    let [raw, load] = limits(pipeline);
    let pages = [
        json!(rest.format),
        json!(rest.records),
        json!(rest.pagination),
        json!(rest.incremental),
        json!(rest.max_line),
    ];
    digest(&json!(["rest 1", identity(rest), pages, pipeline.transform, raw, load]))
}
