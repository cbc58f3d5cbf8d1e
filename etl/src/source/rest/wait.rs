//! Waiting for the network on a thread that may block, until the run should end.

use std::future::Future;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::error::Trouble;
use crate::stop::{Stop, Urgency};

/// Runs futures of the runtime to their end, from a thread outside it.
#[derive(Debug, Clone)]
pub struct Waits {
    handle: Handle,
    stop: Stop,
}

impl Waits {
    /// Waits on the runtime of `handle` until `stop`.
    #[must_use]
    pub fn new(handle: Handle, stop: Stop) -> Waits {
        Waits { handle, stop }
    }

    /// Whether the run should end.
    #[must_use]
    pub fn over(&self) -> bool {
        self.stop.asked()
    }

    /// The end of `future`, however urgent leaving is: for what must be in order.
    pub fn to_the_end<F: Future>(&self, future: F) -> F::Output {
        self.handle.block_on(future)
    }

    /// The end of `future`, unless the run should end before.
    pub(super) fn until<F: Future>(&self, future: F) -> Result<F::Output, Trouble> {
        self.handle.block_on(async {
            tokio::select! {
                biased;
                () = self.stop.reached(Urgency::Drain) => Err(Trouble::Stopped),
                ended = future => Ok(ended),
            }
        })
    }

    /// The end of `future` before `deadline`; `late` says what did not come.
    pub(super) fn before<F: Future>(
        &self,
        deadline: Instant,
        future: F,
        late: impl FnOnce() -> String,
    ) -> Result<F::Output, Trouble> {
        self.until(async { tokio::time::timeout_at(deadline.into(), future).await })?
            .map_err(|_| Trouble::retry(late()))
    }

    pub(super) fn sleep(&self, span: Duration) -> Result<(), Trouble> {
        if span.is_zero() {
            return Ok(());
        }
        self.until(tokio::time::sleep(span))
    }
}
