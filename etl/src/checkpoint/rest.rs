//! What is known of an API: how far the last run has come in its pages, and what the
//! next run may leave out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::state::Place;
use crate::source::rest::{High, Known, Spot};

/// The last run of an API.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestState {
    /// The run; part of its batches' keys.
    pub run_id: String,
    /// When it began, Unix seconds.
    pub began: u64,
    /// When it last came further, Unix seconds.
    pub seen: u64,
    /// Whether it came to the last page's end with everything settled.
    pub finished: bool,
    /// Of everything in the configuration that shapes pages and batches.
    pub digest: String,
    /// Of what `high` belongs to: the address and what is asked of it.
    pub identity: String,
    /// Per sink, the place before which all is settled: the end of one of its batches.
    pub sinks: BTreeMap<String, Place<Spot>>,
    /// Per sink, ends of batches beyond the watermark that neither records nor bytes
    /// have set.
    pub cuts: BTreeMap<String, Vec<u64>>,
    /// The number of its next record; rejects before it are written down.
    pub next_record: u64,
    /// The highest incremental value of runs that are settled in every sink.
    pub high: Option<High>,
    /// By request, pages that are settled as they were: of this run once it is finished;
    /// of the run before as long as this one has sent nothing.
    pub known: BTreeMap<String, Known>,
    /// The run that has loaded these.
    #[serde(default)]
    pub known_by: String,
}

#[cfg(test)]
impl RestState {
    /// One with a value in every field.
    pub(super) fn sample() -> RestState {
        use crate::source::rest::{Ask, Page, Trace};
        let page = Page {
            number: 3,
            ask: Ask::Cursor("c".to_owned()),
            first_record: 30,
            trace: Trace::default().and(b"x"),
            high: High::of("7"),
            size: Some(10),
        };
        let position = Spot { page, trace: Trace::default() };
        let known =
            Known { etag: Some("\"e\"".to_owned()), next: Some(Ask::Page(2)), ..Known::default() };
        RestState {
            run_id: "9f3a61c000000001".to_owned(),
            sinks: [("http".to_owned(), Place { records: 35, position })].into(),
            cuts: [("http".to_owned(), vec![37])].into(),
            next_record: 40,
            high: High::of("\"2026-11-21T00:00:00Z\""),
            known: [("ab".to_owned(), known)].into(),
            known_by: "9f3a61c000000000".to_owned(),
            ..RestState::default()
        }
    }
}
