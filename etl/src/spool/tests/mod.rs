//! What the spool promises, told from outside its layers.

mod crash;
mod hostile;
mod journey;
mod kept;
mod legacy;
mod model;
mod owner;
mod pool;
mod space;
mod speed;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::batch::{KeyContext, Rows};

pub(super) const OPTIONS: SpoolOptions = SpoolOptions { max_bytes: 1 << 30, min_free: 0 };

/// A directory in memory where there is one: syncing costs nothing there, and no
/// test here can tell.
pub(super) fn scratch() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

pub(super) fn payload(number: u64) -> Payload {
    let mut rows = Rows::default();
    rows.push(format!(r#"{{"name":"device-{number}","value":{number}}}"#).as_bytes());
    rows.push(br#"{"name":"other","value":12.5}"#);
    let keys = KeyContext::new("p", "s", "r");
    Payload::seal(&mut rows, number..number + 2, Arc::from("run-1"), |r, b| keys.key(r, b))
}

pub(super) fn attempts(tried: u32) -> Attempts {
    Attempts { tried, last_answer: "503 Service Unavailable".to_owned(), first_at: 1_763_000_000 }
}

pub(super) fn spool(root: &TempDir) -> Spool {
    Spool::open(&root.path().join("p/spool/http"), OPTIONS).unwrap()
}

pub(super) fn store(spool: &Spool, number: u64) -> Stored {
    let sequence = spool.next_sequence();
    spool.write(State::Failed, 3, sequence, &payload(number), &attempts(1)).unwrap()
}

pub(super) fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn what_was_written_is_read_back_the_same_after_reopening() {
    let root = scratch();
    let stored = store(&spool(&root), 7);
    let spool = spool(&root);
    let entries = spool.entries().unwrap();
    assert_eq!(entries.len(), 1);
    let (read, tried, again) = spool.read(&entries[0]).unwrap();
    let sent = payload(7);
    assert_eq!((read.body.clone(), read.key), (sent.body.clone(), sent.key));
    assert_eq!((&*read.run_id, read.range.clone()), ("run-1", 7..9));
    assert_eq!(tried, attempts(1));
    assert_eq!(again.file_name(), stored.file_name());
    assert!(spool.next_sequence() > stored.sequence());
    spool.remove(again).unwrap();
    assert!(spool.entries().unwrap().is_empty());
    assert_eq!(spool.usage(), Usage::default());
}

#[test]
fn eight_threads_write_at_once_and_nothing_is_lost_or_mixed_up() {
    let root = scratch();
    let spool = spool(&root);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let spool = &spool;
            scope.spawn(move || (0..50).for_each(|n| drop(store(spool, thread * 50 + n))));
        }
    });
    let entries = spool.entries().unwrap();
    assert_eq!((entries.len(), spool.usage().batches), (400, 400));
    let sequences: HashSet<u64> = entries.iter().map(Entry::sequence).collect();
    assert_eq!(sequences.len(), 400);
    let starts: HashSet<u64> =
        entries.iter().map(|entry| spool.read(entry).unwrap().0.range.start).collect();
    assert_eq!(starts, (0..400).collect());
}

#[test]
fn an_update_replaces_metadata_and_state_and_keeps_the_batch() {
    let root = scratch();
    let spool = spool(&root);
    let batch = payload(1);
    let mut stored =
        spool.write(State::Pending, 0, spool.next_sequence(), &batch, &attempts(0)).unwrap();
    assert_eq!((spool.usage().pending, spool.usage().failed), (1, 0));
    spool.update(&mut stored, State::Failed, 4, &batch, &attempts(1)).unwrap();
    assert_eq!((stored.state(), stored.key()), (State::Failed, batch.key));
    assert_eq!((spool.usage().pending, spool.usage().failed), (0, 1));
    spool.update(&mut stored, State::Failed, 4, &batch, &attempts(2)).unwrap();
    let entries = spool.entries().unwrap();
    assert_eq!((entries.len(), entries[0].size()), (1, stored.size()));
    assert_eq!(entries[0].file_name(), stored.file_name());
    let (read, tried, _) = spool.read(&entries[0]).unwrap();
    assert_eq!((read.body, tried.tried), (batch.body.clone(), 2));
    assert_eq!(spool.usage().bytes, stored.size());
    let other = spool.update(&mut stored, State::Failed, 4, &payload(2), &attempts(3));
    assert_eq!(other.unwrap_err().kind, WriteErrorKind::Unsuitable);
}

#[test]
fn writing_the_same_batch_again_replaces_it_and_another_never_does() {
    let root = scratch();
    let spool = spool(&root);
    let first = spool.write(State::Failed, 1, 5, &payload(1), &attempts(1)).unwrap();
    let again = spool.write(State::Failed, 1, 5, &payload(1), &attempts(2)).unwrap();
    assert_eq!(first.file_name(), again.file_name());
    assert_eq!((spool.usage().batches, spool.usage().bytes), (1, again.size()));

    let mut impostor = payload(2);
    impostor.key = payload(1).key;
    let refused = spool.write(State::Failed, 1, 5, &impostor, &attempts(1)).unwrap_err();
    assert_eq!(refused.kind, WriteErrorKind::Exists);
    let (kept, tried, _) = spool.read(&spool.entries().unwrap()[0]).unwrap();
    assert_eq!((kept.body, tried.tried), (payload(1).body, 2));
    assert_eq!(names(spool.directory()).iter().filter(|name| name.ends_with(".tmp")).count(), 0);
}

#[test]
fn sequences_go_on_above_everything_that_was_ever_in_the_directory() {
    let root = scratch();
    let first = spool(&root);
    first.write(State::Failed, 1, 40, &payload(1), &attempts(1)).map(drop).unwrap();
    assert_eq!(first.next_sequence(), 41);
    let entry = first.entries().unwrap().remove(0);
    first.quarantine(&entry, "for the test").unwrap();
    drop(first);
    let second = spool(&root);
    assert_eq!(second.next_sequence(), 41);
    second.dead_letter(&[letter()]).unwrap();
    drop(second);
    assert_eq!(spool(&root).next_sequence(), 43);
}

#[test]
fn what_is_too_large_to_read_back_is_refused_and_says_what_to_do() {
    let root = scratch();
    let spool = spool(&root);
    let mut rows = Rows::default();
    rows.push(format!("\"{}\"", "x".repeat(gzip::BODY_MAX)).as_bytes());
    let keys = KeyContext::new("p", "s", "r");
    let huge = Payload::seal(&mut rows, 0..1, Arc::from("r"), |r, b| keys.key(r, b));
    let error = spool.write(State::Failed, 0, 0, &huge, &attempts(1)).unwrap_err();
    assert_eq!(error.kind, WriteErrorKind::Unsuitable);
    assert!(error.to_string().contains("batch.bytes"), "{error}");
}

#[test]
fn room_ends_at_the_cap_and_at_the_floor_but_writing_goes_on() {
    let root = scratch();
    let path = root.path().join("spool");
    let open =
        |max_bytes, min_free| Spool::open(&path, SpoolOptions { max_bytes, min_free }).unwrap();
    let small = open(300, 0);
    assert_eq!(small.room(), Room::Enough);
    drop(store(&small, 1));
    let used = small.usage().bytes;
    assert_eq!(small.room(), Room::Full { used, max: 300 });
    let second = store(&small, 2);
    small.remove(second).unwrap();
    drop(small);
    let poor = open(1 << 30, u64::MAX);
    assert!(matches!(poor.room(), Room::LowDisk { floor: u64::MAX, .. }));
    assert_eq!(poor.usage().bytes, used);
    assert!(poor.usage().oldest.unwrap().as_secs() > 1_000_000, "its age is the batch's");
}

#[test]
fn dead_letters_are_files_that_people_read() {
    let root = scratch();
    let spool = spool(&root);
    let path = spool.dead_letter(&[letter(), letter()]).unwrap();
    assert!(path.starts_with(spool.directory().join("dead")));
    let zcat = std::process::Command::new("zcat").arg(&path).output().unwrap();
    let letters: Vec<serde_json::Value> = serde_json::from_slice(&zcat.stdout).unwrap();
    assert_eq!((letters.len(), &letters[0]["record"]["a"]), (2, &1.into()));
    assert_eq!((spool.usage().dead_files, spool.usage().batches), (1, 0));
    assert!(spool.entries().unwrap().is_empty(), "dead letters are not replayed");
    assert!(spool.dead_letter(&[]).is_err());
    let usage = spool.usage();
    drop(spool);
    assert_eq!(super::tests::spool(&root).usage(), usage);
}

pub(super) fn letter() -> DeadLetter {
    DeadLetter {
        record: bytes::Bytes::from_static(b"{\"a\":1}"),
        reason: "cpu_number: not a number".to_owned(),
        status: Some(422),
        response: "{\"error\":\"no\"}".to_owned(),
        batch_key: payload(1).key.to_string(),
        time: 1_763_000_000,
    }
}

#[test]
fn metadata_longer_than_usual_is_read_from_the_header_as_well() {
    let root = scratch();
    let spool = spool(&root);
    let mut batch = payload(1);
    batch.run_id = Arc::from("r".repeat(60_000));
    let stored = spool.write(State::Failed, 0, 1, &batch, &attempts(3)).unwrap();
    let file = inspect::FileView::at(&spool.directory().join(stored.file_name())).unwrap();
    assert_eq!(file.headline().unwrap().attempts, attempts(3));
    batch.run_id = Arc::from("r".repeat(70_000));
    let error = spool.write(State::Failed, 0, 2, &batch, &attempts(3)).unwrap_err();
    assert_eq!(error.kind, WriteErrorKind::Unsuitable);
}
