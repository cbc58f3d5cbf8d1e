//! Batches that wait for the disk while their workers go on: a sink that is down lets a
//! worker take the next batch at once, and what waits together is written together. The
//! thread that writes a batch also settles it; nobody is woken for that.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::parts::{Held, Parts, Placed};
use crate::batch::{Ack, Outcome, Payload, give_back};
use crate::spool::{Attempts, Stored, WriteError};

/// Batches that may wait so, besides those that their workers wait for.
pub(super) const HANDED_MAX: usize = 32;
/// What a file holds besides its records, and more.
const HEADER: usize = 1024;

/// A new batch that goes to the spool whole.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) label: u32,
    pub(super) payload: Payload,
    pub(super) attempts: Attempts,
    pub(super) ack: Ack,
    pub(super) held: Held,
}

/// A batch on its way into the spool. When it is dropped before it is there, it goes back to
/// a worker.
#[derive(Debug)]
pub(super) struct Handed {
    parts: Arc<Parts>,
    waiting: Option<Waiting>,
    _place: OwnedSemaphorePermit,
}

impl Parts {
    /// Has a batch written while its worker goes on, if not too many wait already, and if the
    /// spool is not full when all are written: then intake waits for the disk, as ever.
    ///
    /// # Errors
    /// The batch, when it is to be waited for.
    pub(super) fn hand_over(self: &Arc<Self>, waiting: Waiting) -> Result<(), Box<Waiting>> {
        let bytes = (waiting.payload.body.len() + HEADER) * HANDED_MAX;
        let place = self.handed.clone().try_acquire_owned();
        let (Ok(place), true) = (place, self.spool.is_below_its_cap_with(bytes as u64)) else {
            return Err(Box::new(waiting));
        };
        self.write_handed(Handed { parts: self.clone(), waiting: Some(waiting), _place: place });
        Ok(())
    }

    /// Waits until nothing waits for the disk any more that was handed over.
    pub(super) async fn all_handed_written(&self) {
        let all = u32::try_from(HANDED_MAX).unwrap_or(u32::MAX);
        // Never closed.
        drop(self.handed.acquire_many(all).await);
    }
}

impl Handed {
    /// What is to be written: the worker's label, the batch, what was tried with it.
    pub(super) fn batch(&self) -> Option<(u32, &Payload, &Attempts)> {
        self.waiting.as_ref().map(|waiting| (waiting.label, &waiting.payload, &waiting.attempts))
    }

    /// The batch is in the spool, or the disk has refused it.
    pub(super) fn settle(mut self, written: Result<Stored, WriteError>) {
        if self.parts.noted(Ok(written)).is_ok()
            && let Some(waiting) = self.waiting.take()
        {
            let spooled = waiting.payload.records() as u64;
            self.parts.spooled.notify_one();
            waiting.settle(Placed { spooled, ..Placed::default() });
        }
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            // Without a bound of its own, and open as long as this sink: it cannot fail.
            self.parts.refused.0.try_send(waiting).ok();
        }
    }
}

impl Waiting {
    /// Every record of the batch is where `placed` says.
    pub(super) fn settle(self, placed: Placed) {
        self.ack.settle(Outcome {
            delivered: placed.delivered,
            spooled: placed.spooled,
            dead_lettered: placed.dead_lettered,
        });
        placed.tell(self.label, "flushed");
        give_back(self.payload.body);
        drop(self.held);
    }
}
