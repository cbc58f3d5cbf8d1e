//! Hands units to systemd, and orders to it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::units::{UNIT_DIR, Units, service_name, timer_name};
use crate::http::printable;

/// What is shown of what systemctl says.
const SAID_MAX: usize = 1000;

/// systemd, of this machine or of an image of one.
#[derive(Debug, Clone, Default)]
pub struct Systemd {
    /// Where the image is.
    root: Option<PathBuf>,
}

/// Why systemd did not do it.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// A unit cannot be written or removed.
    #[error("{path}: {source}{}", hint(source))]
    File {
        /// The unit.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// systemctl failed.
    #[error("systemctl {0}")]
    Systemctl(String),
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; do it as root: sudo etl service …",
        _ => "",
    }
}

impl Systemd {
    /// The one that runs this machine.
    #[must_use]
    pub fn here() -> Systemd {
        Systemd::default()
    }

    /// One that will run an image, whose file system is under `root`.
    #[must_use]
    pub fn of_image(root: &Path) -> Systemd {
        Systemd { root: Some(root.to_owned()) }
    }

    /// Writes the units of `pipeline`, in the place of earlier ones; gives their files.
    ///
    /// # Errors
    /// When they cannot be written, or systemd does not take them.
    pub fn install(&self, pipeline: &str, units: &Units) -> Result<Vec<PathBuf>, SystemdError> {
        let service = self.place(&service_name(pipeline));
        let timer = self.place(&timer_name(pipeline));
        write(&service, &units.service)?;
        let mut written = vec![service];
        match &units.timer {
            Some(text) => {
                write(&timer, text)?;
                written.push(timer);
            }
            None => remove(&timer)?,
        }
        self.reload()?;
        if self.root.is_some() {
            if units.timer.is_some() {
                self.systemctl(&["enable", &timer_name(pipeline)])?;
            }
        } else if units.timer.is_some() {
            // One that is at work goes by its new times from now on.
            self.systemctl(&["try-restart", &timer_name(pipeline)])?;
        }
        Ok(written)
    }

    /// Stops and removes the units of `pipeline`; gives the files that were there.
    ///
    /// # Errors
    /// When they cannot be removed.
    pub fn uninstall(&self, pipeline: &str) -> Result<Vec<PathBuf>, SystemdError> {
        let names = [timer_name(pipeline), service_name(pipeline)];
        let files: Vec<PathBuf> =
            names.iter().map(|name| self.place(name)).filter(|file| file.exists()).collect();
        if self.place(&timer_name(pipeline)).exists() {
            let now: &[&str] = if self.root.is_some() { &[] } else { &["--now"] };
            self.systemctl(&[&["disable"], now, &[&timer_name(pipeline)]].concat())?;
        }
        if self.root.is_none() && !files.is_empty() {
            self.systemctl(&["stop", &service_name(pipeline)])?;
        }
        for file in &files {
            remove(file)?;
        }
        self.reload()?;
        Ok(files)
    }

    /// Lets `pipeline` run by its timer, and once now.
    ///
    /// # Errors
    /// When systemd refuses.
    pub fn start(&self, pipeline: &str) -> Result<(), SystemdError> {
        if self.place(&timer_name(pipeline)).exists() {
            self.systemctl(&["enable", "--now", &timer_name(pipeline)])?;
        }
        self.systemctl(&["start", "--no-block", &service_name(pipeline)])
    }

    /// Lets no run of `pipeline` begin and waits for the end of the one that is going on.
    ///
    /// # Errors
    /// When systemd refuses.
    pub fn stop(&self, pipeline: &str) -> Result<(), SystemdError> {
        if self.place(&timer_name(pipeline)).exists() {
            self.systemctl(&["disable", "--now", &timer_name(pipeline)])?;
        }
        self.systemctl(&["stop", &service_name(pipeline)])
    }

    fn place(&self, unit: &str) -> PathBuf {
        let directory = match &self.root {
            Some(root) => root.join(UNIT_DIR.trim_start_matches('/')),
            None => PathBuf::from(UNIT_DIR),
        };
        directory.join(unit)
    }

    fn reload(&self) -> Result<(), SystemdError> {
        if self.root.is_none() { self.systemctl(&["daemon-reload"]) } else { Ok(()) }
    }

    fn systemctl(&self, args: &[&str]) -> Result<(), SystemdError> {
        let mut command = Command::new("systemctl");
        if let Some(root) = &self.root {
            command.arg("--root").arg(root);
        }
        let asked = args.join(" ");
        match command.args(args).output() {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => {
                let said = printable(output.stderr.trim_ascii(), SAID_MAX);
                Err(SystemdError::Systemctl(format!("{asked}: {said}")))
            }
            Err(error) => Err(SystemdError::Systemctl(format!("{asked}: {error}"))),
        }
    }
}

fn write(path: &Path, text: &str) -> Result<(), SystemdError> {
    let failed = |source| SystemdError::File { path: path.to_owned(), source };
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(failed)?;
    }
    let temp = path.with_extension("tmp");
    fs::write(&temp, text).and_then(|()| fs::rename(&temp, path)).map_err(failed)
}

fn remove(path: &Path) -> Result<(), SystemdError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(SystemdError::File { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Whether the timer of `pipeline` is at work.
#[must_use]
pub fn is_scheduled(pipeline: &str) -> bool {
    let asked = Command::new("systemctl").args(["is-active", &timer_name(pipeline)]).output();
    asked.is_ok_and(|output| output.status.success())
}
