//! Why a source cannot be read at all; each text names the file and what to do.

use std::io;
use std::path::{Path, PathBuf};

/// Why a source cannot be read, or not any further.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// Nothing is there.
    #[error("{path}: no such file; a relative path starts at the pipeline's file", path = .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// This user may not read it.
    #[error("{path}: permission denied; let this user read it", path = .path.display())]
    Denied {
        /// The file.
        path: PathBuf,
    },
    /// A directory, pipe, socket or device.
    #[error("{path} is {what}; give a regular file, which can be read again after a crash", path = .path.display())]
    NotAFile {
        /// What was given.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// No byte of data.
    #[error("{path} is empty; there should be at least {expected}", path = .path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// What is missed.
        expected: &'static str,
    },
    /// Not something this source reads.
    #[error("{path}: {problem}", path = .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The header row and the configuration do not go together.
    #[error("{path}:{line}: {problem}", path = .path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// The header's line.
        line: u64,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The configuration alone is wrong.
    #[error("source.csv.{key}: {problem}")]
    Config {
        /// The key.
        key: &'static str,
        /// What is wrong and what to do.
        problem: String,
    },
    /// Quotes are so broken that rows cannot be told apart any more.
    #[error(
        "{path}:{line}: quotes do not match here and in {count} places before; repair the file (every \" within a quoted field is written \"\")",
        path = .path.display()
    )]
    Quotes {
        /// The file.
        path: PathBuf,
        /// The line of the last record that does not end.
        line: u64,
        /// Records before it that did not end.
        count: u32,
    },
    /// Reading failed.
    #[error("{path}: reading failed after line {line}: {source}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The last line that was read whole.
        line: u64,
        /// The system's or gzip's error.
        source: io::Error,
    },
}

impl SourceError {
    /// The error for a file that cannot be opened.
    pub(super) fn open(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::NotFound => SourceError::Missing { path },
            io::ErrorKind::PermissionDenied => SourceError::Denied { path },
            _ => SourceError::Format { path, problem: format!("cannot be opened: {error}") },
        }
    }

    /// Whether the pipeline file is to be changed, rather than the source.
    #[must_use]
    pub fn is_config(&self) -> bool {
        matches!(self, SourceError::Config { .. })
    }
}
