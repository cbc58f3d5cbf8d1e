//! Before a spool is used: is the directory ours alone, and does nobody else have it?

use std::io;
use std::path::{Path, PathBuf};

use super::SpoolOptions;
use super::directory::{Directory, create_durably};
use super::lock::{LOCK, Lock, LockError};
use super::write::WriteErrorKind;

/// A spool could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process uses it.
    #[error("the spool {} is in use by {holder}; wait for it to end, or stop it", directory.display())]
    Locked {
        /// The spool's directory.
        directory: PathBuf,
        /// Program, process id and since when.
        holder: String,
    },
    /// Something else has its name.
    #[error("{} is not a directory (symbolic links are not followed); move it away", path.display())]
    NotADirectory {
        /// What is in the way.
        path: PathBuf,
    },
    /// Others could read or change what waits there.
    #[error("the spool {} {problem}; run: {remedy}", path.display())]
    Insecure {
        /// The spool's directory.
        path: PathBuf,
        /// Who else could.
        problem: String,
        /// The command that puts it right.
        remedy: String,
    },
    /// The system refused.
    #[error("cannot {step} {}: {source}{}", path.display(), remedy(source))]
    Io {
        /// What was being done.
        step: &'static str,
        /// The file or directory concerned.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// What to do about it, where that is known.
fn remedy(source: &io::Error) -> String {
    match WriteErrorKind::of(source) {
        WriteErrorKind::Gone | WriteErrorKind::Other | WriteErrorKind::Exists => String::new(),
        kind => format!("; {}", kind.remedy()),
    }
}

impl OpenError {
    /// Whether the disk or the system failed: nothing that another configuration or
    /// owner of the directory would mend, and perhaps over soon.
    #[must_use]
    pub fn is_fault(&self) -> bool {
        matches!(self, OpenError::Io { source, .. } if WriteErrorKind::of(source).is_fault())
    }

    pub(super) fn io(step: &'static str, path: &Path, source: io::Error) -> OpenError {
        OpenError::Io { step, path: path.to_owned(), source }
    }
}

/// Makes the directory if it is missing and opens it if it is ours alone.
pub(super) fn private_directory(path: &Path) -> Result<Directory, OpenError> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.is_dir() => {
            return Err(OpenError::NotADirectory { path: path.to_owned() });
        }
        _ => {}
    }
    create_durably(path).map_err(|source| OpenError::io("make", path, source))?;
    let directory = Directory::open(path).map_err(|source| OpenError::io("open", path, source))?;
    let facts = directory.stat_self().map_err(|source| OpenError::io("look at", path, source))?;
    let owner = rustix::process::geteuid().as_raw();
    let insecure = |problem: String, remedy: String| {
        Err(OpenError::Insecure { path: path.to_owned(), problem, remedy })
    };
    if facts.st_uid != owner {
        return insecure(
            format!("belongs to user {}, and this process is user {owner}", facts.st_uid),
            format!("chown {owner} {}", path.display()),
        );
    }
    if facts.st_mode & 0o022 != 0 {
        return insecure(
            format!("can be written by others (mode {:03o})", facts.st_mode & 0o777),
            format!("chmod 700 {}", path.display()),
        );
    }
    Ok(directory)
}

/// Takes the directory's lock.
pub(super) fn lock(directory: &Directory, options: SpoolOptions) -> Result<Lock, OpenError> {
    Lock::acquire(directory, options).map_err(|error| match error {
        LockError::Held(holder) => OpenError::Locked {
            directory: directory.path().to_owned(),
            holder: holder.map_or_else(|| "another process".to_owned(), |it| it.to_string()),
        },
        LockError::Io(source) => OpenError::io("lock", &directory.path().join(LOCK), source),
    })
}
