//! The running display on stderr: a block redrawn in place on a terminal, plain
//! lines elsewhere. One thread looks at the run five times a second; what it
//! shows is decided by `Progression`, which knows neither clock nor stream.

use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::meter::Meter;
use super::notices::Notices;
use super::screen::{Frame, Line, Rates, block, plain_line};
use super::{BooksSnapshot, Progress, RunHeader, SinkHealth, SinkState, Terminal, Watch};

const LOOK_EVERY: Duration = Duration::from_millis(200);
const PLAIN_LINE_EVERY: Duration = Duration::from_secs(10);
const REDRAWS_PER_SECOND: u8 = 20;
/// A stderr that nobody reads must not hold up the end of the run.
const FINISH_WITHIN: Duration = Duration::from_secs(2);

/// The block that is on the terminal now, if any. A process has one stderr, so
/// this is global: whoever writes there has to go through [`AboveDisplay`].
static ON_SCREEN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// The running display; it ends with [`Display::finish`] or when dropped.
pub struct Display {
    orders: Option<Sender<Order>>,
    ended: Receiver<()>,
}

enum Order {
    Line(String),
    Stopping,
}

impl Display {
    /// Starts to show `watch` on stderr, as `terminal` can.
    #[must_use]
    pub fn start(header: RunHeader, watch: Arc<dyn Watch>, terminal: Terminal) -> Display {
        Display::start_on(header, watch, terminal, AboveDisplay)
    }

    /// One line that stays, above what is redrawn. Never blocks.
    pub fn line(&self, text: impl Into<String>) {
        self.order(Order::Line(text.into()));
    }

    /// From now on the display says STOPPING.
    pub fn stopping(&self) {
        self.order(Order::Stopping);
    }

    /// Takes the block away; what was announced stays.
    pub fn finish(self) {
        drop(self);
    }

    fn start_on(
        header: RunHeader,
        watch: Arc<dyn Watch>,
        terminal: Terminal,
        output: impl Write + Send + 'static,
    ) -> Display {
        let (orders, inbox) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let thread = std::thread::Builder::new().name("display".to_owned()).spawn(move || {
            show(header, &*watch, terminal, output, &inbox);
            let _nobody_waits = end.send(());
        });
        if let Err(error) = thread {
            // A run without a display is still a run.
            tracing::warn!(%error, "progress cannot be shown");
        }
        Display { orders: Some(orders), ended }
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            // Fails only when the display's thread is gone, and then nothing is shown.
            drop(orders.send(order));
        }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        // Closing the channel ends the thread, after the orders already given.
        self.orders = None;
        let _ended_or_stuck = self.ended.recv_timeout(FINISH_WITHIN);
    }
}

/// The display's thread.
fn show(
    header: RunHeader,
    watch: &dyn Watch,
    mut terminal: Terminal,
    mut output: impl Write,
    inbox: &Receiver<Order>,
) {
    let started = Instant::now();
    let mut progression = Progression::new(header, !terminal.interactive);
    let _block = terminal.interactive.then(OnScreen::appear);
    let mut next_look = started + LOOK_EVERY;
    let mut look = |terminal: &Terminal, stopping: bool, output: &mut dyn Write| {
        progression.stopping = stopping;
        let (books, progress, sinks) = (watch.books(), watch.progress(), watch.sinks());
        let shown = progression.look(started.elapsed(), &books, progress, &sinks, terminal);
        for line in shown.lines {
            print(output, &line.whole(terminal));
        }
        shown.block
    };
    let mut stopping = false;
    loop {
        match inbox.recv_timeout(next_look.saturating_duration_since(Instant::now())) {
            Ok(Order::Line(text)) => print(&mut output, &text),
            Ok(Order::Stopping) => stopping = true,
            Err(RecvTimeoutError::Disconnected) => {
                // What changed since the last look is news all the same: a short run
                // may be over before there was one.
                look(&terminal, stopping, &mut output);
                return;
            }
            Err(RecvTimeoutError::Timeout) => {
                next_look = Instant::now() + LOOK_EVERY;
                if terminal.interactive {
                    terminal.width = Terminal::stderr().width;
                }
                let block = look(&terminal, stopping, &mut output);
                let block = block.iter().map(|line| line.clipped(&terminal));
                OnScreen::redraw(&block.collect::<Vec<_>>());
            }
        }
    }
}

fn print(output: &mut dyn Write, line: &str) {
    // One write, so that a line of the log cannot come between; without stderr
    // there is nobody to tell.
    drop(output.write_all(format!("{line}\n").as_bytes()));
}

/// What is shown when, given what was shown before.
struct Progression {
    header: RunHeader,
    plain: bool,
    stopping: bool,
    next_plain_line: Duration,
    progress: Meter,
    spools: Vec<Meter>,
    notices: Notices,
}

/// What one look at the run gives to show.
struct Shown {
    /// Lines that stay.
    lines: Vec<Line>,
    /// What is redrawn; empty where that cannot be done.
    block: Vec<Line>,
}

impl Progression {
    fn new(header: RunHeader, plain: bool) -> Progression {
        Progression {
            header,
            plain,
            stopping: false,
            next_plain_line: PLAIN_LINE_EVERY,
            progress: Meter::default(),
            spools: Vec::new(),
            notices: Notices::default(),
        }
    }

    fn look(
        &mut self,
        elapsed: Duration,
        books: &BooksSnapshot,
        progress: Progress,
        sinks: &[SinkHealth],
        terminal: &Terminal,
    ) -> Shown {
        self.progress.note(elapsed, progress.done);
        self.spools.resize_with(sinks.len(), Meter::default);
        for (meter, sink) in self.spools.iter_mut().zip(sinks) {
            if sink.state == SinkState::Up {
                // How fast a spool fills is a question about an outage only.
                *meter = Meter::default();
            }
            meter.note(elapsed, sink.spool_bytes);
        }
        let rates = Rates {
            progress: self.progress.per_second(),
            spool_growth: self.spools.iter().map(Meter::per_second).collect(),
        };
        let (header, stopping) = (&self.header, self.stopping);
        let frame = Frame { header, books, progress, sinks, rates: &rates, elapsed, stopping };
        let mut lines = self.notices.news(&frame, self.plain);
        if !self.plain {
            return Shown { lines, block: block(&frame, terminal.width) };
        }
        if elapsed >= self.next_plain_line {
            lines.push(plain_line(&frame));
            // From now, not from when it was due: a paused process does not catch up.
            self.next_plain_line = elapsed + PLAIN_LINE_EVERY;
        }
        Shown { lines, block: Vec::new() }
    }
}

/// The block's presence on the terminal; it is taken away when this is dropped.
struct OnScreen;

impl OnScreen {
    fn appear() -> OnScreen {
        let target = ProgressDrawTarget::stderr_with_hz(REDRAWS_PER_SECOND);
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        *on_screen() = Some(bar);
        OnScreen
    }

    fn redraw(lines: &[String]) {
        if let Some(bar) = &*on_screen() {
            bar.set_message(lines.join("\n"));
        }
    }
}

impl Drop for OnScreen {
    fn drop(&mut self) {
        if let Some(bar) = on_screen().take() {
            bar.finish_and_clear();
        }
    }
}

fn on_screen() -> std::sync::MutexGuard<'static, Option<ProgressBar>> {
    ON_SCREEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Standard error for everybody while a display is up: whole lines go above
/// what is redrawn. Without a display it is stderr as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct AboveDisplay;

impl Write for AboveDisplay {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let write = || io::stderr().write_all(bytes);
        match &*on_screen() {
            Some(bar) => bar.suspend(write)?,
            None => write()?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests;
