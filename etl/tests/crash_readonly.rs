//! A file system that takes no more writes: mounted read-only from the beginning, or
//! turned read-only under a run by an error that the kernel found, as ext4 does.
//!
//! The second needs root, or sudo without a password, and loop devices; without them
//! these tests fail and say so.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

#[path = "support/disk.rs"]
mod disk;
mod support;

use std::process::Command;
use std::time::Duration;

use disk::Disk;
use mock_load_api_server::Faults;
use rustix::process::Signal;
use support::crash::{Case, Kind};
use support::{Heard, Ran, down, signal, wait_until};

const REMEDY: &str = "mount the file system writable";

/// Records in batches of 20.
async fn case(kind: Kind, records: u64, faults: Faults) -> Case {
    Case::new(kind, records, 20, 4, faults).await
}

/// A run whose data directory only it sees read-only, which needs no root where users
/// may have namespaces of their own.
fn run_read_only(case: &Case) -> Ran {
    let namespace = if rustix::process::geteuid().is_root() {
        &["--mount"][..]
    } else {
        &["--user", "--map-root-user", "--mount"]
    };
    let shell = "mount --bind data data && mount -o remount,bind,ro data data && echo ready >&2 && \
        exec \"$0\" run p.yaml --json";
    let output = Command::new("unshare")
        .args(namespace)
        .args(["sh", "-c", shell, env!("CARGO_BIN_EXE_etl")])
        .current_dir(case.bench.path(""))
        .output()
        .unwrap();
    let ran = Ran::from(output);
    assert!(
        ran.stderr.contains("ready"),
        "needs root, or a system where `unshare --user --map-root-user --mount` works for users: {}",
        ran.stderr
    );
    ran
}

/// It is no mistake in the pipeline's file, and the next run may find it over.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_on_a_read_only_disk_begins_nothing_and_says_what_to_do() {
    for kind in [Kind::Fleet, Kind::Rows] {
        let mut case = case(kind, 1000, down()).await;
        case.bench.run(&[]).exits(75);
        assert!(case.note_spool() > 0);
        let requests = case.server.stats().requests;
        let ran = run_read_only(&case).exits(69);
        assert!(ran.stderr.contains("data/p/"), "{}", ran.stderr);
        assert!(ran.stderr.contains(REMEDY), "{}", ran.stderr);
        assert!(ran.stderr.contains("nothing was read or sent"), "{}", ran.stderr);
        assert_eq!(case.server.stats().requests, requests);
        case.note_spool();
        case.deliver_all(&[]);
        case.nothing_is_lost();
    }
}

/// Starts a run of `case`, and turns its disk read-only when batches have arrived, or
/// lie in the spool of an API that is down.
fn turned_read_only(case: &Case, disk: &Disk) -> Heard {
    let run = case.bench.listen(&[]);
    wait_until("some batches are somewhere", || {
        case.server.stats().batches >= 3 || case.bench.spool_files().len() >= 10
    });
    disk.turn_read_only();
    assert!(std::fs::write(disk.mount.join("x"), "x").is_err(), "the disk still takes writes");
    run
}

/// The API takes everything: the run goes on to its end, and what it could not remove
/// or note is repeated under its own keys.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_turns_read_only_does_not_stop_deliveries() {
    for kind in [Kind::Fleet, Kind::Rows] {
        let slow = Faults { delay: Duration::from_millis(60), ..Faults::default() };
        let mut case = case(kind, 1000, slow).await;
        let mut disk = Disk::under(&case);
        let ran = turned_read_only(&case, &disk).ends();
        assert!([Some(0), Some(75)].contains(&ran.code), "{:?} {}", ran.code, ran.stderr);
        assert_eq!(ran.json()["balanced"], true, "{}", ran.stderr);
        assert_eq!(ran.sink("delivered"), 1000, "{}", ran.stderr);
        assert!(ran.stderr.contains("Read-only file system"), "{}", ran.stderr);
        mended(&mut case, &mut disk, &ran);
    }
}

/// The API takes nothing: what the disk did not take is unaccounted for, and the run
/// says so; what lay in the spool is as it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_turns_read_only_under_a_dead_api_keeps_every_good_file() {
    for kind in [Kind::Fleet, Kind::Rows] {
        // So many that most are still to be spooled when the disk fails.
        let mut case = case(kind, 12_000, down()).await;
        let mut disk = Disk::under(&case);
        let mut run = turned_read_only(&case, &disk);
        run.until_it_says(REMEDY);
        signal(&run.child, Signal::TERM);
        run.until_it_says("stopping: finishing");
        signal(&run.child, Signal::TERM);
        let ran = run.ends().exits(70);
        assert_eq!(ran.json()["balanced"], false, "{}", ran.stderr);
        assert!(ran.sink("spooled") > 0, "the disk failed before it was needed: {}", ran.stdout);
        mended(&mut case, &mut disk, &ran);
    }
}

/// The disk takes writes again: every record that the run counted as spooled is there,
/// every file is whole, and all that is not at the API yet goes there, once.
fn mended(case: &mut Case, disk: &mut Disk, ran: &Ran) {
    disk.unmount();
    disk.mount();
    case.note_spool();
    let there: usize = case.sealed.values().map(Vec::len).sum();
    let counted = ran.sink("spooled");
    assert!(there as u64 >= counted, "{counted} were counted as spooled, {there} are there");
    case.deliver_all(&[]);
    case.nothing_is_lost();
}
