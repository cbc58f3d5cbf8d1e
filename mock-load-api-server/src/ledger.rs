//! The books of what really arrived: each key with the fingerprint of its body, each
//! distinct record, and the counters that `GET /stats` shows.
//!
//! Locks are held for one look-up or copy, but for the rare moment when 262,144 records are
//! put away. Memory grows with what is sent and is not bounded: about 50 bytes a key and 16
//! to 32 bytes a distinct record. Records and keys themselves are kept only on request.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde::Serialize;

use crate::distinct::Distinct;
use crate::hash::ByFingerprint;

const SHARDS: usize = 64;
const STATUS_END: usize = 1000;

/// What has arrived at `/load`, as `GET /stats` shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Requests to `/load`, whatever became of them. Those refused by an outage are not
    /// among them.
    pub requests: u64,
    /// Batches stored, a repeated key counted once. An empty array is no batch.
    pub batches: u64,
    /// Records in these batches.
    pub records: u64,
    /// Different records, byte by byte, among them.
    pub unique_records: u64,
    /// Repetitions of a stored batch: same key, same body.
    pub duplicate_batches: u64,
    /// Requests with the key of a stored batch and another body.
    pub conflicting_keys: u64,
    /// Bytes of the stored batches, decompressed.
    pub bytes: u64,
    /// Answers given by status. Less than `requests` where the answer was lost, reset, or is
    /// still to come.
    pub by_status: BTreeMap<u16, u64>,
    /// Requests to the sample sources and appliances.
    pub source_requests: u64,
}

/// A batch in the ledger, with [`Config::keep_records`](crate::Config::keep_records).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchRow {
    /// Its `Idempotency-Key`, if it had one.
    pub key: Option<String>,
    /// How often it arrived: 1, and one more for every repetition with the same body.
    pub arrivals: u64,
    /// The records stored from it, in order, as sent.
    pub records: Vec<Bytes>,
}

/// A distinct record in the ledger, with [`Config::keep_records`](crate::Config::keep_records).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordRow {
    /// The JSON object, as sent.
    pub body: Bytes,
    /// In how many stored places it occurs; repetitions of a batch don't add to it.
    pub count: u64,
}

/// A batch that may be stored.
pub(crate) struct Batch<'a> {
    pub(crate) key: Option<(&'a str, u128)>,
    pub(crate) body: &'a Bytes,
    pub(crate) body_fingerprint: u128,
    pub(crate) records: &'a [u128],
    /// Each accepted record's bytes within `body`, when records are kept.
    pub(crate) kept: Vec<Bytes>,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    New,
    Duplicate,
    Conflict,
}

/// Small, because most of what a look-up takes is bringing it from memory.
#[derive(Default)]
struct KeyState {
    /// Half of the stored body's fingerprint: two bodies are compared, not millions.
    body: Option<NonZeroU64>,
    /// Index into the kept rows.
    row: u32,
    requests: u32,
}

pub(crate) struct Ledger {
    keys: Vec<Mutex<HashMap<u128, KeyState, ByFingerprint>>>,
    distinct: Distinct,
    rows: Option<Mutex<Vec<BatchRow>>>,
    requests: AtomicU64,
    keyless: AtomicU64,
    batches: AtomicU64,
    records: AtomicU64,
    duplicate_batches: AtomicU64,
    conflicting_keys: AtomicU64,
    bytes: AtomicU64,
    source_requests: AtomicU64,
    by_status: Vec<AtomicU64>,
}

impl Ledger {
    pub(crate) fn new(keep_records: bool) -> Self {
        Self {
            keys: (0..SHARDS).map(|_| Mutex::default()).collect(),
            distinct: Distinct::new(),
            rows: keep_records.then(Mutex::default),
            requests: AtomicU64::new(0),
            keyless: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            records: AtomicU64::new(0),
            duplicate_batches: AtomicU64::new(0),
            conflicting_keys: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            source_requests: AtomicU64::new(0),
            by_status: (0..STATUS_END).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    pub(crate) fn keeps_records(&self) -> bool {
        self.rows.is_some()
    }

    pub(crate) fn count_request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    pub(crate) fn count_answer(&self, status: u16) {
        if let Some(count) = self.by_status.get(usize::from(status)) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// Returns how many requests to the sources there were before.
    pub(crate) fn count_source_request(&self) -> u64 {
        self.source_requests.fetch_add(1, Relaxed)
    }

    /// Counts a request with this key; returns how many there were before.
    pub(crate) fn next_attempt(&self, key: u128) -> u32 {
        let mut keys = lock(&self.keys[shard(key)]);
        let state = keys.entry(key).or_default();
        let before = state.requests;
        state.requests += 1;
        before
    }

    /// Counts a request without a key; returns how many there were before.
    pub(crate) fn next_keyless(&self) -> u64 {
        self.keyless.fetch_add(1, Relaxed)
    }

    /// Enters a batch unless its key is known already.
    pub(crate) fn enter(&self, batch: Batch<'_>) -> Entry {
        let entry = match batch.key {
            None => {
                self.keep(None, batch.kept);
                Entry::New
            }
            Some((name, key)) => {
                let mut keys = lock(&self.keys[shard(key)]);
                let state = keys.entry(key).or_default();
                let body =
                    NonZeroU64::new(batch.body_fingerprint as u64).unwrap_or(NonZeroU64::MAX);
                match state.body {
                    None => {
                        state.body = Some(body);
                        state.row = self.keep(Some(name), batch.kept);
                        Entry::New
                    }
                    Some(known) if known == body => {
                        self.count_arrival(state.row);
                        Entry::Duplicate
                    }
                    Some(_) => Entry::Conflict,
                }
            }
        };
        match entry {
            Entry::New => self.add(batch.records, batch.body.len()),
            Entry::Duplicate => drop(self.duplicate_batches.fetch_add(1, Relaxed)),
            Entry::Conflict => drop(self.conflicting_keys.fetch_add(1, Relaxed)),
        }
        entry
    }

    fn add(&self, records: &[u128], bytes: usize) {
        self.distinct.add(records);
        self.batches.fetch_add(1, Relaxed);
        self.records.fetch_add(records.len() as u64, Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// Returns the new row's index, 0 when rows are not kept.
    fn keep(&self, key: Option<&str>, records: Vec<Bytes>) -> u32 {
        let Some(rows) = &self.rows else { return 0 };
        let mut rows = lock(rows);
        rows.push(BatchRow { key: key.map(str::to_owned), arrivals: 1, records });
        u32::try_from(rows.len() - 1).unwrap_or(u32::MAX)
    }

    fn count_arrival(&self, row: u32) {
        if let Some(rows) = &self.rows
            && let Some(row) = lock(rows).get_mut(row as usize)
        {
            row.arrivals += 1;
        }
    }

    /// The kept batches in order of arrival; none when they are not kept.
    pub(crate) fn rows(&self) -> Vec<BatchRow> {
        self.rows.as_ref().map(|rows| lock(rows).clone()).unwrap_or_default()
    }

    /// The distinct records of the kept batches, sorted by their bytes.
    pub(crate) fn record_rows(&self) -> Vec<RecordRow> {
        let mut counts: BTreeMap<Bytes, u64> = BTreeMap::new();
        for record in self.rows().into_iter().flat_map(|row| row.records) {
            *counts.entry(record).or_default() += 1;
        }
        counts.into_iter().map(|(body, count)| RecordRow { body, count }).collect()
    }

    pub(crate) fn stats(&self) -> Stats {
        let answers = self.by_status.iter().enumerate().filter_map(|(status, count)| {
            let count = count.load(Relaxed);
            (count > 0).then_some((u16::try_from(status).ok()?, count))
        });
        Stats {
            requests: self.requests.load(Relaxed),
            batches: self.batches.load(Relaxed),
            records: self.records.load(Relaxed),
            unique_records: self.distinct.count() as u64,
            duplicate_batches: self.duplicate_batches.load(Relaxed),
            conflicting_keys: self.conflicting_keys.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            by_status: answers.collect(),
            source_requests: self.source_requests.load(Relaxed),
        }
    }
}

/// By the high bits: the maps take the low ones.
fn shard(fingerprint: u128) -> usize {
    (fingerprint >> 122) as usize
}

/// A panic elsewhere leaves counts that are still worth reading.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
