//! Power cuts: an ext4 file system on a loop device is shut down under load, without
//! flushing its journal, and mounted again. What was not fsynced is gone then.
//!
//!     cargo test -p etl --test crash_power -- --nocapture
//!     ETL_POWER_CUTS=200 cargo test --release -p etl --test crash_power -- --nocapture
//!
//! Needs root, or sudo without a password, and loop devices, mkfs.ext4 and python3;
//! without them these tests fail and say so.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

#[path = "support/disk.rs"]
mod disk;
mod support;

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use disk::Disk;
use mock_load_api_server::Faults;
use support::crash::{
    Case, Kind, missing_from, random, require, span, stored_by, times, wait_at_most,
};

/// The power is cut within so much of a run's beginning, where runs start quickly.
const SPAN: Duration = Duration::from_millis(500);

/// How often the power is to be cut.
fn cuts(short: u64) -> u64 {
    times("ETL_POWER_CUTS", short)
}

/// An API that stores what it gets and never gets its answer through: what it has
/// stored must, for `etl`, still be in the spool.
fn silent(delay: Duration) -> Faults {
    Faults { delay, lose_reply: 1.0, ..Faults::default() }
}

/// Write-ahead: nothing is sent before it is on the disk, name and all.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_before_a_power_cut_is_in_the_spool_after_it() {
    let cuts = cuts(6);
    let (began, mut random) = (Instant::now(), random(1));
    let span = span(SPAN).await;
    let mut case = Case::new(Kind::Fleet, 1000, 20, 10, Faults::default()).await;
    let mut disk = Disk::under(&case);
    let (mut done, mut claimed, mut spooled) = (0, 0, 0);
    while done < cuts {
        case.server.set_faults(silent(Duration::from_millis(20))).unwrap();
        let known = case.server.stats().batches as usize;
        let cutter = disk.cutter();
        let mut run = case.start(&[]);
        let instant = span.mul_f64(0.04 + 0.96 * random.f64());
        let ended = wait_at_most(&mut run, Instant::now(), instant);
        assert!(ended.is_none_or(|status| status.code() == Some(75)), "{}", case.stderr());
        let sent = stored_by(&case.server).split_off(known);
        disk.cut(cutter, &mut run);
        let missing = missing_from(&case.bench.spool(), &sent);
        let said = case.stderr();
        assert_eq!(missing, 0, "of {} batches sent before the cut: {said}", sent.len());
        // What is over and done can only be cut in its sleep.
        done += u64::from(ended.is_none());
        claimed += sent.len();
        spooled += case.note_spool();
        if done % 10 == 0 || done == cuts {
            case.deliver_all(&[]);
            case.nothing_is_lost();
        }
    }
    tell(&format!(
        "fleet: {done} power cuts in {:.0?}, {claimed} batches sent before them and {spooled} \
         batches in the spool after them, 0 lost",
        began.elapsed()
    ));
    assert!(claimed > 0, "every cut came before the first request");
}

/// Rows of a file: whatever a cut leaves of spool and checkpoint, the next runs
/// bring every row to the API.
#[tokio::test(flavor = "multi_thread")]
async fn rows_survive_power_cuts_while_they_are_loaded_and_replayed() {
    let cuts = cuts(6);
    let (began, mut random) = (Instant::now(), random(2));
    let span = span(SPAN).await;
    let (mut done, mut series, mut spooled) = (0, 0, 0);
    while done < cuts {
        series += 1;
        let faults = Faults {
            delay: Duration::from_millis(5),
            fail: [(503, 0.4)].into(),
            lose_reply: 0.2,
            seed: random.u64(..),
            ..Faults::default()
        };
        let workers = if series % 2 == 0 { 1 } else { 10 };
        let mut case = Case::new(Kind::Rows, 2400, 20, workers, faults).await;
        let mut disk = Disk::under(&case);
        for _ in 0..6.min(cuts - done) {
            let cutter = disk.cutter();
            let mut run = case.start(&[]);
            let instant = span.mul_f64(random.f64());
            let ended = wait_at_most(&mut run, Instant::now(), instant);
            disk.cut(cutter, &mut run);
            spooled += case.note_spool();
            // What is over and done can only be cut in its sleep.
            done += u64::from(ended.is_none());
            if ended.is_some_and(|status| status.success()) {
                break;
            }
        }
        case.deliver_all(&[]);
        case.nothing_is_lost();
    }
    tell(&format!(
        "rows: {done} power cuts in {series} files in {:.0?}, {spooled} batches in the spool \
         after them, 0 lost",
        began.elapsed()
    ));
}

/// The harness bites: the same program whose fsyncs of the spool directory do
/// nothing loses batches that it had sent.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_fsync_of_the_directory_the_same_cuts_lose() {
    let cuts = cuts(3);
    bites("the directory's fsync", cuts, |spool, _| vec![spool.to_owned()]).await;
}

/// And so does the fsync of the files themselves.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_fsync_of_the_files_the_same_cuts_lose() {
    let cuts = cuts(3);
    bites("the files' fsync", cuts, |_, temps| temps.to_vec()).await;
}

/// Cuts of a bite at most. Any other fsync on the same file system, such as the
/// checkpoint's, makes a rename durable too, so that not every cut can lose.
const BITES_MAX: u64 = 20;

/// Cuts the power under runs for whose `paths` fsync is answered and not done, until
/// something is lost, and `cuts` times at least.
async fn bites(what: &str, cuts: u64, paths: impl Fn(&str, &[String]) -> Vec<String>) {
    require("strace", "-V", "strace");
    let (mut lost, mut sent_in_all, mut done, mut random) = (0, 0, 0, random(3));
    while done < BITES_MAX && (lost == 0 || done < cuts) {
        done += 1;
        let faults = silent(Duration::from_millis(150));
        let case = Case::new(Kind::Fleet, 400, 20, 1, faults).await;
        let mut disk = Disk::under(&case);
        let spool = absolute(&case.bench.path("data")) + "/p/spool/http";
        let temps: Vec<String> = (0..100).map(|n| format!("{spool}/.etl-$$-{n}.tmp")).collect();
        let paths: String =
            paths(&spool, &temps).iter().map(|path| format!(" -P \"{path}\"")).collect();
        // bash becomes strace becomes etl, under one pid.
        let script = format!(
            "exec strace -D -f -qq -o trace -e trace=fsync{paths} -e inject=fsync:retval=0 \
             \"$0\" run p.yaml --json"
        );
        let cutter = disk.cutter();
        let mut command = Command::new("bash");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_etl")]).current_dir(case.bench.path(""));
        let mut run = case.spawn(command);
        let began = Instant::now();
        support::wait_until("a batch was sent", || case.server.stats().batches > 0);
        let instant = began.elapsed() + Duration::from_millis(random.u64(0..100));
        assert_eq!(wait_at_most(&mut run, began, instant), None, "{}", case.stderr());
        let sent = stored_by(&case.server);
        disk.cut(cutter, &mut run);
        lost += missing_from(&case.bench.spool(), &sent);
        sent_in_all += sent.len();
    }
    tell(&format!(
        "without {what}: {lost} of {sent_in_all} sent batches lost in {done} power cuts"
    ));
    assert!(lost > 0, "the harness does not notice that {what} is missing");
}

fn absolute(path: &Path) -> String {
    std::fs::canonicalize(path).unwrap().display().to_string()
}

/// Past the test harness, which would keep it back.
fn tell(text: &str) {
    writeln!(std::io::stderr(), "crash_power: {text}").ok();
}
