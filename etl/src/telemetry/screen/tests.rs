//! The screens, letter by letter.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up should fail loudly")]

use std::path::PathBuf;
use std::time::Duration;

use super::{Frame, Rates, block, plain_line};
use crate::telemetry::result::tests::sink;
use crate::telemetry::{
    BooksSnapshot, Progress, RunHeader, SinkHealth, SinkKind, SinkState, Terminal,
};

/// A run as MANNERS.md draws it; tests change what they are about.
pub struct Scene {
    pub header: RunHeader,
    pub books: BooksSnapshot,
    pub progress: Progress,
    pub sinks: Vec<SinkHealth>,
    pub rates: Rates,
    pub elapsed: Duration,
    pub stopping: bool,
}

impl Scene {
    pub fn frame(&self) -> Frame<'_> {
        Frame {
            header: &self.header,
            books: &self.books,
            progress: self.progress,
            sinks: &self.sinks,
            rates: &self.rates,
            elapsed: self.elapsed,
            stopping: self.stopping,
        }
    }

    fn block(&self, width: usize) -> String {
        let terminal = Terminal { width, ..Terminal::plain() };
        let lines = block(&self.frame(), width);
        lines.iter().map(|line| format!("{}\n", line.clipped(&terminal))).collect()
    }
}

pub fn health(name: &str) -> SinkHealth {
    SinkHealth {
        name: name.to_owned(),
        kind: SinkKind::Api,
        p95_ms: Some(84.0),
        state: SinkState::Up,
        spool_bytes: 0,
        spool_max: 1 << 30,
        spool_dir: PathBuf::from(format!("data/appliances/spool/{name}")),
        obstacle: None,
        waiting: 10_190,
        silent_for: None,
    }
}

pub fn down(since: u64, tries: u32) -> SinkState {
    SinkState::Down {
        since: Duration::from_secs(since),
        why: "connection refused".to_owned(),
        tries,
        next_try_in: Duration::from_secs(8),
        target: "POST https://api.example.net/load".to_owned(),
    }
}

pub fn refused() -> SinkState {
    SinkState::Refused {
        status: "401 Unauthorized".to_owned(),
        remedy: "LOAD_API_TOKEN was refused; set a new one".to_owned(),
        target: "POST https://api.example.net/load".to_owned(),
    }
}

pub fn scene() -> Scene {
    let mut http = sink("http", 411_990);
    http.delivered = 401_800;
    http.in_flight = 10;
    http.retries = 3;
    Scene {
        header: RunHeader {
            pipeline: "appliances".to_owned(),
            run_id_short: "9f3a".to_owned(),
            source_total: None,
            fleet: false,
        },
        books: BooksSnapshot {
            extracted: 412_000,
            rejected: 6,
            filtered: 4,
            sinks: vec![http],
            ..BooksSnapshot::default()
        },
        progress: Progress { done: 412_000, total: Some(1_000_000) },
        sinks: vec![health("http")],
        rates: Rates { progress: Some(34_337.0), spool_growth: vec![None] },
        elapsed: Duration::from_millis(12_300),
        stopping: false,
    }
}

/// The same of a fleet of 4,000.
fn fleet() -> Scene {
    let mut scene = scene();
    scene.header.fleet = true;
    scene.books = BooksSnapshot {
        extracted: 1_638,
        targets_total: 4_000,
        targets_done: 1_650,
        targets_failed: 12,
        targets_in_flight: 1_000,
        sinks: vec![sink("http", 1_400)],
        ..BooksSnapshot::default()
    };
    scene.progress = Progress { done: 1_650, total: Some(4_000) };
    scene.rates.progress = Some(163.2);
    scene.sinks[0].waiting = 238;
    scene
}

#[test]
fn a_run_over_a_file() {
    let expected = "\
appliances  run 9f3a  12s  RUNNING
extracted  412,000 of ~1,000,000 [########............] 41 %  34,300/s  ~17s left
delivered  401,800   p95 84 ms   10 in flight   3 retries
waiting     10,190   spooled 0   rejected 6   filtered 4
";
    assert_eq!(scene().block(100), expected);
}

#[test]
fn what_keeps_intake_waiting_has_a_line_of_its_own() {
    let mut scene = scene();
    scene.sinks[0].obstacle = Some("spool full: intake waits; 1 MiB of 1 MiB".to_owned());
    let last = "http: spool full: intake waits; 1 MiB of 1 MiB\n";
    assert!(scene.block(100).ends_with(last), "{}", scene.block(100));
    let plain = plain_line(&scene.frame()).whole(&Terminal::plain());
    assert!(plain.ends_with(last.trim_end()), "{plain}");
}

#[test]
fn a_narrow_terminal_loses_the_bar_first_and_never_wraps() {
    let expected = "\
appliances  run 9f3a  12s  RUNNING
extracted  412,000 of ~1,000,000 41 %  34,300/s  ~17s left
delivered  401,800   p95 84 ms   10 in flight   3 retries
waiting     10,190   spooled 0   rejected 6   filtered 4
";
    assert_eq!(scene().block(80), expected);
    let mut scene = scene();
    scene.sinks[0].state = down(18, 4);
    for width in 1..120 {
        for line in scene.block(width).lines() {
            assert!(line.chars().count() <= width, "{width}: {line}");
        }
        let colored = Terminal { color: true, interactive: true, width };
        for line in block(&scene.frame(), width) {
            let codes = line.clipped(&colored);
            assert_eq!(codes.matches("\x1b[").count() % 2, 0, "colours end: {codes:?}");
        }
    }
}

#[test]
fn a_fleet_shows_its_appliances() {
    let expected = "\
appliances  run 9f3a  12s  RUNNING
appliances  1,650 of 4,000 [########............] 41 %  163/s  ~14s left  1,000 in flight  12 failed
extracted   1,638
delivered   1,400   p95 84 ms   0 in flight   0 retries
waiting       238   spooled 0   rejected 0   filtered 0
";
    assert_eq!(fleet().block(120), expected);
}

#[test]
fn several_sinks_have_a_line_each() {
    let mut scene = scene();
    let mut archive = sink("archive", 412_000);
    archive.delivered = 90_000;
    archive.spooled = 1_200;
    archive.dead_lettered = 2;
    archive.replayed = 600;
    archive.retries = 1;
    scene.books.sinks.push(archive);
    scene.sinks.push(SinkHealth { p95_ms: None, waiting: 5, ..health("archive") });
    let expected = "\
appliances  run 9f3a  12s  RUNNING
extracted  412,000 of ~1,000,000 41 %  34,300/s  ~17s left
http       401,800 delivered   p95 84 ms   10 in flight   3 retries   waiting 10,190   spooled 0
archive     90,000 delivered   0 in flight   1 retry   replayed 600   dead-lettered 2   waiting 5   spooled 1,200
rejected         6   filtered 4
";
    let terminal = Terminal::plain();
    let mut text = String::new();
    for line in block(&scene.frame(), 80) {
        text.push_str(&format!("{}\n", line.whole(&terminal)));
    }
    assert_eq!(text, expected);
}

#[test]
fn what_is_wrong_with_a_sink_is_one_line_that_changes() {
    let last = |scene: &Scene| scene.block(140).lines().last().unwrap().to_owned();
    let mut scene = scene();
    scene.sinks[0].silent_for = Some(Duration::from_millis(4_900));
    assert!(last(&scene).starts_with("waiting"));
    scene.sinks[0].silent_for = Some(Duration::from_millis(5_400));
    assert_eq!(last(&scene), "SLOW: http has not answered for 5s");

    scene.sinks[0].state = down(18, 4);
    scene.sinks[0].spool_bytes = 7_235_174;
    scene.books.sinks[0].spooled = 84_200;
    scene.rates.spool_growth = vec![Some(434_000.0)];
    let expected = "API DOWN  http for 18s   4 tries, next in 8s   84,200 records safe   room for about 41 min";
    assert_eq!(last(&scene), expected);
    scene.sinks[0].spool_bytes = 1 << 30;
    let expected = "API DOWN  http for 18s   4 tries, next in 8s   84,200 records safe   spool full: intake waits";
    assert_eq!(last(&scene), expected);

    scene.sinks[0].state = refused();
    let expected =
        "API REFUSED US  http: 401 Unauthorized   LOAD_API_TOKEN was refused; set a new one";
    assert_eq!(last(&scene), expected);
}

#[test]
fn a_pipe_gets_the_same_in_one_line() {
    let terminal = Terminal::plain();
    let expected = "appliances  run 9f3a  12s  RUNNING   \
        extracted 412,000 of ~1,000,000 41 %, 34,300/s, ~17s left   \
        delivered 401,800, p95 84 ms, 10 in flight, 3 retries   \
        waiting 10,190, spooled 0, rejected 6, filtered 4";
    assert_eq!(plain_line(&scene().frame()).whole(&terminal), expected);

    let mut fleet = fleet();
    fleet.sinks[0].state = down(18, 1);
    fleet.stopping = true;
    let expected = "appliances  run 9f3a  12s  STOPPING   \
        appliances 1,650 of 4,000 41 %, 163/s, 1,000 in flight, 12 failed   extracted 1,638   \
        delivered 1,400, p95 84 ms, 0 in flight, 0 retries   \
        waiting 238, spooled 0, rejected 0, filtered 0   \
        API DOWN  http for 18s   1 try, next in 8s   0 records safe";
    assert_eq!(plain_line(&fleet.frame()).whole(&terminal), expected);
}

#[test]
fn without_a_total_there_is_no_forecast_and_a_low_estimate_is_corrected() {
    let second = |scene: &Scene| scene.block(100).lines().nth(1).unwrap().to_owned();
    let mut scene = scene();
    scene.progress.total = None;
    assert_eq!(second(&scene), "extracted  412,000  34,300/s");
    scene.header.source_total = Some(400_000);
    assert_eq!(
        second(&scene),
        "extracted  412,000 of 412,000 [####################] 100 %  34,300/s"
    );
    scene.header.source_total = Some(1_000_000);
    scene.elapsed = Duration::from_millis(1_500);
    scene.rates.progress = None;
    assert_eq!(second(&scene), "extracted  412,000 of ~1,000,000 [########............] 41 %");
}

#[test]
fn there_is_no_colour_unless_it_is_wanted() {
    let mut scene = fleet();
    scene.sinks[0].state = down(18, 4);
    scene.sinks[0].name = "ht\x1btp".to_owned();
    let colored = Terminal { color: true, ..Terminal::plain() };
    let lines = block(&scene.frame(), 80);
    let text =
        |terminal: &Terminal| lines.iter().map(|line| line.clipped(terminal)).collect::<String>();
    assert!(!text(&Terminal::plain()).contains('\x1b'));
    assert!(text(&colored).contains("\x1b[1;31mAPI DOWN\x1b[0m"));
    assert!(!plain_line(&scene.frame()).whole(&Terminal::plain()).contains('\x1b'));
}
