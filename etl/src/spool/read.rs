//! Reading a spooled batch back, whole and checked, or saying why not. What is
//! damaged is told apart from what cannot be read just now: only the former may
//! be quarantined.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use super::directory::{Directory, FileFacts};
use super::gzip::{self, FILE_MAX, HEADER_MAX};
use super::legacy;
use super::metadata::{Attempts, Metadata, MetadataError};
use super::name::{Name, ShortKey};
use crate::batch::Payload;

const NOT_REGULAR: &str = "not a regular file";

/// A spooled batch could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It will never be readable: quarantine it.
    #[error("{} is damaged: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It is gone: delivered, renamed or quarantined since it was listed.
    #[error("{} is no longer there", path.display())]
    NotFound {
        /// The file.
        path: PathBuf,
    },
    /// The system could not read it now; it may be fine. Leave it.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl ReadError {
    pub(super) fn corrupt(path: &Path, reason: impl ToString) -> ReadError {
        ReadError::Corrupt { path: path.to_owned(), reason: reason.to_string() }
    }

    fn system(path: &Path, source: io::Error) -> ReadError {
        let path = path.to_owned();
        let reason = match source.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOENT) => return ReadError::NotFound { path },
            Some(Errno::LOOP) => "a symbolic link, which is never followed",
            // What opening a socket or a device without a driver says.
            Some(Errno::NXIO | Errno::NODEV) => NOT_REGULAR,
            _ => return ReadError::Io { path, source },
        };
        ReadError::Corrupt { path, reason: reason.to_owned() }
    }
}

/// Reads one batch, whole and checked. A name that no batch can have is refused
/// without reading what is behind it.
pub(super) fn read(directory: &Directory, name: &Name) -> Result<(Payload, Attempts), ReadError> {
    let file_name = name.file_name();
    let path = directory.path().join(&file_name);
    if let Name::Malformed(_) = name {
        return Err(match directory.facts(&file_name) {
            Ok(None) => ReadError::NotFound { path },
            Ok(Some(facts)) if !facts.regular => ReadError::corrupt(&path, NOT_REGULAR),
            Ok(Some(_)) => ReadError::corrupt(&path, "its name is not one that a batch can have"),
            Err(source) => ReadError::Io { path, source },
        });
    }
    let (file, facts) = whole_file(directory, &file_name)?;
    decode(name, &file, facts.modified, sealed).map_err(|reason| ReadError::corrupt(&path, reason))
}

/// The whole content of a regular file of acceptable size.
pub(super) fn whole_file(
    directory: &Directory,
    name: &OsStr,
) -> Result<(Vec<u8>, FileFacts), ReadError> {
    let path = directory.path().join(name);
    let (file, facts) = open_regular(directory, name)?;
    if facts.size > FILE_MAX {
        return Err(ReadError::corrupt(&path, format!("larger than {} MiB", FILE_MAX >> 20)));
    }
    // A file that grew meanwhile is not one of ours: its end will not check.
    Ok((beginning(file, facts, FILE_MAX, &path)?, facts))
}

/// A file's metadata, from its first bytes only. `None`: written without any.
pub(super) fn metadata_of(
    directory: &Directory,
    name: &OsStr,
) -> Result<(Option<Metadata>, FileFacts), ReadError> {
    /// Where nearly all headers end.
    const USUAL: u64 = 1024;
    let path = directory.path().join(name);
    let (file, facts) = open_regular(directory, name)?;
    let mut bytes = beginning(file, facts, USUAL, &path)?;
    if gzip::header(&bytes).is_err() && bytes.len() as u64 == USUAL {
        let (file, facts) = open_regular(directory, name)?;
        bytes = beginning(file, facts, HEADER_MAX, &path)?;
    }
    match gzip::header(&bytes) {
        Ok((metadata, _)) => Ok((Some(metadata), facts)),
        Err(gzip::FrameProblem::Metadata(MetadataError::Missing)) => Ok((None, facts)),
        Err(problem) => Err(ReadError::corrupt(&path, problem)),
    }
}

fn open_regular(directory: &Directory, name: &OsStr) -> Result<(File, FileFacts), ReadError> {
    let path = directory.path().join(name);
    let (file, facts) =
        directory.open_file(name).map_err(|error| ReadError::system(&path, error))?;
    if facts.regular { Ok((file, facts)) } else { Err(ReadError::corrupt(&path, NOT_REGULAR)) }
}

/// At most `length` bytes from the start of a file.
fn beginning(file: File, facts: FileFacts, length: u64, path: &Path) -> Result<Vec<u8>, ReadError> {
    let expected = usize::try_from(facts.size.min(length)).unwrap_or(0);
    // One byte more, so that reading to the end does not grow the buffer to learn that it is one.
    let mut content = Vec::with_capacity(expected + 1);
    file.take(length).read_to_end(&mut content).map_err(|error| ReadError::system(path, error))?;
    Ok(content)
}

/// [`own`] or [`sealed`].
type ReadOwn = fn(&[u8], Option<ShortKey>) -> Result<(Payload, Attempts), String>;

/// The batch that a file's content is, given its name and its modification time.
pub(super) fn decode(
    name: &Name,
    file: &[u8],
    modified: u64,
    read_own: ReadOwn,
) -> Result<(Payload, Attempts), String> {
    match name {
        Name::Malformed(_) => Err("its name is not one that a batch can have".to_owned()),
        Name::Batch(batch) => read_own(file, Some(batch.key)),
        Name::Legacy(_) if gzip::begins_like_ours(file) => read_own(file, None),
        Name::Legacy(_) => {
            let payload = legacy::read(file).map_err(|problem| problem.to_string())?;
            let attempts = Attempts { tried: 1, last_answer: String::new(), first_at: modified };
            Ok((payload, attempts))
        }
    }
}

/// A batch of our making, record by record; `named` is the key that its name begins to tell.
pub(super) fn own(file: &[u8], named: Option<ShortKey>) -> Result<(Payload, Attempts), String> {
    let (sealed, attempts) = sealed(file, named)?;
    let Payload { key, range, run_id, body, .. } = sealed.clone();
    let payload =
        Payload::from_array(body, key, range, run_id).map_err(|error| error.to_string())?;
    if payload.body != sealed.body {
        return Err("its records are not laid out as they were sent".to_owned());
    }
    if payload.records() != sealed.records() {
        let (found, said) = (payload.records(), sealed.records());
        return Err(format!("holds {found} records where its metadata says {said}"));
    }
    Ok((payload, attempts))
}

/// The same without a look at the records: the digests say that these bytes are what was
/// sealed, and that it was so many records.
pub(super) fn sealed(file: &[u8], named: Option<ShortKey>) -> Result<(Payload, Attempts), String> {
    let (metadata, body) = gzip::unframe(file).map_err(|problem| match problem {
        gzip::FrameProblem::Metadata(MetadataError::Missing) => format!(
            "{problem}; to replay a file edited by hand, call it buffer_failed_worker0.json.gz"
        ),
        other => other.to_string(),
    })?;
    let key = metadata.key().map_err(|problem| problem.to_string())?;
    if named.is_some_and(|named| named != ShortKey::from(key)) {
        return Err("its name belongs to another batch".to_owned());
    }
    let (range, run) = (metadata.start..metadata.end, Arc::from(metadata.run.as_str()));
    let records = usize::try_from(metadata.records).map_err(|error| error.to_string())?;
    Ok((Payload::vouched(body, records, key, range, run), metadata.attempts()))
}
