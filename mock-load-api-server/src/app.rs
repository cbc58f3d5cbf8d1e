//! What all requests share: the settings in force, the ledger, and whether the server is
//! down right now.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::config::{Config, SettingsError};
use crate::faults::Faults;
use crate::ledger::Ledger;
use crate::sources::RateLimit;

pub(crate) struct App {
    pub(crate) ledger: Ledger,
    pub(crate) source_limit: RateLimit,
    settings: RwLock<Arc<Faults>>,
    settings_changed: Notify,
    down: watch::Sender<bool>,
    started: Instant,
}

impl App {
    pub(crate) fn new(config: Config) -> Result<Self, SettingsError> {
        config.faults.validate()?;
        let app = Self {
            ledger: Ledger::new(config.keep_records),
            source_limit: RateLimit::default(),
            settings: RwLock::new(Arc::new(config.faults)),
            settings_changed: Notify::new(),
            down: watch::Sender::new(false),
            started: Instant::now(),
        };
        app.refresh_down();
        Ok(app)
    }

    /// The settings in force.
    pub(crate) fn faults(&self) -> Arc<Faults> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts other settings in force, for every request that begins from now on.
    pub(crate) fn set_faults(&self, faults: Faults) -> Result<(), SettingsError> {
        faults.validate()?;
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(faults);
        self.refresh_down();
        self.settings_changed.notify_one();
        Ok(())
    }

    pub(crate) fn is_down(&self) -> bool {
        *self.down.borrow()
    }

    /// Tells a connection when the server goes down or comes back.
    pub(crate) fn watch_down(&self) -> watch::Receiver<bool> {
        self.down.subscribe()
    }

    /// Begins and ends outages at their time; never returns.
    pub(crate) async fn follow_outages(self: Arc<Self>) {
        loop {
            let next = self.refresh_down().unwrap_or(Duration::from_secs(3600));
            tokio::select! {
                () = tokio::time::sleep(next) => {}
                () = self.settings_changed.notified() => {}
            }
        }
    }

    /// Returns the time until the next outage begins or ends.
    fn refresh_down(&self) -> Option<Duration> {
        let elapsed = self.started.elapsed();
        let (down, next) = self.faults().down_at(elapsed);
        let changed = self.down.send_if_modified(|before| std::mem::replace(before, down) != down);
        if changed {
            tracing::info!(down, "outage changed");
        }
        next.map(|at| at.saturating_sub(elapsed))
    }
}
