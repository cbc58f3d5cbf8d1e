//! The binary: options, log file, listener, and a summary at the end.

use std::error::Error;
use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use mock_load_api_server::cli::Cli;
use mock_load_api_server::{Config, Server, Stats, start};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::EnvFilter;

const USAGE: u8 = 64;
const UNAVAILABLE: u8 = 69;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(refused) => return explain(&refused),
    };
    let log = cli.log.clone();
    let config = cli.into_config();
    if let Err(error) = config.faults.validate() {
        return fail(&error, USAGE);
    }
    match serve(config, &log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error.as_ref(), UNAVAILABLE),
    }
}

/// Shows help on stdout and mistakes on stderr.
fn explain(refused: &clap::Error) -> ExitCode {
    let code = if refused.use_stderr() { USAGE } else { 0 };
    match refused.print() {
        Ok(()) => ExitCode::from(code),
        Err(_) => ExitCode::from(USAGE),
    }
}

fn fail(error: &dyn Error, code: u8) -> ExitCode {
    let mut message = format!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        message.push_str(&format!("\n  because: {error}"));
        cause = error.source();
    }
    tracing::error!(message);
    // With stderr gone, the exit code is what is left to say it.
    writeln!(io::stderr(), "{message}").map_or(ExitCode::from(code), |()| ExitCode::from(code))
}

fn serve(config: Config, log: &Path) -> Result<(), Box<dyn Error>> {
    let _flush_at_end = log_to(log)?;
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let server = start(config).await?;
        // Before the line that others wait for: from then on they may send the signal.
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        announce(&server)?;
        wait_for_either(terminate, interrupt).await;
        let stats = server.stats();
        server.shutdown().await;
        summarize(&stats)?;
        Ok(())
    })
}

fn log_to(path: &Path) -> Result<WorkerGuard, Box<dyn Error>> {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|error| format!("cannot write the log {}: {error}", path.display()))?;
    let (writer, guard) = tracing_appender::non_blocking(file);
    let wanted = std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned());
    // Below that level h2 logs what it receives.
    let filter = EnvFilter::try_new(format!("{wanted},h2=warn"))?;
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(writer).init();
    Ok(guard)
}

/// Thousands of clients at once need more file handles than the usual 1,024.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, limit = limit.current, "file limit not raised");
    }
}

fn announce(server: &Server) -> io::Result<()> {
    let url = server.url();
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "mock-load-api-server listening on {url} (POST /load, GET /health, GET /stats, POST /faults)"
    )?;
    if !server.addr().ip().is_loopback() {
        writeln!(io::stderr(), "warning: reachable from other machines; anyone can POST /faults")?;
    }
    out.flush()
}

async fn wait_for_either(mut one: Signal, mut other: Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

fn summarize(stats: &Stats) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if io::stdout().is_terminal() {
        // Below the ^C.
        writeln!(out)?;
    }
    writeln!(
        out,
        "stopped: {} requests, {} batches, {} records ({} different), {} repeated batches, \
         {} conflicting keys",
        stats.requests,
        stats.batches,
        stats.records,
        stats.unique_records,
        stats.duplicate_batches,
        stats.conflicting_keys
    )
}
