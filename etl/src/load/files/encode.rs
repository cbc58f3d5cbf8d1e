//! What a format does with a batch: files in memory, and the records that it cannot hold.

use bytes::Bytes;

use crate::batch::Payload;
use crate::load::answer::FailedRecord;

/// Turns batches into files. The same batch gives the same names; calls may take long and
/// come from disk threads.
pub(in crate::load) trait Encoder: std::fmt::Debug + Send + Sync + 'static {
    /// The files of `payload`.
    ///
    /// # Errors
    /// When there are none, for a reason that is no single record's.
    fn encode(&self, payload: &Payload) -> Result<Encoded, Unfit>;
}

/// A batch as files, not written yet.
#[derive(Debug)]
pub(in crate::load) struct Encoded {
    /// The files.
    pub drafts: Vec<Draft>,
    /// Records that are in none of them.
    pub failed: Vec<FailedRecord>,
}

/// One file, not written yet.
#[derive(Debug)]
pub(in crate::load) struct Draft {
    /// Below the sink's own directory, from the outermost; each safe as a name.
    pub directories: Vec<String>,
    pub name: String,
    pub bytes: Bytes,
}

/// Why a batch could not be made into files.
#[derive(Debug)]
pub(in crate::load) enum Unfit {
    /// The configuration does not suit the data.
    Refused(String),
    /// This machine could not, now.
    Broken(String),
}

impl Unfit {
    /// A failure of this machine.
    pub fn broken(error: impl std::fmt::Display) -> Unfit {
        Unfit::Broken(format!("could not make a file of the batch: {error}"))
    }
}
