//! What is known of databases that rows are read from: for every table of every shard
//! the key before which all is settled.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::state::Place;
use crate::source::sql::Key;

/// The last run of an SQL source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SqlState {
    /// The run; part of its batches' keys.
    pub run_id: String,
    /// When it began, Unix seconds.
    pub began: u64,
    /// When it last came further, Unix seconds.
    pub seen: u64,
    /// Whether it ended by itself with all that it had read settled: then nothing is in
    /// flight, and a new run begins where it ended.
    pub finished: bool,
    /// Of everything in the configuration that shapes batches.
    pub digest: String,
    /// Every table of every shard, by `SHARD/TABLE`; also of shards and tables that are
    /// configured no more, for they may come back.
    pub lanes: BTreeMap<String, LaneState>,
}

/// One table of one shard.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaneState {
    /// Of what is read and in which order: keys belong to nothing else.
    pub definition: String,
    /// The number of its first record in the run; lanes are far apart.
    pub first: u64,
    /// Per sink, the key before which all is settled: the end of one of its batches. An
    /// empty key is the beginning.
    pub sinks: BTreeMap<String, Place<Key>>,
    /// Per sink, ends of batches beyond the watermark that neither records nor bytes
    /// have set.
    pub cuts: BTreeMap<String, Vec<u64>>,
    /// The number of its next record; rejects before it are written down.
    pub next_record: u64,
}

impl LaneState {
    /// The place of the sink among `sinks` that is furthest behind; `None` when nothing
    /// is known of any of them.
    #[must_use]
    pub fn behind<'a>(&self, sinks: impl Iterator<Item = &'a str>) -> Option<&Place<Key>> {
        sinks.filter_map(|name| self.sinks.get(name)).min_by_key(|place| place.records)
    }
}

#[cfg(test)]
impl SqlState {
    /// One with a value in every field.
    pub(super) fn sample() -> SqlState {
        let place = Place {
            records: 35,
            position: Key(vec!["2026-11-21T10:00:00Z".to_owned(), "17".to_owned()]),
        };
        let lane = LaneState {
            definition: "d".to_owned(),
            first: 30,
            sinks: [("postgres".to_owned(), place)].into(),
            cuts: [("postgres".to_owned(), vec![37])].into(),
            next_record: 40,
        };
        SqlState {
            run_id: "9f3a61c000000001".to_owned(),
            lanes: [("eu/customers".to_owned(), lane)].into(),
            ..SqlState::default()
        }
    }
}
