//! The files of batches that a replay has delivered: taken away by a disk thread in
//! groups, while the workers go on.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tracing::{Instrument, error};

use super::parts::{Held, Parts};
use crate::spool::{Spool, Stored};

/// A batch whose records are all safe elsewhere. It is held, and its pass waits for it,
/// until its file is gone: else the next pass would send it again.
#[derive(Debug)]
pub(super) struct Delivered {
    pub(super) file: Stored,
    pub(super) held: Held,
    /// Told when the file is gone, or is left to the next process.
    pub(super) done: oneshot::Sender<bool>,
}

/// The pause between removals of what is kept for nobody: they must not slow down a run.
const TIDY_PAUSE: Duration = Duration::from_millis(100);

/// Removes, while new batches come, files that are kept to be written over and that
/// nobody needs; the next run goes on with what is left.
pub(super) async fn tidy(parts: Arc<Parts>) {
    let mut live_done = parts.live_done.subscribe();
    while let Ok(true) = parts.disk.run(Spool::tidy).await {
        tokio::select! {
            () = tokio::time::sleep(TIDY_PAUSE) => {}
            _ = live_done.wait_for(|done| *done) => return,
        }
    }
}

impl Parts {
    /// Takes the batch's file away soon.
    pub(super) fn take_away(self: &Arc<Self>, delivered: Delivered) {
        let mut waiting = self.delivered.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push(delivered);
        // Who finds others waiting relies on theirs: it takes all that are there.
        if waiting.len() > 1 {
            return;
        }
        drop(waiting);
        let parts = self.clone();
        let all = async move {
            let too = parts.clone();
            let taken = parts.disk.run(move |spool| too.take_all_away(spool)).await;
            if let Err(error) = taken {
                error!(sink = parts.name, %error, "could not remove delivered spool files");
                // Their passes must not wait for ever; the files stay, and the next run
                // sends them again under the same keys.
                drop(parts.take_delivered());
            }
        };
        tokio::spawn(all.in_current_span());
    }

    fn take_delivered(&self) -> Vec<Delivered> {
        std::mem::take(&mut *self.delivered.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn take_all_away(&self, spool: &Spool) {
        for Delivered { file, held, done } in self.take_delivered() {
            if let Err(error) = spool.remove(file) {
                // The file stays, and the next run sends it again under the same key.
                error!(sink = self.name, %error, "could not remove a delivered spool file");
            }
            drop(held);
            // Nobody listens any more when the pass was given up.
            done.send(true).ok();
        }
    }
}
