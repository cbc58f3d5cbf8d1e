//! One sink at work: its channel, its workers, its replayer, its spool. Sinks
//! share nothing, so a dead one never stops or re-sends another.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_channel::{Receiver, Sender, bounded, unbounded};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinHandle;
use tracing::Instrument;

use super::disk::Disk;
use super::gate::{Gate, GateView};
use super::handed::HANDED_MAX;
use super::obstacle::obstacle;
use super::parts::Parts;
use super::plan::ReplayPlan;
use super::sink::Sink;
use super::{away, replay, worker};
use crate::batch::{Ack, Batch, Payload};
use crate::checkpoint::{Ticket, Tracker};
use crate::config::{Load, SpoolMode};
use crate::spool::{Room, Spool, Usage};
use crate::stop::{Stop, StopHandle};
use crate::telemetry::{SinkBooks, SinkKind};

/// How often a full spool is looked at again.
const ROOM_PAUSE: Duration = Duration::from_millis(200);

/// The most replayed batches that wait for a worker.
const REPLAYED_MAX: usize = 10;

/// One sink at work.
#[derive(Debug)]
pub struct SinkRuntime {
    parts: Arc<Parts>,
    live: Sender<Batch>,
    tracker: Arc<Tracker>,
    tasks: Vec<JoinHandle<()>>,
    /// Whether intake is waiting for room in the spool.
    full: Arc<AtomicBool>,
    /// The most the spool may hold, bytes.
    spool_max: u64,
}

/// Where sealed batches of one sink go in.
#[derive(Debug, Clone)]
pub struct Outlet {
    parts: Arc<Parts>,
    live: Sender<Batch>,
    tracker: Arc<Tracker>,
    full: Arc<AtomicBool>,
}

/// What a sink must know of its run to begin.
#[derive(Debug, Clone)]
pub struct SinkBegin {
    /// The run.
    pub run_id: Arc<str>,
    /// When batches are written to the spool, unless the sink says otherwise.
    pub mode: SpoolMode,
    /// The first record that is not settled in this sink.
    pub start: u64,
    /// The run's span, around those of its batches.
    pub span: tracing::Span,
}

/// What a sink looked like when its run ended.
#[derive(Debug, Clone)]
pub struct SinkEnd {
    /// The sink's name.
    pub name: String,
    /// What its spool holds, also from earlier runs.
    pub usage: Usage,
    /// Spool files found unreadable and set aside in this run.
    pub corrupt: u64,
    /// Whether dead letters stopped the run.
    pub too_many_rejected: bool,
    /// The last trouble with the spool's disk, if it was not over.
    pub disk_trouble: Option<String>,
    /// Every record of the run before this sequence number is settled.
    pub watermark: u64,
}

impl SinkRuntime {
    /// Starts the workers and the replayer of `load` on `spool`.
    ///
    /// # Errors
    /// When the disk threads cannot be started.
    pub fn start(
        load: &Load,
        begin: &SinkBegin,
        sink: Arc<dyn Sink>,
        spool: Spool,
        stop: &Stop,
        stop_handle: &StopHandle,
    ) -> std::io::Result<SinkRuntime> {
        let plan = ReplayPlan::default();
        Self::start_with(load, begin, sink, spool, stop, stop_handle, plan)
    }

    /// As [`SinkRuntime::start`], with a replayer that follows `plan`.
    ///
    /// # Errors
    /// When the disk threads cannot be started.
    pub fn start_with(
        load: &Load,
        begin: &SinkBegin,
        sink: Arc<dyn Sink>,
        spool: Spool,
        stop: &Stop,
        stop_handle: &StopHandle,
        plan: ReplayPlan,
    ) -> std::io::Result<SinkRuntime> {
        let (spool, workers) = (Arc::new(spool), load.in_flight_max());
        let books = SinkBooks::of(sink.kind() == SinkKind::Database);
        let parts = Arc::new(Parts {
            name: load.sink_name().to_owned(),
            sink,
            gate: Gate::new(load),
            books: Arc::new(books),
            disk: Disk::start(&spool, "spool", load.sink_name(), workers)?,
            retry: load.retry.clone(),
            mode: load.spool.mode.unwrap_or(begin.mode),
            max_rejected: load.max_rejected.0,
            stop: stop.clone(),
            stop_handle: stop_handle.clone(),
            run_id: begin.run_id.clone(),
            span: begin.span.clone(),
            first_sequence: spool.next_sequence(),
            adopted: Mutex::new(HashSet::new()),
            held: Mutex::new(HashSet::new()),
            tried_earlier: Mutex::default(),
            plan,
            delivered: Mutex::default(),
            writes: Mutex::default(),
            handed: Arc::new(Semaphore::new(HANDED_MAX)),
            refused: unbounded(),
            spooled: Notify::new(),
            corrupt: AtomicU64::new(0),
            too_many_rejected: AtomicBool::new(false),
            last_probes: AtomicU32::new(0),
            live_taken: AtomicU64::new(0),
            live_workers: AtomicUsize::new(workers),
            live_done: watch::Sender::new(false),
            disk_trouble: Mutex::new(None),
            spool,
        });
        // The channel holds batches; its bound is configured in records.
        let (live, live_out) = bounded((load.channel() / load.limits().records).max(1));
        let (replay_in, replay_out) = bounded(workers.clamp(2, REPLAYED_MAX));
        let mut tasks = start_workers(&parts, workers, &live_out, &replay_out);
        tasks.push(tokio::spawn(away::tidy(parts.clone()).in_current_span()));
        tasks.push(tokio::spawn(replay::run(parts.clone(), replay_in).in_current_span()));
        Ok(SinkRuntime {
            parts,
            live,
            tracker: Tracker::new(begin.start),
            tasks,
            full: Arc::new(AtomicBool::new(false)),
            spool_max: load.spool.max_bytes.0,
        })
    }

    /// Where sealed batches go in.
    #[must_use]
    pub fn outlet(&self) -> Outlet {
        Outlet {
            parts: self.parts.clone(),
            live: self.live.clone(),
            tracker: self.tracker.clone(),
            full: self.full.clone(),
        }
    }

    /// The sink's figures for the display.
    #[must_use]
    pub fn view(&self) -> SinkView {
        SinkView { parts: self.parts.clone(), full: self.full.clone(), spool_max: self.spool_max }
    }

    /// The sink's books.
    #[must_use]
    pub fn books(&self) -> Arc<SinkBooks> {
        self.parts.books.clone()
    }

    /// Takes no more batches, waits until all are somewhere and the spool has
    /// been tried once more.
    pub async fn finish(self) -> SinkEnd {
        let SinkRuntime { parts, live, tracker, tasks, .. } = self;
        live.close();
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(sink = parts.name, %error, "a loader task ended in a panic");
            }
        }
        if let Some(limit) = parts.gate.slots.limit() {
            tracing::info!(sink = parts.name, limit, "concurrency found");
        }
        parts.note_if_vanished();
        let trouble = parts.disk_trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        SinkEnd {
            name: parts.name.clone(),
            usage: parts.spool.usage(),
            corrupt: parts.corrupt.load(Relaxed),
            too_many_rejected: parts.too_many_rejected.load(Relaxed),
            disk_trouble: trouble,
            watermark: tracker.watermark(),
        }
    }
}

fn start_workers(
    parts: &Arc<Parts>,
    workers: usize,
    live: &Receiver<Batch>,
    replay: &Receiver<worker::Replayed>,
) -> Vec<JoinHandle<()>> {
    (0..workers)
        .map(|label| {
            let label = u32::try_from(label).unwrap_or(u32::MAX);
            let work = worker::run(parts.clone(), label, live.clone(), replay.clone());
            tokio::spawn(work.in_current_span())
        })
        .collect()
}

impl Outlet {
    /// Tracks a payload that was just sealed; call it in the order of sealing.
    pub fn track(&self, payload: Payload) -> Batch {
        self.parts.books.accepted.fetch_add(payload.records() as u64, Relaxed);
        let ticket: Ticket = self.tracker.track(&payload.range);
        let ack = Ack::new(self.parts.books.clone(), ticket);
        Batch { sequence: self.parts.spool.next_sequence(), payload, ack }
    }

    /// Lets the watermark pass a range without a record for this sink.
    pub fn pass(&self, range: &std::ops::Range<u64>) {
        Tracker::resolve(self.tracker.track(range));
    }

    /// Counts a record that an earlier process has settled in this sink.
    pub fn had_already(&self) {
        self.parts.books.already.fetch_add(1, Relaxed);
    }

    /// Counts a record that is not for this sink.
    pub fn goes_elsewhere(&self) {
        self.parts.books.elsewhere.fetch_add(1, Relaxed);
    }

    /// The same way in for records that are numbered by themselves, from `start` on.
    #[must_use]
    pub fn lane(&self, start: u64) -> Outlet {
        Outlet { tracker: Tracker::new(start), ..self.clone() }
    }

    /// The sink's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.parts.name
    }

    /// How far the sink has come.
    #[must_use]
    pub fn tracker(&self) -> Arc<Tracker> {
        self.tracker.clone()
    }

    /// Hands a batch to the workers; waits while they are all busy and the
    /// channel is full, or while the spool is.
    pub async fn send(&self, batch: Batch) {
        while !self.parts.stop.asked() && !matches!(self.parts.spool.room(), Room::Enough) {
            self.full.store(true, Relaxed);
            tokio::time::sleep(ROOM_PAUSE).await;
        }
        self.full.store(false, Relaxed);
        if let Err(error) = self.live.send(batch).await {
            // Cannot happen while an outlet lives; the dropped ack would show.
            tracing::error!(sink = self.parts.name, %error, "a batch came after the end");
        }
    }
}

/// What the display may look at, also while the run is finishing.
#[derive(Debug, Clone)]
pub struct SinkView {
    parts: Arc<Parts>,
    full: Arc<AtomicBool>,
    spool_max: u64,
}

impl SinkView {
    /// The sink's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.parts.name
    }

    /// What is asked, for messages.
    #[must_use]
    pub fn target(&self) -> &str {
        self.parts.sink.target()
    }

    /// What kind of place it is.
    #[must_use]
    pub fn kind(&self) -> SinkKind {
        self.parts.sink.kind()
    }

    /// What to change when the sink refuses with `status`.
    #[must_use]
    pub fn remedy(&self, status: Option<u16>) -> String {
        self.parts.sink.remedy(status)
    }

    /// Breaker, latency, last answer.
    #[must_use]
    pub fn gate(&self) -> GateView {
        self.parts.gate.view()
    }

    /// What the spool holds.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.parts.spool.usage()
    }

    /// Where the spool is.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        self.parts.spool.directory().to_owned()
    }

    /// The most the spool may hold, bytes.
    #[must_use]
    pub fn spool_max(&self) -> u64 {
        self.spool_max
    }

    /// Whether intake is waiting for room in the spool.
    #[must_use]
    pub fn full(&self) -> bool {
        self.full.load(Relaxed)
    }

    /// What keeps intake waiting or the spool from being written, and what to do.
    #[must_use]
    pub fn obstacle(&self) -> Option<String> {
        let spool = &self.parts.spool;
        let trouble =
            self.parts.disk_trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        obstacle(self.full(), spool.room(), &spool.usage(), trouble.as_deref())
    }
}
