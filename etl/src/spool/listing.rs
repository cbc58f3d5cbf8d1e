//! What is in a spool directory, by names and sizes only.

use std::cmp::Reverse;
use std::ffi::OsString;
use std::io;

use tracing::warn;

use super::directory::{Directory, FileFacts};
use super::name::{Name, State};

/// One file of the spool that waits to be replayed; 40 bytes and its content unread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub(super) name: Name,
    pub(super) size: u64,
    /// Unix seconds: when the batch was first tried, or a foreign file last changed.
    pub(super) since: u64,
}

impl Entry {
    /// Its place in the order; files of the earlier program and malformed names come first, at 0.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.name.sequence().unwrap_or(0)
    }

    /// Whether an attempt has failed; anything not ours counts as failed.
    #[must_use]
    pub fn state(&self) -> State {
        self.name.state()
    }

    /// Bytes on disk.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// When the batch was first tried, in Unix seconds, by the file's time.
    #[must_use]
    pub fn since(&self) -> u64 {
        self.since
    }

    /// Whether the earlier Go program wrote it.
    #[must_use]
    pub fn is_legacy(&self) -> bool {
        matches!(self.name, Name::Legacy(_))
    }

    /// Its name in the directory.
    #[must_use]
    pub fn file_name(&self) -> OsString {
        self.name.file_name()
    }

    /// Whether the other file is another copy of the same batch.
    pub(super) fn same_batch(&self, other: &Entry) -> bool {
        match (&self.name, &other.name) {
            (Name::Batch(one), Name::Batch(two)) => {
                (one.sequence, one.key) == (two.sequence, two.key)
            }
            _ => false,
        }
    }
}

/// Every file that is the spool's business, by sequence; of two copies of one
/// batch the failed one first.
pub(super) fn list(directory: &Directory) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    directory.visit_names(|name| {
        let Some(parsed) = Name::parse(std::os::unix::ffi::OsStrExt::as_bytes(name)) else {
            return Ok(());
        };
        match directory.facts(name) {
            Ok(Some(facts)) => entries.push(entry(parsed, facts)),
            // Delivered or renamed since its name was read.
            Ok(None) => {}
            Err(error) => {
                warn!(%error, file = %name.display(), "could not look at a spool file");
                entries.push(Entry { name: parsed, size: 0, since: 0 });
            }
        }
        Ok(())
    })?;
    entries.sort_unstable_by(|one, two| order(one).cmp(&order(two)));
    Ok(entries)
}

fn entry(name: Name, facts: FileFacts) -> Entry {
    let name = if facts.regular { name } else { Name::Malformed(name.file_name().into()) };
    Entry { name, size: facts.size, since: facts.modified }
}

fn order(entry: &Entry) -> impl Ord + '_ {
    match &entry.name {
        Name::Batch(batch) => {
            let place = (batch.sequence, batch.key, Reverse(batch.state), batch.worker);
            (1, Some(place), None)
        }
        Name::Legacy(name) | Name::Malformed(name) => (0, None, Some(name)),
    }
}
