//! What needs people in a pipeline at one moment. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::Alerts;
use crate::history::RunRecord;
use crate::pipeline::REJECTED;
use crate::schedule::SinkSpool;
use crate::telemetry::figures::{bytes, counted, one_line, short_id, span};

/// What kind of trouble it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The last run failed, or could not read all of its source.
    Run,
    /// A batch has waited too long in a spool.
    SpoolAge,
    /// Records were refused for good.
    DeadLetters,
    /// Runs were due and not begun.
    Missed,
}

/// Something that needs people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What kind of trouble it is.
    pub kind: Kind,
    /// The sink that has it, where it is a sink's.
    pub sink: Option<String>,
    /// What happened.
    pub text: String,
    /// What to do.
    pub remedy: String,
}

/// All that is known of a pipeline at one moment.
#[derive(Debug, Default)]
pub(super) struct Look<'a> {
    /// The last run that will not be tried again.
    pub(super) run: Option<&'a RunRecord>,
    pub(super) spools: BTreeMap<String, SinkSpool>,
    /// Due runs that were not begun, as long as no later one has ended; none where nobody
    /// watches the schedule.
    pub(super) missed: Option<u64>,
    /// Unix seconds.
    pub(super) now: u64,
}

/// The problems of a pipeline, and the kinds of which nothing is known now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Observation {
    pub(super) problems: Vec<Problem>,
    pub(super) silent: Vec<Kind>,
}

/// What needs people in `pipeline`, as far as `alerts` asks for it.
pub(super) fn observe(pipeline: &str, alerts: &Alerts, look: &Look<'_>) -> Observation {
    let mut seen = Observation::default();
    if alerts.runs {
        match look.run {
            Some(run) if run.result != "stopped" => {
                seen.problems.extend(of_run(pipeline, run));
            }
            // One that was stopped on purpose says nothing about the next.
            _ => seen.silent.push(Kind::Run),
        }
    }
    for (sink, spool) in &look.spools {
        let age = spool.oldest_since.map(|since| look.now.saturating_sub(since));
        let limit = alerts.spool_age.0.as_secs();
        if let Some(age) = age.filter(|age| limit > 0 && *age >= limit) {
            let (files, size) = (counted(spool.batches, "file"), bytes(spool.bytes));
            let age = span(std::time::Duration::from_secs(age));
            seen.problems.push(Problem {
                kind: Kind::SpoolAge,
                sink: Some(sink.clone()),
                text: format!("{files} ({size}) wait in its spool, the oldest for {age}"),
                remedy: format!("nothing is lost; look: etl spool ls {pipeline}"),
            });
        }
        if alerts.dead_letters > 0 && spool.dead_records >= alerts.dead_letters {
            seen.problems.push(of_dead_letters(pipeline, sink, spool.dead_records));
        }
    }
    match look.missed {
        _ if !alerts.missed => {}
        None => seen.silent.push(Kind::Missed),
        Some(0) => {}
        Some(missed) => seen.problems.push(Problem {
            kind: Kind::Missed,
            sink: None,
            text: format!("{} due and not begun", counted(missed, "run")),
            remedy: "the server was away, or runs take longer than their interval".to_owned(),
        }),
    }
    seen
}

fn of_run(pipeline: &str, run: &RunRecord) -> Option<Problem> {
    let why = run.errors.first().map(|error| format!(": {}", one_line(error)));
    let (why, id) = (why.unwrap_or_default(), short_id(&run.run_id));
    let text = match &*run.result {
        "incomplete" => format!("run {id} is incomplete{why}"),
        "failed" => format!("a run could not begin{why}"),
        "bug" => format!("the books of run {id} do not balance{why}"),
        _ => return None,
    };
    let remedy = format!("look: etl runs {pipeline}");
    Some(Problem { kind: Kind::Run, sink: None, text, remedy })
}

fn of_dead_letters(pipeline: &str, sink: &str, records: u64) -> Problem {
    let records = counted(records, "record");
    let (text, looked_at) = match sink {
        REJECTED => (format!("{records} rejected before any sink"), "rejected"),
        _ => (format!("{records} in its dead letters"), "dead"),
    };
    Problem {
        kind: Kind::DeadLetters,
        sink: (sink != REJECTED).then(|| sink.to_owned()),
        text,
        remedy: format!(
            "look at the {looked_at} ones: etl spool cat {pipeline} --dead; then replay or discard \
             them: etl spool replay --dead, etl spool discard --dead"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::{Kind, Look, Observation, observe};
    use crate::config::Alerts;
    use crate::history::RunRecord;
    use crate::schedule::SinkSpool;

    fn alerts(settings: serde_json::Value) -> Alerts {
        serde_json::from_value(settings).unwrap_or_else(|error| panic!("{error}"))
    }

    fn kinds(seen: &Observation) -> Vec<Kind> {
        seen.problems.iter().map(|problem| problem.kind).collect()
    }

    #[test]
    fn a_run_is_a_problem_by_its_result() {
        let all = alerts(json!({}));
        let of = |result: &str| {
            let errors = vec!["no route\nto host".to_owned()];
            let run = RunRecord { result: result.to_owned(), errors, ..RunRecord::default() };
            observe("p", &all, &Look { run: Some(&run), missed: Some(0), ..Look::default() })
        };
        for result in ["incomplete", "failed", "bug"] {
            let seen = of(result);
            assert_eq!((kinds(&seen), seen.silent.len()), (vec![Kind::Run], 0), "{result}");
            assert!(seen.problems[0].text.contains("no route"), "{seen:?}");
            assert!(!seen.problems[0].text.contains('\n'), "{seen:?}");
        }
        for result in ["complete", "spooled", "rejected"] {
            assert_eq!(of(result), Observation::default(), "{result}");
        }
        assert_eq!(of("stopped").silent, [Kind::Run]);
        assert!(of("stopped").problems.is_empty());
        let off = alerts(json!({ "runs": false, "missed": false }));
        assert_eq!(observe("p", &off, &Look::default()), Observation::default());
    }

    #[test]
    fn a_spool_is_a_problem_by_its_age_and_its_dead_letters() {
        let spool = |oldest_since, dead_records| SinkSpool {
            batches: 2,
            bytes: 2048,
            oldest_since,
            dead_records,
        };
        let spools = [
            ("a".to_owned(), spool(Some(400), 0)),
            ("b".to_owned(), spool(Some(401), 2)),
            ("c".to_owned(), spool(None, 3)),
        ];
        let run = RunRecord { result: "complete".to_owned(), ..RunRecord::default() };
        let look = Look { run: Some(&run), spools: spools.into(), missed: Some(0), now: 1000 };
        let some = alerts(json!({ "spool_age": "10m", "dead_letters": 3 }));
        let seen = observe("p", &some, &look);
        assert_eq!(kinds(&seen), [Kind::SpoolAge, Kind::DeadLetters]);
        let sinks: Vec<_> = seen.problems.iter().map(|it| it.sink.as_deref()).collect();
        assert_eq!(sinks, [Some("a"), Some("c")]);
        assert_eq!(
            seen.problems[0].text,
            "2 files (2 KiB) wait in its spool, the oldest for 10m00s"
        );
        assert_eq!(some.spool_age.0, Duration::from_secs(600));
        let off = alerts(json!({ "spool_age": "0s", "dead_letters": 0 }));
        assert!(observe("p", &off, &look).problems.is_empty());
    }

    #[test]
    fn missed_runs_are_one_where_somebody_watches() {
        let all = alerts(json!({ "runs": false }));
        let of = |missed| observe("p", &all, &Look { missed, ..Look::default() });
        assert_eq!(kinds(&of(Some(3))), [Kind::Missed]);
        assert_eq!(of(Some(0)), Observation::default());
        assert_eq!(of(None).silent, [Kind::Missed]);
    }
}
