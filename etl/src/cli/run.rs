//! `etl run PIPELINE.yaml`: reads the file, runs it once, closes the books.

use std::future::Future;
use std::io::Write;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Runtime;

use super::args::{LogArgs, RunArgs};
use super::{limits, signals};
use crate::config::{self, Loaded, Pipeline};
use crate::exit::Exit;
use crate::history::{self, RunRecord};
use crate::load::targets::Targets;
use crate::load::unix_seconds;
use crate::pipeline::{Run, RunEnd, StartError};
use crate::spool::inspect::{self, Kind};
use crate::stop::{StopHandle, stop_signal};
use crate::telemetry::display::Display;
use crate::telemetry::figures::{counted, one_line};
use crate::telemetry::logs::{self, LogGuard, LogOptions};
use crate::telemetry::profile::{self, Profiler};
use crate::telemetry::{
    RunFiles, RunHeader, RunResult, SinkSnapshot, SpoolRemaining, Stop, Terminal, Watch, report,
};

/// Runs the pipeline of `args` once.
#[must_use]
pub fn run(args: &RunArgs) -> Exit {
    let terminal = Terminal::stderr();
    let loaded = match config::load(&args.file, &args.set, None) {
        Ok(loaded) => loaded,
        Err(report) => {
            say(&report.render(terminal.color));
            return Exit::Config;
        }
    };
    let session = match Session::start(&args.log) {
        Ok(session) => session,
        Err(exit) => return exit,
    };
    let how = How { profiled: args.profile, fresh: args.fresh };
    let result = session.runtime.block_on(session.execute(&loaded, &args.data_dir, how));
    match result {
        Ok(result) => {
            session.show(&result, args.json);
            result.exit()
        }
        Err(exit) => exit,
    }
}

/// A run, or a replay, that is ready to begin.
pub(super) struct Work {
    pub(super) run_id: Arc<str>,
    pub(super) fleet: bool,
    pub(super) watch: Arc<dyn Watch>,
    pub(super) end: Pin<Box<dyn Future<Output = RunEnd>>>,
}

/// How a pipeline is run.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct How {
    /// Takes a profile.
    pub(super) profiled: bool,
    /// Goes on from nothing and takes no file for loaded.
    pub(super) fresh: bool,
}

/// What a process that runs pipelines has once: its log and its runtime.
pub(super) struct Session {
    pub(super) runtime: Runtime,
    log: LogGuard,
}

impl Session {
    /// Starts the log and the runtime.
    pub(super) fn start(options: &LogArgs) -> Result<Session, Exit> {
        let log = logs::start(&LogOptions {
            file: options.log_file.clone(),
            json: options.log_json,
            verbosity: options.verbose,
            quiet: options.quiet,
        })
        .map_err(|error| refuse(&error.to_string(), Exit::Config))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| refuse(&error.to_string(), Exit::Internal))?;
        Ok(Session { runtime, log })
    }

    /// Runs a pipeline to its end, with display, signals and profile.
    pub(super) async fn execute(
        &self,
        loaded: &Loaded,
        data_dir: &Path,
        how: How,
    ) -> Result<RunResult, Exit> {
        let pipeline = &loaded.pipeline;
        if let Some(warning) = limits::raise_open_files(sockets(pipeline)) {
            tracing::warn!("{warning}");
        }
        let home = data_dir.join(&pipeline.name);
        let profiler = how.profiled.then(|| start_profile(&home)).flatten();
        let (stop_handle, stop) = stop_signal();
        let run = Run::prepare(pipeline.clone(), data_dir, how.fresh, &stop, &stop_handle)
            .map_err(|error| refuse_start(&error))?;
        for notice in run.notices() {
            say(&one_line(notice));
        }
        note_targets(loaded, data_dir);
        let work = Work {
            run_id: run.run_id.clone(),
            fleet: pipeline.extract.is_some(),
            watch: Arc::new(run.watch()),
            end: Box::pin(run.finish()),
        };
        self.see_through(pipeline, data_dir, work, stop_handle, profiler).await
    }

    /// Brings `work` to its end, with display, signals and history.
    pub(super) async fn see_through(
        &self,
        pipeline: &Pipeline,
        data_dir: &Path,
        work: Work,
        stop_handle: StopHandle,
        profiler: Option<Profiler>,
    ) -> Result<RunResult, Exit> {
        let Work { run_id, fleet, watch, end } = work;
        let header = RunHeader {
            pipeline: pipeline.name.clone(),
            run_id_short: crate::telemetry::figures::short_id(&run_id).to_owned(),
            source_total: None,
            fleet,
        };
        let display = Display::start(header, watch.clone(), Terminal::stderr());
        let display = Arc::new(Mutex::new(Some(display)));
        let asked = {
            let display = display.clone();
            let in_flight =
                move || watch.books().sinks.iter().map(|sink| sink.in_flight).sum::<u64>();
            let tell = move |text: &str| {
                if let Some(display) = &*lock(&display) {
                    display.stopping();
                    display.line(text);
                }
            };
            signals::listen(stop_handle, tell, in_flight)
                .map_err(|error| refuse(&error.to_string(), Exit::Internal))?
        };
        let end = end.await;
        if let Some(display) = lock(&display).take() {
            display.finish();
        }
        let files = RunFiles {
            spool: Some(data_dir.join(&pipeline.name).join("spool")),
            log: self.log.file().map(Path::to_owned),
            profile: profiler.and_then(finish_profile),
        };
        let began = unix_seconds().saturating_sub(end.took.as_secs());
        let remaining = still_waiting(data_dir, &pipeline.name);
        let result = result(pipeline, end, remaining, asked.cause(), files);
        if let Err(error) = history::append(data_dir, &record(&result, began)) {
            tracing::warn!(%error, "the run is missing from the history");
        }
        Ok(result)
    }

    /// Prints what a run came to: results on stdout.
    pub(super) fn show(&self, result: &RunResult, json: bool) {
        let terminal = Terminal::stdout();
        let text = if json { result.json() + "\n" } else { report::report(result, &terminal) };
        // A closed pipe leaves nobody to tell; the exit code still does.
        drop(std::io::stdout().lock().write_all(text.as_bytes()));
    }
}

/// Notes where each spool is sent to, for `etl spool replay`. A run goes on when an
/// address has changed: addresses move, and its file is what the user has just
/// written; it says so, because what waits goes to the new one too.
fn note_targets(loaded: &Loaded, data_dir: &Path) {
    let pipeline = &loaded.pipeline;
    let loads = || pipeline.raw.iter().chain(&pipeline.load);
    let known = Targets::read(data_dir, &pipeline.name);
    for moved in known.moved(loads()) {
        let (sink, was, is) = (moved.sink, moved.was, moved.is);
        tracing::warn!(
            sink,
            was,
            is,
            "the sink has moved, what waits in its spool goes to the new address"
        );
    }
    let now = known.with(loads(), &loaded.path);
    if now != known
        && let Err(error) = now.write(data_dir, &pipeline.name)
    {
        tracing::warn!(%error, "could not note the sinks' addresses");
    }
}

fn lock(display: &Mutex<Option<Display>>) -> MutexGuard<'_, Option<Display>> {
    display.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Puts together what the report, the JSON object and the exit code are made of.
fn result(
    pipeline: &Pipeline,
    end: RunEnd,
    remaining: Vec<SpoolRemaining>,
    asked: Option<Stop>,
    files: RunFiles,
) -> RunResult {
    let too_many = end.sinks.iter().any(|sink| sink.too_many_rejected);
    for sink in &end.sinks {
        if let Some(trouble) = &sink.disk_trouble {
            say(&format!("error: spool of {}: {trouble}", sink.name));
        }
        if sink.corrupt > 0 {
            say(&format!(
                "warning: {} unreadable spool files of {} were set aside in corrupt/; look with: \
                 etl spool verify",
                sink.corrupt, sink.name
            ));
        }
    }
    if end.rejects_unwritten > 0 {
        let some = match end.rejects_unwritten {
            u64::MAX => "rejected records".to_owned(),
            known => counted(known, "rejected record"),
        };
        say(&format!(
            "error: {some} could not be written down before the run had to end, and the books count \
             them as unaccounted; see the log"
        ));
    }
    RunResult {
        pipeline: pipeline.name.clone(),
        run_id: end.run_id.to_string(),
        seconds: end.took.as_secs_f64(),
        books: end.books,
        spool_remaining: remaining,
        stopped: asked.or(too_many.then_some(Stop::TooManyRejected)),
        source_error: end.source_error,
        input: end.input,
        resumed_from: end.resumed_from,
        files,
    }
}

/// The run as its line in the history.
fn record(result: &RunResult, began: u64) -> RunRecord {
    let sum = |column: fn(&SinkSnapshot) -> u64| result.books.sinks.iter().map(column).sum();
    let word = match result.exit() {
        Exit::Delivered => "complete",
        Exit::Spooled => "spooled",
        Exit::Rejected => "rejected",
        Exit::SourceUnavailable => "incomplete",
        Exit::Interrupted | Exit::Terminated => "stopped",
        Exit::Internal | Exit::Usage | Exit::Config => "bug",
    };
    RunRecord {
        pipeline: result.pipeline.clone(),
        run_id: result.run_id.clone(),
        began,
        seconds: result.seconds,
        result: word.to_owned(),
        exit: result.exit().code(),
        extracted: result.books.extracted,
        delivered: sum(|sink| sink.delivered),
        spooled: sum(|sink| sink.spooled),
        dead_lettered: sum(|sink| sink.dead_lettered),
        rejected: result.books.rejected,
        filtered: result.books.filtered,
        replayed: sum(|sink| sink.replayed),
    }
}

/// What waits in the spools of `pipeline` now, whichever run put it there. Records
/// are counted by the files' headers; an unreadable one still counts as a file.
fn still_waiting(data_dir: &Path, pipeline: &str) -> Vec<SpoolRemaining> {
    let views = inspect::sinks(data_dir).unwrap_or_default();
    let ours = views.into_iter().filter(|view| view.pipeline == pipeline);
    let remaining = ours.map(|view| {
        let files = view.files().unwrap_or_default();
        let waiting: Vec<_> = files
            .iter()
            .filter(|file| matches!(file.kind, Kind::Pending | Kind::Spooled))
            .collect();
        let records =
            waiting.iter().filter_map(|file| file.headline().ok()).map(|line| line.records).sum();
        SpoolRemaining { sink: view.sink, records, batches: waiting.len() as u64 }
    });
    remaining.filter(|remaining| remaining.batches > 0).collect()
}

/// Sockets that a pipeline may have open at once.
fn sockets(pipeline: &Pipeline) -> u64 {
    let extract = pipeline.extract.as_ref().map_or(0, |extract| extract.workers);
    let loads: usize =
        pipeline.raw.iter().chain(&pipeline.load).map(crate::config::Load::in_flight_max).sum();
    (extract + loads) as u64
}

fn start_profile(home: &Path) -> Option<Profiler> {
    profile::start(&home.join("profile"))
        .inspect_err(|error| tracing::error!(%error, "no profile is taken"))
        .ok()
}

fn finish_profile(profiler: Profiler) -> Option<crate::telemetry::ProfileFiles> {
    profiler
        .finish()
        .inspect_err(|error| tracing::error!(%error, "the profile could not be written"))
        .ok()
}

pub(super) fn refuse_start(error: &StartError) -> Exit {
    refuse(&error.to_string(), Exit::from(error))
}

fn refuse(message: &str, exit: Exit) -> Exit {
    say(&format!("error: {message}\nnothing was read or sent"));
    exit
}

/// A line for people, on stderr.
pub(super) fn say(text: &str) {
    // With stderr gone the exit code is what is left to say it.
    drop(writeln!(std::io::stderr().lock(), "{}", text.trim_end()));
}
