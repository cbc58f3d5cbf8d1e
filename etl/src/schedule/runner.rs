//! One run of a pipeline, and the runs that try again what did not end well. A run that
//! cannot even begin is an unsuccessful run, never the end of the server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{JoinHandle, spawn_blocking};

use super::scheduler::Scheduler;
use super::served::{Activity, Served};
use super::spools::SinkSpool;
use crate::config::Loaded;
use crate::exit::Exit;
use crate::history::RunRecord;
use crate::load::targets;
use crate::pipeline::{DRAIN_PATIENCE, Mode, Run, StartError, conclude, drain, not_begun};
use crate::stop::{Stop, StopHandle, Urgency, stop_signal};
use crate::telemetry;
use crate::telemetry::figures::{count, one_line, short_id, span};
use crate::telemetry::{RunFiles, RunResult, report};

/// How long the run before may take to let go of its locks: its disk threads end a
/// moment after it.
const LOCKS_WITHIN: Duration = Duration::from_secs(5);
const LOCKS_PAUSE: Duration = Duration::from_millis(20);

/// Runs the pipeline, and again as often as its `run_retry` says.
pub(super) async fn run(scheduler: &Arc<Scheduler>, served: &Arc<Served>) {
    let began = Instant::now();
    for retry in 0.. {
        let Some(loaded) = served.loaded() else { return };
        let exit = once(scheduler, served, &loaded).await;
        if scheduler.stop.asked() {
            if exit == Exit::Internal {
                scheduler.not_safe();
            }
            return;
        }
        // What has no end is begun again by its worker.
        if loaded.pipeline.every().is_some() {
            return;
        }
        if served.stopped()
            || !matches!(exit, Exit::SourceUnavailable | Exit::Spooled | Exit::Internal)
        {
            return;
        }
        let settings = loaded.pipeline.run_retry.as_ref();
        let Some(delay) = settings.and_then(|it| it.delay(retry, began.elapsed())) else { return };
        let name = &served.name;
        tracing::info!(pipeline = name, retry = retry + 1, ?delay, "run will be tried again");
        scheduler.tell(&format!("{name}  trying again in {}", span(delay)));
        served.note(|figures| figures.activity = Activity::Retrying);
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = scheduler.stop.reached(Urgency::Drain) => return,
            () = served.told_to_stop() => return,
        }
        served.note(|figures| figures.retries += 1);
    }
}

/// One run, from its locks to its line in the history.
async fn once(scheduler: &Arc<Scheduler>, served: &Arc<Served>, loaded: &Arc<Loaded>) -> Exit {
    let (stop_handle, stop) = stop_signal();
    let endless = loaded.pipeline.every().is_some().then(|| loaded.clone());
    let passed_on =
        PassOn::start(scheduler.stop.clone(), served.clone(), stop_handle.clone(), endless);
    let (scheduler_too, served_too) = (scheduler.clone(), served.clone());
    let spools = spawn_blocking(move || served_too.spools(scheduler_too.data_dir())).await;
    let run = match prepare(scheduler, loaded, &stop, &stop_handle).await {
        Ok(run) => run,
        Err((_, Exit::Terminated)) => return Exit::Terminated,
        Err((error, exit)) => return could_not(scheduler, served, &error, exit).await,
    };
    let name = &served.name;
    scheduler.tell(&format!("{name}  run {}  begins", short_id(&run.run_id)));
    for notice in run.notices() {
        tracing::info!(pipeline = name, notice, "about this run");
        scheduler.tell(&format!("{name}  {}", one_line(notice)));
    }
    targets::note(loaded, scheduler.data_dir());
    begins(served, &run, &spools.unwrap_or_default());
    let ended = tokio::spawn(run.finish()).await;
    drop(passed_on);
    let told_to_stop = stop.asked() && served.stopped();
    let renewed = stop.asked() && loaded.pipeline.every().is_some();
    let end = match ended {
        Ok(end) => end,
        Err(error) => {
            let error = format!("the run ended in a panic, see the log: {error}");
            return could_not(scheduler, served, &error, Exit::Internal).await;
        }
    };
    let (scheduler_too, loaded) = (scheduler.clone(), loaded.clone());
    let concluded = spawn_blocking(move || {
        let settings = &scheduler_too.settings;
        let ordered = (told_to_stop || renewed).then_some(telemetry::Stop::Terminated);
        let (files, asked) = (RunFiles::default(), (settings.asked)().or(ordered));
        conclude(&loaded.pipeline, &settings.data_dir, end, asked, files, settings.keep_runs)
    });
    match concluded.await {
        Ok((result, record)) => {
            let exit = result.exit();
            over(scheduler, served, &result, record);
            exit
        }
        Err(error) => could_not(scheduler, served, &error.to_string(), Exit::Internal).await,
    }
}

fn begins(served: &Served, run: &Run, spools: &BTreeMap<String, SinkSpool>) {
    served.begins(&run.run_id, run.watch(), spools);
}

/// Opens and builds what the run needs, on a thread that may block.
async fn prepare(
    scheduler: &Arc<Scheduler>,
    loaded: &Arc<Loaded>,
    stop: &Stop,
    stop_handle: &StopHandle,
) -> Result<Run, (String, Exit)> {
    let began = Instant::now();
    loop {
        let (scheduler, loaded) = (scheduler.clone(), loaded.clone());
        let (stop_too, handle) = (stop.clone(), stop_handle.clone());
        let prepared = spawn_blocking(move || {
            let pipeline = loaded.pipeline.clone();
            Run::prepare(pipeline, scheduler.data_dir(), Mode::Served, &stop_too, &handle)
        });
        match prepared.await {
            Ok(Ok(run)) => return Ok(run),
            Ok(Err(error)) if is_locked(&error) && began.elapsed() < LOCKS_WITHIN => {}
            Ok(Err(error)) => return Err((error.to_string(), Exit::from(&error))),
            Err(error) => return Err((error.to_string(), Exit::Internal)),
        }
        if stop.asked() {
            return Err(("stopped before it began".to_owned(), Exit::Terminated));
        }
        tokio::time::sleep(LOCKS_PAUSE).await;
    }
}

fn is_locked(error: &StartError) -> bool {
    Exit::from(error) == Exit::SourceUnavailable
}

/// The run did not begin, or nothing is left to tell what became of it.
async fn could_not(
    scheduler: &Arc<Scheduler>,
    served: &Arc<Served>,
    error: &str,
    exit: Exit,
) -> Exit {
    let name = &served.name;
    tracing::error!(pipeline = name, error, "run failed");
    scheduler.tell(&format!("{name}  FAILED  {}", one_line(error)));
    let (scheduler, name, error) = (scheduler.clone(), name.clone(), error.to_owned());
    let noted = spawn_blocking(move || {
        let settings = &scheduler.settings;
        not_begun(&name, &settings.data_dir, &error, exit, settings.keep_runs)
    });
    served.ended(None, noted.await.unwrap_or_default());
    exit
}

/// The run is over and its books are closed.
fn over(scheduler: &Scheduler, served: &Served, result: &RunResult, record: RunRecord) {
    let books = &result.books;
    let mut line = format!(
        "{}  run {}  {}  {}  extracted {}",
        served.name,
        short_id(&result.run_id),
        report::outcome(result),
        span(result.took()),
        count(books.extracted),
    );
    for sink in &books.sinks {
        line.push_str(&format!("  {} {}", sink.name, count(sink.delivered)));
        if sink.replayed_earlier > 0 {
            line.push_str(&format!(" and {} from the spool", count(sink.replayed_earlier)));
        }
    }
    scheduler.tell(&line);
    for trouble in result.source_error.iter().chain(&result.warnings) {
        scheduler.tell(&format!("{}  {}", served.name, one_line(trouble)));
    }
    if result.source_error.is_none() {
        served.note(|figures| figures.extractions += 1);
    }
    served.ended(Some(books), record);
}

/// Passes the server's stop, or the pipeline's own, on to one run.
struct PassOn(JoinHandle<()>);

impl PassOn {
    /// A run without end, `endless`, ends too when the pipeline's file says something else
    /// or is gone.
    fn start(
        server: Stop,
        served: Arc<Served>,
        run: StopHandle,
        endless: Option<Arc<Loaded>>,
    ) -> PassOn {
        PassOn(tokio::spawn(async move {
            let renewed = async {
                match &endless {
                    Some(loaded) => served.another_than(loaded).await,
                    None => std::future::pending().await,
                }
            };
            let ordered = async {
                tokio::select! {
                    () = served.told_to_stop() => {}
                    () = renewed => {}
                }
            };
            tokio::select! {
                () = server.reached(Urgency::Drain) => {}
                () = ordered => {
                    tokio::select! {
                        () = drain(&run, DRAIN_PATIENCE) => return,
                        () = server.reached(Urgency::Drain) => {}
                    }
                }
            }
            for urgency in [Urgency::Drain, Urgency::Now] {
                server.reached(urgency).await;
                run.ask(urgency);
            }
        }))
    }
}

impl Drop for PassOn {
    fn drop(&mut self) {
        self.0.abort();
    }
}
