//! The log: `logs/etl.log` from info up, stderr from warn up. Both are written
//! by a thread of their own, so that a slow disk or a stuck pipe never holds a
//! record up; what had to be dropped for that is counted and said at the end.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry};

use super::Terminal;
use super::display::AboveDisplay;
use super::rotation::{LogLimits, Rotating};
use super::traces;
use super::unhurried::Unhurried;

/// Lines that may wait for the disk, which is as many as a fast load has in a sixth of a
/// second: at 200 bytes each, 800 KiB, and 128 KiB for the places that are kept for them.
const WAITING_LINES_MAX: usize = 4_096;
/// The libraries' own debug output is about their insides, not about a run.
const LIBRARIES: &str = ",hyper=info,hyper_util=info,h2=info,rustls=info,etl::trace=off";

/// Where the log goes and how much of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOptions {
    /// The log file; appended to, readable by its owner only.
    pub file: PathBuf,
    /// When it is moved out of the way.
    pub limits: LogLimits,
    /// One JSON object a line, in the file and on stderr.
    pub json: bool,
    /// How often `-v` was given.
    pub verbosity: u8,
    /// Errors only on stderr.
    pub quiet: bool,
}

/// The log could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `RUST_LOG` is set and not understood.
    #[error("RUST_LOG is not understood; write it as in RUST_LOG=info or RUST_LOG=etl::load=debug")]
    Filter(#[from] ParseError),
    /// The process has a log already.
    #[error("the log was started twice")]
    Twice(#[from] tracing::subscriber::SetGlobalDefaultError),
}

/// Keeps the log going; dropping it writes out what waits and says on stderr
/// how many lines were lost, if any were.
#[must_use = "the log ends when this is dropped"]
pub struct LogGuard {
    file: Option<PathBuf>,
    counters: Vec<ErrorCounter>,
    workers: Vec<WorkerGuard>,
    /// Why no traces are sent although they are wanted.
    no_traces: Option<String>,
    #[cfg(feature = "otel")]
    exporter: Option<traces::Exporter>,
}

/// Starts the process's log. `RUST_LOG` wins over `verbosity` and `quiet` on
/// stderr; the file has info and up whatever it says. A log file that cannot be
/// written stops nothing: the run logs to stderr only and says so.
///
/// # Errors
/// `RUST_LOG` is not understood, or the process has a log already.
pub fn start(options: &LogOptions) -> Result<LogGuard, LogError> {
    let wanted = std::env::var("RUST_LOG").ok().filter(|filter| !filter.trim().is_empty());
    let stderr_filter = stderr_filter(options, wanted.as_deref())?;
    let (opened, error) = match Rotating::open(&options.file, options.limits) {
        Ok(file) => (Some(file), None),
        Err(error) => (None, Some(error)),
    };
    let (subscriber, guard) =
        build(options, stderr_filter, opened, AboveDisplay, Terminal::stderr());
    tracing::subscriber::set_global_default(subscriber)?;
    if let Some(error) = error {
        tracing::warn!(file = %options.file.display(), %error, "log file cannot be written, logging to stderr only");
    }
    if let Some(why) = &guard.no_traces {
        tracing::warn!("no traces are sent: {why}");
    }
    Ok(guard)
}

impl LogGuard {
    /// The log file, where it could be opened.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Lines dropped so far, because what writes them could not keep up.
    #[must_use]
    pub fn dropped(&self) -> usize {
        self.counters.iter().map(ErrorCounter::dropped_lines).sum()
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        // What it has to say about the last traces still gets into the log.
        #[cfg(feature = "otel")]
        drop(self.exporter.take());
        // Waits, up to a second each, until the writing threads are done.
        self.workers.clear();
        let dropped = self.dropped();
        if dropped > 0 {
            let text = format!(
                "{dropped} log lines were dropped: the disk or the terminal was too slow\n"
            );
            // Nobody is left to tell when stderr is gone.
            drop(io::stderr().write_all(text.as_bytes()));
        }
    }
}

fn stderr_filter(options: &LogOptions, wanted: Option<&str>) -> Result<EnvFilter, ParseError> {
    if let Some(filter) = wanted {
        return EnvFilter::builder().parse(format!("{filter},{}=off", traces::TARGET));
    }
    let level = match (options.quiet, options.verbosity) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "info",
        (false, _) => "debug",
    };
    EnvFilter::builder().parse(format!("{level}{LIBRARIES}"))
}

fn build(
    options: &LogOptions,
    stderr_filter: EnvFilter,
    file: Option<Rotating>,
    stderr: impl Write + Send + 'static,
    terminal: Terminal,
) -> (impl tracing::Subscriber + Send + Sync, LogGuard) {
    let mut guard = LogGuard {
        file: file.is_some().then(|| options.file.clone()),
        counters: Vec::new(),
        workers: Vec::new(),
        no_traces: None,
        #[cfg(feature = "otel")]
        exporter: None,
    };
    let mut layers = Vec::new();
    if let Some(file) = file {
        let writer = guard.writer("log-file", Unhurried::new(file));
        let level = if options.verbosity >= 2 { "debug" } else { "info" };
        let filter = EnvFilter::new(format!("{level}{LIBRARIES}"));
        layers.push(lines(options.json, false, true, writer).with_filter(filter).boxed());
    }
    let writer = guard.writer("log-stderr", stderr);
    let stderr_layer = lines(options.json, terminal.color, !terminal.interactive, writer);
    layers.push(stderr_layer.with_filter(stderr_filter).boxed());
    layers.extend(guard.traces());
    (tracing_subscriber::registry().with(layers), guard)
}

/// A layer that writes one line per event; times are UTC.
fn lines(
    json: bool,
    color: bool,
    times: bool,
    writer: NonBlocking,
) -> Box<dyn Layer<Registry> + Send + Sync> {
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(color);
    match (json, times) {
        (true, _) => layer.json().flatten_event(true).boxed(),
        (false, true) => layer.boxed(),
        (false, false) => layer.without_time().with_target(false).boxed(),
    }
}

impl LogGuard {
    /// The layer that sends traces, where the environment asks for them.
    #[cfg(feature = "otel")]
    fn traces(&mut self) -> Option<Box<dyn Layer<Registry> + Send + Sync>> {
        if !traces::wanted() {
            return None;
        }
        match traces::start() {
            Ok((exporter, layer)) => {
                self.exporter = Some(exporter);
                Some(layer.boxed())
            }
            Err(why) => {
                self.no_traces = Some(why);
                None
            }
        }
    }

    #[cfg(not(feature = "otel"))]
    fn traces(&mut self) -> Option<Box<dyn Layer<Registry> + Send + Sync>> {
        if traces::wanted() {
            self.no_traces =
                Some("this etl was built without them: build it with --features otel".to_owned());
        }
        None
    }

    fn writer(&mut self, thread: &str, output: impl Write + Send + 'static) -> NonBlocking {
        let (writer, worker) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(WAITING_LINES_MAX)
            .thread_name(thread)
            .finish(output);
        self.counters.push(writer.error_counter());
        self.workers.push(worker);
        writer
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot be set up should fail loudly")]
mod tests {
    use std::io::{self, Write};
    use std::os::unix::fs::PermissionsExt;
    use std::sync::{Arc, Mutex};

    use super::{LogLimits, LogOptions, Rotating, build, stderr_filter};
    use crate::config::{Size, Span};
    use crate::telemetry::Terminal;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn options(file: std::path::PathBuf) -> LogOptions {
        let age = Span(std::time::Duration::from_secs(3600));
        let limits = LogLimits { size: Size(1 << 20), age, keep: 1 };
        LogOptions { file, limits, json: false, verbosity: 0, quiet: false }
    }

    /// What one run of three events leaves in the file and on stderr.
    fn logged(options: &LogOptions, wanted: Option<&str>, terminal: Terminal) -> (String, String) {
        let stderr = Captured::default();
        let filter = stderr_filter(options, wanted).unwrap();
        let file = Rotating::open(&options.file, options.limits).ok();
        let (subscriber, guard) = build(options, filter, file, stderr.clone(), terminal);
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!("sealed a batch");
            tracing::info!(worker = 4, records = 200, "loader flushed");
            tracing::warn!(attempt = 2, "load failed, retrying");
        });
        drop(guard);
        let file = std::fs::read_to_string(&options.file).unwrap_or_default();
        let stderr = String::from_utf8(stderr.0.lock().unwrap().clone()).unwrap();
        (file, stderr)
    }

    #[test]
    fn the_file_has_info_and_up_and_stderr_warnings() {
        let directory = tempfile::tempdir().unwrap();
        let options = options(directory.path().join("logs/etl.log"));
        let colored = Terminal { color: true, interactive: true, width: 80 };
        let (file, stderr) = logged(&options, None, colored);
        assert_eq!(file.lines().count(), 2, "{file}");
        assert!(file.contains("loader flushed worker=4 records=200"), "{file}");
        assert!(file.lines().all(|line| line.contains("Z ")), "UTC times: {file}");
        assert!(!file.contains('\x1b'));
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.contains('\x1b') && stderr.contains("load failed, retrying"));

        let mode = std::fs::metadata(&options.file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(logged(&options, None, colored).0.lines().count(), 4, "the file is appended to");
    }

    #[test]
    fn verbosity_and_rust_log_decide_what_stderr_shows() {
        let directory = tempfile::tempdir().unwrap();
        let base = options(directory.path().join("etl.log"));
        let count = |options: &LogOptions, wanted| {
            let (_, stderr) = logged(options, wanted, Terminal::plain());
            assert!(!stderr.contains('\x1b'), "{stderr}");
            stderr.lines().count()
        };
        assert_eq!(count(&LogOptions { verbosity: 1, ..base.clone() }, None), 2);
        assert_eq!(count(&LogOptions { verbosity: 2, ..base.clone() }, None), 3);
        assert_eq!(count(&LogOptions { quiet: true, ..base.clone() }, None), 0);
        assert_eq!(count(&LogOptions { quiet: true, ..base.clone() }, Some("debug")), 3);
        assert!(stderr_filter(&base, Some("etl=loud=er")).is_err());
    }

    #[test]
    fn json_lines_are_objects_with_the_fields_at_the_top() {
        let directory = tempfile::tempdir().unwrap();
        let options = LogOptions { json: true, ..options(directory.path().join("etl.log")) };
        let (file, stderr) = logged(&options, None, Terminal::plain());
        let line: serde_json::Value = serde_json::from_str(file.lines().next().unwrap()).unwrap();
        assert_eq!((&line["message"], &line["records"]), (&"loader flushed".into(), &200.into()));
        assert!(serde_json::from_str::<serde_json::Value>(&stderr).is_ok());
    }

    #[test]
    fn a_directory_that_cannot_be_written_leaves_stderr() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("logs"), "a file is in the way").unwrap();
        let options = options(directory.path().join("logs/etl.log"));
        assert!(Rotating::open(&options.file, options.limits).is_err());
        let (_, stderr) = logged(&options, None, Terminal::plain());
        assert!(stderr.contains("load failed, retrying"));
    }
}
