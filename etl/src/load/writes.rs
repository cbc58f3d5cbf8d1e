//! Batches on their way into the spool: what waits together is written together, by a few
//! disk threads that go on as long as there is something.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use tokio::sync::oneshot;
use tracing::Instrument;

use super::parts::Parts;
use crate::batch::Payload;
use crate::spool::{Attempts, NewBatch, Spool, State, Stored, WriteError};

/// Threads that write at once: more of them write smaller groups, and wait longer for the
/// same disk.
const THREADS_MAX: usize = 3;
/// Batches written together.
const GROUP_MAX: usize = 4;

/// What waits to be written.
#[derive(Debug, Default)]
pub(super) struct Writes {
    waiting: VecDeque<Waiting>,
    threads: usize,
}

#[derive(Debug)]
struct Waiting {
    state: State,
    label: u32,
    sequence: u64,
    payload: Payload,
    attempts: Attempts,
    reply: oneshot::Sender<Result<Stored, WriteError>>,
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
        let begins = {
            let mut writes = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
            writes.waiting.push_back(Waiting { state, label, sequence, payload, attempts, reply });
            let begins = writes.threads < THREADS_MAX;
            writes.threads += usize::from(begins);
            begins
        };
        if begins {
            let writing = Writing { parts: self.clone(), over: false };
            let parts = self.clone();
            let write = async move { parts.disk.run(move |spool| writing.all(spool)).await };
            tokio::spawn(write.in_current_span());
        }
        self.noted(result.await.map_err(|_| super::disk::gone()))
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
    fn next_group(&mut self) -> Option<Vec<Waiting>> {
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
            writes.waiting.clear();
        }
    }
}

fn write(spool: &Spool, group: Vec<Waiting>) {
    let batches: Vec<NewBatch<'_>> = group
        .iter()
        .map(|Waiting { state, label, sequence, payload, attempts, .. }| NewBatch {
            state: *state,
            worker: *label,
            sequence: *sequence,
            payload,
            attempts,
        })
        .collect();
    let mut results = Vec::with_capacity(group.len());
    spool.write_all(&batches, |result| results.push(result));
    for (waiting, result) in group.into_iter().zip(results) {
        // A caller that has gone away does not need the result.
        drop(waiting.reply.send(result));
    }
}
