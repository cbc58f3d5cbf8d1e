//! Shards against the run before: one that was cut short and goes on under its name, or
//! a new one that goes on where every table of every shard has come to.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::super::keeper::Progress;
use super::super::sql::{LANE_RECORDS, LanePlan, LaneProgress, ShardPlan, SqlRun};
use super::{Plan, Source, digest, limits, sink_names};
use crate::batch::{new_run_id, run_began_ms};
use crate::checkpoint::{LaneState, Place, SqlState};
use crate::config::{Pipeline, SqlSource, SqlTable};
use crate::load::unix_seconds;
use crate::source::sql::{Key, shards};
use crate::telemetry::figures::{short_id, span};

/// A run that began longer ago is not resumed: `processed_at` would be of long ago.
const RESUMED_WITHIN: Duration = Duration::from_secs(24 * 3600);

/// A run of the shards of `sql`.
pub(super) fn plan_sql(
    pipeline: &Pipeline,
    sql: &SqlSource,
    known: Option<&SqlState>,
    fresh: bool,
) -> Plan {
    let (now, digest) = (unix_seconds(), shape_digest(pipeline, sql));
    let mut notes = Vec::new();
    let resumed = known.filter(|known| !known.finished).filter(|known| {
        let (note, resumes) = judge(pipeline, sql, known, &digest, now, fresh);
        notes.push(note);
        resumes
    });
    let known = known.filter(|_| !fresh);
    let run_id = resumed.map_or_else(new_run_id, |known| known.run_id.clone());
    let mut state = SqlState {
        run_id: run_id.clone(),
        began: resumed.map_or(now, |known| known.began),
        seen: resumed.map_or(now, |known| known.seen),
        finished: false,
        digest,
        lanes: known.map(|known| known.lanes.clone()).unwrap_or_default(),
    };
    let (mut plans, mut all, mut number) = (Vec::new(), Vec::new(), 0);
    // What is wrong with shards was refused before.
    for shard in shards(sql).unwrap_or_default() {
        let mut lanes = Vec::new();
        for (index, table) in sql.tables.iter().enumerate() {
            let name = format!("{}/{}", shard.name, table.name());
            let sinks = sinks_of(pipeline, table);
            let definition = definition(table);
            let before = state.lanes.get(&name).filter(|lane| lane.definition == definition);
            if state.lanes.contains_key(&name) && before.is_none() {
                notes.push(format!("{name} is read in another way than before: it begins anew"));
            }
            let first = number * LANE_RECORDS;
            let lane = match before {
                Some(lane) if resumed.is_some() => lane.clone(),
                before => begun(before, table, &sinks, first, definition, &mut notes, &name),
            };
            let progress = LaneProgress::new(name.clone(), sinks.clone(), resumed.is_none());
            let progress = Arc::new(progress);
            lanes.push(lane_plan(index, &lane, &sinks, &progress));
            all.push(progress);
            state.lanes.insert(name, lane);
            number += 1;
        }
        plans.push(ShardPlan { name: shard.name, lanes });
    }
    let settled = |lane: &LanePlan| lane.begin.records % LANE_RECORDS;
    let resumed_from = plans.iter().flat_map(|shard| &shard.lanes).map(settled).sum();
    Plan {
        input: (!notes.is_empty()).then(|| notes.join("; ")),
        resumed_from: resumed.map(|_| resumed_from),
        source: Source::Sql(Box::new(SqlRun { shards: plans, began: began(&run_id) })),
        progress: Progress::Sql { lanes: all, sql: Box::new(state) },
        ..Plan::new(run_id)
    }
}

/// A lane of a new run: with a cursor it goes on where it has come to.
fn begun(
    before: Option<&LaneState>,
    table: &SqlTable,
    sinks: &[String],
    first: u64,
    definition: String,
    notes: &mut Vec<String>,
    name: &str,
) -> LaneState {
    let before = before.filter(|_| table.cursor.is_some());
    let behind = before.and_then(|lane| lane.behind(sinks.iter().map(String::as_str)));
    if let (Some(before), Some(_)) = (before, behind)
        && let Some(sink) = sinks.iter().find(|sink| !before.sinks.contains_key(*sink))
    {
        notes.push(format!(
            "sink {sink} is new and gets what comes after what the others have of {name}; \
             --fresh loads all again"
        ));
    }
    let position = behind.map(|place| place.position.clone()).unwrap_or_default();
    let place = Place { records: first, position };
    LaneState {
        definition,
        first,
        sinks: sinks.iter().map(|sink| (sink.clone(), place.clone())).collect(),
        cuts: BTreeMap::new(),
        next_record: first,
    }
}

fn lane_plan(
    table: usize,
    lane: &LaneState,
    sinks: &[String],
    progress: &Arc<LaneProgress>,
) -> LanePlan {
    let start = Place { records: lane.first, position: Key::default() };
    let place = |sink: &String| lane.sinks.get(sink).unwrap_or(&start);
    let mut places: Vec<&Place<Key>> = sinks.iter().map(place).collect();
    places.sort_by_key(|place| place.records);
    places.dedup_by_key(|place| place.records);
    let mut stops: VecDeque<Place<Key>> = places.into_iter().cloned().collect();
    LanePlan {
        table,
        begin: stops.pop_front().unwrap_or(start.clone()),
        stops,
        starts: sinks.iter().map(|sink| (sink.clone(), place(sink).records)).collect(),
        cuts: lane.cuts.clone(),
        rejects_until: lane.next_record,
        progress: progress.clone(),
    }
}

/// Whether a run that was cut short goes on, and what is said about it.
fn judge(
    pipeline: &Pipeline,
    sql: &SqlSource,
    known: &SqlState,
    digest: &str,
    now: u64,
    fresh: bool,
) -> (String, bool) {
    let left = format!("run {} was cut short", short_id(&known.run_id));
    let since = |then: u64| Duration::from_secs(now.saturating_sub(then));
    let within = pipeline.resume_within();
    let whole_tables = sql.tables.iter().any(|table| table.cursor.is_none());
    if fresh {
        let all = "all is read anew, and what waits in the spool goes out too";
        (format!("--fresh: {left}; {all}"), false)
    } else if known.digest != digest {
        let why = "source, transform or sinks have changed";
        let doubled = "what was in flight then may arrive twice";
        (format!("{left}; {why}: a new run goes on after what was settled, and {doubled}"), false)
    } else if since(known.began) >= RESUMED_WITHIN {
        (format!("{left}, begun {} ago: a new run goes on", span(since(known.began))), false)
    } else if whole_tables && since(known.seen) >= within {
        let (age, within) = (span(since(known.seen)), span(within));
        let why = format!("resume_within is {within}");
        (format!("{left}, {age} ago; {why}, and a new run reads tables without a cursor"), false)
    } else {
        (format!("resumed: run {}", short_id(&known.run_id)), true)
    }
}

/// The sinks that get the records of `table`, in the order of the pipeline.
fn sinks_of(pipeline: &Pipeline, table: &SqlTable) -> Vec<String> {
    let gets = |name: &&str| table.to.is_empty() || table.to.iter().any(|to| to == name);
    sink_names(pipeline).filter(gets).map(str::to_owned).collect()
}

/// When the run began, ISO 8601 in UTC.
fn began(run_id: &str) -> String {
    let ms = run_began_ms(run_id).and_then(|ms| i64::try_from(ms).ok()).unwrap_or_default();
    let time = chrono::DateTime::from_timestamp_millis(ms).unwrap_or_default();
    time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

/// What is read of a table and in which order: a key belongs to nothing else.
fn definition(table: &SqlTable) -> String {
    digest(&json!(["sql table 1", table.table, table.query, table.key, table.cursor]))
}

/// Everything in the configuration that shapes batches.
fn shape_digest(pipeline: &Pipeline, sql: &SqlSource) -> String {
    let [raw, load] = limits(pipeline);
    let names: Vec<String> =
        shards(sql).unwrap_or_default().into_iter().map(|shard| shard.name).collect();
    let tables: Vec<_> = sql
        .tables
        .iter()
        .map(|table| json!([definition(table), table.name(), table.columns, table.to]))
        .collect();
    digest(&json!(["sql 1", sql.kind, names, tables, sql.add, pipeline.transform, raw, load]))
}
