//! Reads what a pass over the spool sends ahead of its sending, in its order: small files
//! some at a time, so that a file does not cost the wait for a thread, and a few such
//! groups beside each other.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::task::JoinHandle;
use tracing::{error, warn};

use super::parts::Parts;
use crate::batch::Payload;
use crate::spool::{Attempts, Entry, ReadError, Spool, Stored};

/// Files that are read in one go, and their bytes, beyond the first.
const FILES_AT_ONCE: usize = 8;
const BYTES_AT_ONCE: u64 = 256 << 10;
/// Groups that are read or wait to be sent while nothing new is sent. Beside new batches
/// there is one: these have no less of the processor then.
const GROUPS_AHEAD: usize = 4;

/// A batch as it was read.
pub(super) struct Read {
    pub(super) payload: Payload,
    pub(super) attempts: Attempts,
    pub(super) stored: Stored,
    pub(super) sequence: u64,
}

/// The files of one pass, from the next one to be sent on.
pub(super) struct Ahead {
    parts: Arc<Parts>,
    entries: std::iter::Peekable<std::vec::IntoIter<Entry>>,
    reading: VecDeque<JoinHandle<Vec<Read>>>,
    ready: VecDeque<Read>,
}

impl Ahead {
    pub(super) fn new(parts: &Arc<Parts>, entries: Vec<Entry>) -> Ahead {
        let (reading, ready) = (VecDeque::new(), VecDeque::new());
        Ahead { parts: parts.clone(), entries: entries.into_iter().peekable(), reading, ready }
    }

    /// The next batch that could be read; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Read> {
        loop {
            self.begin_reading();
            if let Some(read) = self.ready.pop_front() {
                return Some(read);
            }
            // A group that panicked is in the log; its files stay.
            self.ready = self.reading.pop_front()?.await.unwrap_or_default().into();
        }
    }

    /// Nothing is read ahead of a probe's result.
    fn begin_reading(&mut self) {
        let (groups, files) = match (self.parts.gate.is_closed(), *self.parts.live_done.borrow()) {
            (false, _) => (usize::from(self.ready.is_empty()), 1),
            (true, false) => (1, FILES_AT_ONCE),
            (true, true) => (GROUPS_AHEAD, FILES_AT_ONCE),
        };
        while self.reading.len() < groups {
            let group = self.group(files);
            if group.is_empty() {
                return;
            }
            let parts = self.parts.clone();
            self.reading.push_back(tokio::spawn(async move {
                let too = parts.clone();
                let read = parts.disk.run(move |spool| {
                    group.iter().filter_map(|entry| read(&too, spool, entry)).collect()
                });
                read.await.unwrap_or_default()
            }));
        }
    }

    /// The next files but those that a worker holds.
    fn group(&mut self, files_max: usize) -> Vec<Entry> {
        let (mut group, mut bytes) = (Vec::new(), 0);
        while let Some(entry) = self.entries.next_if(|entry| {
            bytes += entry.size();
            group.is_empty() || (group.len() < files_max && bytes <= BYTES_AT_ONCE)
        }) {
            if !self.parts.is_held(entry.sequence()) {
                group.push(entry);
            }
        }
        group
    }
}

/// Reads one file; sets it aside when it does not check.
fn read(parts: &Parts, spool: &Spool, entry: &Entry) -> Option<Read> {
    let name = entry.file_name();
    match spool.read(entry) {
        Ok((payload, attempts, stored)) => {
            Some(Read { payload, attempts, stored, sequence: entry.sequence() })
        }
        Err(ReadError::Corrupt { reason, .. }) => {
            parts.corrupt.fetch_add(1, Relaxed);
            match spool.quarantine(entry, &reason) {
                Ok(moved) => {
                    warn!(file = %moved.display(), reason, "unreadable spool file set aside");
                }
                Err(error) => {
                    error!(file = %name.display(), reason, %error, "unreadable spool file left in place");
                }
            }
            None
        }
        Err(ReadError::NotFound { .. }) => None,
        Err(error) => {
            warn!(file = %name.display(), %error, "could not read a spool file, it stays");
            None
        }
    }
}
