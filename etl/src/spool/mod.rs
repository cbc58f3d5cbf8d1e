//! The spool: batches that are not delivered yet, one plain gzip file each, that
//! survive a crash and a power cut from the moment [`Spool::write`] returns until
//! [`Spool::remove`] is called for what the sink has acknowledged.
//!
//! `name`, `metadata`, `gzip`, `legacy` and `dead` are pure: bytes in, bytes out.
//! `directory` is the only file that renames, removes and syncs; `write` is the
//! order in which it does so. `recover` is what opening does, `inspect` looks in
//! from outside while a run goes on. All calls block; call them from disk threads.

mod batches;
mod dead;
mod directory;
pub(crate) mod fault;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod group;
mod gzip;
pub mod inspect;
mod kept;
mod legacy;
mod listing;
mod lock;
mod metadata;
mod name;
mod open;
mod pool;
mod quarantine;
mod read;
mod recover;
mod stored;
mod usage;
mod write;

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tracing::warn;

pub use batches::NewBatch;
pub use dead::DeadLetter;
pub(crate) use directory::{Directory, create_durably};
pub use kept::KeptFiles;
pub use listing::Entry;
pub use metadata::{Attempts, clean};
pub use name::State;
pub(crate) use name::is_temp;
pub use open::OpenError;
pub use read::ReadError;
pub use stored::Stored;
pub use usage::{Room, Usage};
pub(crate) use write::{NewFile, write_durably};
pub use write::{WriteError, WriteErrorKind};

use crate::batch::Payload;
use lock::Lock;
use name::{BatchName, Name, ShortKey};
use pool::Pool;
use usage::{Counts, Place};

/// How much a spool may hold and must leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpoolOptions {
    /// The most the spool may hold before [`Spool::room`] says it is full, in bytes.
    pub max_bytes: u64,
    /// What must stay free on the disk, in bytes.
    pub min_free: u64,
}

/// One sink's undelivered batches; its directory is locked while this lives.
#[derive(Debug)]
pub struct Spool {
    directory: Directory,
    options: SpoolOptions,
    counts: Counts,
    next_sequence: AtomicU64,
    pool: Pool,
    /// Files whose batch is not, or no longer, theirs to deliver and that could not be
    /// removed: for the next process, under the same key. Replayed by this one they
    /// would count twice, and for ever.
    left: Mutex<HashSet<OsString>>,
    _lock: Lock,
}

impl Spool {
    /// Opens one sink's spool, making the directory if needed, takes its lock,
    /// and recovers: unfinished files of dead processes are removed, a batch that
    /// a crash left twice is kept once. Reads names and sizes, not contents.
    ///
    /// # Errors
    /// When another process holds it, when the directory is not ours alone, or
    /// when the system refuses. Damaged files are no error.
    pub fn open(directory: &Path, options: SpoolOptions) -> Result<Spool, OpenError> {
        let directory = open::private_directory(directory)?;
        let lock = open::lock(&directory, options)?;
        let pool = Pool::new(options.max_bytes);
        let recovered = recover::recover(&directory, &pool)
            .map_err(|source| OpenError::io("list", directory.path(), source))?;
        Ok(Spool {
            directory,
            options,
            counts: recovered.counts,
            next_sequence: AtomicU64::new(recovered.next_sequence),
            pool,
            left: Mutex::default(),
            _lock: lock,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A sequence above every one seen in the directory and every one given out.
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence.fetch_add(1, Ordering::Relaxed)
    }

    fn next_above(&self, sequence: u64) {
        self.next_sequence.fetch_max(sequence.saturating_add(1), Ordering::Relaxed);
    }

    /// Writes one batch; it is durable when this returns. The size of the spool
    /// is no reason to refuse: a batch in flight must always find room.
    ///
    /// # Errors
    /// When the system refuses: the batch is then not in the spool, everything
    /// else is as it was, and calling again starts a new file.
    pub fn write(
        &self,
        state: State,
        worker: u32,
        sequence: u64,
        payload: &Payload,
        attempts: &Attempts,
    ) -> Result<Stored, WriteError> {
        let mut stored = None;
        let batch = NewBatch { state, worker, sequence, payload, attempts };
        self.write_all(&[batch], |result| stored = Some(result));
        stored.unwrap_or_else(|| Err(WriteError::unsuitable(self.directory.path(), "no batch")))
    }

    /// Writes what has become of a batch since: attempts, or pending to failed.
    /// Whatever crashes, the old or the new file is there and whole.
    ///
    /// # Errors
    /// As [`Spool::write`]; the file behind `stored` is then still there.
    pub fn update(
        &self,
        stored: &mut Stored,
        state: State,
        worker: u32,
        payload: &Payload,
        attempts: &Attempts,
    ) -> Result<(), WriteError> {
        if payload.key != stored.key {
            let why = "an update must carry the batch that is stored";
            return Err(WriteError::unsuitable(self.directory.path(), why));
        }
        let sequence = stored.name.sequence().unwrap_or_else(|| self.next_sequence());
        let name = BatchName { state, worker, sequence, key: ShortKey::from(payload.key) };
        let size = self.write_named(&name, payload, attempts)?;
        let old = std::mem::replace(&mut stored.name, Name::Batch(name));
        let old_size = stored.size;
        self.counts.subtract(Place::Waiting(old.state()), old_size, stored.since);
        self.counts.add(Place::Waiting(state), size, attempts.first_at);
        (stored.size, stored.since) = (size, attempts.first_at);
        if old != stored.name
            && let Err(error) = self.take_away(&old, old_size)
            && error.kind() != io::ErrorKind::NotFound
        {
            self.leave(old.file_name());
            warn!(%error, file = %old.file_name().display(), "older copy of a batch stays");
        }
        Ok(())
    }

    /// What waits to be replayed by this process, by sequence: names and sizes only.
    /// Files that it could not remove are not among them. Batches that
    /// this process is working on are among them; one that is being updated at
    /// this moment may be missing once.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut entries = listing::list(&self.directory)?;
        entries.retain(|entry| !self.is_left(&entry.file_name()));
        entries.dedup_by(|later, kept| kept.same_batch(later));
        Ok(entries)
    }

    /// Reads one batch, whole and checked.
    ///
    /// # Errors
    /// See [`ReadError`]: damaged, gone, or not readable now.
    pub fn read(&self, entry: &Entry) -> Result<(Payload, Attempts, Stored), ReadError> {
        // It may have been given up since it was listed.
        if self.is_left(&entry.file_name()) {
            let path = self.directory.path().join(entry.file_name());
            return Err(ReadError::NotFound { path });
        }
        let (payload, attempts) = read::read(&self.directory, &entry.name)?;
        let stored = Stored {
            name: entry.name.clone(),
            key: payload.key,
            size: entry.size,
            since: entry.since,
        };
        Ok((payload, attempts, stored))
    }

    /// Moves a file that does not check to `corrupt/`, with the reason beside it;
    /// gives back where it is now.
    ///
    /// # Errors
    /// When it cannot be moved; it is then where it was.
    pub fn quarantine(&self, entry: &Entry, reason: &str) -> io::Result<PathBuf> {
        let path = quarantine::quarantine(&self.directory, &entry.file_name(), reason)?;
        self.counts.subtract(Place::Waiting(entry.state()), entry.size, entry.since);
        self.counts.add(Place::Corrupt, entry.size, entry.since);
        Ok(path)
    }

    /// Removes a batch. Only for what the sink has acknowledged.
    ///
    /// # Errors
    /// When it cannot be removed; the next process then replays it under the same key.
    pub fn remove(&self, stored: Stored) -> io::Result<()> {
        match self.take_away(&stored.name, stored.size) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                warn!(file = %stored.file_name().display(), "delivered spool file was gone");
            }
            Err(error) => {
                self.leave(stored.file_name());
                return Err(error);
            }
        }
        self.counts.subtract(Place::Waiting(stored.state()), stored.size, stored.since);
        Ok(())
    }

    /// Removes some of the files that are kept to be written over and that nobody has
    /// needed for long; says whether there are more.
    pub fn tidy(&self) -> bool {
        self.pool.tidy(&self.directory)
    }

    /// Writes records that were refused for good into one file in `dead/`;
    /// durable when this returns.
    ///
    /// # Errors
    /// As [`Spool::write`]; also when there is no letter.
    pub fn dead_letter(&self, letters: &[DeadLetter]) -> Result<PathBuf, WriteError> {
        if letters.is_empty() {
            return Err(WriteError::unsuitable(self.directory.path(), "no dead letter given"));
        }
        let sealed = dead::seal(letters)
            .map_err(|error| WriteError::unsuitable(self.directory.path(), error))?;
        let folder = self.directory.subdirectory(dead::DEAD).map_err(|error| {
            WriteError::new("make", &self.directory.path().join(dead::DEAD), error)
        })?;
        let name = name::dead_name(self.next_sequence(), ShortKey::from(sealed.key));
        let file = NewFile { name: &name, bytes: &sealed.file, modified: sealed.modified };
        write_durably(&folder, &file, || false)?;
        self.counts.add(Place::Dead, sealed.file.len() as u64, sealed.modified);
        Ok(folder.path().join(name))
    }

    /// Whether intake may go on. Cheap: asks the disk at most once a second.
    #[must_use]
    pub fn room(&self) -> Room {
        let (used, max) = (self.counts.usage().total_bytes(), self.options.max_bytes);
        if used >= max {
            return Room::Full { used, max };
        }
        let floor = self.options.min_free;
        match self.counts.free(Instant::now(), || self.directory.free_bytes().ok()) {
            Some(free) if free < floor => {
                self.pool.close(&self.directory);
                Room::LowDisk { free, floor }
            }
            // A disk that cannot be asked is judged by the next write.
            _ => Room::Enough,
        }
    }

    /// Whether so many bytes more would not fill it.
    pub fn is_below_its_cap_with(&self, bytes: u64) -> bool {
        self.counts.usage().total_bytes().saturating_add(bytes) < self.options.max_bytes
    }

    /// What it holds, by the counters.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.counts.usage()
    }

    /// Takes a file away whose batch is safe elsewhere. Only one of our own making is
    /// written over later.
    fn take_away(&self, name: &Name, size: u64) -> io::Result<()> {
        match name {
            Name::Batch(_) => self.pool.put(&self.directory, &name.file_name(), size),
            Name::Legacy(_) | Name::Malformed(_) => self.directory.remove(&name.file_name()),
        }
    }

    /// Leaves a file to the next process.
    fn leave(&self, file: OsString) {
        self.left().insert(file);
    }

    fn is_left(&self, file: &OsStr) -> bool {
        self.left().contains(file)
    }

    fn left(&self) -> MutexGuard<'_, HashSet<OsString>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests;
