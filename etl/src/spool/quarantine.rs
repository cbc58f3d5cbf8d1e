//! `corrupt/`: what does not check is moved there under its own name, with the
//! reason beside it. Nothing is deleted and nothing is overwritten.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::PathBuf;

use tracing::{debug, warn};

use super::directory::Directory;
use super::metadata::clean;
use super::name::quarantine_name;

/// The directory of quarantined files within a spool.
pub(super) const CORRUPT: &str = "corrupt";
/// Ends the names of the notes that say why a file is there.
pub(super) const REASON: &str = ".reason";
/// The most of a reason that is written down, in bytes.
const REASON_MAX: usize = 500;
/// Names tried for one file before giving up.
const NAMES_MAX: u32 = 10_000;

/// Moves `name` into `corrupt/`, durably, and gives back where it is now.
pub(super) fn quarantine(directory: &Directory, name: &OsStr, reason: &str) -> io::Result<PathBuf> {
    let corrupt = directory.subdirectory(CORRUPT)?;
    let kept = move_to_free_name(directory, name, &corrupt)?;
    let reason = clean(reason, REASON_MAX);
    if let Err(error) = note(&corrupt, &kept, &reason) {
        debug!(%error, "could not note why a spool file was quarantined");
    }
    corrupt.sync()?;
    directory.sync()?;
    let path = corrupt.path().join(&kept);
    warn!(file = %path.display(), reason, "spool file quarantined");
    Ok(path)
}

fn move_to_free_name(
    directory: &Directory,
    name: &OsStr,
    corrupt: &Directory,
) -> io::Result<OsString> {
    for taken in 0..NAMES_MAX {
        let kept = quarantine_name(name, taken);
        match directory.move_new(name, corrupt, &kept) {
            Ok(()) => return Ok(kept),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "no free name left in corrupt/"))
}

fn note(corrupt: &Directory, kept: &OsStr, reason: &str) -> io::Result<()> {
    let (temp, mut file) = corrupt.create_temp()?;
    writeln!(file, "{reason}")?;
    let mut name = kept.to_os_string();
    name.push(REASON);
    corrupt.rename_over(OsStr::new(&temp), &name)
}
