//! Batches on their way into the spool: what waits together is written together, by a few
//! disk threads that go on as long as there is something.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use tokio::sync::oneshot;
use tracing::Instrument;

use super::handed::Handed;
use super::parts::Parts;
use crate::batch::Payload;
use crate::spool::{Attempts, NewBatch, Spool, State, Stored, WriteError};

/// Threads that write at once: while some wait for the disk, others compress. More of them
/// only wait longer for the same disk.
const THREADS_MAX: usize = 6;
/// Batches written together.
const GROUP_MAX: usize = 4;

/// What waits to be written.
#[derive(Debug, Default)]
pub(super) struct Writes {
    waiting: VecDeque<Write>,
    threads: usize,
}

#[derive(Debug)]
struct Write {
    state: State,
    sequence: u64,
    batch: Unwritten,
}

/// A batch, and who is to know what has become of it.
#[derive(Debug)]
enum Unwritten {
    Awaited {
        label: u32,
        payload: Payload,
        attempts: Attempts,
        reply: oneshot::Sender<Result<Stored, WriteError>>,
    },
    Handed(Handed),
}

impl Parts {
    /// Writes `payload` to the spool.
    pub(super) async fn write(
        self: &Arc<Self>,
        state: State,
        label: u32,
        sequence: u64,
        payload: &Payload,
        attempts: &Attempts,
    ) -> Result<Stored, String> {
        let (reply, result) = oneshot::channel();
        let (payload, attempts) = (payload.clone(), attempts.clone());
        let batch = Unwritten::Awaited { label, payload, attempts, reply };
        self.queue(Write { state, sequence, batch });
        self.noted(result.await.map_err(|_| super::disk::gone()))
    }

    /// Has a batch written whose worker does not wait.
    pub(super) fn write_handed(self: &Arc<Self>, handed: Handed) {
        let sequence = self.spool.next_sequence();
        self.queue(Write { state: State::Failed, sequence, batch: Unwritten::Handed(handed) });
    }

    fn queue(self: &Arc<Self>, write: Write) {
        let mut writes = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        writes.waiting.push_back(write);
        if writes.threads == THREADS_MAX {
            return;
        }
        writes.threads += 1;
        drop(writes);
        let writing = Writing { parts: self.clone(), over: false };
        let parts = self.clone();
        let write = async move { parts.disk.run(move |spool| writing.all(spool)).await };
        tokio::spawn(write.in_current_span());
    }
}

/// A thread at work, or on its way to be.
struct Writing {
    parts: Arc<Parts>,
    /// Whether it has left nothing to be written.
    over: bool,
}

impl Writing {
    fn all(mut self, spool: &Spool) {
        while let Some(group) = self.next_group() {
            write(spool, group);
        }
    }

    /// What is to be written together; with `None` this is no thread at work any more.
    fn next_group(&mut self) -> Option<Vec<Write>> {
        let mut writes = self.parts.writes.lock().unwrap_or_else(PoisonError::into_inner);
        let count = writes.waiting.len().min(GROUP_MAX);
        if count == 0 {
            writes.threads -= 1;
            self.over = true;
            return None;
        }
        Some(writes.waiting.drain(..count).collect())
    }
}

impl Drop for Writing {
    /// After a panic, or when there is no disk thread left to begin on, nobody must wait
    /// for this one: who waits is told that it is gone.
    fn drop(&mut self) {
        if !self.over {
            let mut writes = self.parts.writes.lock().unwrap_or_else(PoisonError::into_inner);
            writes.threads -= 1;
            let waiting = std::mem::take(&mut writes.waiting);
            // What they do when they are dropped may want the same lock.
            drop(writes);
            drop(waiting);
        }
    }
}

fn write(spool: &Spool, group: Vec<Write>) {
    let batches: Vec<NewBatch<'_>> = group.iter().filter_map(Write::batch).collect();
    debug_assert_eq!(batches.len(), group.len(), "a batch that is settled waits no longer");
    let mut results = Vec::with_capacity(group.len());
    spool.write_all(&batches, |result| results.push(result));
    for (write, result) in group.into_iter().zip(results) {
        match write.batch {
            // A caller that has gone away does not need the result.
            Unwritten::Awaited { reply, .. } => drop(reply.send(result)),
            Unwritten::Handed(handed) => handed.settle(result),
        }
    }
}

impl Write {
    fn batch(&self) -> Option<NewBatch<'_>> {
        let (worker, payload, attempts) = match &self.batch {
            Unwritten::Awaited { label, payload, attempts, .. } => (*label, payload, attempts),
            Unwritten::Handed(handed) => handed.batch()?,
        };
        let (state, sequence) = (self.state, self.sequence);
        Some(NewBatch { state, worker, sequence, payload, attempts })
    }
}
