//! A data file against what is known of it: the same, longer, or another one.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;

use super::super::intake::Begin;
use super::super::keeper::Progress;
use super::super::rows::{DataFile, Passed};
use super::{Plan, Source, digest, limits, sink_names};
use crate::batch::new_run_id;
use crate::checkpoint::{InputState, Place, Places, State};
use crate::config::{CsvSource, Pipeline};
use crate::load::unix_seconds;
use crate::source::{Beginning, Behind, CsvRows, SourceError};
use crate::telemetry::figures::{count, short_id};

/// What the state and the file together come to.
enum Verdict {
    /// From the first row, as a new run.
    New(Option<String>),
    /// All of it is loaded.
    Loaded(String),
    /// From where the known run has come to, under its name or as a new run.
    GoOn { same_run: bool, why: String },
}

/// A run of the data file `csv`.
pub(super) fn plan_rows(
    pipeline: &Pipeline,
    csv: &CsvSource,
    state: &State,
    fresh: bool,
) -> Result<Plan, SourceError> {
    let name = csv.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let canonical = std::fs::canonicalize(&csv.path).unwrap_or_else(|_| csv.path.clone());
    let path = canonical.to_string_lossy().into_owned();
    let mut file = CsvRows::open(csv)?;
    let digest = rows_digest(pipeline, csv);
    let known = state.input(&path);
    let places = |known: &InputState| -> BTreeMap<String, Place> {
        sink_names(pipeline)
            .map(|sink| (sink.to_owned(), known.sinks.get(sink).cloned().unwrap_or_default()))
            .collect()
    };
    let verdict = match known {
        None => Verdict::New(None),
        Some(known) if fresh => Verdict::New(Some(abandoned(known, &name))),
        Some(known) => judge(known, &mut file, &name, &digest, &places(known))?,
    };
    let (input, known, same_run) = match (verdict, known) {
        (Verdict::Loaded(why), _) => {
            return Ok(Plan { input: Some(why), ..Plan::new(new_run_id()) });
        }
        (Verdict::GoOn { same_run, why }, known) => (Some(why), known, same_run),
        (Verdict::New(why), _) => (why, None, false),
    };
    let places = known.map(places).unwrap_or_default();
    let first = places.values().min_by_key(|place| place.records).cloned().unwrap_or_default();
    if places.values().any(|place| *place != first) || first.records == 0 {
        // Comparing went to the last sink's place; reading begins at the first one's.
        file = CsvRows::open(csv)?;
        if first.records > 0 && file.resume_at(&first.position)? != Beginning::Same {
            let (path, problem) = (csv.path.clone(), "is being changed; try again".to_owned());
            return Err(SourceError::Format { path, problem });
        }
    }
    let mut plan = match known.filter(|_| same_run) {
        Some(known) => Plan {
            cuts: known.cuts.clone(),
            begin: Begin { rejects_until: known.rejects_until, ..Begin::default() },
            ..Plan::new(known.run_id.clone())
        },
        None => Plan::new(new_run_id()),
    };
    plan.begin.first = first.records;
    plan.resumed_from = known.map(|_| first.records);
    plan.input = input;
    let from = known.filter(|_| same_run).map_or(first.records, |known| known.from);
    plan.starts = places.into_iter().map(|(name, place)| (name, place.records)).collect();
    let places = Arc::new(Places::new(sink_names(pipeline).count()));
    let input = InputState {
        path,
        run_id: plan.run_id.to_string(),
        began: known.filter(|_| same_run).map_or_else(unix_seconds, |known| known.began),
        finished: false,
        digest,
        sinks: known.map(|known| known.sinks.clone()).unwrap_or_default(),
        cuts: plan.cuts.clone(),
        rejects_until: plan.begin.rejects_until,
        from,
    };
    plan.progress = Progress::Rows { places: places.clone(), input };
    let next = first.records;
    let passed = Passed { csv: csv.clone(), records: from..next };
    plan.source = Source::Rows(Box::new(DataFile { file, next, name, places, passed }));
    Ok(plan)
}

/// Compares what is known of a file with the file, up to the last place of any sink.
fn judge(
    known: &InputState,
    file: &mut CsvRows,
    name: &str,
    digest: &str,
    places: &BTreeMap<String, Place>,
) -> Result<Verdict, SourceError> {
    let run = short_id(&known.run_id);
    let had = count(loaded(known));
    let mut ascending: Vec<&Place> =
        places.values().filter(|place| place.position.bytes > 0).collect();
    ascending.sort_by_key(|place| place.position.bytes);
    let mut behind = Behind::More;
    for place in ascending {
        match file.resume_at(&place.position)? {
            Beginning::Same => behind = file.behind()?,
            Beginning::Shorter => {
                let why = format!("{name} is shorter than what run {run} loaded of it");
                return Ok(other_file(known, &why));
            }
            Beginning::Changed => behind = Behind::Other,
        }
        if behind == Behind::Other {
            break;
        }
    }
    let settled = places.values().map(|place| place.records).min().unwrap_or(0);
    let lacking = places.iter().find(|(_, place)| place.position.bytes == 0);
    let lacking = lacking.filter(|_| !known.sinks.is_empty());
    Ok(match (behind, known.finished) {
        (Behind::Other, _) => {
            other_file(known, &format!("{name} has changed since run {run} loaded it"))
        }
        (_, true) if lacking.is_some() => {
            let sink = lacking.map_or("", |(sink, _)| sink);
            let why = format!("sink {sink} has not had {name} yet; it is read from its first row");
            Verdict::GoOn { same_run: false, why }
        }
        (Behind::Nothing, true) => Verdict::Loaded(format!(
            "already loaded: {name} ({had} records by run {run}); --fresh loads it again"
        )),
        (Behind::More, true) => {
            let why = format!(
                "{name} has grown since run {run} loaded {had} records of it; a new run goes on \
                 after them"
            );
            Verdict::GoOn { same_run: false, why }
        }
        (_, false) if known.digest != digest => {
            let why = format!(
                "what shapes batches of {name} was changed after run {run} was cut short; a new \
                 run goes on at record {}, and what was in flight then may arrive twice",
                count(settled)
            );
            Verdict::GoOn { same_run: false, why }
        }
        (_, false) => {
            let why = format!("resumed: run {run} at record {} of {name}", count(settled));
            Verdict::GoOn { same_run: true, why }
        }
    })
}

/// Records that are settled in the sink that has come furthest.
fn loaded(known: &InputState) -> u64 {
    known.sinks.values().map(|place| place.records).max().unwrap_or(0)
}

fn other_file(known: &InputState, what: &str) -> Verdict {
    let had = count(loaded(known));
    let rest = if known.finished {
        "it is loaded as a new input".to_owned()
    } else {
        "that run was cut short, and a new one loads the file from its first row; what the old \
         one left in the spool still goes out"
            .to_owned()
    };
    Verdict::New(Some(format!("{what} ({had} records); {rest}")))
}

fn abandoned(known: &InputState, name: &str) -> String {
    let (run, had) = (short_id(&known.run_id), count(loaded(known)));
    let how = if known.finished { "loaded" } else { "had settled before it was cut short" };
    format!(
        "--fresh: {name} is loaded from its first row again, also the {had} records that run \
         {run} {how}; what waits in the spool goes out too"
    )
}

/// Everything in the configuration that shapes the batches of a data file.
fn rows_digest(pipeline: &Pipeline, csv: &CsvSource) -> String {
    let [raw, load] = limits(pipeline);
    digest(&json!([
        "rows 1",
        [json!(csv.header), json!(csv.columns), json!(csv.delimiter), json!(csv.numbers)],
        pipeline.transform,
        raw,
        load,
    ]))
}
