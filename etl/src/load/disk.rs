//! The async face of a spool, or of files. Their calls block (fsync takes milliseconds,
//! a full disk takes longer), so they run on a few threads of their own, fed by a
//! bounded channel; async tasks only wait for the reply.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Sender, TrySendError, bounded};
use tokio::sync::oneshot;
use tracing::Span;

use crate::spool::Spool;

/// Concurrent file operations per sink; more only queue up in the disk.
const THREADS_MAX: usize = 10;

type Job<T> = Box<dyn FnOnce(&T) + Send>;

/// One sink's disk threads. They end when the last handle is dropped.
#[derive(Debug, Clone)]
pub(super) struct Disk<T = Spool> {
    jobs: Sender<Job<T>>,
}

impl<T: Send + Sync + 'static> Disk<T> {
    /// Starts threads for `workers` loader workers on `place`, called after `what`.
    pub(super) fn start(
        place: &Arc<T>,
        what: &str,
        sink: &str,
        workers: usize,
    ) -> io::Result<Disk<T>> {
        let (jobs, queue) = bounded::<Job<T>>(workers + 2 * THREADS_MAX);
        for number in 0..workers.clamp(1, THREADS_MAX) {
            let (queue, place, span) = (queue.clone(), place.clone(), Span::current());
            std::thread::Builder::new()
                .name(format!("{what}-{sink}-{number}"))
                .spawn(move || span.in_scope(|| queue.iter().for_each(|job| job(&place))))?;
        }
        Ok(Disk { jobs })
    }

    /// Runs `operation` on a disk thread and waits for what it gives.
    ///
    /// # Errors
    /// When the operation panicked, which must not take the loader with it.
    pub(super) async fn run<R: Send + 'static>(
        &self,
        operation: impl FnOnce(&T) -> R + Send + 'static,
    ) -> io::Result<R> {
        let (reply, result) = oneshot::channel();
        let mut job: Job<T> = Box::new(move |spool| {
            // A caller that has gone away does not need the result.
            drop(reply.send(operation(spool)));
        });
        // The channel has room for one job per worker and for a replay's, so it is full only
        // while given-up operations are still queued.
        while let Err(error) = self.jobs.try_send(job) {
            match error {
                TrySendError::Full(back) => job = back,
                TrySendError::Disconnected(_) => return Err(gone()),
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        result.await.map_err(|_| gone())
    }
}

pub(super) fn gone() -> io::Error {
    io::Error::other("the disk thread ended; see the log for its panic")
}
