//! The async face of a spool. Its calls block (fsync takes milliseconds, a full
//! disk takes longer), so they run on a few threads of their own, fed by a
//! bounded channel; async tasks only wait for the reply.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Sender, TrySendError, bounded};
use tokio::sync::oneshot;

use crate::spool::Spool;

/// Concurrent file operations per sink; more only queue up in the disk.
const THREADS_MAX: usize = 8;

type Job = Box<dyn FnOnce(&Spool) + Send>;

/// One sink's disk threads. They end when the last handle is dropped.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    jobs: Sender<Job>,
}

impl Disk {
    /// Starts threads for `workers` loader workers on `spool`.
    pub(super) fn start(spool: &Arc<Spool>, sink: &str, workers: usize) -> io::Result<Disk> {
        let (jobs, queue) = bounded::<Job>(workers + THREADS_MAX);
        for number in 0..workers.clamp(1, THREADS_MAX) {
            let (queue, spool) = (queue.clone(), spool.clone());
            std::thread::Builder::new()
                .name(format!("spool-{sink}-{number}"))
                .spawn(move || queue.iter().for_each(|job| job(&spool)))?;
        }
        Ok(Disk { jobs })
    }

    /// Runs `operation` on a disk thread and waits for what it gives.
    ///
    /// # Errors
    /// When the operation panicked, which must not take the loader with it.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&Spool) -> T + Send + 'static,
    ) -> io::Result<T> {
        let (reply, result) = oneshot::channel();
        let mut job: Job = Box::new(move |spool| {
            // A caller that has gone away does not need the result.
            drop(reply.send(operation(spool)));
        });
        // The channel has room for one job per worker, so it is full only while
        // given-up operations are still queued.
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

fn gone() -> io::Error {
    io::Error::other("the disk thread ended; see the log for its panic")
}
