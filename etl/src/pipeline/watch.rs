//! What the running display may look at.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::every::{Shared, TargetFilter, TargetView};
use super::rows::FileProgress;
use crate::load::runtime::{SinkRuntime, SinkView};
use crate::spool::Usage;
use crate::telemetry::{
    Books, BooksSnapshot, Progress, SinkBooks, SinkHealth, SinkInput, SinkState, Watch,
};

/// A view of a run that outlives its parts.
#[derive(Debug)]
pub struct RunWatch {
    books: Arc<Books>,
    progress: Arc<FileProgress>,
    views: Vec<SinkView>,
    sinks: Vec<(String, Arc<SinkBooks>, SinkInput)>,
    /// A fleet that is polled for good.
    fleet: Option<Arc<Shared>>,
}

impl RunWatch {
    pub(super) fn new(
        books: Arc<Books>,
        progress: Arc<FileProgress>,
        sinks: &[(SinkInput, SinkRuntime)],
        fleet: Option<Arc<Shared>>,
    ) -> Self {
        let views: Vec<SinkView> = sinks.iter().map(|(_, sink)| sink.view()).collect();
        let sinks = sinks
            .iter()
            .zip(&views)
            .map(|((input, sink), view)| (view.name().to_owned(), sink.books(), *input))
            .collect();
        RunWatch { books, progress, views, sinks, fleet }
    }
}

impl RunWatch {
    /// What people are to be told of a fleet's last cycle, once.
    #[must_use]
    pub fn fleet_line(&self) -> Option<String> {
        self.books.fleet_line()
    }

    /// Looks at the targets of a fleet that is polled for good; none where there is none.
    #[must_use]
    pub fn targets(&self) -> Option<Targets> {
        self.fleet.clone().map(Targets)
    }

    /// What each sink's spool holds now.
    #[must_use]
    pub fn spools(&self) -> Vec<(String, Usage)> {
        self.views.iter().map(|view| (view.name().to_owned(), view.usage())).collect()
    }
}

impl Watch for RunWatch {
    fn books(&self) -> BooksSnapshot {
        self.books.snapshot(&self.sinks)
    }

    fn progress(&self) -> Progress {
        let books = &self.books;
        let targets = books.targets_total.load(Relaxed);
        if targets > 0 {
            return Progress { done: books.targets_done.load(Relaxed), total: Some(targets) };
        }
        let done = books.extracted.load(Relaxed);
        let (read, size) = (self.progress.read.load(Relaxed), self.progress.total.load(Relaxed));
        // Records so far, scaled by the share of the file that they took.
        let total = (u128::from(done) * u128::from(size)).checked_div(u128::from(read));
        Progress { done, total: total.and_then(|total| u64::try_from(total).ok()) }
    }

    fn sinks(&self) -> Vec<SinkHealth> {
        let books = self.books();
        self.views.iter().zip(&books.sinks).map(|(view, sink)| health(view, sink)).collect()
    }
}

/// The targets of a fleet at work.
#[derive(Debug, Clone)]
pub struct Targets(Arc<Shared>);

impl Targets {
    /// Those that `filter` asks for, and how many there are in all that it fits.
    #[must_use]
    pub fn find(&self, filter: &TargetFilter) -> (Vec<TargetView>, usize) {
        self.0.targets(filter)
    }
}

fn health(view: &SinkView, books: &crate::telemetry::SinkSnapshot) -> SinkHealth {
    let gate = view.gate();
    let now = Instant::now();
    let state = match gate.trouble {
        None => SinkState::Up,
        Some(trouble) if trouble.refused => SinkState::Refused {
            status: trouble.why,
            remedy: gate.remedy.unwrap_or_else(|| view.remedy(gate.status)),
            target: view.target().to_owned(),
        },
        Some(trouble) => SinkState::Down {
            since: now.saturating_duration_since(trouble.since),
            why: trouble.why,
            tries: trouble.probes + trouble.failures,
            next_try_in: trouble.probe_at.saturating_duration_since(now),
            target: view.target().to_owned(),
        },
    };
    let silent: Duration = now.saturating_duration_since(gate.heard_at);
    SinkHealth {
        name: view.name().to_owned(),
        kind: view.kind(),
        p95_ms: gate.p95_ms,
        state,
        spool_bytes: view.usage().bytes,
        spool_max: view.spool_max(),
        spool_dir: view.directory(),
        obstacle: view.obstacle(),
        waiting: books
            .accepted
            .saturating_sub(books.delivered + books.spooled + books.dead_lettered),
        silent_for: (books.in_flight > 0).then_some(silent),
    }
}
