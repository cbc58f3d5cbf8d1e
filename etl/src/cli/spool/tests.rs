//! The commands on real spools, told from their output.

use std::io::{BufRead, Cursor};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::batch::{KeyContext, Payload, Rows};
use crate::spool::{Attempts, DeadLetter, Spool, SpoolOptions, State};

const START: u64 = 1_763_000_000;
const OPTIONS: SpoolOptions = SpoolOptions { max_bytes: 1 << 30, min_free: 0 };

fn batch(start: u64, records: u64) -> Payload {
    let mut rows = Rows::default();
    (start..start + records).for_each(|n| rows.push(format!("{{\"n\":{n}}}").as_bytes()));
    let keys = KeyContext::new("p", "s", "r");
    Payload::seal(&mut rows, start..start + records, Arc::from("r"), |r, b| keys.key(r, b))
}

fn open(data: &Path, pipeline: &str, sink: &str) -> Spool {
    Spool::open(&data.join(pipeline).join("spool").join(sink), OPTIONS).unwrap()
}

fn add(spool: &Spool, state: State, records: u64, tried: u32, first_at: u64) -> PathBuf {
    let sequence = spool.next_sequence();
    let last_answer = if tried > 0 { "503 Service Unavailable" } else { "" }.to_owned();
    let attempts = Attempts { tried, last_answer, first_at };
    let stored = spool.write(state, 1, sequence, &batch(sequence * 1000, records), &attempts);
    spool.directory().join(stored.unwrap().file_name())
}

fn letter() -> DeadLetter {
    DeadLetter {
        record: bytes::Bytes::from_static(b"{\"n\":-1}"),
        reason: "cpu_number: not a number".to_owned(),
        status: Some(422),
        response: String::new(),
        batch_key: "0123456789abcdef0123456789abcdef".to_owned(),
        time: START - 18,
    }
}

/// A pipeline `appliances` with all there can be, but nothing pending or corrupt.
fn data() -> TempDir {
    let data = tempfile::tempdir().unwrap();
    let spool = open(data.path(), "appliances", "http");
    add(&spool, State::Failed, 600, 9, START);
    add(&spool, State::Failed, 3000, 2, START + 30);
    spool.dead_letter(&[letter(), letter()]).unwrap();
    data
}

/// Exit, stdout and stderr of a command.
type Said = (Exit, String, String);

fn said(run: impl FnOnce(&mut dyn Write, &mut dyn Write) -> Exit) -> Said {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit = run(&mut out, &mut err);
    (exit, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

fn list(data: &TempDir, options: &Ls<'_>) -> Said {
    let options = Ls { now: START + 252, ..*options };
    said(|out, err| ls(data.path(), &options, out, err))
}

#[test]
fn ls_says_what_waits_since_when_and_why() {
    let data = data();
    let (exit, out, err) = list(&data, &Ls::default());
    assert_eq!((exit, err.as_str()), (Exit::Delivered, ""));
    let directory = data.path().join("appliances/spool");
    let lines: Vec<&str> = out.lines().collect();
    let header = format!("SPOOL {}   3,602 records   ", directory.display());
    assert!(lines[0].starts_with(&header) && lines[0].ends_with(" of 1 GiB"), "{out}");
    let heading = lines[1].split_once("SIZE").unwrap();
    assert_eq!(heading.0, "SINK  STATE     RECORDS  ");
    assert_eq!(heading.1.trim_start(), "AGE    TRIES  LAST ANSWER");
    assert!(lines[2].starts_with("http  spooled     3,600  "), "{out}");
    assert!(lines[2].ends_with("  4m12s      9  503 Service Unavailable"), "{out}");
    assert!(lines[3].starts_with("http  dead            2  "), "{out}");
    assert!(lines[3].ends_with("  4m30s      1  422 \"cpu_number: not a number\""), "{out}");
    assert_eq!(
        lines[4..],
        [
            "spooled: sent by the next run; now: etl spool replay appliances",
            "dead:    etl spool cat --dead, fix, etl spool replay --dead (shows what it would send first)"
        ]
    );
}

#[test]
fn ls_shows_pending_and_corrupt_only_when_there_are_some() {
    let data = data();
    let path = add(&open(data.path(), "appliances", "archive"), State::Pending, 5, 0, START + 250);
    let name = path.file_name().unwrap();
    let corrupt = data.path().join("appliances/spool/http/corrupt");
    std::fs::create_dir(&corrupt).unwrap();
    std::fs::write(corrupt.join(name), b"junk").unwrap();
    std::fs::write(corrupt.join("x.reason"), b"why").unwrap();
    let (_, out, _) = list(&data, &Ls::default());
    assert!(out.contains("\narchive  pending         5  "), "{out}");
    assert!(out.contains("\nhttp     corrupt         ?  ") && out.contains("1 file damaged\n"));
    assert!(out.contains("\npending: ") && out.contains("\ncorrupt: "), "{out}");
    let (_, out, _) = list(&data, &Ls { dead: true, ..Ls::default() });
    assert!(out.contains(" dead ") && !out.contains("spooled") && !out.contains("pending"));
}

#[test]
fn ls_of_nothing_of_several_and_of_an_unknown_pipeline() {
    let data = tempfile::tempdir().unwrap();
    assert_eq!(list(&data, &Ls::default()).1, "spool: empty\n");
    drop(open(data.path(), "one", "http"));
    assert_eq!(list(&data, &Ls::default()).1, "spool: empty\n");
    for pipeline in ["one", "two"] {
        add(&open(data.path(), pipeline, "http"), State::Failed, 1, 1, START);
    }
    let (_, out, _) = list(&data, &Ls::default());
    assert_eq!(out.matches("SPOOL ").count(), 2);
    assert!(out.contains("\n\nSPOOL "), "{out}");
    let (_, out, _) = list(&data, &Ls { pipeline: Some("two"), ..Ls::default() });
    assert!(out.contains("replay two") && !out.contains("replay one"), "{out}");
    let (exit, out, err) = list(&data, &Ls { pipeline: Some("tow"), ..Ls::default() });
    assert_eq!((exit, out.as_str()), (Exit::Usage, ""));
    assert!(err.contains("no spool of `tow`") && err.contains("there are: one, two"), "{err}");
}

#[test]
fn ls_as_json_and_by_file() {
    let data = data();
    let (_, out, _) = list(&data, &Ls { json: true, files: true, ..Ls::default() });
    let json: Value = serde_json::from_str(&out).unwrap();
    let block = &json["pipelines"][0];
    assert_eq!((&block["records"], &block["max_bytes"]), (&3602.into(), &(1u64 << 30).into()));
    assert_eq!(block["groups"][0]["tries"], 9);
    assert_eq!(block["files"].as_array().unwrap().len(), 3);
    let (_, out, _) = list(&data, &Ls { files: true, ..Ls::default() });
    let file = block["files"][0]["file"].as_str().unwrap();
    assert!(out.contains(file) && Path::new(file).exists(), "{out}");
    let nothing = tempfile::tempdir().unwrap();
    let (_, out, _) = list(&nothing, &Ls { json: true, ..Ls::default() });
    assert_eq!(out, "{\"pipelines\":[]}\n");
}

#[test]
fn ls_counts_a_file_whose_header_does_not_check() {
    let data = data();
    let path = add(&open(data.path(), "appliances", "http"), State::Failed, 1, 1, START);
    std::fs::write(path, b"").unwrap();
    let (exit, out, _) = list(&data, &Ls::default());
    assert_eq!(exit, Exit::Delivered);
    assert!(out.contains("unread:  1 file not readable"), "{out}");
}

#[test]
fn cat_prints_records_as_json_lines_while_a_run_holds_the_spool() {
    let data = data();
    let spool = open(data.path(), "appliances", "http");
    let path = add(&spool, State::Pending, 2, 0, START);
    let print = |options: Cat<'_>| said(|out, err| cat(data.path(), &options, out, err));
    let (exit, out, err) = print(Cat::default());
    assert_eq!((exit, out.lines().count(), err.as_str()), (Exit::Delivered, 3602, ""));
    assert_eq!(out.lines().next(), Some("{\"n\":0}"));
    let (_, out, _) = print(Cat { dead: true, ..Cat::default() });
    let letters: Vec<Value> = out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((letters.len(), &letters[0]["record"]["n"]), (2, &(-1).into()));
    let name_only = PathBuf::from(path.file_name().unwrap());
    for file in [path.clone(), name_only] {
        assert_eq!(
            print(Cat { files: &[file], ..Cat::default() }).1,
            "{\"n\":3000}\n{\"n\":3001}\n"
        );
    }
    let copy = data.path().join("copy.gz");
    std::fs::copy(&path, &copy).unwrap();
    assert_eq!(print(Cat { files: &[copy], ..Cat::default() }).1.lines().count(), 2);
    let (exit, _, err) = print(Cat { files: &["nowhere.gz".into()], ..Cat::default() });
    assert!(exit == Exit::Usage && err.contains("no file nowhere.gz"), "{err}");
}

#[test]
fn cat_names_what_it_cannot_read_and_prints_the_rest() {
    let data = data();
    let path = add(&open(data.path(), "appliances", "http"), State::Failed, 2, 1, START);
    std::fs::write(&path, b"junk").unwrap();
    let (exit, out, err) = said(|out, err| cat(data.path(), &Cat::default(), out, err));
    assert_eq!((exit, out.lines().count()), (Exit::Rejected, 3600));
    assert!(err.contains("is damaged: not a gzip file"), "{err}");
}

#[test]
fn verify_names_every_bad_file_and_exits_65() {
    let data = data();
    let check =
        |files: &[PathBuf], json| said(|out, err| verify(data.path(), None, files, json, out, err));
    let (exit, out, _) = check(&[], false);
    assert_eq!(exit, Exit::Delivered);
    assert_eq!(out, "verified 3 files: all good, 3,602 records readable\n");
    let spool = open(data.path(), "appliances", "http");
    let path = add(&spool, State::Failed, 2, 1, START);
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let (exit, out, _) = check(&[], false);
    assert_eq!(exit, Exit::Rejected);
    assert!(out.starts_with(&format!("BAD  {}: cut short or damaged", path.display())), "{out}");
    assert!(out.ends_with("verified 4 files: 1 bad, 3,602 records readable\n"), "{out}");
    let (exit, out, _) = check(std::slice::from_ref(&path), true);
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((exit, &json["bad"][0]["file"]), (Exit::Rejected, &path.to_str().unwrap().into()));
    let entry = spool.entries().unwrap().pop().unwrap();
    spool.quarantine(&entry, "its end is damaged").unwrap();
    let (exit, out, _) = check(&[], false);
    assert!(exit == Exit::Rejected && out.contains("/corrupt/"), "{out}");
}

fn drop_files(data: &TempDir, options: &Discard<'_>, answer: Option<&str>) -> Said {
    let mut answer = answer.map(|text| Cursor::new(text.to_owned()));
    let answers = answer.as_mut().map(|cursor| cursor as &mut dyn BufRead);
    said(|out, err| discard(data.path(), options, answers, out, err))
}

fn dead() -> Discard<'static> {
    Discard { pipeline: None, sink: None, what: What::Dead, yes: false, json: false }
}

#[test]
fn discard_asks_and_says_what_it_dropped() {
    let data = data();
    let files = || verify(data.path(), None, &[], true, &mut Vec::new(), &mut Vec::new());
    for answer in [None, Some("no\n"), Some(""), Some("y\n")] {
        let (exit, out, err) = drop_files(&data, &dead(), answer);
        assert_eq!((exit, out.as_str()), (Exit::Usage, ""));
        assert!(err.contains("drop for good 1 file with 2 records"), "{err}");
        assert!(err.contains("nothing was dropped"), "{err}");
    }
    assert_eq!(files(), Exit::Delivered);
    let (exit, out, _) = drop_files(&data, &dead(), Some("yes\n"));
    assert_eq!(exit, Exit::Delivered);
    assert!(out.starts_with("dropped  ") && out.contains("/dead/dead-"), "{out}");
    assert!(out.contains("dropped 1 file, 2 records, "), "{out}");
    let (_, out, _) = list(&data, &Ls::default());
    assert!(out.contains("3,600 records") && !out.contains("dead"), "{out}");
    assert_eq!(drop_files(&data, &dead(), None).1, "dropped 0 files, 0 records, 0 B\n");
}

#[test]
fn discard_takes_only_what_was_named_and_needs_the_lock() {
    let data = data();
    let spool = open(data.path(), "appliances", "http");
    let path = add(&spool, State::Failed, 7, 1, START);
    let files = [PathBuf::from(path.file_name().unwrap())];
    let options = Discard { what: What::Files(&files), yes: true, json: true, ..dead() };
    let (exit, out, err) = drop_files(&data, &options, None);
    assert!(exit == Exit::Spooled && err.contains("is in use by"), "{err}");
    assert!(out.contains("\"dropped\":[]") && path.exists(), "{out}");
    drop(spool);
    let (exit, out, _) = drop_files(&data, &options, None);
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((exit, &json["records"]), (Exit::Delivered, &7.into()));
    assert!(!path.exists());
    assert_eq!(open(data.path(), "appliances", "http").usage().batches, 2);
    let other = Discard { sink: Some("other"), what: What::Waiting, yes: true, ..dead() };
    assert!(drop_files(&data, &other, None).1.contains("dropped 0 files"));
}
