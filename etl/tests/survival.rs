//! Kills, signals, full disks, damaged files: what was taken in is still there.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::io::Write;
use std::time::{Duration, Instant};

use mock_load_api_server::Faults;
use rustix::process::Signal;
use support::crash::sealed_in;
use support::{Bench, Ran, down, each_exactly_once, mock, signal, wait_until};

/// Row 2: the file was deleted once it was queued; kill -9 during the replay lost
/// 1,500 of 1,500.
#[tokio::test(flavor = "multi_thread")]
async fn row_02_kill_9_during_replay_loses_nothing_and_keeps_every_key() {
    let (bench, server) = (Bench::new(), mock(down()).await);
    bench.inventory(6000);
    bench.fleet(&server.url(), "workers: 4\nbatch: { records: 20 }");
    bench.run(&[]).exits(75);
    bench.inventory(0);

    // Some of what is under way at a kill would have been refused: it must wait still.
    let delay = Duration::from_millis(60);
    let failing = Faults { delay, fail: [(503, 0.3)].into(), ..Faults::default() };
    server.set_faults(failing).unwrap();
    for kill_after in [5, 15, 25, 35] {
        let mut run = bench.start(&[]);
        let before = server.stats().requests;
        wait_until("some batches arrived", || server.stats().requests >= before + kill_after);
        run.kill().unwrap();
        run.wait().unwrap();
    }
    assert!(!bench.spool_files().is_empty(), "all was delivered before a kill: too slow a test");
    server.set_faults(Faults::default()).unwrap();
    bench.run(&[]).exits(0);
    each_exactly_once(&server, 6000);
}

/// A polled fleet is written ahead: what was sealed before a kill -9 goes out
/// on the next run, under the same key.
#[tokio::test(flavor = "multi_thread")]
async fn row_02_kill_9_while_loading_keeps_every_sealed_batch() {
    let faults = Faults { delay: Duration::from_millis(200), ..Faults::default() };
    let (bench, server) = (Bench::new(), mock(faults).await);
    bench.inventory(2000);
    bench.fleet(&server.url(), "workers: 2\nbatch: { records: 50 }");
    let mut run = bench.start(&[]);
    wait_until("a batch arrived", || server.stats().records >= 100);
    run.kill().unwrap();
    run.wait().unwrap();
    let waiting: usize = sealed_in(&bench.spool()).values().map(Vec::len).sum();
    assert!(waiting > 0);
    bench.inventory(0);
    let ran = bench.run(&[]).exits(0);
    assert_eq!(ran.sink("replayed"), waiting as u64);
    let stats = server.stats();
    assert_eq!(stats.records, stats.unique_records, "{stats:?}");
    assert_eq!(stats.conflicting_keys, 0);
}

/// Row 3: 2,001 records hung for ever, because replay came before the loaders.
#[tokio::test(flavor = "multi_thread")]
async fn row_03_a_long_spool_replays_in_bounded_memory() {
    let (bench, server) = (Bench::new(), mock(down()).await);
    bench.inventory(60_000);
    bench.fleet(&server.url(), "");
    bench.run(&[]).exits(75);
    assert_eq!(bench.spool_files().len(), 300);
    bench.inventory(0);
    server.set_faults(Faults::default()).unwrap();

    let run = bench.start(&[]);
    let status = format!("/proc/{}/status", run.id());
    let mut peak_kib = 0;
    while let Ok(text) = std::fs::read_to_string(&status) {
        let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let Some(peak) = peak else { break };
        peak_kib = peak.trim().trim_end_matches(" kB").parse().unwrap_or(peak_kib);
        std::thread::sleep(Duration::from_millis(2));
    }
    Ran::from(run.wait_with_output().unwrap()).exits(0);
    each_exactly_once(&server, 60_000);
    assert!(peak_kib > 0 && peak_kib < 64 * 1024, "{peak_kib} KiB");
}

/// Row 5: SIGTERM lost what was buffered.
#[tokio::test(flavor = "multi_thread")]
async fn row_05_a_signal_drains_or_spools_everything_that_was_taken_in() {
    for (asked, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let faults = Faults { delay: Duration::from_millis(300), ..Faults::default() };
        let (bench, server) = (Bench::new(), mock(faults).await);
        bench.inventory(5000);
        let method = "simulated: { delay: 50ms, delay_max: 400ms }";
        bench.fleet_with(method, &server.url(), "workers: 2\nbatch: { records: 50 }");
        let run = bench.start(&["--set", "extract.workers=200"]);
        wait_until("a batch arrived", || server.stats().batches >= 2);
        signal(&run, asked);
        let ran = Ran::from(run.wait_with_output().unwrap()).exits(code);
        assert!(ran.stderr.contains("stopping: finishing"), "{}", ran.stderr);
        assert_eq!(ran.json()["balanced"], true, "{}", ran.stdout);
        let extracted = ran.total("extracted");
        assert!(extracted < 5000, "the run was over before the signal");
        assert_eq!(ran.sink("delivered") + ran.sink("spooled"), extracted);

        server.set_faults(Faults::default()).unwrap();
        bench.inventory(0);
        bench.run(&[]).exits(0);
        each_exactly_once(&server, extracted);
    }
}

/// A second signal is obeyed at once, also while the API hangs.
#[tokio::test(flavor = "multi_thread")]
async fn row_05_a_second_signal_leaves_at_once_and_spools_what_is_unconfirmed() {
    let (bench, server) = (Bench::new(), mock(Faults { hang: 1.0, ..Faults::default() }).await);
    bench.inventory(400);
    bench.fleet(&server.url(), "timeout: 60s");
    let mut run = bench.listen(&[]);
    wait_until("requests hang", || server.stats().requests >= 2);
    signal(&run.child, Signal::INT);
    run.until_it_says("stopping: finishing");
    let asked_again = Instant::now();
    signal(&run.child, Signal::INT);
    let ran = run.ends().exits(130);
    // The first signal alone would give the requests 30 s.
    assert!(asked_again.elapsed() < Duration::from_secs(15), "{:?}", asked_again.elapsed());
    assert_eq!(ran.sink("spooled"), ran.total("extracted"));
    assert_eq!(ran.json()["balanced"], true);
}

/// There was no time-based flush: a slow trickle waited for 200 records.
#[tokio::test(flavor = "multi_thread")]
async fn row_05_a_batch_that_does_not_fill_is_sent_when_it_has_lingered() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    bench.inventory(60);
    let method = "simulated: { delay: 1500ms }";
    bench.fleet_with(method, &server.url(), "batch: { records: 200, linger: 200ms }");
    let run = bench.start(&["--set", "extract.workers=20"]);
    wait_until("a first batch arrived", || server.stats().batches >= 1);
    // Without lingering all would arrive as one batch at the end.
    assert!(server.stats().records < 60, "{:?}", server.stats());
    Ran::from(run.wait_with_output().unwrap()).exits(0);
    each_exactly_once(&server, 60);
}

/// Row 6: a full disk left 0-byte files over good ones, exit 0.
#[tokio::test(flavor = "multi_thread")]
async fn row_06_a_disk_that_takes_nothing_keeps_old_files_and_says_so() {
    let (bench, server) = (Bench::new(), mock(down()).await);
    bench.inventory(400);
    bench.fleet(&server.url(), "");
    bench.run(&[]).exits(75);
    let old: Vec<_> = bench.spool_files().iter().map(|path| std::fs::read(path).unwrap()).collect();

    // No file may grow beyond 1 KiB: writes fail with EFBIG, as they would with ENOSPC.
    let mut run = bench.listen_after("ulimit -f 1");
    run.until_it_says("ulimit -f unlimited");
    signal(&run.child, Signal::TERM);
    run.until_it_says("stopping: finishing");
    signal(&run.child, Signal::TERM);
    let ran = run.ends();
    assert_eq!(ran.code, Some(70), "what is nowhere must not pass for safe: {}", ran.stderr);
    assert!(ran.stderr.contains("spool"), "{}", ran.stderr);
    let kept: Vec<_> =
        bench.spool_files().iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert_eq!(kept, old);

    // The disk is fine again, and so is everything that was in the spool.
    server.set_faults(Faults::default()).unwrap();
    bench.inventory(0);
    bench.run(&[]).exits(0);
    each_exactly_once(&server, 400);
}

/// Row 6, the other half: with a sink that is up, a disk that takes nothing is no
/// reason to stop.
#[tokio::test(flavor = "multi_thread")]
async fn row_06_a_disk_that_takes_nothing_does_not_stop_deliveries() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    bench.inventory(1000);
    bench.fleet(&server.url(), "");
    let ran = bench.listen_after("ulimit -f 1").ends().exits(0);
    assert_eq!(ran.sink("delivered"), 1000);
    each_exactly_once(&server, 1000);
}

/// Rejected records that no disk took are nowhere: the books and the exit code say so.
/// The rows of a file are read again, and rejected again, by the next run.
#[tokio::test(flavor = "multi_thread")]
async fn rejects_that_cannot_be_written_down_do_not_pass_for_rejected() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    bench.rows("id,name\n1,a\n2\n3,c\n4\n5,e\n", &server.url(), "", "");
    // A file where the directory of the rejects should be.
    let blocked = bench.write("data/p/spool/rejected", "in the way");
    let mut run = bench.listen(&[]);
    run.until_it_says("could not write rejects down");
    signal(&run.child, Signal::TERM);
    run.until_it_says("stopping: finishing");
    signal(&run.child, Signal::TERM);
    let ran = run.ends().exits(70);
    assert!(ran.stderr.contains("2 rejected records could not be written down"), "{}", ran.stderr);
    assert_eq!(ran.json()["balanced"], false, "{}", ran.stdout);
    assert_eq!((ran.total("extracted"), ran.total("rejected")), (5, 0));
    let runs = bench.etl(&["runs", "--json"]).exits(0).json();
    assert_eq!(runs["runs"][0]["exit"], 70, "{runs}");

    std::fs::remove_file(blocked).unwrap();
    let ran = bench.run(&[]).exits(65);
    assert_eq!((ran.total("rejected"), ran.json()["balanced"] == true), (2, true));
    assert_eq!(support::files_of(&bench.path("data/p/spool/rejected/dead")).len(), 1);
    each_exactly_once(&server, 3);
}

/// Rows 11 and 13: damaged files were accepted, or skipped and then truncated.
#[tokio::test(flavor = "multi_thread")]
async fn row_11_and_13_damaged_files_are_set_aside_and_the_others_go_out() {
    let (bench, server) = (Bench::new(), mock(down()).await);
    bench.inventory(1000);
    bench.fleet(&server.url(), "");
    bench.run(&[]).exits(75);
    let files = bench.spool_files();
    assert_eq!(files.len(), 5);
    let mut flipped = std::fs::read(&files[0]).unwrap();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 4;
    std::fs::write(&files[0], &flipped).unwrap();
    let whole = std::fs::read(&files[1]).unwrap();
    std::fs::write(&files[1], &whole[..whole.len() - 9]).unwrap();
    std::fs::write(bench.spool().join("buffer_failed_worker3.json.gz"), b"").unwrap();

    server.set_faults(Faults::default()).unwrap();
    bench.inventory(0);
    let ran = bench.run(&[]).exits(0);
    assert_eq!(ran.sink("replayed"), 600);
    assert!(ran.stderr.contains("corrupt"), "{}", ran.stderr);
    each_exactly_once(&server, 600);
    let aside = support::files_of(&bench.spool().join("corrupt"));
    assert_eq!(aside.len(), 3, "{aside:?}");
}

/// Row 12: only the first JSON value of a file was read, then it was deleted.
#[tokio::test(flavor = "multi_thread")]
async fn row_12_files_of_the_earlier_program_are_replayed_to_their_end() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    bench.inventory(0);
    bench.fleet(&server.url(), "");
    let member = |json: &str| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(json.as_bytes()).unwrap();
        gzip.finish().unwrap()
    };
    let two_members =
        [member("[{\"name\":\"a\"},{\"name\":\"b\"}]\n"), member("[{\"name\":\"c\"}]\n")].concat();
    let two_values = member("[{\"name\":\"d\"}]\n[{\"name\":\"e\"}]\n");
    bench.write("data/p/spool/http/buffer_failed_worker0.json.gz", two_members);
    bench.write("data/p/spool/http/buffer_failed_worker417.json.gz", two_values);
    private(&bench);
    let ran = bench.run(&[]).exits(0);
    assert_eq!(ran.sink("replayed"), 5);
    each_exactly_once(&server, 5);
    assert!(bench.spool_files().is_empty());
}

/// Row 4: a hostile worker number panicked after other files were deleted.
#[tokio::test(flavor = "multi_thread")]
async fn row_04_hostile_names_in_the_spool_harm_nothing() {
    let (bench, server) = (Bench::new(), mock(down()).await);
    bench.inventory(200);
    bench.fleet(&server.url(), "");
    bench.run(&[]).exits(75);
    for name in [
        "buffer_failed_worker-1.json.gz",
        "buffer_failed_worker99999999999999999999999999.json.gz",
        "buffer_failed_worker..json.gz",
        "buffer_failed_worker0-1-2.json.gz",
    ] {
        bench.write(&format!("data/p/spool/http/{name}"), b"\x1f\x8b no gzip");
    }
    std::os::unix::fs::symlink("/etc/passwd", bench.spool().join("buffer_failed_worker7.json.gz"))
        .unwrap();
    std::fs::create_dir(bench.spool().join("buffer_failed_worker8.json.gz")).unwrap();
    server.set_faults(Faults::default()).unwrap();
    bench.inventory(0);
    let ran = bench.run(&[]);
    assert!(ran.code == Some(0) || ran.code == Some(75), "{:?} {}", ran.code, ran.stderr);
    each_exactly_once(&server, 200);
    assert!(std::fs::read_to_string("/etc/passwd").unwrap().contains("root"));
}

/// Row 14: two processes replayed twice and deleted each other's files.
#[tokio::test(flavor = "multi_thread")]
async fn row_14_a_second_process_says_who_has_the_spool_and_leaves() {
    let faults = Faults { delay: Duration::from_secs(3), ..Faults::default() };
    let (bench, server) = (Bench::new(), mock(faults).await);
    bench.inventory(200);
    bench.fleet(&server.url(), "");
    let first = bench.start(&[]);
    wait_until("the first run works", || server.stats().requests >= 1);
    let second = bench.run(&[]).exits(69);
    assert!(second.stderr.contains(&first.id().to_string()), "{}", second.stderr);
    assert!(second.stderr.contains("nothing was read or sent"), "{}", second.stderr);
    Ran::from(first.wait_with_output().unwrap()).exits(0);
    each_exactly_once(&server, 200);
}

/// The spool directory as `etl` itself would have made it.
fn private(bench: &Bench) {
    use std::os::unix::fs::PermissionsExt;
    let private = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(bench.spool(), private).unwrap();
}
