//! A run that polls its fleet for good: the scheduler of [`crate::fleet`] on a thread of
//! its own, an inventory that is followed, and a state that is kept. It ends when it is
//! asked to.

mod clock;
mod engine;
mod files;
mod gather;
mod inventory;
mod open_files;
mod scribe;
mod shared;
mod snapshot;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;
use tracing::{Span, error, info};

use self::engine::Engine;
use self::files::Files;
use self::inventory::Inventory;
use self::scribe::Scribe;
pub(super) use self::scribe::Sources;
pub(super) use self::shared::Shared;
pub use self::shared::{TargetFilter, TargetView};
use super::intake::Intake;
use crate::checkpoint::StoreError;
use crate::config::{CsvSource, Every as Settings, Pipeline};
use crate::extract::Extractor;
use crate::fleet::memory::Memory;
use crate::fleet::scheduler::Unsettled;
use crate::load::unix_seconds;
use crate::stop::Stop;
use crate::telemetry::Books;

/// A fleet that is polled for good.
#[derive(Debug)]
pub(super) struct Every {
    settings: Settings,
    csv: CsvSource,
    workers: Option<usize>,
    /// Sockets that sinks may have open.
    reserved: u64,
    resume_within_s: u64,
    shared: Arc<Shared>,
    /// What an earlier process has left, until the inventory is read.
    memory: Mutex<Memory>,
    files: Mutex<Option<Files>>,
    scribe: Mutex<Option<Scribe>>,
}

/// A fleet that is ready to be polled, and what people should know of its state.
pub(super) type Opened = (Arc<Every>, Vec<String>);

/// What polling needs besides.
pub(super) struct Means {
    pub(super) extractor: Arc<Extractor>,
    pub(super) intake: Arc<Intake>,
    pub(super) books: Arc<Books>,
    pub(super) stop: Stop,
    /// What the state of targets is told by.
    pub(super) sources: Sources,
}

impl Every {
    /// Opens the state under `home`; gives what people should know of it. None when the
    /// pipeline is not polled for good.
    ///
    /// # Errors
    /// When the state cannot be used.
    pub(super) fn open(pipeline: &Pipeline, home: &Path) -> Result<Option<Opened>, StoreError> {
        let (Some(settings), Some(csv)) = (pipeline.every(), &pipeline.source.csv) else {
            return Ok(None);
        };
        let (files, memory, notices) = Files::open(&home.join("state").join("fleet"))?;
        let loads = pipeline.raw.iter().chain(&pipeline.load);
        let every = Every {
            settings: settings.clone(),
            csv: csv.clone(),
            workers: pipeline.extract.as_ref().and_then(|extract| extract.workers),
            reserved: loads.map(|load| load.in_flight_max() as u64).sum(),
            resume_within_s: pipeline.resume_within().as_secs(),
            shared: Arc::new(Shared::new(settings)),
            memory: Mutex::new(memory),
            files: Mutex::new(Some(files)),
            scribe: Mutex::new(None),
        };
        Ok(Some((Arc::new(every), notices)))
    }

    /// What may be looked at from outside.
    pub(super) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Polls until it is asked to stop.
    pub(super) async fn run(self: &Arc<Self>, means: Means) -> Result<bool, String> {
        let Means { extractor, intake, books, stop, sources } = means;
        let inventory = Inventory::new(
            self.shared.clone(),
            self.csv.clone(),
            extractor.clone(),
            intake.clone(),
            tokio::runtime::Handle::current(),
        );
        let every = self.clone();
        let span = Span::current();
        let hosts_wanted = self.settings.keep_alive == crate::config::KeepAlive::Auto;
        let read = tokio::task::spawn_blocking(move || {
            span.in_scope(|| every.begin(inventory, hosts_wanted))
        });
        let (inventory, hosts) = super::reading::joined(read.await)?;
        let targets = self.shared.core().roster.len() as u64;
        let kept = open_files::kept_max(self.settings.keep_alive, hosts, targets);
        // Long enough to be there for the next poll.
        let idle = if kept > 0 { self.settings.interval.0 * 2 } else { std::time::Duration::ZERO };
        extractor.keep_connections(idle, usize::try_from(kept).unwrap_or(usize::MAX));
        self.start_scribe(sources);
        let following = inventory.follow(self.settings.reload.0);
        let engine = Engine {
            shared: self.shared.clone(),
            extractor,
            intake,
            books,
            stop,
            workers: self.workers,
            reserved: self.reserved + kept,
        };
        let ended = on_a_thread(engine).await;
        drop(tokio::task::spawn_blocking(move || following.end()).await);
        ended.map(|()| true)
    }

    /// Reads the inventory for the first time and puts it in force with what is known of
    /// its targets. Blocks.
    fn begin(
        &self,
        mut inventory: Inventory,
        hosts_wanted: bool,
    ) -> Result<(Inventory, u64), crate::source::SourceError> {
        let memory =
            std::mem::take(&mut *self.memory.lock().unwrap_or_else(PoisonError::into_inner));
        let away_s = unix_seconds().saturating_sub(memory.seen);
        let then = match memory.targets.is_empty() || away_s >= self.resume_within_s {
            true => Unsettled::PassOver,
            false => Unsettled::Poll,
        };
        let hosts = inventory.load(&memory, then, hosts_wanted)?;
        let targets = self.shared.core().roster.len();
        info!(targets, known = memory.targets.len(), away_s, "fleet is polled for good");
        Ok((inventory, hosts))
    }

    fn start_scribe(&self, sources: Sources) {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner).take();
        let scribe = files.map(|files| Scribe::start(self.shared.clone(), files, sources));
        match scribe {
            Some(Ok(scribe)) => {
                *self.scribe.lock().unwrap_or_else(PoisonError::into_inner) = Some(scribe);
            }
            // What is at stake is polls that are made twice after a restart.
            Some(Err(error)) => error!(%error, "the state of the fleet is not written"),
            None => {}
        }
    }

    /// Writes the state for the last time, when all records are somewhere; with the word
    /// whether all rejects are written down. Blocks.
    pub(super) fn conclude(&self, rejects_written: bool) {
        let scribe = self.scribe.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(scribe) = scribe {
            scribe.end(rejects_written);
        }
    }
}

/// Runs the engine on a thread with a runtime of its own: more threads for it only cost.
async fn on_a_thread(engine: Engine) -> Result<(), String> {
    let (told, end) = oneshot::channel();
    let span = Span::current();
    let thread = std::thread::Builder::new().name("fleet".to_owned()).spawn(move || {
        let ended = span.in_scope(|| engine.run());
        // Whoever waited for it may be gone.
        told.send(ended).ok();
    });
    thread.map_err(|error| format!("the fleet's thread could not be started: {error}"))?;
    match end.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("the fleet's runtime could not be started: {error}")),
        Err(_) => Err("the fleet's thread ended in a panic".to_owned()),
    }
}
