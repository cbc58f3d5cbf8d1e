//! Acknowledgement by value: whoever ends a batch's journey says how, once, and
//! only then does the checkpoint move and do the books count.

use std::sync::Arc;

use crate::checkpoint::{Ticket, Tracker};
use crate::telemetry::SinkBooks;

/// How the records of one batch ended, as far as this run is concerned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Records the sink acknowledged.
    pub delivered: u64,
    /// Records safe in the spool.
    pub spooled: u64,
    /// Records in the dead letters.
    pub dead_lettered: u64,
}

/// The duty to settle the records of one batch.
///
/// Dropping it unsettled means "not done": the checkpoint stays before the batch
/// and the run's books show the records as unaccounted.
#[derive(Debug)]
#[must_use = "dropping an ack leaves its records unaccounted; settle it"]
pub struct Ack {
    books: Arc<SinkBooks>,
    ticket: Option<Ticket>,
}

impl Ack {
    /// An ack for the records behind `ticket`.
    pub fn new(books: Arc<SinkBooks>, ticket: Ticket) -> Self {
        Ack { books, ticket: Some(ticket) }
    }

    /// Notes that the records are durable in the spool, whatever happens to them
    /// next: the checkpoint may move past them. The books wait for [`Ack::settle`].
    pub fn durable(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            Tracker::resolve(ticket);
        }
    }

    /// Ends the batch's journey in this run.
    pub fn settle(mut self, outcome: Outcome) {
        self.durable();
        self.books.settle(outcome);
    }
}
