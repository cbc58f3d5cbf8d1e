//! One pipeline that is served, as everybody may look at it: its configuration, what it
//! is doing, what came of its runs. A run's insides are only looked at under the lock
//! and let go of with its end: whoever kept them would keep its spool locked.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::orders::Orders;
use super::spools::{SinkSpool, Spools};
use super::timing::Moment;
use super::totals::{Durations, Totals, progress};
use crate::config::Loaded;
use crate::history::RunRecord;
use crate::load::unix_seconds;
use crate::pipeline::{REJECTED, RunWatch, Targets};
use crate::telemetry::{BooksSnapshot, SinkHealth, Watch};

/// One pipeline that is served.
#[derive(Debug)]
pub struct Served {
    /// The pipeline's name.
    pub name: String,
    /// None when it is served no more.
    config: watch::Sender<Option<Arc<Loaded>>>,
    orders: watch::Sender<Orders>,
    inner: Mutex<Inner>,
    spools: Mutex<Spools>,
}

/// What a pipeline is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Activity {
    /// It waits until it is due.
    #[default]
    Waiting,
    /// It runs.
    Running {
        /// The run.
        run_id: String,
        /// Since when, Unix seconds.
        since: u64,
        /// How long nothing has moved.
        idle: Duration,
    },
    /// A run did not end well and is tried again.
    Retrying,
    /// It was told to stop, and runs again when it is told to start.
    Stopped,
    /// It has no schedule and has had its run.
    Ended,
}

/// Everything there is to know of a pipeline at one moment.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// What it is doing.
    pub activity: Activity,
    /// When it is due next.
    pub due: Option<Moment>,
    /// Whether a run waits for the end of the one that is going on.
    pub queued: bool,
    /// Books of all runs of this process.
    pub totals: Totals,
    /// Books of the run that is going on.
    pub running: Option<BooksSnapshot>,
    /// The last run that is over, of an earlier process perhaps.
    pub last: Option<RunRecord>,
    /// The last run that is over and will not be tried again.
    pub settled: Option<RunRecord>,
    /// When the last run that ended well ended, Unix seconds.
    pub last_success: Option<u64>,
    /// How its sinks are, or were when the last run ended.
    pub sinks: Vec<SinkHealth>,
    /// What its spools hold.
    pub spools: BTreeMap<String, SinkSpool>,
    /// Runs by their result.
    pub results: BTreeMap<String, u64>,
    /// How long runs took.
    pub durations: Durations,
    /// Runs whose source was read to its end.
    pub extractions: u64,
    /// Due runs that were not begun because one was going on.
    pub skipped: u64,
    /// Due runs that nobody was there to begin.
    pub missed: u64,
    /// Runs that were tried again.
    pub retries: u64,
    /// How late the last run began.
    pub lag: Duration,
}

#[derive(Debug, Default)]
struct Inner {
    /// All but what is taken from the run that is going on.
    figures: Figures,
    run: Option<Current>,
}

#[derive(Debug)]
struct Current {
    watch: RunWatch,
    /// Dead letters when it began, per sink.
    dead_before: BTreeMap<String, u64>,
    progress: u64,
    moved: Instant,
    /// Records delivered, and when there were more of them last, Unix seconds.
    delivered: u64,
    delivered_at: Option<u64>,
}

impl Served {
    /// A pipeline to be served, with what is known of its past; `stopped` when it was told
    /// to stop and not to start again.
    #[must_use]
    pub fn new(loaded: Arc<Loaded>, past: &[RunRecord], stopped: bool) -> Served {
        let good = past.iter().rev().find(|run| run.exit == 0);
        let figures = Figures {
            last: past.last().cloned(),
            settled: past.last().cloned(),
            last_success: good.map(|run| run.began.saturating_add(run.seconds as u64)),
            ..Figures::default()
        };
        Served {
            name: loaded.pipeline.name.clone(),
            config: watch::Sender::new(Some(loaded)),
            orders: watch::Sender::new(Orders { stopped, runs: 0 }),
            inner: Mutex::new(Inner { figures, run: None }),
            spools: Mutex::default(),
        }
    }

    /// The configuration that the next run has; none when there will be none.
    #[must_use]
    pub fn loaded(&self) -> Option<Arc<Loaded>> {
        self.config.borrow().clone()
    }

    /// Puts another configuration in force for the next run, or ends the serving.
    pub fn configure(&self, loaded: Option<Arc<Loaded>>) {
        self.config.send_replace(loaded);
    }

    /// Sees changes of the configuration.
    pub(super) fn changes(&self) -> watch::Receiver<Option<Arc<Loaded>>> {
        self.config.subscribe()
    }

    /// Whether it was told to stop.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.orders.borrow().stopped
    }

    /// Waits until it is told to stop.
    pub(super) async fn told_to_stop(&self) {
        // The sender is this very value, so there is always one.
        drop(self.orders.subscribe().wait_for(|orders| orders.stopped).await);
    }

    /// Orders something of it.
    pub(super) fn order(&self, change: impl FnOnce(&mut Orders)) {
        self.orders.send_modify(change);
    }

    /// Sees what is ordered.
    pub(super) fn orders(&self) -> watch::Receiver<Orders> {
        self.orders.subscribe()
    }

    /// Changes some of the figures.
    pub(super) fn note(&self, change: impl FnOnce(&mut Figures)) {
        change(&mut self.inner().figures);
    }

    /// A run begins. `spools` is what they held just before.
    pub(super) fn begins(
        &self,
        run_id: &str,
        watch: RunWatch,
        spools: &BTreeMap<String, SinkSpool>,
    ) {
        let mut inner = self.inner();
        inner.figures.activity = Activity::Running {
            run_id: run_id.to_owned(),
            since: unix_seconds(),
            idle: Duration::ZERO,
        };
        let dead_before = spools.iter().map(|(sink, spool)| (sink.clone(), spool.dead_records));
        inner.run = Some(Current {
            progress: progress(&watch.books()),
            dead_before: dead_before.collect(),
            watch,
            moved: Instant::now(),
            delivered: 0,
            delivered_at: None,
        });
    }

    /// A run is over; its books are added up. Nothing of it is held after this.
    pub(super) fn ended(&self, books: Option<&BooksSnapshot>, record: RunRecord) {
        let mut inner = self.inner();
        let run = inner.run.take();
        let figures = &mut inner.figures;
        if let Some(run) = run {
            figures.sinks = run.watch.sinks();
        }
        if let Some(books) = books {
            figures.totals.add(books);
            figures.durations.add(record.seconds);
        }
        if record.exit == 0 {
            figures.last_success = Some(unix_seconds());
        }
        *figures.results.entry(record.result.clone()).or_default() += 1;
        figures.activity = Activity::Waiting;
        figures.last = Some(record);
        drop(inner);
        self.lock_spools().forget();
    }

    /// Notes whether the run that is going on has moved; gives what people are to be told
    /// of it.
    pub(super) fn look(&self) -> Option<String> {
        let mut inner = self.inner();
        let run = inner.run.as_mut()?;
        let books = run.watch.books();
        let now = progress(&books);
        if now != run.progress {
            run.progress = now;
            run.moved = Instant::now();
        }
        let delivered = books.sinks.iter().map(|sink| sink.delivered).sum();
        if delivered > run.delivered {
            (run.delivered, run.delivered_at) = (delivered, Some(unix_seconds()));
        }
        run.watch.fleet_line()
    }

    /// The targets of a fleet that is polled for good now.
    #[must_use]
    pub fn targets(&self) -> Option<Targets> {
        self.inner().run.as_ref()?.watch.targets()
    }

    /// How long nothing may move without anything being wrong: between two polls of a
    /// small fleet, and as long as it has no target.
    #[must_use]
    pub fn quiet_for(&self, figures: &Figures) -> Duration {
        let loaded = self.loaded();
        let Some(every) = loaded.as_ref().and_then(|loaded| loaded.pipeline.every()) else {
            return Duration::ZERO;
        };
        let fleet = figures.running.as_ref().and_then(|books| books.fleet);
        match fleet {
            Some(fleet) if fleet.targets > fleet.demoted => every.interval.0 * 2,
            Some(fleet) if fleet.targets > 0 => every.interval.0 * 32,
            _ => Duration::MAX,
        }
    }

    /// Waits until the configuration is another than `loaded`.
    pub(super) async fn another_than(&self, loaded: &Arc<Loaded>) {
        let other =
            |now: &Option<Arc<Loaded>>| !now.as_ref().is_some_and(|now| Arc::ptr_eq(now, loaded));
        // The sender is this very value, so there is always one.
        drop(self.config.subscribe().wait_for(other).await);
    }

    /// Requests of the run that is going on that are in flight.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        let inner = self.inner();
        let books = inner.run.as_ref().map(|run| run.watch.books());
        books.map_or(0, |books| books.sinks.iter().map(|sink| sink.in_flight).sum())
    }

    /// What the spools hold, looked at from outside. Blocks.
    pub(super) fn spools(&self, data_dir: &Path) -> BTreeMap<String, SinkSpool> {
        self.lock_spools().look(data_dir, &self.name)
    }

    /// Everything there is to know now. Blocks: it may look at the spools' files.
    #[must_use]
    pub fn figures(&self, data_dir: &Path) -> Figures {
        let mut figures = {
            let inner = self.inner();
            let mut figures = inner.figures.clone();
            if let Some(run) = &inner.run {
                add_running(&mut figures, run);
            }
            figures
        };
        if figures.running.is_none() {
            figures.spools = self.spools(data_dir);
        }
        // A configured sink has figures, also before its first run.
        let loaded = self.loaded();
        let pipeline = loaded.as_ref().map(|loaded| &loaded.pipeline);
        for load in pipeline.into_iter().flat_map(|it| it.raw.iter().chain(&it.load)) {
            figures.totals.sinks.entry(load.sink_name().to_owned()).or_default();
            figures.spools.entry(load.sink_name().to_owned()).or_default();
        }
        figures.spools.entry(REJECTED.to_owned()).or_default();
        figures
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_spools(&self) -> MutexGuard<'_, Spools> {
        self.spools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes what only the run that is going on knows.
fn add_running(figures: &mut Figures, run: &Current) {
    let books = run.watch.books();
    figures.totals.add(&books);
    figures.sinks = run.watch.sinks();
    if let Activity::Running { idle, .. } = &mut figures.activity {
        *idle = run.moved.elapsed();
    }
    let now = unix_seconds();
    if books.fleet.is_some() {
        // A run that has no end succeeds as long as it delivers.
        figures.last_success = run.delivered_at.or(figures.last_success);
    }
    let before = |sink: &str| run.dead_before.get(sink).copied().unwrap_or(0);
    for ((name, usage), sink) in run.watch.spools().into_iter().zip(&books.sinks) {
        let dead = sink.dead_lettered + sink.replay_dead_lettered;
        let spool = SinkSpool {
            bytes: usage.bytes,
            batches: usage.batches,
            oldest_since: usage.oldest.map(|age| now.saturating_sub(age.as_secs())),
            dead_records: before(&name) + dead,
        };
        figures.spools.insert(name, spool);
    }
    let dead_records = before(REJECTED) + books.rejected;
    figures.spools.insert(REJECTED.to_owned(), SinkSpool { dead_records, ..SinkSpool::default() });
    figures.running = Some(books);
}
