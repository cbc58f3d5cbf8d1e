//! Ctrl-C and SIGTERM: the first asks the run to drain, the second to leave at
//! once. Either way nothing that was taken in is lost.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::pipeline::{self, DRAIN_PATIENCE};
use crate::stop::{StopHandle, Urgency};
use crate::telemetry::Stop as StopCause;

/// SIGXFSZ: a write beyond RLIMIT_FSIZE. Its default action kills; handled, the
/// write fails with EFBIG, which is an error like any other.
const SIGXFSZ: i32 = 25;

/// Which signal asked first.
#[derive(Debug, Clone, Default)]
pub struct Asked(Arc<AtomicU8>);

impl Asked {
    /// The signal that asked the run to end, if one did.
    #[must_use]
    pub fn cause(&self) -> Option<StopCause> {
        match self.0.load(Relaxed) {
            0 => None,
            2 => Some(StopCause::Terminated),
            _ => Some(StopCause::Interrupted),
        }
    }
}

/// Listens for signals until the process ends. `tell` shows a line to the user;
/// `in_flight` counts requests for it.
///
/// # Errors
/// When a signal handler cannot be installed.
pub fn listen(
    stop: StopHandle,
    tell: impl Fn(&str) + Send + 'static,
    in_flight: impl Fn() -> u64 + Send + 'static,
) -> io::Result<Asked> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut too_large = signal(SignalKind::from_raw(SIGXFSZ))?;
    let asked = Asked::default();
    let noted = asked.clone();
    tokio::spawn(async move {
        tokio::spawn(async move { while too_large.recv().await.is_some() {} });
        noted.0.store(either(&mut interrupt, &mut terminate).await, Relaxed);
        tell(&format!(
            "stopping: finishing {} requests ({}s at most); again = stop now, what is \
             unconfirmed stays in the spool and may be sent twice under the same key",
            in_flight(),
            DRAIN_PATIENCE.as_secs(),
        ));
        tokio::spawn({
            let stop = stop.clone();
            async move { pipeline::drain(&stop, DRAIN_PATIENCE).await }
        });
        either(&mut interrupt, &mut terminate).await;
        tell("stopping now: what is unconfirmed stays in the spool");
        stop.ask(Urgency::Now);
    });
    Ok(asked)
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) -> u8 {
    tokio::select! {
        _ = interrupt.recv() => 1,
        _ = terminate.recv() => 2,
    }
}
