//! Batches on their way to the disk, some at a time: their directory is synced once for
//! all of them, and of none is said that it is durable before that.

use std::ffi::OsStr;
use std::io;

use super::metadata::{Attempts, Metadata};
use super::name::{BatchName, Name, ShortKey, State};
use super::stored::Stored;
use super::usage::Place;
use super::write::{Blank, Draft, NewFile, Published, WriteError, WriteErrorKind};
use super::{Spool, gzip, read};
use crate::batch::Payload;

/// A batch to be written.
#[derive(Debug, Clone, Copy)]
pub struct NewBatch<'a> {
    /// Whether an attempt has failed.
    pub state: State,
    /// A label.
    pub worker: u32,
    /// Its place in the order.
    pub sequence: u64,
    /// The batch.
    pub payload: &'a Payload,
    /// What was tried with it.
    pub attempts: &'a Attempts,
}

/// A batch as a file, in memory.
#[derive(Debug)]
struct Framed {
    name: String,
    bytes: Vec<u8>,
    /// Unix seconds.
    since: u64,
}

impl Framed {
    fn file(&self) -> NewFile<'_> {
        NewFile { name: &self.name, bytes: &self.bytes, modified: self.since }
    }
}

impl Spool {
    /// Writes batches, each as [`Spool::write`] does; says of each in their order, when
    /// those that could be written are durable, what has become of it.
    pub fn write_all(
        &self,
        batches: &[NewBatch<'_>],
        mut tell: impl FnMut(Result<Stored, WriteError>),
    ) {
        let drafts: Vec<_> = batches
            .iter()
            .map(|batch| {
                let framed = self.frame(&name_of(batch), batch.payload, batch.attempts)?;
                self.draft(&framed).map(|draft| (framed, draft))
            })
            .collect();
        if batches.len() > 1 {
            // The disk has all of them before the first is waited for.
            drafts.iter().flatten().for_each(|(_, draft)| draft.begin());
        }
        let published: Vec<_> = drafts
            .into_iter()
            .map(|draft| draft.and_then(|(framed, draft)| self.publish(framed, draft)))
            .collect();
        let synced = match published.iter().any(Result::is_ok) {
            true => self.directory.sync(),
            false => Ok(()),
        };
        for (batch, published) in batches.iter().zip(published) {
            tell(self.settle(published, &synced).map(|(framed, published)| {
                let name = name_of(batch);
                self.next_above(name.sequence);
                if let Published::Replaced(old) = published {
                    self.counts.subtract(Place::Waiting(name.state), old.size, old.modified);
                }
                let (size, since) = (framed.bytes.len() as u64, framed.since);
                self.counts.add(Place::Waiting(name.state), size, since);
                Stored { name: Name::Batch(name), key: batch.payload.key, size, since }
            }));
        }
    }

    /// Writes one batch under a name; gives back its size. Counts nothing.
    pub(super) fn write_named(
        &self,
        name: &BatchName,
        payload: &Payload,
        attempts: &Attempts,
    ) -> Result<u64, WriteError> {
        let framed = self.frame(name, payload, attempts)?;
        let draft = self.draft(&framed)?;
        let published = self.publish(framed, draft)?;
        let (framed, _) = self.settle(Ok(published), &self.directory.sync())?;
        Ok(framed.bytes.len() as u64)
    }

    fn frame(
        &self,
        name: &BatchName,
        payload: &Payload,
        attempts: &Attempts,
    ) -> Result<Framed, WriteError> {
        let bytes = gzip::frame(Metadata::of(payload, attempts), &payload.body)
            .map_err(|error| WriteError::unsuitable(self.directory.path(), error))?;
        Ok(Framed { name: name.to_string(), bytes, since: attempts.first_at })
    }

    fn draft(&self, framed: &Framed) -> Result<Draft, WriteError> {
        loop {
            let blank = match self.pool.take(&self.directory) {
                Some(blank) => Ok(blank),
                None => Blank::new(&self.directory),
            };
            match blank.and_then(|blank| Draft::write(&self.directory, blank, &framed.file())) {
                Err(error) if self.makes_room(&error) => {}
                draft => return draft,
            }
        }
    }

    fn publish(&self, framed: Framed, mut draft: Draft) -> Result<(Framed, Published), WriteError> {
        loop {
            let same_batch = || self.holds_same_batch(&framed);
            match draft.publish(&self.directory, &framed.file(), same_batch) {
                Err(error) if self.makes_room(&error) => draft = self.draft(&framed)?,
                published => return published.map(|published| (framed, published)),
            }
        }
    }

    /// What is kept for later is no reason to refuse a batch now.
    fn makes_room(&self, error: &WriteError) -> bool {
        error.kind == WriteErrorKind::DiskFull && self.pool.close(&self.directory)
    }

    /// The end of a write, given what the sync of the directory said.
    fn settle(
        &self,
        published: Result<(Framed, Published), WriteError>,
        synced: &io::Result<()>,
    ) -> Result<(Framed, Published), WriteError> {
        let (framed, published) = published?;
        match synced {
            Ok(()) => {
                self.left().remove(OsStr::new(&framed.name));
                Ok((framed, published))
            }
            Err(error) => {
                let error = same_error(error);
                let error = published.not_durable(&self.directory, &framed.file(), error);
                if error.left_behind {
                    self.leave(framed.name.into());
                }
                Err(error)
            }
        }
    }

    /// Whether the file of this name is the same batch, byte for byte of its records, by
    /// the digests in both headers.
    fn holds_same_batch(&self, framed: &Framed) -> bool {
        let Ok((Some(old), _)) = read::metadata_of(&self.directory, OsStr::new(&framed.name))
        else {
            return false;
        };
        gzip::header(&framed.bytes)
            .is_ok_and(|(new, _)| (&new.key, &new.body_blake3) == (&old.key, &old.body_blake3))
    }
}

fn name_of(batch: &NewBatch<'_>) -> BatchName {
    let NewBatch { state, worker, sequence, payload, .. } = *batch;
    BatchName { state, worker, sequence, key: ShortKey::from(payload.key) }
}

/// An error of one sync is told to every batch that it was for.
fn same_error(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}
