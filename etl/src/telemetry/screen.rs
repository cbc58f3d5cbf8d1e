//! The running display as text: counters and rates in, lines out. Pure. The same
//! facts become the five-line block of a terminal and the single line that a
//! pipe gets every ten seconds.

use std::time::Duration;

use super::figures::{
    about, answer_time, bar, bytes, count, counted, left, one_line, running_span, share,
    steady_rate,
};
use super::{
    BooksSnapshot, Progress, RunHeader, SinkHealth, SinkSnapshot, SinkState, Terminal, Tone,
};

/// A sink that has not answered for this long is pointed out.
pub const SLOW_AFTER: Duration = Duration::from_secs(5);
/// A forecast from less than this would be a guess.
const FORECAST_AFTER: Duration = Duration::from_secs(2);
const LABEL_WIDTH_MIN: usize = 9;

/// Everything that one drawing of the display shows.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// What stays the same.
    pub header: &'a RunHeader,
    /// The counters.
    pub books: &'a BooksSnapshot,
    /// How far the source is.
    pub progress: Progress,
    /// Every sink, in the order of the books.
    pub sinks: &'a [SinkHealth],
    /// How fast things move.
    pub rates: &'a Rates,
    /// Time since the run's start.
    pub elapsed: Duration,
    /// Somebody asked the run to stop.
    pub stopping: bool,
}

/// How fast things move; `None` where it is not known yet.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rates {
    /// [`Progress::done`] a second: targets of a fleet, else records.
    pub progress: Option<f64>,
    /// Bytes a second by which each sink's spool grows, in the order of the sinks.
    pub spool_growth: Vec<Option<f64>>,
}

/// One line of the screen, in pieces of one tone each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line(Vec<(Tone, String)>);

/// A counter with what belongs to it.
struct Fact {
    label: String,
    number: u64,
    /// Follows the number after one space: `of ~1,000,000 [####....] 41 %`.
    of: String,
    details: Vec<(Tone, String)>,
}

impl Line {
    /// A line of one tone.
    #[must_use]
    pub fn of(tone: Tone, text: impl Into<String>) -> Line {
        Line(vec![(tone, text.into())])
    }

    /// The line cut to the terminal's width, with colours where they are wanted.
    #[must_use]
    pub fn clipped(&self, terminal: &Terminal) -> String {
        let mut room = terminal.width;
        let mut text = String::new();
        for (tone, piece) in &self.0 {
            let visible = piece.chars().take(room).collect::<String>();
            room -= visible.chars().count();
            text.push_str(&terminal.paint(*tone, &visible));
        }
        text
    }

    /// The whole line, for a stream that has no width.
    #[must_use]
    pub fn whole(&self, terminal: &Terminal) -> String {
        self.0.iter().map(|(tone, piece)| terminal.paint(*tone, piece)).collect()
    }

    fn push(&mut self, tone: Tone, text: impl Into<String>) {
        self.0.push((tone, text.into()));
    }

    fn width(&self) -> usize {
        self.0.iter().map(|(_, piece)| piece.chars().count()).sum()
    }
}

/// The block that a terminal redraws, for one that is `width` columns wide.
#[must_use]
pub fn block(frame: &Frame<'_>, width: usize) -> Vec<Line> {
    let mut lines = vec![title(frame)];
    let with_bar = rows(&facts(frame, true));
    if with_bar.iter().take(1).all(|line| line.width() <= width) {
        lines.extend(with_bar);
    } else {
        // The time left says more than the bar does.
        lines.extend(rows(&facts(frame, false)));
    }
    for (place, sink) in frame.sinks.iter().enumerate() {
        lines.extend(trouble(frame, place, sink));
        lines.extend(obstacle(sink));
    }
    lines
}

/// The same in one line, for streams that cannot be redrawn.
#[must_use]
pub fn plain_line(frame: &Frame<'_>) -> Line {
    let mut text = title(frame).0.into_iter().map(|(_, piece)| piece).collect::<String>();
    for fact in facts(frame, false) {
        text.push_str(&format!("   {} {}", fact.label, count(fact.number)));
        if !fact.of.is_empty() {
            text.push_str(&format!(" {}", fact.of));
        }
        for (_, detail) in fact.details {
            text.push_str(&format!(", {detail}"));
        }
    }
    for (place, sink) in frame.sinks.iter().enumerate() {
        for line in trouble(frame, place, sink).into_iter().chain(obstacle(sink)) {
            text.push_str("   ");
            text.extend(line.0.into_iter().map(|(_, piece)| piece));
        }
    }
    Line::of(Tone::Plain, text)
}

/// Space left in a sink's spool and how long it lasts: `993 MiB of 1 GiB, about 40 min at this rate`.
#[must_use]
pub fn room(frame: &Frame<'_>, place: usize, sink: &SinkHealth) -> String {
    let free = sink.spool_max.saturating_sub(sink.spool_bytes);
    if free == 0 {
        let (max, kind) = (bytes(sink.spool_max), sink.kind.word());
        return format!("none of {max}: intake waits until the {kind} answers");
    }
    let space = format!("{} of {}", bytes(free), bytes(sink.spool_max));
    match lasts(frame, place, free) {
        Some(time) => format!("{space}, {} at this rate", about(time)),
        None => space,
    }
}

/// Records of this run in the spool of `sink`.
#[must_use]
pub fn spooled(frame: &Frame<'_>, sink: &SinkHealth) -> u64 {
    frame.books.sinks.iter().find(|books| books.name == sink.name).map_or(0, |books| books.spooled)
}

fn title(frame: &Frame<'_>) -> Line {
    let header = frame.header;
    let mut line = Line::of(Tone::Strong, &*header.pipeline);
    line.push(
        Tone::Plain,
        format!("  run {}  {}  ", header.run_id_short, running_span(frame.elapsed)),
    );
    if frame.stopping {
        line.push(Tone::Warn, "STOPPING");
    } else {
        line.push(Tone::Good, "RUNNING");
    }
    line
}

fn facts(frame: &Frame<'_>, with_bar: bool) -> Vec<Fact> {
    let mut facts = vec![intake(frame, with_bar)];
    if frame.header.fleet {
        facts.push(Fact::new("extracted", frame.books.extracted));
    }
    match frame.books.sinks.as_slice() {
        [sink] => facts.extend(single_sink(frame, sink)),
        sinks => {
            for sink in sinks {
                facts.push(one_of_several(frame, sink));
            }
            let mut left_out = Fact::new("rejected", frame.books.rejected);
            left_out.add(Some(format!("filtered {}", count(frame.books.filtered))));
            facts.push(left_out);
        }
    }
    facts
}

/// How far the source is: the first line, with the bar and the forecast.
fn intake(frame: &Frame<'_>, with_bar: bool) -> Fact {
    let (books, fleet) = (frame.books, frame.header.fleet);
    let (label, number) = if fleet {
        (books.targets_are(), books.targets_done)
    } else {
        ("extracted", books.extracted)
    };
    let mut fact = Fact::new(label, number);
    let done = frame.progress.done;
    if let Some(total) = frame.progress.total.or(frame.header.source_total) {
        // An estimate that turned out too low.
        let total = total.max(done);
        let sign = if fleet || done == total { "" } else { "~" };
        let bar = if with_bar { format!("{} ", bar(done, total)) } else { String::new() };
        fact.of = format!("of {sign}{} {bar}{}", count(total), share(done, total));
        fact.add(frame.rates.progress.map(steady_rate));
        fact.add(forecast(frame, total - done).map(left));
    } else {
        fact.add(frame.rates.progress.map(steady_rate));
    }
    if fleet {
        fact.details.push((Tone::Plain, format!("{} in flight", count(books.targets_in_flight))));
        fact.warn_of(books.targets_failed, "failed");
    }
    fact
}

fn forecast(frame: &Frame<'_>, remaining: u64) -> Option<Duration> {
    let per_second = frame.rates.progress.filter(|rate| *rate > 0.0)?;
    if remaining == 0 || frame.elapsed < FORECAST_AFTER || frame.stopping {
        return None;
    }
    Duration::try_from_secs_f64(remaining as f64 / per_second).ok()
}

fn single_sink(frame: &Frame<'_>, sink: &SinkSnapshot) -> [Fact; 2] {
    let health = health(frame, sink);
    let mut delivered = Fact::new("delivered", sink.delivered);
    delivered.details = traffic(sink, health);
    let mut waiting = Fact::new("waiting", health.map_or(0, |health| health.waiting));
    waiting.details = vec![
        noted(sink.spooled, "spooled"),
        noted(frame.books.rejected, "rejected"),
        (Tone::Plain, format!("filtered {}", count(frame.books.filtered))),
    ];
    [delivered, waiting]
}

fn one_of_several(frame: &Frame<'_>, sink: &SinkSnapshot) -> Fact {
    let health = health(frame, sink);
    let mut fact = Fact::new(&sink.name, sink.delivered);
    fact.of = "delivered".to_owned();
    fact.details = traffic(sink, health);
    let waiting = health.map_or(0, |health| health.waiting);
    fact.details.push((Tone::Plain, format!("waiting {}", count(waiting))));
    fact.details.push(noted(sink.spooled, "spooled"));
    fact
}

fn traffic(sink: &SinkSnapshot, health: Option<&SinkHealth>) -> Vec<(Tone, String)> {
    let mut details = Vec::new();
    if let Some(p95) = health.and_then(|health| health.p95_ms) {
        details.push((Tone::Plain, format!("p95 {}", answer_time(p95))));
    }
    details.push((Tone::Plain, format!("{} in flight", count(sink.in_flight))));
    details.push((Tone::Plain, counted(sink.retries, "retry")));
    if sink.replayed > 0 {
        details.push((Tone::Plain, format!("replayed {}", count(sink.replayed))));
    }
    let dead = sink.dead_lettered + sink.replay_dead_lettered;
    if dead > 0 {
        details.push((Tone::Bad, format!("dead-lettered {}", count(dead))));
    }
    details
}

/// What is wrong with a sink now, in at most one line that changes as it goes on.
fn trouble(frame: &Frame<'_>, place: usize, sink: &SinkHealth) -> Option<Line> {
    let name = one_line(&sink.name);
    match &sink.state {
        SinkState::Down { since, tries, next_try_in, .. } => {
            let mut line = Line::of(Tone::Bad, format!("{} DOWN", sink.kind.title()));
            let tries = counted(u64::from(*tries), "try");
            let next = running_span(*next_try_in);
            let safe = counted(spooled(frame, sink), "record");
            let text = format!(
                "  {name} for {}   {tries}, next in {next}   {safe} safe",
                running_span(*since)
            );
            line.push(Tone::Plain, text);
            let free = sink.spool_max.saturating_sub(sink.spool_bytes);
            if free == 0 && sink.obstacle.is_none() {
                line.push(Tone::Warn, "   spool full: intake waits");
            } else if let Some(time) = lasts(frame, place, free) {
                line.push(Tone::Plain, format!("   room for {}", about(time)));
            }
            Some(line)
        }
        SinkState::Refused { status, remedy, .. } => {
            let mut line = Line::of(Tone::Bad, format!("{} REFUSED US", sink.kind.title()));
            line.push(
                Tone::Plain,
                format!("  {name}: {}   {}", one_line(status), one_line(remedy)),
            );
            Some(line)
        }
        SinkState::Up => {
            let silent = sink.silent_for.filter(|silent| *silent >= SLOW_AFTER)?;
            Some(Line::of(Tone::Warn, slow(&name, silent)))
        }
    }
}

/// `http: spool full: intake waits; …`.
#[must_use]
pub fn obstacle(sink: &SinkHealth) -> Option<Line> {
    let text = sink.obstacle.as_ref()?;
    Some(Line::of(Tone::Warn, format!("{}: {}", one_line(&sink.name), one_line(text))))
}

/// `SLOW: http has not answered for 5s`.
#[must_use]
pub fn slow(name: &str, silent: Duration) -> String {
    format!("SLOW: {name} has not answered for {}", running_span(silent))
}

fn lasts(frame: &Frame<'_>, place: usize, free: u64) -> Option<Duration> {
    let growth =
        frame.rates.spool_growth.get(place).copied().flatten().filter(|growth| *growth > 0.0)?;
    Duration::try_from_secs_f64(free as f64 / growth).ok()
}

fn health<'a>(frame: &Frame<'a>, sink: &SinkSnapshot) -> Option<&'a SinkHealth> {
    frame.sinks.iter().find(|health| health.name == sink.name)
}

fn noted(number: u64, what: &str) -> (Tone, String) {
    let tone = if number > 0 { Tone::Warn } else { Tone::Plain };
    (tone, format!("{what} {}", count(number)))
}

impl Fact {
    fn new(label: &str, number: u64) -> Fact {
        Fact { label: one_line(label), number, of: String::new(), details: Vec::new() }
    }

    fn add(&mut self, detail: Option<String>) {
        self.details.extend(detail.map(|detail| (Tone::Plain, detail)));
    }

    fn warn_of(&mut self, number: u64, what: &str) {
        if number > 0 {
            self.details.push((Tone::Warn, format!("{} {what}", count(number))));
        }
    }
}

/// Labels to the left, numbers to the right of their columns.
fn rows(facts: &[Fact]) -> Vec<Line> {
    let width_of = |texts: &mut dyn Iterator<Item = usize>| texts.max().unwrap_or(0);
    let labels =
        width_of(&mut facts.iter().map(|fact| fact.label.chars().count())).max(LABEL_WIDTH_MIN);
    let numbers = width_of(&mut facts.iter().map(|fact| count(fact.number).len()));
    let row = |(place, fact): (usize, &Fact)| {
        let number = count(fact.number);
        let mut line =
            Line::of(Tone::Plain, format!("{:<labels$}  {number:>numbers$}", fact.label));
        if !fact.of.is_empty() {
            line.push(Tone::Plain, format!(" {}", fact.of));
        }
        for (tone, detail) in &fact.details {
            line.push(Tone::Plain, if place == 0 { "  " } else { "   " });
            line.push(*tone, &**detail);
        }
        line
    };
    facts.iter().enumerate().map(row).collect()
}

#[cfg(test)]
pub(super) mod tests;
