//! The units under which systemd runs a pipeline: a service that runs it once, shut off from
//! everything that it does not need, and a timer by its schedule.

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::calendar;
use super::touched::Touched;
use crate::config::{Loaded, Missed, Overlap, Pipeline, Schedule};
use crate::schedule::Timing;

/// Where pipelines with units keep spool, state and history, each in its directory.
pub const DATA_DIR: &str = "/var/lib/etl";
/// Where they keep their logs.
const LOG_DIR: &str = "/var/log/etl";
/// Where units are installed.
pub(super) const UNIT_DIR: &str = "/etc/systemd/system";
/// Directories that a service does not see but for what is bound into it.
const HIDDEN: [&str; 4] = ["/home/", "/root/", "/run/user/", "/tmp/"];

/// The units of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Units {
    /// The service's text.
    pub service: String,
    /// The timer's; none without a schedule.
    pub timer: Option<String>,
    /// What people should know about them.
    pub notes: Vec<String>,
}

/// Why there can be no units.
#[derive(Debug, thiserror::Error)]
pub enum UnitsError {
    /// Its path cannot stand in a unit.
    #[error(
        "{0}: a unit cannot name this path; use one of letters, digits and any of / . _ - + @ , ="
    )]
    Path(String),
    /// The service's user could not read or write it, and the user whose it is is root.
    #[error("{0}")]
    Root(String),
    /// It is not there.
    #[error("{path}: {source}")]
    Missing {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The service's name.
#[must_use]
pub fn service_name(pipeline: &str) -> String {
    format!("etl-{pipeline}.service")
}

/// The timer's name.
#[must_use]
pub fn timer_name(pipeline: &str) -> String {
    format!("etl-{pipeline}.timer")
}

/// Whether the units of `pipeline` are installed on this machine.
#[must_use]
pub fn is_installed(pipeline: &str) -> bool {
    Path::new(UNIT_DIR).join(service_name(pipeline)).exists()
}

/// Whether systemd runs this machine.
#[must_use]
pub fn systemd_is_here() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// The log of a pipeline with a unit.
#[must_use]
pub fn log_file(pipeline: &str) -> PathBuf {
    Path::new(LOG_DIR).join(pipeline).join("etl.log")
}

/// The units of a pipeline, to be run by the program `binary`.
///
/// # Errors
/// When its files cannot be read by a user that is not root, or have names that units
/// cannot hold.
pub fn units(loaded: &Loaded, binary: &Path) -> Result<Units, UnitsError> {
    let file = absolute(&loaded.path)?;
    let touched = Touched::by(loaded, &file)?;
    let user = user(&file, &touched)?;
    let mut notes = Vec::new();
    let pipeline = &loaded.pipeline;
    let environment = file.with_file_name(".env");
    let environment = environment.exists().then_some(environment);
    if environment.is_none() && loaded.variables > 0 {
        let directory = file.parent().unwrap_or(Path::new("/")).display();
        notes.push(format!(
            "the values of its variables are not in {directory}/.env, which is all that the \
             service has: write them there and install again"
        ));
    }
    if pipeline.every().is_some() {
        notes.push(
            "extract.every is for etl serve: this unit asks everybody once; for good, run etl \
             serve, or give it `schedule: \"@every …\"` in the place of extract.every"
                .into(),
        );
    }
    if pipeline.run_retry.is_some() {
        notes.push("run_retry is not for units: the next due run goes on with what is left".into());
    }
    let service = service(pipeline, &file, binary, &touched, user, environment.as_deref())?;
    let timer = match (&pipeline.schedule, pipeline.timing()) {
        (Some(schedule), Some(timing)) => {
            if schedule.overlap == Overlap::Queue {
                notes.push(
                    "overlap: queue is not for units: a run that is due meanwhile is skipped"
                        .into(),
                );
            }
            Some(timer(pipeline, schedule, &timing))
        }
        _ => None,
    };
    Ok(Units { service, timer, notes })
}

/// The user that runs it: none for one that systemd makes up, which is enough where
/// everybody may read the files and only the data directory is written.
fn user(file: &Path, touched: &Touched) -> Result<Option<u32>, UnitsError> {
    let hidden = touched.reads.iter().find(|path| !others_can_read(path));
    let Some(reason) = hidden.or(touched.writes.first()) else { return Ok(None) };
    let missing = |source| UnitsError::Missing { path: file.to_owned(), source };
    let owner = std::fs::metadata(file).map_err(missing)?.uid();
    if owner != 0 {
        return Ok(Some(owner));
    }
    let (file, path) = (file.display(), reason.display());
    let todo = match hidden.is_some() {
        true => format!(
            "only root can read {path}; chmod o+r {path}, or give {file} to the user that shall run it (chown)"
        ),
        false => format!(
            "it writes to {path}, outside its data; give {file} to the user that shall run it (chown)"
        ),
    };
    Err(UnitsError::Root(todo))
}

/// Whether everybody may read a file, on all the way to it that the service has.
fn others_can_read(path: &Path) -> bool {
    let bits = |path: &Path| std::fs::metadata(path).map_or(0, |about| about.mode());
    let bound = HIDDEN.iter().any(|hidden| path.starts_with(hidden));
    let reached = |path: &Path| bits(path) & 0o001 != 0;
    let way = path.parent().unwrap_or(path);
    bits(path) & 0o004 != 0 && reached(way) && (bound || way.ancestors().all(reached))
}

/// The path that units know a file by.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, UnitsError> {
    let missing = |source| UnitsError::Missing { path: path.to_owned(), source };
    let path = path.canonicalize().map_err(missing)?;
    let plain = |c: char| c.is_alphanumeric() || "/._-+@,=".contains(c);
    match path.to_str() {
        Some(text) if text.chars().all(plain) => Ok(path),
        _ => Err(UnitsError::Path(crate::http::printable(path.to_string_lossy().as_bytes(), 300))),
    }
}

fn service(
    pipeline: &Pipeline,
    file: &Path,
    binary: &Path,
    touched: &Touched,
    user: Option<u32>,
    environment: Option<&Path>,
) -> Result<String, UnitsError> {
    let name = &pipeline.name;
    let (shown, program) = (file.display(), absolute(binary)?);
    let mut text = format!(
        "# Made by `etl service install {name}`, which makes it anew.\n\
         [Unit]\nDescription=etl pipeline {name}\nWants=network-online.target\n\
         After=network-online.target\n\n\
         [Service]\nType=oneshot\n\
         ExecStart={} run {shown} --data-dir {DATA_DIR} --log-file {}\n\
         # What is in flight is finished or spooled within 30 s.\n\
         KillSignal=SIGTERM\nTimeoutStopSec=60\nTimeoutStartSec=infinity\nSuccessExitStatus=143\n\
         StandardOutput=journal\nStandardError=journal\nSyslogIdentifier=etl-{name}\n\n",
        program.display(),
        log_file(name).display(),
    );
    match user {
        None => text.push_str("DynamicUser=yes\n"),
        Some(uid) => writeln!(text, "User={uid}").unwrap_or_default(),
    }
    write!(
        text,
        "StateDirectory=etl/{name}\nStateDirectoryMode=0700\nLogsDirectory=etl/{name}\n\
         LogsDirectoryMode=0750\nWorkingDirectory={DATA_DIR}/{name}\nUMask=0077\n"
    )
    .unwrap_or_default();
    if let Some(environment) = environment {
        let environment = environment.display();
        write!(text, "LoadCredential=env:{environment}\nEnvironment=ETL_ENV_FILE=%d/env\n")
            .unwrap_or_default();
    }
    text.push('\n');
    let program = Some(&program).filter(|path| HIDDEN.iter().any(|it| path.starts_with(it)));
    let mut bound: Vec<&Path> = program.into_iter().map(PathBuf::as_path).collect();
    bound.extend(touched.directories.iter().map(PathBuf::as_path));
    for path in bound {
        writeln!(text, "BindReadOnlyPaths={}", path.display()).unwrap_or_default();
    }
    for path in &touched.writes {
        writeln!(text, "BindPaths={}", path.display()).unwrap_or_default();
    }
    text.push_str(HARDENING);
    Ok(text)
}

/// What the service cannot do. The score is held by a test.
const HARDENING: &str = "\
LimitNOFILE=65536
CapabilityBoundingSet=
AmbientCapabilities=
NoNewPrivileges=yes
PrivateTmp=yes
PrivateDevices=yes
DevicePolicy=closed
PrivateUsers=yes
ProtectSystem=strict
ProtectHome=tmpfs
ProtectProc=invisible
ProcSubset=pid
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
KeyringMode=private
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
";

fn timer(pipeline: &Pipeline, schedule: &Schedule, timing: &Timing) -> String {
    let name = &pipeline.name;
    let mut text = format!(
        "# Made by `etl service install {name}`, which makes it anew.\n\
         [Unit]\nDescription=Runs the etl pipeline {name}: {timing}\n\n[Timer]\n"
    );
    match calendar::lines(timing) {
        Some(lines) => {
            let persistent = if schedule.missed == Missed::RunOnce { "true" } else { "false" };
            for line in lines {
                writeln!(text, "OnCalendar={line}").unwrap_or_default();
            }
            writeln!(text, "Persistent={persistent}").unwrap_or_default();
        }
        // It begins with the machine, so that nothing is missed.
        None => {
            let seconds = timing.interval().unwrap_or_default().as_secs_f64();
            writeln!(text, "OnActiveSec=0s\nOnUnitActiveSec={seconds}s").unwrap_or_default();
        }
    }
    text.push_str("AccuracySec=1s\n");
    if !schedule.jitter.0.is_zero() {
        let jitter = schedule.jitter.0.as_secs_f64();
        writeln!(text, "RandomizedDelaySec={jitter}s\nFixedRandomDelay=true").unwrap_or_default();
    }
    text.push_str("\n[Install]\nWantedBy=timers.target\n");
    text
}
