//! What is announced once, when it changes: a sink goes down, refuses us, comes
//! back. Pure: the display asks with every frame and prints what is new.

use std::time::Duration;

use super::figures::{bytes, count, counted, one_line, running_span, span};
use super::screen::{Frame, Line, SLOW_AFTER, obstacle, room, slow, spooled};
use super::{SinkHealth, SinkState, Tone};

/// What has been announced about each sink.
#[derive(Debug, Default)]
pub struct Notices {
    known: Vec<Known>,
    /// When each sink's obstacle was last said.
    obstacles: Vec<Option<Duration>>,
}

/// A spool at its cap is full and has room many times a second.
const OBSTACLE_AGAIN_AFTER: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum Known {
    #[default]
    Up,
    Slow,
    /// Down since this time after the run's start; negative when it was before.
    Down(f64),
    Refused(f64),
}

impl Notices {
    /// What is new since the last frame. `with_slow` adds a sink that turns slow
    /// or answers again, for streams on which nothing else would show it.
    pub fn news(&mut self, frame: &Frame<'_>, with_slow: bool) -> Vec<Line> {
        self.known.resize(frame.sinks.len(), Known::Up);
        let mut lines = Vec::new();
        for (place, sink) in frame.sinks.iter().enumerate() {
            let before = self.known[place];
            let now = Known::of(sink, before, frame.elapsed);
            match (before, now) {
                (Known::Down(_), Known::Down(_)) | (Known::Refused(_), Known::Refused(_)) => {}
                (_, Known::Down(_) | Known::Refused(_)) => lines.extend(outage(frame, place, sink)),
                (Known::Down(since) | Known::Refused(since), Known::Up | Known::Slow) => {
                    lines.push(back(frame, sink, since));
                }
                (Known::Up, Known::Slow) if with_slow => {
                    let silent = sink.silent_for.unwrap_or(SLOW_AFTER);
                    lines.push(Line::of(Tone::Warn, slow(&one_line(&sink.name), silent)));
                }
                (Known::Slow, Known::Up) if with_slow => {
                    lines.push(Line::of(
                        Tone::Good,
                        format!("{} answers again", one_line(&sink.name)),
                    ));
                }
                (Known::Up | Known::Slow, Known::Up | Known::Slow) => {}
            }
            self.known[place] = now;
            if with_slow {
                lines.extend(self.obstacle(frame, place, sink));
            }
        }
        lines
    }
}

impl Notices {
    fn obstacle(&mut self, frame: &Frame<'_>, place: usize, sink: &SinkHealth) -> Option<Line> {
        self.obstacles.resize(frame.sinks.len(), None);
        let line = obstacle(sink)?;
        let said = &mut self.obstacles[place];
        if said.is_some_and(|at| frame.elapsed < at + OBSTACLE_AGAIN_AFTER) {
            return None;
        }
        *said = Some(frame.elapsed);
        Some(line)
    }
}

impl Known {
    fn of(sink: &SinkHealth, before: Known, elapsed: Duration) -> Known {
        match (&sink.state, before) {
            (SinkState::Down { .. }, Known::Down(since) | Known::Refused(since)) => {
                Known::Down(since)
            }
            (SinkState::Refused { .. }, Known::Down(since) | Known::Refused(since)) => {
                Known::Refused(since)
            }
            (SinkState::Down { since, .. }, _) => {
                Known::Down(elapsed.as_secs_f64() - since.as_secs_f64())
            }
            (SinkState::Refused { .. }, _) => Known::Refused(elapsed.as_secs_f64()),
            (SinkState::Up, _) => match sink.silent_for {
                Some(silent) if silent >= SLOW_AFTER => Known::Slow,
                _ => Known::Up,
            },
        }
    }
}

fn outage(frame: &Frame<'_>, place: usize, sink: &SinkHealth) -> Vec<Line> {
    let kind = sink.kind.title();
    let (title, why, you) = match &sink.state {
        SinkState::Up => return Vec::new(),
        SinkState::Down { since, why, tries, next_try_in, target } => (
            format!("{kind} DOWN  {}  for {}", named(frame, sink, target), running_span(*since)),
            format!(
                "{}; {}, next in {}",
                one_line(why),
                counted(u64::from(*tries), "try"),
                running_span(*next_try_in)
            ),
            "nothing to do; Ctrl-C is safe".to_owned(),
        ),
        SinkState::Refused { status, remedy, target } => (
            format!("{kind} REFUSED US  {}", named(frame, sink, target)),
            format!("answered {}; sending is paused", one_line(status)),
            format!("{}; the next run sends what is kept", one_line(remedy)),
        ),
    };
    let details = [
        ("why", why),
        ("data", data(frame, sink)),
        ("room", room(frame, place, sink)),
        ("you", you),
    ];
    let mut lines = vec![Line::of(Tone::Bad, title)];
    lines.extend(
        details.iter().map(|(label, text)| Line::of(Tone::Plain, format!("  {label:<5}  {text}"))),
    );
    lines
}

fn back(frame: &Frame<'_>, sink: &SinkHealth, since: f64) -> Line {
    let down_for =
        Duration::try_from_secs_f64(frame.elapsed.as_secs_f64() - since).unwrap_or_default();
    let spool = if sink.spool_bytes > 0 { "spool draining" } else { "spool empty" };
    let name =
        if frame.sinks.len() > 1 { format!("{}  ", one_line(&sink.name)) } else { String::new() };
    let (kind, down_for) = (sink.kind.title(), span(whole_seconds(down_for)));
    Line::of(Tone::Good, format!("{kind} BACK  {name}after {down_for}   {spool}"))
}

/// What is safe, and where: the question anybody has when a sink goes down.
fn data(frame: &Frame<'_>, sink: &SinkHealth) -> String {
    let directory = sink.spool_dir.display();
    let safe = match spooled(frame, sink) {
        0 => format!("{} waiting; the spool is {directory}", counted(sink.waiting, "record")),
        records => {
            let (records, amount) = (counted(records, "record"), bytes(sink.spool_bytes));
            format!("{records} safe in {directory} ({amount})")
        }
    };
    let total = frame.progress.total;
    if frame.stopping {
        format!("{safe}; stopping")
    } else if total.is_some_and(|total| frame.header.fleet && frame.progress.done >= total) {
        format!("{safe}; all {} extracted", count(frame.books.extracted))
    } else {
        format!("{safe}; still extracting")
    }
}

fn named(frame: &Frame<'_>, sink: &SinkHealth, target: &str) -> String {
    let target = one_line(target);
    if frame.sinks.len() > 1 { format!("{}: {target}", one_line(&sink.name)) } else { target }
}

fn whole_seconds(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs().max(1))
}
