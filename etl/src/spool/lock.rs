//! One process per spool: a lock that ends with the process, and a file that
//! says who holds it and since when.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::SpoolOptions;
use super::directory::Directory;
use super::metadata::{clean, unix_now};

/// The lock file's name in a spool directory.
pub(super) const LOCK: &str = ".lock";
/// The most of a lock file that is read.
const CONTENT_MAX: u64 = 4096;

/// Held as long as it lives; the kernel releases it with the process.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

impl Drop for Lock {
    /// Closing is not enough: a child that another thread is just starting may
    /// hold a copy of the file until it runs its own program.
    fn drop(&mut self) {
        if let Err(error) = rustix::fs::flock(&self.file, FlockOperation::Unlock) {
            tracing::debug!(%error, "could not release the spool's lock");
        }
    }
}

/// Who holds, or held last, a spool, and with which limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Holder {
    pub pid: u32,
    /// Unix seconds.
    pub since: u64,
    pub program: String,
    pub max_bytes: u64,
    pub min_free: u64,
}

#[derive(Debug)]
pub(super) enum LockError {
    /// Another process, or another `Spool` of this one, has it.
    Held(Option<Holder>),
    Io(io::Error),
}

impl Lock {
    /// Takes the lock of `directory`, or says at once who has it.
    pub fn acquire(directory: &Directory, options: SpoolOptions) -> Result<Lock, LockError> {
        let (mut file, facts) = directory.open_or_create(LOCK).map_err(LockError::Io)?;
        if !facts.regular {
            let error = io::Error::other("the lock file is not a regular file");
            return Err(LockError::Io(error));
        }
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(LockError::Held(Holder::read_from(&mut file))),
            Err(error) => return Err(LockError::Io(error.into())),
        }
        // Who holds it is a courtesy; a full disk must not keep the spool closed.
        if let Err(error) = Holder::this_process(options).write_to(&mut file) {
            tracing::debug!(%error, "could not note the holder in the lock file");
        }
        Ok(Lock { file })
    }
}

impl Holder {
    fn this_process(options: SpoolOptions) -> Holder {
        let program = std::env::args_os().next().unwrap_or_default();
        let program = std::path::Path::new(&program).file_name().unwrap_or_default();
        Holder {
            pid: std::process::id(),
            since: unix_now(),
            program: clean(&program.to_string_lossy(), 64),
            max_bytes: options.max_bytes,
            min_free: options.min_free,
        }
    }

    fn write_to(&self, file: &mut File) -> io::Result<()> {
        let json = serde_json::to_vec(self)?;
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&json)
    }

    /// What a lock file says; `None` for anything that is not of our making.
    pub fn read_from(file: &mut File) -> Option<Holder> {
        let mut text = Vec::new();
        file.take(CONTENT_MAX).read_to_end(&mut text).ok()?;
        let mut holder: Holder = serde_json::from_slice(&text).ok()?;
        holder.program = clean(&holder.program, 64);
        Some(holder)
    }

    /// Who holds or held the spool in `directory` last.
    pub fn last(directory: &Directory) -> Option<Holder> {
        let (mut file, facts) = directory.open_file(std::ffi::OsStr::new(LOCK)).ok()?;
        if facts.regular { Holder::read_from(&mut file) } else { None }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Beyond the year 9999 the formatter fails; no lock is that old.
        let seconds = self.since.min(253_402_300_799);
        let since = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds));
        write!(f, "{} (pid {}) since {since}", self.program, self.pid)
    }
}
