//! All pipelines that are served, and their beginning and end together.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;

use super::files::Seen;
use super::reload::{ReloadState, Reloader};
use super::served::Served;
use super::timing::{Clock, Moment, Timing};
use super::{expand, orders, watched, worker};
use crate::alerts::{self, Tally};
use crate::config::{self, Loaded};
use crate::history;
use crate::stop::{Stop, Urgency};
use crate::telemetry;

/// What all runs of a process have in common.
pub struct Settings {
    /// The files and directories that are served.
    pub paths: Vec<PathBuf>,
    /// `--set` for every file.
    pub sets: Vec<String>,
    /// Where spools and state are kept.
    pub data_dir: PathBuf,
    /// How long the history remembers runs.
    pub keep_runs: Duration,
    /// Shows people a line.
    pub tell: Box<dyn Fn(&str) + Send + Sync>,
    /// The signal that asked the process to end, if one did.
    pub asked: Box<dyn Fn() -> Option<telemetry::Stop> + Send + Sync>,
}

/// All pipelines that are served.
pub struct Scheduler {
    pub(super) settings: Settings,
    pub(super) clock: Clock,
    pub(super) stop: Stop,
    served: Mutex<BTreeMap<String, Arc<Served>>>,
    workers: Mutex<JoinSet<()>>,
    reload: Mutex<ReloadState>,
    /// One order at a time.
    ordering: Mutex<()>,
    unsafe_end: AtomicBool,
    alerts: Tally,
}

/// Pipelines as they were loaded, and the files as they were just before.
pub struct LoadedFiles {
    /// In the order of the command line.
    pub pipelines: Vec<Arc<Loaded>>,
    seen: Seen,
}

/// Why an order was not taken.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// There is no such pipeline here.
    #[error("it is not served here")]
    Unknown,
    /// It would not outlive the process.
    #[error("it cannot be noted in the state: {0}")]
    Note(#[from] std::io::Error),
}

/// Loads every file of `paths`; two pipelines of one name are a mistake of the second.
///
/// # Errors
/// Every mistake of every file, each as a text for people.
pub fn load_all(
    paths: &[PathBuf],
    sets: &[String],
    color: bool,
) -> Result<LoadedFiles, Vec<String>> {
    let (mut pipelines, mut mistakes) = (Vec::new(), Vec::new());
    let seen = watched(paths, &Seen::default()).unwrap_or_default();
    let mut names = BTreeMap::<String, PathBuf>::new();
    for file in expand(paths).map_err(|mistake| vec![format!("error: {mistake}")])? {
        match config::load(&file, sets, None) {
            Err(report) => mistakes.push(report.render_errors(color)),
            Ok(loaded) => {
                let name = loaded.pipeline.name.clone();
                if let Some(first) = names.insert(name.clone(), file.clone()) {
                    mistakes.push(format!("error: {}", same_name(&name, &first, &file)));
                }
                pipelines.push(Arc::new(loaded));
            }
        }
    }
    if mistakes.is_empty() { Ok(LoadedFiles { pipelines, seen }) } else { Err(mistakes) }
}

/// Why two files cannot be served together.
pub(super) fn same_name(name: &str, first: &std::path::Path, second: &std::path::Path) -> String {
    let (first, second) = (first.display(), second.display());
    format!("{first} and {second} both name their pipeline `{name}`; they would share its data")
}

impl Scheduler {
    /// Serves `loaded` until `stop` is asked for, and follows the changes of its files.
    /// Must be called inside a tokio runtime.
    #[must_use]
    pub fn start(settings: Settings, loaded: LoadedFiles, stop: Stop) -> Arc<Scheduler> {
        let scheduler = Arc::new(Scheduler {
            settings,
            clock: Clock::start(),
            stop,
            served: Mutex::default(),
            workers: Mutex::default(),
            reload: Mutex::default(),
            ordering: Mutex::default(),
            unsafe_end: AtomicBool::new(false),
            alerts: Tally::default(),
        });
        let LoadedFiles { pipelines, seen } = loaded;
        let reloader = Reloader::new(scheduler.clone(), &pipelines, seen);
        for loaded in pipelines {
            scheduler.serve(loaded);
        }
        tokio::spawn(reloader.follow());
        tokio::spawn(alerts::watch(scheduler.clone(), scheduler.stop.clone()));
        scheduler
    }

    /// All that are served, by name.
    #[must_use]
    pub fn served(&self) -> Vec<Arc<Served>> {
        self.lock_served().values().cloned().collect()
    }

    /// What came of the changes of files.
    #[must_use]
    pub fn reload_state(&self) -> ReloadState {
        self.lock_reload().clone()
    }

    /// How much was told to people.
    #[must_use]
    pub fn alerts(&self) -> &Tally {
        &self.alerts
    }

    /// Where spools and state are kept.
    #[must_use]
    pub fn data_dir(&self) -> &std::path::Path {
        &self.settings.data_dir
    }

    /// The files and directories that are served.
    #[must_use]
    pub fn paths(&self) -> &[PathBuf] {
        &self.settings.paths
    }

    /// Now, by the clock that `timing` goes by.
    #[must_use]
    pub fn now(&self, timing: &Timing) -> Moment {
        self.clock.now(timing)
    }

    /// Whether the process was asked to end.
    #[must_use]
    pub fn stopping(&self) -> bool {
        self.stop.asked()
    }

    /// Lets no run of `name` begin any more and ends the one that is going on, now and
    /// after every restart, until [`Scheduler::start_pipeline`]. Blocks.
    ///
    /// # Errors
    /// When it is not served, or the order cannot be made durable.
    pub fn stop_pipeline(&self, name: &str) -> Result<(), OrderError> {
        let _alone = self.ordering.lock().unwrap_or_else(PoisonError::into_inner);
        let served = self.lock_served().get(name).cloned().ok_or(OrderError::Unknown)?;
        orders::note_stop(&self.settings.data_dir, name)?;
        tracing::info!(pipeline = name, "told to stop");
        self.tell(&format!("{name}  told to stop"));
        served.order(|orders| orders.stopped = true);
        Ok(())
    }

    /// Puts the schedule of `name` in force and begins a run as soon as none is going on.
    /// Blocks.
    ///
    /// # Errors
    /// When it is not served, or the order cannot be made durable.
    pub fn start_pipeline(&self, name: &str) -> Result<(), OrderError> {
        let _alone = self.ordering.lock().unwrap_or_else(PoisonError::into_inner);
        let served = self.lock_served().get(name).cloned().ok_or(OrderError::Unknown)?;
        orders::note_start(&self.settings.data_dir, name)?;
        tracing::info!(pipeline = name, "told to start");
        self.tell(&format!("{name}  told to start"));
        served.order(|orders| {
            orders.stopped = false;
            orders.runs += 1;
        });
        Ok(())
    }

    /// Waits for the stop and for the end of every run; says whether everything is safe.
    pub async fn finished(&self) -> bool {
        self.stop.reached(Urgency::Drain).await;
        loop {
            let mut workers = std::mem::take(&mut *self.lock_workers());
            if workers.is_empty() {
                return !self.unsafe_end.load(Relaxed);
            }
            while let Some(ended) = workers.join_next().await {
                if let Err(error) = ended {
                    tracing::error!(%error, "a pipeline's task ended in a panic");
                    self.not_safe();
                }
            }
        }
    }

    /// Something was not safe when the process ended.
    pub(super) fn not_safe(&self) {
        self.unsafe_end.store(true, Relaxed);
    }

    /// Begins to serve a pipeline, or goes on under another configuration.
    pub(super) fn serve(self: &Arc<Self>, loaded: Arc<Loaded>) {
        let mut all = self.lock_served();
        if let Some(served) = all.get(&loaded.pipeline.name) {
            served.configure(Some(loaded));
            return;
        }
        let name = loaded.pipeline.name.clone();
        let past = history::read(&self.settings.data_dir, &name).unwrap_or_default();
        let stopped = orders::is_stopped(&self.settings.data_dir, &name);
        if stopped {
            self.tell(&format!("{name}  is stopped; start it with: etl start {name}"));
        }
        let served = Arc::new(Served::new(loaded, &past, stopped));
        all.insert(name, served.clone());
        self.lock_workers().spawn(worker::work(self.clone(), served));
    }

    /// Ends the serving of a pipeline with its run, if one is going on.
    pub(super) fn retire(&self, name: &str) {
        if let Some(served) = self.lock_served().get(name) {
            served.configure(None);
        }
    }

    /// Forgets a pipeline that is served no more; `false` when it was put in again
    /// meanwhile.
    pub(super) fn forget(&self, served: &Served) -> bool {
        let mut all = self.lock_served();
        let over = served.loaded().is_none();
        if over {
            all.remove(&served.name);
        }
        over
    }

    pub(super) fn tell(&self, text: &str) {
        (self.settings.tell)(text);
    }

    pub(super) fn lock_reload(&self) -> MutexGuard<'_, ReloadState> {
        self.reload.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_served(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Served>>> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_workers(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
