//! How one pipeline is, put together from its file, what it left on the disk, and the
//! server that runs it, if one does.

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{DateTime, Utc};
use http::Method;
use serde::Serialize;
use serde_json::Value as Json;

use super::client::{AskError, Client};
use super::find::Found;
use super::{systemd, units};
use crate::config::Pipeline;
use crate::history::{self, RunRecord};
use crate::schedule::state::last_start;
use crate::schedule::{Plan, is_stopped};
use crate::spool::inspect::{self, Kind};

/// How many of a spool's files are looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// So many at most; with more, records are not counted.
    Glance,
    /// All, however long it takes.
    All,
}

/// Records are counted by reading each file's header, at a glance in no more than this.
const HEADERS_MAX: usize = 2000;

/// How one pipeline is.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// Its file.
    pub file: String,
    /// `running`, `retrying`, `waiting`, `stopped`, `ended`; `idle` when nobody is there to
    /// run it; `wrong` when its file is.
    pub state: String,
    /// Its schedule, or how often it polls a fleet for good, as a text.
    pub schedule: Option<String>,
    /// When it is due next; none while nobody is there to run it.
    pub next_run: Option<DateTime<Utc>>,
    /// Its last run.
    pub last_run: Option<RunRecord>,
    /// The run that is going on, as far as its server tells.
    pub run: Option<Json>,
    /// What its spools hold.
    pub spool: Spool,
    /// The process that runs it or would run it.
    pub pid: Option<u32>,
    /// The memory that this process has, in bytes.
    pub memory_bytes: Option<u64>,
    /// What is wrong: with its file, with its sinks now, or with its last run.
    pub error: Option<String>,
}

/// What the spools of a pipeline hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Spool {
    /// Files that wait, one batch each.
    pub batches: u64,
    /// Records in them; none when they are too many to look into.
    pub records: Option<u64>,
    /// Bytes on the disk.
    pub bytes: u64,
    /// Since when the oldest waits, Unix seconds.
    pub oldest_since: Option<u64>,
    /// Files of dead letters.
    pub dead_files: u64,
    /// Records in them; none when they are too many to look into.
    pub dead_records: Option<u64>,
    /// Files that could not be read and were set aside.
    pub corrupt_files: u64,
}

/// What a server tells of itself and its pipelines.
#[derive(Debug, Clone, Default)]
pub struct ServerView {
    /// Its process.
    pub pid: Option<u32>,
    /// The files and directories that it serves.
    pub paths: Vec<String>,
    pipelines: BTreeMap<String, Json>,
}

impl ServerView {
    /// Asks the server of `data_dir`; none when there is no server.
    ///
    /// # Errors
    /// When there is one that does not answer.
    pub fn ask(data_dir: &Path) -> Result<Option<ServerView>, AskError> {
        let client = Client::new(data_dir);
        let about = match client.ask(Method::GET, "/control") {
            Ok((_, about)) => about,
            Err(AskError::Nobody(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let (_, mut all) = client.ask(Method::GET, "/pipelines")?;
        let pipelines = match all["pipelines"].take() {
            Json::Array(pipelines) => pipelines,
            _ => Vec::new(),
        };
        let named = |it: Json| Some((it["name"].as_str()?.to_owned(), it));
        let paths = about["paths"].as_array().into_iter().flatten();
        Ok(Some(ServerView {
            pid: about["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()),
            paths: paths.filter_map(|path| path.as_str().map(str::to_owned)).collect(),
            pipelines: pipelines.into_iter().filter_map(named).collect(),
        }))
    }

    /// What it tells of one pipeline.
    #[must_use]
    pub fn pipeline(&self, name: &str) -> Option<&Json> {
        self.pipelines.get(name)
    }

    /// All that it serves.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.pipelines.keys().map(String::as_str)
    }
}

/// How `found` is, whose data is under `data_dir`.
#[must_use]
pub fn of(found: &Found, data_dir: &Path, server: Option<&ServerView>) -> Status {
    let served = server.and_then(|server| server.pipeline(&found.name));
    let runner = inspect::run_by(data_dir, &found.name);
    let pid = runner.or(served.and(server).and_then(|server| server.pid));
    let last = history::read(data_dir, &found.name).unwrap_or_default().pop();
    let pipeline = found.loaded.as_ref().ok().map(|loaded| &loaded.pipeline);
    let state = state(found, data_dir, served, runner.is_some());
    let next = match (served, pipeline) {
        (Some(served), _) => served["next_run"].as_str().and_then(|at| at.parse().ok()),
        (None, Some(pipeline)) if state == "waiting" => next_runs(pipeline, data_dir, 1).pop(),
        _ => None,
    };
    Status {
        name: found.name.clone(),
        file: found.file.display().to_string(),
        state: state.to_owned(),
        schedule: pipeline.and_then(schedule),
        next_run: next,
        error: error(found, served, last.as_ref()),
        last_run: last,
        run: served.map(|it| it["run"].clone()).filter(|run| !run.is_null()),
        spool: spool(data_dir, &found.name, Depth::Glance),
        pid,
        memory_bytes: pid.and_then(memory),
    }
}

/// When it runs, as a text; none for one that runs once.
fn schedule(pipeline: &Pipeline) -> Option<String> {
    let for_good = pipeline.every().map(|every| format!("each target every {}", every.interval));
    for_good.or_else(|| Some(pipeline.timing()?.to_string()))
}

fn state(found: &Found, data_dir: &Path, served: Option<&Json>, running: bool) -> &'static str {
    let word = served.and_then(|it| it["state"].as_str());
    match word {
        Some("running") => "running",
        Some("retrying") => "retrying",
        _ if running => "running",
        Some("stopped") => "stopped",
        _ if found.loaded.is_err() => "wrong",
        Some("ended") => "ended",
        Some(_) => "waiting",
        None if by_systemd(&found.name) => match systemd::is_scheduled(&found.name) {
            true => "waiting",
            false => "stopped",
        },
        None if is_stopped(data_dir, &found.name) => "stopped",
        None => "idle",
    }
}

fn by_systemd(name: &str) -> bool {
    units::is_installed(name) && units::systemd_is_here()
}

/// What needs to be known first: a wrong file, a sink that is away, a run that failed.
fn error(found: &Found, served: Option<&Json>, last: Option<&RunRecord>) -> Option<String> {
    let of_sinks = || {
        let sinks = served?["sinks"].as_object()?;
        sinks.iter().find_map(|(name, sink)| Some(format!("{name}: {}", sink["why"].as_str()?)))
    };
    let of_run = || {
        let last = last.filter(|last| last.exit != 0)?;
        Some(last.errors.first().cloned().unwrap_or_else(|| format!("last run: {}", last.result)))
    };
    found.problem().or_else(of_sinks).or_else(of_run)
}

/// What the spools of `pipeline` hold.
#[must_use]
pub fn spool(data_dir: &Path, pipeline: &str, depth: Depth) -> Spool {
    let views = inspect::sinks_of(data_dir, pipeline).unwrap_or_default();
    let files: Vec<_> = views.iter().flat_map(|view| view.files().unwrap_or_default()).collect();
    let mut spool = Spool::default();
    let (mut waiting, mut dead) = (0, 0);
    let look = depth == Depth::All || files.len() <= HEADERS_MAX;
    for file in files {
        let records = || file.headline().map_or(0, |headline| headline.records);
        match file.kind {
            Kind::Pending | Kind::Spooled => {
                spool.batches += 1;
                spool.bytes += file.size;
                let since = spool.oldest_since.map_or(file.since, |old| old.min(file.since));
                spool.oldest_since = Some(since);
                waiting += if look { records() } else { 0 };
            }
            Kind::Dead => {
                spool.dead_files += 1;
                dead += if look { records() } else { 0 };
            }
            Kind::Corrupt => spool.corrupt_files += 1,
        }
    }
    (spool.records, spool.dead_records) = (look.then_some(waiting), look.then_some(dead));
    spool
}

/// The next `count` times at which `pipeline` falls due from now on, if it is run.
#[must_use]
pub fn next_runs(pipeline: &Pipeline, data_dir: &Path, count: usize) -> Vec<DateTime<Utc>> {
    let (Some(schedule), Some(timing)) = (&pipeline.schedule, pipeline.timing()) else {
        return Vec::new();
    };
    let last = last_start(data_dir, &pipeline.name);
    let mut plan = Plan::new(&pipeline.name, schedule, timing, last, Utc::now());
    let mut times = Vec::new();
    while times.len() < count
        && let Some(due) = plan.due()
    {
        times.push(due);
        plan.advance(due);
    }
    times
}

/// The memory of a process that is resident, in bytes.
fn memory(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}
