//! Answers that no error of the database stands behind.

use std::collections::BTreeSet;

use crate::batch::Payload;
use crate::load::answer::{Answer, FailedRecord, Failure};

/// Why a record of an older run is not loaded.
const SUPERSEDED: &str = "a newer run has replaced this record's partition";

/// The batch's parts have keys of their own; whole it would be loaded twice.
pub(super) fn was_split() -> Answer {
    Answer::Invalid(Failure::without_answer("was split by an earlier attempt"))
}

/// Some of the records belong to partitions that a newer run has replaced: which, is
/// found by splitting, so that the others are loaded under keys of their own.
pub(super) fn superseded_in_part() -> Answer {
    Answer::Invalid(Failure::without_answer(SUPERSEDED))
}

/// All of the records do, but for those that `failed` otherwise. Nothing was noted, so
/// that the same answer comes when it is asked for again.
pub(super) fn superseded(payload: &Payload, failed: &[FailedRecord]) -> Answer {
    let known: BTreeSet<usize> = failed.iter().map(|record| record.index).collect();
    let mut all = failed.to_vec();
    let others = (0..payload.records()).filter(|index| !known.contains(index));
    all.extend(others.map(|index| FailedRecord { index, reason: SUPERSEDED.to_owned() }));
    all.sort_by_key(|record| record.index);
    Answer::Partial(all)
}
