//! What this run is, by what the state remembers: a new one, one that was cut short
//! and goes on under its name, or one that finds its file loaded already.

mod data;
mod fleet;
mod rest;
mod sql;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::every::Every;
use super::intake::Begin;
use super::keeper::Progress;
use super::rest::{RestOutcome, RestRun};
use super::rows::DataFile;
use super::sql::SqlRun;
use crate::batch::new_run_id;
use crate::checkpoint::{SettledTargets, State, Targets};
use crate::config::{Load, Pipeline};
use crate::source::SourceError;

use data::plan_rows;
use fleet::plan_fleet;
use rest::plan_rest;
use sql::plan_sql;

/// What a run begins with.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) run_id: Arc<str>,
    pub(super) source: Source,
    pub(super) progress: Progress,
    /// What was already done of the input, for stderr and the result.
    pub(super) input: Option<String>,
    /// What reading an API has found out about it.
    pub(super) outcome: Option<Arc<RestOutcome>>,
    pub(super) resumed_from: Option<u64>,
    pub(super) begin: Begin,
    /// Per sink by name, the first record that is not settled in it.
    pub(super) starts: BTreeMap<String, u64>,
    /// Per sink by name, where an earlier process has cut batches off.
    pub(super) cuts: BTreeMap<String, Vec<u64>>,
}

/// What there is to read.
#[derive(Debug)]
pub(super) enum Source {
    /// Nothing: it is all loaded.
    Nothing,
    /// It cannot be read; the spool is replayed all the same.
    Failed(SourceError),
    /// A data file.
    Rows(Box<DataFile>),
    /// A fleet: its inventory's targets.
    Fleet { targets: u64, done_before: Arc<Targets>, settled: Arc<SettledTargets> },
    /// A fleet that is polled for good.
    Every(Arc<Every>),
    /// The pages of an API.
    Rest(Box<RestRun>),
    /// The tables of shards.
    Sql(Box<SqlRun>),
}

impl Source {
    /// The fleet that is polled for good, if it is one.
    pub(super) fn every(&self) -> Option<&Arc<Every>> {
        match self {
            Source::Every(every) => Some(every),
            _ => None,
        }
    }
}

/// Names of the sinks, `raw` ones first.
pub(super) fn sink_names(pipeline: &Pipeline) -> impl Iterator<Item = &str> {
    pipeline.raw.iter().chain(&pipeline.load).map(|load| load.sink_name())
}

impl Plan {
    /// Decides what this run is. Reads a fleet's inventory, and of a data file what
    /// was loaded of it; sends nothing and changes nothing. Blocks.
    pub(super) fn make(pipeline: &Pipeline, state: &State, fresh: bool) -> Plan {
        if let Some(rest) = &pipeline.source.rest {
            return plan_rest(pipeline, rest, state.rest.as_ref(), fresh);
        }
        if let Some(sql) = &pipeline.source.sql {
            return plan_sql(pipeline, sql, state.sql.as_ref(), fresh);
        }
        let Some(csv) = &pipeline.source.csv else { return Plan::new(new_run_id()) };
        let planned = if pipeline.extract.is_some() {
            plan_fleet(pipeline, csv, state.fleet.as_ref(), fresh)
        } else {
            plan_rows(pipeline, csv, state, fresh)
        };
        // Nothing is known of a source that cannot be read; what the state says of an
        // earlier run stays.
        planned.unwrap_or_else(|error| Plan {
            source: Source::Failed(error),
            ..Plan::new(new_run_id())
        })
    }

    /// A run that polls for good. Each has a new identity: nothing is read again.
    pub(super) fn of_every(every: Arc<Every>) -> Plan {
        Plan { source: Source::Every(every), ..Plan::new(new_run_id()) }
    }

    fn new(run_id: String) -> Plan {
        Plan {
            run_id: run_id.into(),
            source: Source::Nothing,
            progress: Progress::Nothing,
            input: None,
            outcome: None,
            resumed_from: None,
            begin: Begin::default(),
            starts: BTreeMap::new(),
            cuts: BTreeMap::new(),
        }
    }

    /// What was already done of the input, and what reading it has shown.
    pub(super) fn said(&self) -> Option<String> {
        let shown = self.outcome.as_ref().and_then(|outcome| outcome.said());
        let parts: Vec<String> = self.input.iter().cloned().chain(shown).collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    /// The first record that is not settled in the sink `name`.
    pub(super) fn start(&self, name: &str) -> u64 {
        self.starts.get(name).copied().unwrap_or(self.begin.first)
    }
}

/// The sinks' names with what ends their batches.
fn limits(pipeline: &Pipeline) -> [Vec<serde_json::Value>; 2] {
    [&pipeline.raw, &pipeline.load].map(|loads| {
        let limits = |load: &Load| {
            let batch = load.limits();
            serde_json::json!([load.sink_name(), batch.records, batch.bytes.0])
        };
        loads.iter().map(limits).collect()
    })
}

fn digest(of: &serde_json::Value) -> String {
    blake3::hash(of.to_string().as_bytes()).to_hex().to_string()
}
