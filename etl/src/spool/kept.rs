//! A private, locked directory of a few small files that are replaced whole: what
//! a pipeline's state needs of the spool's durable file operations.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::SpoolOptions;
use super::directory::Directory;
use super::lock::Lock;
use super::metadata::unix_now;
use super::name;
use super::open::{self, OpenError};
use super::quarantine::quarantine;
use super::write::{Blank, Draft, NewFile, WriteError, publish_durably, write_durably};

/// Files that are replaced whole; their directory is locked while this lives.
#[derive(Debug)]
pub struct KeptFiles {
    directory: Directory,
    _lock: Lock,
}

impl KeptFiles {
    /// Opens the directory, made if it is missing, and takes its lock.
    ///
    /// # Errors
    /// When another process holds it, when it is not ours alone, or when the system
    /// refuses.
    pub fn open(path: &Path) -> Result<KeptFiles, OpenError> {
        let directory = open::private_directory(path)?;
        let lock = open::lock(&directory, SpoolOptions { max_bytes: 0, min_free: 0 })?;
        // What a dead process left unfinished; under the lock nobody else writes here.
        let mut temps: Vec<OsString> = Vec::new();
        directory
            .visit_names(|name| {
                temps.extend(name::is_temp(name.as_encoded_bytes()).then(|| name.to_owned()));
                Ok(())
            })
            .and_then(|()| temps.iter().try_for_each(|temp| directory.remove(temp)))
            .map_err(|source| OpenError::io("list", path, source))?;
        Ok(KeptFiles { directory, _lock: lock })
    }

    /// Where they are.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A file's content; `None` when there is no such file.
    ///
    /// # Errors
    /// When it cannot be read, is no regular file, or is longer than `bytes_max`.
    pub fn read(&self, name: &str, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
        let (file, facts) = match self.directory.open_file(OsStr::new(name)) {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if !facts.regular || facts.size > bytes_max {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a file of this size"));
        }
        let mut content = Vec::new();
        file.take(bytes_max).read_to_end(&mut content)?;
        Ok(Some(content))
    }

    /// Writes a file whole, replacing what has its name; durable when this returns.
    /// Whatever happens, the old or the new content is there.
    ///
    /// # Errors
    /// When the system refuses; nothing that was there has changed then.
    pub fn replace(&self, name: &str, content: &[u8]) -> Result<(), WriteError> {
        let file = NewFile { name, bytes: content, modified: unix_now() };
        write_durably(&self.directory, &file, || true).map(drop)
    }

    /// As [`KeptFiles::replace`], with content that comes in parts: `next` puts one into the
    /// empty buffer, and nothing behind the last.
    ///
    /// # Errors
    /// When the system refuses, or `next` does; nothing that was there has changed then.
    pub fn replace_in_parts(
        &self,
        name: &str,
        mut next: impl FnMut(&mut Vec<u8>) -> io::Result<()>,
    ) -> Result<(), WriteError> {
        let refused = |error| WriteError::new("write", &self.directory.path().join(name), error);
        let (mut part, modified) = (Vec::new(), unix_now());
        next(&mut part).map_err(refused)?;
        let file = NewFile { name, bytes: &part, modified };
        let mut draft = Draft::write(&self.directory, Blank::new(&self.directory)?, &file)?;
        loop {
            part.clear();
            if let Err(error) = next(&mut part) {
                draft.abandon(&self.directory);
                return Err(refused(error));
            }
            let file = NewFile { name, bytes: &part, modified };
            if part.is_empty() {
                return publish_durably(draft, &self.directory, &file, || true).map(drop);
            }
            draft = draft.append(&self.directory, &file)?;
        }
    }

    /// Moves a file that does not check to `corrupt/`, with the reason beside it.
    ///
    /// # Errors
    /// When it cannot be moved; it is then where it was.
    pub fn quarantine(&self, name: &str, reason: &str) -> io::Result<PathBuf> {
        quarantine(&self.directory, OsStr::new(name), reason)
    }
}
