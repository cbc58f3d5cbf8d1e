//! `etl profile NAME`: where the time goes in a process that works, without restarting it.
//! A server is asked over its control socket, a run by a signal.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use rustix::process::{Pid, Signal, kill_process};

use super::args::ProfileArgs;
use super::{print, refuse};
use crate::exit::Exit;
use crate::http::printable;
use crate::manage::client::Client;
use crate::spool::inspect::run_by;
use crate::telemetry::live_profile::Request;

/// How often is looked whether a run has written its profile.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// For putting names to what was sampled, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(50);

pub(super) fn run(args: &ProfileArgs) -> Result<Exit, Exit> {
    // One whose file is wrong by now may be at work too.
    let found = args.places.find(&args.pipeline)?;
    let name = &found.name;
    let data_dir = args.places.data_dir(name);
    let server = args.places.server(name)?;
    let files = if server.is_some_and(|server| server.pipeline(name).is_some()) {
        of_server(args, &data_dir, name)?
    } else if let Some(pid) = run_by(&data_dir, name) {
        of_run(args, &data_dir.join(name).join("profile"), (&data_dir, name), pid)?
    } else {
        let error = format!(
            "nobody runs {name} with {}; a profile of a whole run: etl run {} --profile",
            data_dir.display(),
            found.file.display()
        );
        return Err(refuse(&error, Exit::SourceUnavailable));
    };
    let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    print(&format!("{name}  profile of {} s: {}\n", args.seconds, files.join("  ")));
    Ok(Exit::Delivered)
}

/// Of everything that the server does.
fn of_server(args: &ProfileArgs, data_dir: &Path, name: &str) -> Result<Vec<PathBuf>, Exit> {
    let out = args.out.clone().unwrap_or_else(|| {
        Request::now(args.seconds).flamegraph(&data_dir.join(name).join("profile"))
    });
    let what = if is_picture(&out) { "flamegraph" } else { "profile" };
    let path = format!("/debug/pprof/{what}?seconds={}", args.seconds);
    let patience = Duration::from_secs(args.seconds) + PATIENCE;
    let answer = Client::new(data_dir).fetch(Method::GET, &path, patience);
    let (status, body) = answer.map_err(|error| refuse(&error, Exit::SourceUnavailable))?;
    if status != StatusCode::OK {
        let why = printable(&body, 500);
        return Err(refuse(&format!("the server took no profile: {why}"), Exit::SourceUnavailable));
    }
    write(&out, &body)?;
    Ok(vec![out])
}

/// Of a run by hand.
fn of_run(
    args: &ProfileArgs,
    directory: &Path,
    (data_dir, name): (&Path, &str),
    pid: u32,
) -> Result<Vec<PathBuf>, Exit> {
    let unavailable = |error: String| refuse(&error, Exit::SourceUnavailable);
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let process = process.filter(|_| listens(pid)).ok_or_else(|| {
        unavailable(format!("pid {pid} has {name} and takes no profiles: another version of etl?"))
    })?;
    let request = Request::now(args.seconds);
    request
        .put(directory)
        .map_err(|error| unavailable(format!("cannot ask in {}: {error}", directory.display())))?;
    kill_process(process, Signal::USR1)
        .map_err(|error| unavailable(format!("cannot ask pid {pid}: {error}")))?;
    let (cpu, flamegraph) = (request.cpu(directory), request.flamegraph(directory));
    let began = Instant::now();
    while !flamegraph.exists() {
        if let Ok(why) = std::fs::read(request.error(directory)) {
            // It has been told.
            std::fs::remove_file(request.error(directory)).ok();
            return Err(unavailable(format!("pid {pid}: {}", printable(&why, 500))));
        }
        if run_by(data_dir, name) != Some(pid) && !flamegraph.exists() {
            return Err(unavailable(format!("the run of pid {pid} ended before its profile did")));
        }
        if began.elapsed() > Duration::from_secs(args.seconds) + PATIENCE {
            return Err(unavailable(format!("pid {pid} has taken no profile; see its log")));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    let Some(out) = &args.out else { return Ok(vec![flamegraph, cpu]) };
    let taken = if is_picture(out) { &flamegraph } else { &cpu };
    let content = std::fs::read(taken)
        .map_err(|error| unavailable(format!("{}: {error}", taken.display())))?;
    write(out, &content)?;
    for file in [flamegraph, cpu] {
        // What was asked for is written; these were on its way.
        std::fs::remove_file(file).ok();
    }
    Ok(vec![out.clone()])
}

/// Whether a process handles SIGUSR1: one that does not would be ended by it.
fn listens(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
    caught.is_some_and(|caught| caught & (1 << (Signal::USR1.as_raw() - 1)) != 0)
}

fn is_picture(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("svg"))
}

fn write(file: &Path, content: &[u8]) -> Result<(), Exit> {
    let made = match file.parent() {
        Some(directory) => std::fs::create_dir_all(directory),
        None => Ok(()),
    };
    made.and_then(|()| std::fs::write(file, content))
        .map_err(|error| refuse(&format!("cannot write {}: {error}", file.display()), Exit::Usage))
}
