//! What opening a spool does: remove what dead processes left unfinished, count
//! what is there, and settle which of two copies of a batch is the one. Works
//! from names and sizes; nothing unreadable stops it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;

use tracing::{info, warn};

use super::dead::DEAD;
use super::directory::Directory;
use super::listing::{Entry, list};
use super::metadata::unix_now;
use super::name::{self, Name};
use super::pool::{KEPT_SECONDS, Pool};
use super::quarantine::{CORRUPT, REASON, quarantine};
use super::read::{ReadError, read};
use super::usage::{Counts, Place};
use crate::batch::BatchKey;

/// What is known after opening.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    pub counts: Counts,
    /// Above every sequence in a name.
    pub next_sequence: u64,
}

/// Sequences beyond this were never given out; counting on from there could run out.
const SEQUENCE_BELIEVED: u64 = u64::MAX / 2;

pub(super) fn recover(directory: &Directory, pool: &Pool) -> io::Result<Recovered> {
    let mut recovered = Recovered::default();
    remove_temps(directory)?;
    take_up_free(directory, pool, unix_now())?;
    let entries = list(directory)?;
    for entry in &entries {
        recovered.saw(entry.sequence());
    }
    for copies in entries.chunk_by(Entry::same_batch) {
        if copies.len() > 1 {
            settle_copies(directory, copies);
        }
    }
    // Counted after the copies are settled, so that what was removed does not count.
    let entries = if entries.windows(2).any(|two| two[0].same_batch(&two[1])) {
        list(directory)?
    } else {
        entries
    };
    for entry in &entries {
        recovered.counts.add(Place::Waiting(entry.state()), entry.size, entry.since);
    }
    recovered.count_folder(directory, DEAD, Place::Dead);
    recovered.count_folder(directory, CORRUPT, Place::Corrupt);
    Ok(recovered)
}

impl Recovered {
    fn saw(&mut self, sequence: u64) {
        if sequence <= SEQUENCE_BELIEVED {
            self.next_sequence = self.next_sequence.max(sequence + 1);
        }
    }

    fn count_folder(&mut self, directory: &Directory, folder: &str, place: Place) {
        let result = match directory.existing_subdirectory(folder) {
            Ok(folder) => remove_temps(&folder).and_then(|()| {
                folder.visit_names(|name| {
                    self.count_kept(&folder, name, place);
                    Ok(())
                })
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            warn!(%error, folder, "could not look into a folder of the spool");
        }
    }

    fn count_kept(&mut self, folder: &Directory, name: &OsStr, place: Place) {
        let bytes = name.as_bytes();
        if let Some((sequence, _)) = name::parse_dead(bytes) {
            self.saw(sequence);
        } else if let Some(Name::Batch(batch)) = Name::parse(bytes) {
            self.saw(batch.sequence);
        }
        if matches!(bytes, b"." | b"..") || bytes.ends_with(REASON.as_bytes()) {
            return;
        }
        if let Ok(Some(facts)) = folder.facts(name) {
            self.counts.add(place, facts.size, facts.modified);
        }
    }
}

/// Under the lock nobody else writes here, so every temporary is a dead process's
/// and was never reported durable.
fn remove_temps(directory: &Directory) -> io::Result<()> {
    let mut temps: Vec<OsString> = Vec::new();
    directory.visit_names(|name| {
        if name::is_temp(name.as_bytes()) {
            temps.push(name.to_owned());
        }
        Ok(())
    })?;
    for temp in temps {
        match directory.remove(&temp) {
            Ok(()) => info!(file = %temp.display(), "unfinished spool file removed"),
            Err(error) => warn!(%error, file = %temp.display(), "unfinished spool file stays"),
        }
    }
    Ok(())
}

/// Files that a process before this one had done with, for this one to write over.
/// Those that nobody has needed for long are to go.
pub(super) fn take_up_free(directory: &Directory, pool: &Pool, now: u64) -> io::Result<()> {
    let mut free: Vec<u64> = Vec::new();
    directory.visit_names(|name| {
        free.extend(name::parse_free(name.as_bytes()));
        Ok(())
    })?;
    if free.is_empty() {
        return Ok(());
    }
    // That they have lost their old names must be durable before they are written over.
    directory.sync()?;
    free.sort_unstable();
    let oldest_kept = now.saturating_sub(KEPT_SECONDS);
    for number in free {
        if let Ok(Some(facts)) = directory.facts(OsStr::new(&name::free_name(number))) {
            let wanted = facts.regular && facts.changed >= oldest_kept;
            pool.take_up(number, facts.size, wanted);
        }
    }
    Ok(())
}

/// A crash between writing a batch's new file and removing its old one leaves
/// both. Of those that check, the one that got further stays: failed before
/// pending, then by attempts. Only once it was read whole are the others removed,
/// and only if they are the same batch.
fn settle_copies(directory: &Directory, copies: &[Entry]) {
    let mut whole: Vec<(&Entry, Copy)> = Vec::new();
    let mut damaged: Vec<(&Entry, String)> = Vec::new();
    for entry in copies {
        match read_copy(directory, entry) {
            Ok(copy) => whole.push((entry, copy)),
            Err(ReadError::Corrupt { reason, .. }) => damaged.push((entry, reason)),
            Err(error) => {
                warn!(%error, "copies of a spooled batch stay");
                return;
            }
        }
    }
    whole.sort_by_key(|(entry, copy)| (entry.state(), copy.tried));
    let Some((_, kept)) = whole.pop() else { return };
    for (entry, copy) in whole {
        // Two batches under one sequence and half a key: both stay.
        if (copy.key, copy.body) == (kept.key, kept.body) {
            let file = entry.file_name();
            match directory.remove(&file) {
                Ok(()) => info!(file = %file.display(), "older copy of a batch removed"),
                Err(error) => warn!(%error, "older copy of a batch stays"),
            }
        }
    }
    for (entry, reason) in damaged {
        if let Err(error) = quarantine(directory, &entry.file_name(), &reason) {
            warn!(%error, "damaged copy of a spooled batch stays");
        }
    }
}

/// What tells two copies apart, small enough to hold.
struct Copy {
    key: BatchKey,
    body: blake3::Hash,
    tried: u32,
}

fn read_copy(directory: &Directory, entry: &Entry) -> Result<Copy, ReadError> {
    let (payload, attempts) = read(directory, &entry.name)?;
    Ok(Copy { key: payload.key, body: blake3::hash(&payload.body), tried: attempts.tried })
}
