//! What is counted, and how often.

use super::*;
use crate::hash::fingerprint;

fn enter(ledger: &Ledger, key: Option<&str>, body: &str, records: &[&str]) -> Entry {
    let body = Bytes::copy_from_slice(body.as_bytes());
    let hashes: Vec<u128> = records.iter().map(|r| fingerprint(r.as_bytes())).collect();
    ledger.enter(Batch {
        key: key.map(|key| (key, fingerprint(key.as_bytes()))),
        body_fingerprint: fingerprint(&body),
        body: &body,
        records: &hashes,
        kept: records.iter().map(|r| Bytes::copy_from_slice(r.as_bytes())).collect(),
    })
}

#[test]
fn a_repeated_batch_is_counted_once() {
    let ledger = Ledger::new(true);
    assert_eq!(enter(&ledger, Some("k1"), "[a,b]", &["a", "b"]), Entry::New);
    assert_eq!(enter(&ledger, Some("k1"), "[a,b]", &["a", "b"]), Entry::Duplicate);
    let stats = ledger.stats();
    assert_eq!((stats.batches, stats.records, stats.unique_records), (1, 2, 2));
    assert_eq!((stats.duplicate_batches, stats.conflicting_keys, stats.bytes), (1, 0, 5));
    assert_eq!(ledger.rows()[0].arrivals, 2);
}

#[test]
fn a_key_with_another_body_is_a_conflict_and_not_stored() {
    let ledger = Ledger::new(false);
    assert_eq!(enter(&ledger, Some("k1"), "[a]", &["a"]), Entry::New);
    assert_eq!(enter(&ledger, Some("k1"), "[b]", &["b"]), Entry::Conflict);
    let stats = ledger.stats();
    assert_eq!((stats.batches, stats.unique_records, stats.conflicting_keys), (1, 1, 1));
    assert!(ledger.rows().is_empty());
}

#[test]
fn equal_records_of_different_batches_are_all_counted() {
    let ledger = Ledger::new(true);
    assert_eq!(enter(&ledger, Some("k1"), "[a]", &["a"]), Entry::New);
    assert_eq!(enter(&ledger, Some("k2"), "[a]", &["a"]), Entry::New);
    assert_eq!(enter(&ledger, None, "[a]", &["a"]), Entry::New);
    let stats = ledger.stats();
    assert_eq!((stats.batches, stats.records, stats.unique_records), (3, 3, 1));
    let rows = ledger.record_rows();
    assert_eq!(rows, [RecordRow { body: Bytes::from_static(b"a"), count: 3 }]);
}

#[test]
fn attempts_are_counted_by_key_before_anything_is_stored() {
    let ledger = Ledger::new(false);
    assert_eq!([ledger.next_attempt(7), ledger.next_attempt(7), ledger.next_attempt(8)], [0, 1, 0]);
    assert_eq!([ledger.next_keyless(), ledger.next_keyless()], [0, 1]);
    assert_eq!(ledger.stats().batches, 0);
}
