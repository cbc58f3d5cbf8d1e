//! A batch is bytes: rows encoded once as JSON, sealed with a key, carrying the
//! acknowledgement that moves the checkpoint.
//!
//! [`Rows`] collects encoded rows, [`BatchBuilder`] decides when they are a batch,
//! [`Payload`] is the sealed, immutable result that retry, spool and replay all
//! send, and [`Ack`] is what must be settled before the batch may be forgotten.

mod ack;
mod buffers;
mod builder;
mod key;
mod payload;
mod rows;
mod run;
mod whole;

pub use ack::{Ack, Outcome};
pub(crate) use buffers::give_back;
pub use builder::BatchBuilder;
pub use key::{BatchKey, KeyContext, KeyError};
pub use payload::{Payload, PayloadError};
pub use rows::Rows;
pub use run::{new_run_id, run_began, run_began_ms};
pub(crate) use whole::Whole;

/// A sealed batch on its way to one sink.
///
/// Not `Clone`: whoever holds it is responsible for its records, and dropping it
/// means "not done" – the checkpoint stays before it and the books show a gap.
#[derive(Debug)]
#[must_use = "a dropped batch is an undelivered batch"]
pub struct Batch {
    /// What is sent, spooled and replayed; cheap to clone.
    pub payload: Payload,
    /// Orders the batches of a sink and names their spool files.
    pub sequence: u64,
    /// Settles the records of the payload.
    pub ack: Ack,
}
