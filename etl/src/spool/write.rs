//! The order of operations that makes a file durable before anyone is told:
//! temporary or free file, content, fsync, rename, fsync of the directory. A failed fsync
//! is never repeated on the same file; whatever fails, no good file is touched.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::Advice;
use tracing::debug;

use super::directory::{Directory, FileFacts, set_modified, sync_file};
use super::fault::{Operation, step};

/// A file could not be made durable. Nothing that was there before has changed,
/// and the batch is still the caller's.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} {}: {source}; {}", path.display(), kind.remedy())]
pub struct WriteError {
    /// What kind of trouble it is.
    pub kind: WriteErrorKind,
    /// What was being done.
    pub step: &'static str,
    /// The file or directory concerned.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
    /// Whether the file is there all the same, under its own name, because it could
    /// not be taken back either.
    pub(super) left_behind: bool,
}

/// What kind of trouble kept a file from being durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WriteErrorKind {
    /// The disk, or the user's share of it, is full (ENOSPC, EDQUOT).
    DiskFull,
    /// Larger than this process may write (EFBIG).
    FileTooLarge,
    /// The disk failed (EIO).
    Device,
    /// The file system is mounted read-only (EROFS).
    ReadOnly,
    /// The directory has vanished (ENOENT, ENOTDIR, ESTALE).
    Gone,
    /// Not permitted (EACCES, EPERM).
    Denied,
    /// Too many open files (EMFILE, ENFILE).
    TooManyFiles,
    /// Another batch's file has this name; a sequence was used twice.
    Exists,
    /// The batch is larger than the spool reads back, or not one batch at all.
    Unsuitable,
    /// Anything else.
    Other,
}

/// A file's whole content on its way to the disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewFile<'a> {
    pub name: &'a str,
    pub bytes: &'a [u8],
    /// Unix seconds, what the file's age counts from.
    pub modified: u64,
}

/// A file that no reader takes for a batch, to be filled and given its name.
#[derive(Debug)]
pub(super) struct Blank {
    pub name: String,
    pub handle: File,
    /// How much it holds of something else.
    pub size: u64,
}

/// What happened to the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Published {
    New,
    /// It held the same batch before, in this file.
    Replaced(FileFacts),
}

impl WriteErrorKind {
    pub(crate) fn of(error: &io::Error) -> WriteErrorKind {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => WriteErrorKind::DiskFull,
            io::ErrorKind::FileTooLarge => WriteErrorKind::FileTooLarge,
            io::ErrorKind::ReadOnlyFilesystem => WriteErrorKind::ReadOnly,
            io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::StaleNetworkFileHandle => WriteErrorKind::Gone,
            io::ErrorKind::PermissionDenied => WriteErrorKind::Denied,
            io::ErrorKind::AlreadyExists => WriteErrorKind::Exists,
            _ => match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
                Some(rustix::io::Errno::IO) => WriteErrorKind::Device,
                Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE) => {
                    WriteErrorKind::TooManyFiles
                }
                _ => WriteErrorKind::Other,
            },
        }
    }

    /// Whether the disk or the system is at fault, and not what was configured.
    #[must_use]
    pub fn is_fault(self) -> bool {
        use WriteErrorKind::{Device, DiskFull, FileTooLarge, ReadOnly, TooManyFiles};
        matches!(self, Device | DiskFull | FileTooLarge | ReadOnly | TooManyFiles)
    }

    /// What the user can do.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            WriteErrorKind::DiskFull => "free space on this disk or move the data directory",
            WriteErrorKind::FileTooLarge => "raise the file size limit (ulimit -f unlimited)",
            WriteErrorKind::Device => "the disk is failing; move the data directory",
            WriteErrorKind::ReadOnly => "mount the file system writable or move the data directory",
            WriteErrorKind::Gone => "the directory was removed while in use; start again",
            WriteErrorKind::Denied => "let this user write there (chown, chmod 700)",
            WriteErrorKind::TooManyFiles => "raise the open file limit (ulimit -n)",
            WriteErrorKind::Exists => "this is a bug of etl; nothing was overwritten",
            WriteErrorKind::Unsuitable => "make batches smaller (batch.bytes)",
            WriteErrorKind::Other => "nothing was overwritten",
        }
    }
}

impl WriteError {
    pub(crate) fn new(step: &'static str, path: &Path, source: io::Error) -> WriteError {
        let (kind, path) = (WriteErrorKind::of(&source), path.to_owned());
        WriteError { kind, step, path, source, left_behind: false }
    }

    pub(super) fn unsuitable(
        path: &Path,
        why: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> WriteError {
        WriteError {
            kind: WriteErrorKind::Unsuitable,
            step: "spool a batch in",
            path: path.to_owned(),
            source: io::Error::new(io::ErrorKind::InvalidInput, why),
            left_behind: false,
        }
    }
}

/// Writes a file so that it is whole and durable when this returns `Ok`. When
/// its name is taken, `same_batch` says whether what is there may be replaced.
pub(crate) fn write_durably(
    directory: &Directory,
    file: &NewFile<'_>,
    same_batch: impl FnOnce() -> bool,
) -> Result<Published, WriteError> {
    let draft = Draft::write(directory, Blank::new(directory)?, file)?;
    publish_durably(draft, directory, file, same_batch)
}

/// Gives a file that holds everything its name, durably.
pub(super) fn publish_durably(
    draft: Draft,
    directory: &Directory,
    file: &NewFile<'_>,
    same_batch: impl FnOnce() -> bool,
) -> Result<Published, WriteError> {
    let published = draft.publish(directory, file, same_batch)?;
    directory.sync().map_err(|error| published.not_durable(directory, file, error))?;
    Ok(published)
}

impl Blank {
    /// A new one.
    pub fn new(directory: &Directory) -> Result<Blank, WriteError> {
        let (name, handle) = directory
            .create_temp()
            .map_err(|error| WriteError::new("create a file in", directory.path(), error))?;
        Ok(Blank { name, handle, size: 0 })
    }
}

/// A file that holds everything, is not synced and has no name of its own yet.
#[derive(Debug)]
pub(super) struct Draft {
    temp: String,
    handle: File,
}

impl Draft {
    /// Writes the content.
    pub fn write(
        directory: &Directory,
        blank: Blank,
        file: &NewFile<'_>,
    ) -> Result<Draft, WriteError> {
        let Blank { name: temp, handle, size } = blank;
        let filled = fill(&handle, size, file.bytes);
        match filled.and_then(|()| set_modified(&handle, file.modified)) {
            Ok(()) => Ok(Draft { temp, handle }),
            Err(error) => {
                abandon(directory, &temp);
                Err(WriteError::new("write", &directory.path().join(file.name), error))
            }
        }
    }

    /// Writes more behind it.
    pub fn append(self, directory: &Directory, file: &NewFile<'_>) -> Result<Draft, WriteError> {
        let appended = step(Operation::Write).and_then(|()| (&self.handle).write_all(file.bytes));
        match appended.and_then(|()| set_modified(&self.handle, file.modified)) {
            Ok(()) => Ok(self),
            Err(error) => {
                abandon(directory, &self.temp);
                Err(WriteError::new("write", &directory.path().join(file.name), error))
            }
        }
    }

    /// Removes it.
    pub fn abandon(self, directory: &Directory) {
        abandon(directory, &self.temp);
    }

    /// Has the disk begin with the content, for who has more to do before it waits.
    pub fn begin(&self) {
        // Advice, no more: what goes wrong shows in the fsync.
        rustix::fs::fadvise(&self.handle, 0, None, Advice::DontNeed).ok();
    }

    /// Makes the content durable and gives the file its name. The name is not durable
    /// before the directory is synced.
    pub fn publish(
        self,
        directory: &Directory,
        file: &NewFile<'_>,
        same_batch: impl FnOnce() -> bool,
    ) -> Result<Published, WriteError> {
        let published = sync_file(&self.handle)
            .map_err(|error| WriteError::new("write", &directory.path().join(file.name), error))
            .and_then(|()| rename(directory, &self.temp, file.name, same_batch));
        if published.is_err() {
            abandon(directory, &self.temp);
        }
        published
    }
}

impl Published {
    /// Takes the name back whose directory could not be synced.
    pub fn not_durable(
        self,
        directory: &Directory,
        file: &NewFile<'_>,
        error: io::Error,
    ) -> WriteError {
        let error = WriteError::new("make durable", &directory.path().join(file.name), error);
        // Ours or its equal was there before a replacement; only a new name is taken back.
        let left_behind = self == Published::New && !abandon(directory, file.name);
        WriteError { left_behind, ..error }
    }
}

/// `size` is what the file held before.
fn fill(mut handle: &File, size: u64, bytes: &[u8]) -> io::Result<()> {
    step(Operation::Write)?;
    handle.write_all(bytes)?;
    if size > bytes.len() as u64 {
        handle.set_len(bytes.len() as u64)?;
    }
    Ok(())
}

fn rename(
    directory: &Directory,
    temp: &str,
    name: &str,
    same_batch: impl FnOnce() -> bool,
) -> Result<Published, WriteError> {
    let path = directory.path().join(name);
    let (temp, name) = (OsStr::new(temp), OsStr::new(name));
    match directory.rename_new(temp, name) {
        Ok(()) => return Ok(Published::New),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && same_batch() => {}
        Err(error) => return Err(WriteError::new("rename a file to", &path, error)),
    }
    let old = directory.facts(name).and_then(|old| {
        directory.rename_over(temp, name)?;
        Ok(old)
    });
    match old {
        Ok(Some(old)) => Ok(Published::Replaced(old)),
        Ok(None) => Ok(Published::New),
        Err(error) => Err(WriteError::new("replace", &path, error)),
    }
}

/// Removes a file that was never reported durable; says whether it is gone. When even
/// that fails it stays: a temporary is removed at the next start, a batch is replayed
/// under its own key then.
fn abandon(directory: &Directory, name: &str) -> bool {
    let removed = directory.remove(OsStr::new(name));
    if let Err(error) = &removed {
        debug!(%error, name, "could not remove an unfinished spool file");
    }
    removed.is_ok()
}
