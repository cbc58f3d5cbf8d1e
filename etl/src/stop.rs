//! How a run is asked to end: first politely, then at once.

use tokio::sync::watch;

/// How urgently a run should end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// It should not.
    Running,
    /// Take in nothing new, finish what is in flight, spool the rest.
    Drain,
    /// Spool what is unconfirmed and leave.
    Now,
}

/// Asks a run to end.
#[derive(Debug, Clone)]
pub struct StopHandle(watch::Sender<Urgency>);

/// Sees whether the run was asked to end.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<Urgency>);

/// A run's stop signal, both ends.
#[must_use]
pub fn stop_signal() -> (StopHandle, Stop) {
    let (sender, receiver) = watch::channel(Urgency::Running);
    (StopHandle(sender), Stop(receiver))
}

impl StopHandle {
    /// Asks for at least `urgency`; it never becomes less urgent.
    pub fn ask(&self, urgency: Urgency) {
        self.0.send_if_modified(|current| {
            let more = urgency > *current;
            if more {
                *current = urgency;
            }
            more
        });
    }
}

impl Stop {
    /// How urgent it is now.
    #[must_use]
    pub fn urgency(&self) -> Urgency {
        *self.0.borrow()
    }

    /// Whether nothing new should be begun.
    #[must_use]
    pub fn asked(&self) -> bool {
        self.urgency() > Urgency::Running
    }

    /// Waits until the run is asked to end with at least `urgency`; for ever
    /// when the handle is gone without having asked.
    pub async fn reached(&self, urgency: Urgency) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|current| *current >= urgency).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
