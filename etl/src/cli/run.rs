//! `etl run PIPELINE.yaml`: reads the file, runs it once, closes the books.

use std::future::Future;
use std::io::Write;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Runtime;

use super::args::{LogArgs, RunArgs};
use super::{limits, signals};
use crate::alerts;
use crate::config::{self, Loaded, Pipeline};
use crate::exit::Exit;
use crate::history::RunRecord;
use crate::load::targets;
use crate::pipeline::{Mode, Run, RunEnd, StartError, conclude};
use crate::stop::{StopHandle, stop_signal};
use crate::telemetry::display::Display;
use crate::telemetry::figures::one_line;
use crate::telemetry::live_profile::{self, ProfilePlace};
use crate::telemetry::logs::{self, LogGuard, LogOptions};
use crate::telemetry::profile::{self, Profiler};
use crate::telemetry::{LogLimits, RunFiles, RunHeader, RunResult, Terminal, Watch, report};

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
    let how = How { profiled: args.profile, fresh: args.fresh, keep_runs: args.keep_runs.0 };
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
    /// How long the history remembers runs.
    pub(super) keep_runs: Duration,
}

/// How a pipeline is run.
#[derive(Debug, Clone, Copy)]
pub(super) struct How {
    /// Takes a profile.
    pub(super) profiled: bool,
    /// Goes on from nothing and takes no file for loaded.
    pub(super) fresh: bool,
    /// How long the history remembers runs.
    pub(super) keep_runs: Duration,
}

/// What a process that runs pipelines has once: its log and its runtime.
pub(super) struct Session {
    pub(super) runtime: Runtime,
    log: LogGuard,
    /// Where profiles go that a signal asks for.
    profiles: ProfilePlace,
}

impl Session {
    /// Starts the log and the runtime.
    pub(super) fn start(options: &LogArgs) -> Result<Session, Exit> {
        let log = logs::start(&LogOptions {
            file: options.log_file.clone(),
            limits: LogLimits {
                size: options.log_max_size,
                age: options.log_max_age,
                keep: options.log_keep,
            },
            json: options.log_json,
            verbosity: options.verbose,
            quiet: options.quiet,
        })
        .map_err(|error| refuse(&error.to_string(), Exit::Config))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| refuse(&error.to_string(), Exit::Internal))?;
        let inside = runtime.enter();
        // Before anything is locked: who has a lock may be asked for a profile.
        let profiles = live_profile::on_signal()
            .map_err(|error| refuse(&error.to_string(), Exit::Internal))?;
        drop(inside);
        Ok(Session { runtime, log, profiles })
    }

    /// Runs a pipeline to its end, with display, signals and profile.
    pub(super) async fn execute(
        &self,
        loaded: &Loaded,
        data_dir: &Path,
        how: How,
    ) -> Result<RunResult, Exit> {
        let pipeline = &loaded.pipeline;
        if let Some(warning) = limits::raise_open_files(pipeline.sockets_max()) {
            tracing::warn!("{warning}");
        }
        let home = data_dir.join(&pipeline.name);
        self.profiles.set(home.join("profile"));
        let profiler = how.profiled.then(|| start_profile(&home)).flatten();
        let (stop_handle, stop) = stop_signal();
        let mode = if how.fresh { Mode::Fresh } else { Mode::Once };
        let run = Run::prepare(pipeline.clone(), data_dir, mode, &stop, &stop_handle);
        let run = match run {
            Ok(run) => run,
            Err(error) => {
                alerts::not_begun(pipeline, data_dir, &error.to_string()).await;
                return Err(refuse_start(&error));
            }
        };
        for notice in run.notices() {
            say(&one_line(notice));
        }
        targets::note(loaded, data_dir);
        let work = Work {
            run_id: run.run_id.clone(),
            fleet: pipeline.extract.is_some() || pipeline.source.sql.is_some(),
            watch: Arc::new(run.watch()),
            end: Box::pin(run.finish()),
            keep_runs: how.keep_runs,
        };
        let (result, record) =
            self.see_through(pipeline, data_dir, work, stop_handle, profiler).await?;
        let stopped = matches!(result.exit(), Exit::Interrupted | Exit::Terminated);
        alerts::after_run(pipeline, data_dir, Some(&record), stopped).await;
        Ok(result)
    }

    /// Brings `work` to its end, with display, signals and history.
    pub(super) async fn see_through(
        &self,
        pipeline: &Pipeline,
        data_dir: &Path,
        work: Work,
        stop_handle: StopHandle,
        profiler: Option<Profiler>,
    ) -> Result<(RunResult, RunRecord), Exit> {
        let Work { run_id, fleet, watch, end, keep_runs } = work;
        self.profiles.set(data_dir.join(&pipeline.name).join("profile"));
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
        let ended = conclude(pipeline, data_dir, end, asked.cause(), files, keep_runs);
        ended.0.warnings.iter().for_each(|warning| say(warning));
        Ok(ended)
    }

    /// Prints what a run came to: results on stdout.
    pub(super) fn show(&self, result: &RunResult, json: bool) {
        let terminal = Terminal::stdout();
        let text = if json { result.json() + "\n" } else { report::report(result, &terminal) };
        // A closed pipe leaves nobody to tell; the exit code still does.
        drop(std::io::stdout().lock().write_all(text.as_bytes()));
    }
}

fn lock(display: &Mutex<Option<Display>>) -> MutexGuard<'_, Option<Display>> {
    display.lock().unwrap_or_else(PoisonError::into_inner)
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

pub(super) fn refuse(message: &str, exit: Exit) -> Exit {
    say(&format!("error: {message}\nnothing was read or sent"));
    exit
}

/// A line for people, on stderr.
pub(super) fn say(text: &str) {
    // With stderr gone the exit code is what is left to say it.
    drop(writeln!(std::io::stderr().lock(), "{}", text.trim_end()));
}
