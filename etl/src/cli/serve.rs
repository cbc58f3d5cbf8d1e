//! `etl serve PATH…`: runs pipelines on their schedules until it is told to stop, and
//! tells about them over HTTP.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::args::ServeArgs;
use super::run::{Session, refuse, say};
use super::{limits, signals};
use crate::admin::{self, control};
use crate::exit::Exit;
use crate::schedule::{LoadedFiles, Scheduler, Settings, load_all};
use crate::stop::stop_signal;
use crate::telemetry::Terminal;
use crate::telemetry::figures::counted;

/// Where `etl serve` listens unless told otherwise.
pub(super) const PORT: u16 = 9090;

/// Serves the pipelines of `args`.
#[must_use]
pub fn run(args: &ServeArgs) -> Exit {
    let loaded = match load_all(&args.paths, &args.set, Terminal::stderr().color) {
        Ok(loaded) => loaded,
        Err(mistakes) => {
            mistakes.iter().for_each(|mistake| say(mistake));
            say("nothing was read or sent");
            return Exit::Config;
        }
    };
    match Session::start(&args.log) {
        Ok(session) => session.runtime.block_on(serve(args, loaded)).unwrap_or_else(|exit| exit),
        Err(exit) => exit,
    }
}

async fn serve(args: &ServeArgs, loaded: LoadedFiles) -> Result<Exit, Exit> {
    let port = args.server_port.unwrap_or(PORT);
    let address = args.listen.unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    let listener = admin::listen(address).await.map_err(|error| {
        let message = format!("cannot listen on {address}: {error}; choose another --listen");
        refuse(&message, Exit::SourceUnavailable)
    })?;
    let address = listener.local_addr().unwrap_or(address);
    limits::raise_open_files_fully();
    let sockets = loaded.pipelines.iter().map(|it| it.pipeline.sockets_max()).sum();
    if let Some(warning) = limits::raise_open_files(sockets) {
        tracing::warn!("{warning}");
    }
    let socket = match control::bind(&args.data_dir) {
        Ok(socket) => Some(socket),
        Err(error) => {
            say(&format!("warning: etl start and etl stop cannot reach this server: {error}"));
            None
        }
    };
    let (stop_handle, stop) = stop_signal();
    let in_flight = Arc::new(std::sync::OnceLock::<Arc<Scheduler>>::new());
    let counting = in_flight.clone();
    let in_flight_now = move || {
        let scheduler = counting.get();
        let served = scheduler.map(|scheduler| scheduler.served()).unwrap_or_default();
        served.iter().map(|served| served.in_flight()).sum()
    };
    let asked = signals::listen(stop_handle, say, in_flight_now)
        .map_err(|error| refuse(&error.to_string(), Exit::Internal))?;

    let pipelines = counted(loaded.pipelines.len() as u64, "pipeline");
    say(&format!("serving {pipelines}; http://{address}/pipelines  /metrics  /health  /ready"));
    if !address.ip().is_loopback() {
        say(&format!("warning: whoever reaches {address} may read them; there is no password"));
    }
    let quiet = args.log.quiet;
    let settings = Settings {
        paths: args.paths.clone(),
        sets: args.set.clone(),
        data_dir: args.data_dir.clone(),
        keep_runs: args.keep_runs.0,
        tell: Box::new(move |text| {
            if !quiet {
                say(&format!("{}  {text}", now()));
            }
        }),
        asked: Box::new(move || asked.cause()),
    };
    let scheduler = Scheduler::start(settings, loaded, stop);
    in_flight.get_or_init(|| scheduler.clone());
    let admin = admin::Admin::new(scheduler.clone(), args.stuck_after.0);
    let answering = tokio::spawn(admin::serve(listener, admin.clone()));
    let obeying = socket.map(|socket| tokio::spawn(control::serve(socket, admin)));
    let safe = scheduler.finished().await;
    answering.abort();
    if let Some(obeying) = obeying {
        obeying.abort();
        // Its end is what removes the socket.
        drop(obeying.await);
    }
    if safe {
        say("stopped, everything safe");
        return Ok(Exit::Delivered);
    }
    say("error: stopped, and not everything is safe; see the log and: etl runs");
    Ok(Exit::Internal)
}

/// The time of day, in UTC.
fn now() -> String {
    chrono::Utc::now().format("%H:%M:%SZ").to_string()
}
