//! A batch's file in someone's hands, from being durable to being removed.

use std::ffi::OsString;

use super::name::{Name, State};
use crate::batch::BatchKey;

/// The file of one batch, durable on disk. Whoever holds it is responsible for
/// the batch; dropping it leaves the file, to be replayed.
#[derive(Debug)]
#[must_use = "the file stays until it is removed after the sink's acknowledgement"]
pub struct Stored {
    pub(super) name: Name,
    pub(super) key: BatchKey,
    pub(super) size: u64,
    /// Unix seconds, what its age counts from.
    pub(super) since: u64,
}

impl Stored {
    /// Its place in the order; 0 for a file of the earlier program.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.name.sequence().unwrap_or(0)
    }

    /// Whether an attempt has failed.
    #[must_use]
    pub fn state(&self) -> State {
        self.name.state()
    }

    /// The batch's key.
    #[must_use]
    pub fn key(&self) -> BatchKey {
        self.key
    }

    /// Bytes on disk.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Its name in the spool directory.
    #[must_use]
    pub fn file_name(&self) -> OsString {
        self.name.file_name()
    }
}
