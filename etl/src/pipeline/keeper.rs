//! Keeps the run's progress durable: every second, at its end, and before batches
//! are cut off that neither records nor bytes have filled. The order is the promise:
//! spool and dead letters are on disk before a watermark that passes them is.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Acquire};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::{error, warn};

use super::rejects::Flusher;
use super::rest::RestOutcome;
use super::sql::LaneProgress;
use crate::checkpoint::{
    FleetState, InputState, Place, Places, RestState, SettledTargets, SqlState, State, Store,
    Targets, Tracker,
};
use crate::load::unix_seconds;
use crate::source::rest::Spot;
use crate::spool::WriteError;

/// How often progress is written down; soon at first, so that short runs have some.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
const INTERVAL_MAX: Duration = Duration::from_secs(1);

/// Writes progress down; shared by the run and its clock.
#[derive(Debug)]
pub(super) struct Keeper {
    kept: Mutex<Kept>,
    progress: Progress,
    sinks: Vec<(String, Arc<Tracker>)>,
    numbered: Arc<AtomicU64>,
    flusher: Flusher,
    /// Set when the rejects are closed: whether all were written.
    rejects_written: OnceLock<bool>,
}

/// What progress is made in.
#[derive(Debug)]
pub(super) enum Progress {
    /// Nothing is read; the state stays as it is.
    Nothing,
    /// A data file.
    Rows { places: Arc<Places>, input: InputState },
    /// The targets of a fleet.
    Fleet { settled: Arc<SettledTargets>, fleet: FleetState },
    /// The pages of an API.
    Rest { places: Arc<Places<Spot>>, outcome: Arc<RestOutcome>, rest: Box<RestState> },
    /// The tables of shards.
    Sql { lanes: Vec<Arc<LaneProgress>>, sql: Box<SqlState> },
}

/// A pipeline's state and where it is kept.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) store: Store,
    pub(super) state: State,
    /// The state has changed since it was written.
    pub(super) unsaved: bool,
}

/// Stops the periodic writing.
#[derive(Debug)]
pub(super) struct Clock {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Kept {
    /// Makes the identity of a run durable, in both generations: a damaged newest one
    /// must not take it away.
    pub(super) fn begin(&mut self, progress: &Progress) -> Result<(), WriteError> {
        match progress {
            Progress::Nothing => return Ok(()),
            Progress::Rows { input, .. } => self.state.set_input(input.clone()),
            Progress::Fleet { fleet, .. } => self.state.fleet = Some(fleet.clone()),
            Progress::Rest { rest, .. } => self.state.rest = Some((**rest).clone()),
            Progress::Sql { sql, .. } => self.state.sql = Some((**sql).clone()),
        }
        self.store.save_twice(&mut self.state)
    }
}

impl Keeper {
    /// Progress of `sinks`, each with the numbers of its settled records.
    pub(super) fn new(
        kept: Kept,
        progress: Progress,
        sinks: Vec<(String, Arc<Tracker>)>,
        numbered: Arc<AtomicU64>,
        flusher: Flusher,
    ) -> Keeper {
        let rejects_written = OnceLock::new();
        Keeper { kept: Mutex::new(kept), progress, sinks, numbered, flusher, rejects_written }
    }

    /// Notes that no reject comes any more, and whether all are written down.
    pub(super) fn rejects_closed(&self, all_written: bool) {
        // It is set once; a second call has nothing new to say.
        self.rejects_written.set(all_written).ok();
    }

    /// Makes durable, before anything is sent, that the pages of an API are not what the
    /// run before knew of them: that answers to it do not hold for what sinks have now.
    /// Blocks.
    pub(super) fn forget_pages(&self) {
        let mut kept = self.kept();
        let Kept { store, state, unsaved } = &mut *kept;
        let Some(rest) = state.rest.as_mut().filter(|rest| !rest.known.is_empty()) else { return };
        rest.known.clear();
        if let Err(error) = store.save_twice(state) {
            warn!(%error, "could not write the checkpoint, trying again");
            *unsaved = true;
        }
    }

    /// Writes down where batches were cut off, before they are sent: a resumed run
    /// must cut them off there too. Blocks.
    pub(super) fn cut(&self, cuts: &[(String, u64)]) -> Result<(), WriteError> {
        if cuts.is_empty() {
            return Ok(());
        }
        let mut kept = self.kept();
        let Kept { store, state, .. } = &mut *kept;
        let known = match &self.progress {
            Progress::Nothing | Progress::Fleet { .. } | Progress::Sql { .. } => return Ok(()),
            Progress::Rows { input, .. } => {
                let mut inputs = state.inputs.iter_mut();
                inputs.find(|known| known.path == input.path).map(|known| &mut known.cuts)
            }
            Progress::Rest { .. } => state.rest.as_mut().map(|rest| {
                rest.known.clear();
                &mut rest.cuts
            }),
        };
        if let Some(known) = known {
            add_cuts(known, cuts);
        }
        store.save_twice(state)
    }

    /// As [`Keeper::cut`], for batches of one lane.
    pub(super) fn cut_lane(&self, lane: &str, cuts: &[(String, u64)]) -> Result<(), WriteError> {
        let mut kept = self.kept();
        let Kept { store, state, .. } = &mut *kept;
        let lanes = state.sql.as_mut().map(|sql| &mut sql.lanes);
        match lanes.and_then(|lanes| lanes.get_mut(lane)) {
            Some(lane) if !cuts.is_empty() => add_cuts(&mut lane.cuts, cuts),
            _ => return Ok(()),
        }
        store.save_twice(state)
    }

    /// Writes progress down if there is any; with `complete`, that the run has ended
    /// with nothing left to read. Blocks.
    pub(super) fn note(&self, complete: bool) -> Result<(), WriteError> {
        if matches!(self.progress, Progress::Nothing) {
            return Ok(());
        }
        // In this order: rejects before the watermarks were handed over before them.
        let numbered = self.numbered.load(Acquire);
        let marks: Vec<(&str, u64)> =
            self.sinks.iter().map(|(name, tracker)| (&**name, tracker.watermark())).collect();
        let lane_marks: Vec<_> = match &self.progress {
            Progress::Sql { lanes, .. } => lanes.iter().map(|lane| lane.marks()).collect(),
            _ => Vec::new(),
        };
        if !self.rejects_are_written() {
            return Ok(());
        }
        let finished = complete && marks.iter().all(|(_, mark)| *mark == numbered);
        let settled = marks.iter().map(|(_, mark)| *mark).min().unwrap_or(0);
        let mut kept = self.kept();
        let before = kept.state.clone();
        let state = &mut kept.state;
        match &self.progress {
            Progress::Nothing | Progress::Sql { .. } => {}
            Progress::Rows { places, input } => {
                let known = state.inputs.iter_mut().find(|known| known.path == input.path);
                let Some(known) = known else { return Ok(()) };
                advance(&marks, places, &mut known.sinks, &mut known.cuts);
                (known.rejects_until, known.finished) = (numbered, finished);
            }
            Progress::Fleet { settled: targets, .. } => {
                let Some(fleet) = &mut state.fleet else { return Ok(()) };
                fleet.settled = targets.passed(settled);
                (fleet.next_record, fleet.finished) = (numbered, finished);
                if finished {
                    fleet.settled = Targets::default();
                }
                if before.fleet.as_ref() != Some(&*fleet) {
                    fleet.seen = unix_seconds();
                }
            }
            Progress::Rest { places, outcome, .. } => {
                let Some(rest) = &mut state.rest else { return Ok(()) };
                advance(&marks, places, &mut rest.sinks, &mut rest.cuts);
                (rest.next_record, rest.finished) = (numbered, finished);
                if finished {
                    outcome.settle(rest);
                }
                if before.rest.as_ref() != Some(&*rest) {
                    rest.seen = unix_seconds();
                }
            }
        }
        if let Progress::Sql { lanes, .. } = &self.progress {
            let Some(sql) = &mut kept.state.sql else { return Ok(()) };
            sql.finished = complete;
            for (lane, marks) in lanes.iter().zip(&lane_marks) {
                let Some(known) = sql.lanes.get_mut(&lane.name) else { continue };
                sql.finished &= lane.note(marks.as_ref(), known);
            }
            if before.sql.as_ref() != Some(&*sql) {
                sql.seen = unix_seconds();
            }
        }
        kept.unsaved |= kept.state != before;
        if kept.unsaved {
            let Kept { store, state, .. } = &mut *kept;
            store.save(state)?;
            kept.unsaved = false;
        }
        Ok(())
    }

    /// Writes progress down every second, until stopped.
    pub(super) fn start_clock(self: &Arc<Self>) -> Clock {
        let (stop, mut stopped) = oneshot::channel();
        let keeper = self.clone();
        let task = tokio::spawn(async move {
            let (mut trouble, mut interval) = (None, INTERVAL_MIN);
            loop {
                tokio::select! {
                    () = tokio::time::sleep(interval) => {}
                    _ = &mut stopped => return,
                }
                interval = (2 * interval).min(INTERVAL_MAX);
                let keeper = keeper.clone();
                let noted = tokio::task::spawn_blocking(move || keeper.note(false)).await;
                let now = match noted {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(error.to_string()),
                    Err(error) => Some(error.to_string()),
                };
                if let Some(error) = now.as_ref().filter(|_| now != trouble) {
                    warn!(error, "could not write the checkpoint, trying again");
                }
                trouble = now;
            }
        });
        Clock { stop, task }
    }

    fn rejects_are_written(&self) -> bool {
        match self.rejects_written.get() {
            Some(written) => *written,
            None => self.flusher.flush(),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Moves each sink's place up to its watermark, and forgets the cuts before it.
fn advance<P: Clone>(
    marks: &[(&str, u64)],
    places: &Places<P>,
    sinks: &mut BTreeMap<String, Place<P>>,
    cuts: &mut BTreeMap<String, Vec<u64>>,
) {
    for (number, (name, mark)) in marks.iter().enumerate() {
        if let Some(place) = places.passed(number, *mark) {
            sinks.insert((*name).to_owned(), place);
        }
        if let Some(cuts) = cuts.get_mut(*name) {
            let settled = sinks.get(*name).map_or(0, |place| place.records);
            cuts.retain(|cut| *cut > settled);
        }
    }
    cuts.retain(|_, cuts| !cuts.is_empty());
}

/// Adds ends of batches to those that are known.
fn add_cuts(known: &mut BTreeMap<String, Vec<u64>>, cuts: &[(String, u64)]) {
    for (sink, end) in cuts {
        let ends = known.entry(sink.clone()).or_default();
        ends.push(*end);
        ends.sort_unstable();
        ends.dedup();
    }
}

impl Clock {
    /// Stops the clock and waits until it is not writing any more.
    pub(super) async fn stop(self) {
        drop(self.stop);
        if let Err(error) = self.task.await {
            error!(%error, "the checkpoint's clock ended in a panic");
        }
    }
}
