//! What is shown when: scripted runs, no clock; and once the real thread.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up should fail loudly")]

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Display, Progression};
use crate::telemetry::screen::tests::{Scene, down, health, refused, scene};
use crate::telemetry::{
    BooksSnapshot, Progress, RunHeader, SinkHealth, SinkKind, SinkState, Terminal, Watch,
};

const LOOK_MS: u64 = 200;

/// Looks at `scene` every 200 ms from `from` to `to` and gives the lines that stay.
fn lines(progression: &mut Progression, scene: &Scene, from: u64, to: u64) -> Vec<String> {
    let terminal = Terminal::plain();
    let mut lines = Vec::new();
    for moment in (from * 1_000 / LOOK_MS)..(to * 1_000 / LOOK_MS) {
        let elapsed = Duration::from_millis(moment * LOOK_MS);
        let shown =
            progression.look(elapsed, &scene.books, scene.progress, &scene.sinks, &terminal);
        assert_eq!(shown.block.is_empty(), progression.plain);
        lines.extend(shown.lines.iter().map(|line| line.whole(&terminal)));
    }
    lines
}

#[test]
fn a_pipe_gets_a_line_every_ten_seconds() {
    let scene = scene();
    let mut progression = Progression::new(scene.header.clone(), true);
    assert!(lines(&mut progression, &scene, 0, 10).is_empty());
    let shown = lines(&mut progression, &scene, 10, 40);
    let starts = shown.iter().map(|line| line.split("  RUNNING").next().unwrap().to_owned());
    assert_eq!(
        starts.collect::<Vec<_>>(),
        ["appliances  run 9f3a  10s", "appliances  run 9f3a  20s", "appliances  run 9f3a  30s"]
    );
    // After a pause of a minute there is one line, not six.
    assert_eq!(lines(&mut progression, &scene, 100, 102).len(), 1);
}

#[test]
fn an_outage_is_announced_once_and_so_is_its_end() {
    let mut scene = scene();
    let mut progression = Progression::new(scene.header.clone(), false);
    assert!(lines(&mut progression, &scene, 0, 20).is_empty());

    scene.sinks[0].state = down(18, 4);
    scene.sinks[0].spool_bytes = 7_235_174;
    scene.sinks[0].spool_max = 1 << 30;
    scene.books.sinks[0].spooled = 84_200;
    let expected = "\
API DOWN  POST https://api.example.net/load  for 18s
  why    connection refused; 4 tries, next in 8s
  data   84,200 records safe in data/appliances/spool/http (6.9 MiB); still extracting
  room   1017 MiB of 1 GiB
  you    nothing to do; Ctrl-C is safe";
    assert_eq!(lines(&mut progression, &scene, 20, 126).join("\n"), expected);

    // The rate at which the spool fills is taken from the outage alone.
    scene.sinks[0].spool_bytes += 500_000;
    let terminal = Terminal::plain();
    let moment = Duration::from_millis(126_000);
    let shown =
        progression.look(moment, &scene.books, scene.progress, &scene.sinks, &terminal).block;
    let last = shown.last().unwrap().whole(&terminal);
    assert!(last.ends_with("84,200 records safe   room for about 6 h"), "{last}");

    scene.sinks[0].state = SinkState::Up;
    let back = lines(&mut progression, &scene, 126, 130);
    assert_eq!(back, ["API BACK  after 2m04s   spool draining"]);
    scene.sinks[0].state = down(0, 1);
    assert_eq!(lines(&mut progression, &scene, 130, 131).len(), 5, "the next outage is news");
}

#[test]
fn a_refusal_names_the_setting() {
    let mut scene = scene();
    let mut progression = Progression::new(scene.header.clone(), true);
    scene.sinks[0].state = refused();
    let expected = "\
API REFUSED US  POST https://api.example.net/load
  why    answered 401 Unauthorized; sending is paused
  data   10,190 records waiting; the spool is data/appliances/spool/http; still extracting
  room   1 GiB of 1 GiB
  you    LOAD_API_TOKEN was refused; set a new one; the next run sends what is kept";
    assert_eq!(lines(&mut progression, &scene, 0, 3).join("\n"), expected);
    scene.sinks[0].state = SinkState::Up;
    assert_eq!(lines(&mut progression, &scene, 3, 4), ["API BACK  after 3s   spool empty"]);
}

#[test]
fn with_several_sinks_the_one_is_named() {
    let mut scene = scene();
    scene.sinks.push(health("archive"));
    scene.sinks[1].state = down(2, 1);
    let mut progression = Progression::new(scene.header.clone(), true);
    let shown = lines(&mut progression, &scene, 0, 1);
    assert_eq!(shown[0], "API DOWN  archive: POST https://api.example.net/load  for 2s");
    scene.sinks[1].state = SinkState::Up;
    let shown = lines(&mut progression, &scene, 1, 2);
    assert_eq!(shown, ["API BACK  archive  after 3s   spool empty"]);
}

#[test]
fn a_notice_says_what_kind_of_place_it_speaks_of() {
    for (kind, title) in [
        (SinkKind::Database, "DATABASE"),
        (SinkKind::Disk, "DISK"),
        (SinkKind::Store, "STORE"),
        (SinkKind::Api, "API"),
    ] {
        let mut scene = scene();
        let mut progression = Progression::new(scene.header.clone(), true);
        scene.sinks[0].kind = kind;
        scene.sinks[0].state = down(2, 1);
        scene.sinks[0].spool_bytes = scene.sinks[0].spool_max;
        let shown = lines(&mut progression, &scene, 0, 1);
        assert!(shown[0].starts_with(&format!("{title} DOWN  POST")), "{shown:?}");
        let room = format!("until the {} answers", kind.word());
        assert!(shown[3].ends_with(&room), "{shown:?}");
        scene.sinks[0].state = SinkState::Up;
        let shown = lines(&mut progression, &scene, 1, 2);
        assert_eq!(shown, [format!("{title} BACK  after 3s   spool draining")]);
        scene.sinks[0].state = refused();
        let shown = lines(&mut progression, &scene, 2, 3);
        assert!(shown[0].starts_with(&format!("{title} REFUSED US  POST")), "{shown:?}");
    }
}

#[test]
fn a_slow_sink_is_news_only_where_no_block_shows_it() {
    let mut scene = scene();
    let mut plain = Progression::new(scene.header.clone(), true);
    let mut interactive = Progression::new(scene.header.clone(), false);
    scene.sinks[0].silent_for = Some(Duration::from_secs(5));
    assert_eq!(lines(&mut plain, &scene, 0, 2), ["SLOW: http has not answered for 5s"]);
    assert!(lines(&mut interactive, &scene, 0, 2).is_empty());
    scene.sinks[0].silent_for = None;
    assert_eq!(lines(&mut plain, &scene, 2, 4), ["http answers again"]);
}

struct Scripted(Mutex<Vec<SinkHealth>>);

impl Watch for Scripted {
    fn books(&self) -> BooksSnapshot {
        scene().books
    }

    fn progress(&self) -> Progress {
        Progress::default()
    }

    fn sinks(&self) -> Vec<SinkHealth> {
        self.0.lock().unwrap().clone()
    }
}

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_thread_shows_changes_and_lines_without_codes_in_a_pipe() {
    let mut sink = health("http");
    sink.state = down(18, 4);
    let watch = Arc::new(Scripted(Mutex::new(vec![sink])));
    let output = Captured::default();
    let header = RunHeader { pipeline: "appliances".to_owned(), ..RunHeader::default() };
    let display = Display::start_on(header, watch, Terminal::plain(), output.clone());
    display.line("stopping: finishing 10 requests (30s at most)");
    std::thread::sleep(Duration::from_millis(500));
    display.line("last");
    display.finish();
    let text = String::from_utf8(output.0.lock().unwrap().clone()).unwrap();
    assert!(
        text.starts_with("stopping: finishing 10 requests (30s at most)\nAPI DOWN  POST"),
        "{text}"
    );
    assert!(text.ends_with("  you    nothing to do; Ctrl-C is safe\nlast\n"), "{text}");
    assert!(!text.contains('\x1b') && !text.contains('\r'));
}
