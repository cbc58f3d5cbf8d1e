//! What all workers of one sink share: the circuit breaker, a common wait when
//! the sink asked for one, the places and the pace of its requests, and the
//! figures that the display shows.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::answer::Failure;
use super::breaker::{Breaker, Permit, Trouble};
use super::rate::Pace;
use super::slots::Slots;
use crate::config::{Concurrency, Load};

/// Latencies kept for the display's percentile.
const LATENCIES_KEPT: usize = 512;

/// The common state of one sink's workers.
#[derive(Debug)]
pub struct Gate {
    inner: Mutex<Inner>,
    changed: Notify,
    pub(super) slots: Slots,
    pace: Option<Mutex<Pace>>,
}

#[derive(Debug)]
struct Inner {
    breaker: Breaker,
    /// Nobody asks before this: the sink said so.
    hold_until: Option<Instant>,
    latencies_ms: Vec<f32>,
    next_latency: usize,
    /// When the sink last answered, or was first asked after nobody had asked.
    heard_at: Instant,
    /// The last failure's status, for the remedy.
    status: Option<u16>,
    /// The last failure's own remedy.
    remedy: Option<String>,
}

/// A change that people should hear about at once.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// The sink went down or refused us.
    Opened(Trouble),
    /// It is back.
    Closed(Trouble),
}

/// What the display shows of a sink.
#[derive(Debug, Clone)]
pub struct GateView {
    /// What is wrong, while something is.
    pub trouble: Option<Trouble>,
    /// The status that came with it.
    pub status: Option<u16>,
    /// The remedy that came with it, when it had one.
    pub remedy: Option<String>,
    /// The 95th percentile of recent latencies, milliseconds.
    pub p95_ms: Option<f64>,
    /// When the sink last answered anything, or was first asked after a rest.
    pub heard_at: Instant,
}

impl Gate {
    pub(super) fn new(load: &Load) -> Gate {
        Gate {
            inner: Mutex::new(Inner {
                breaker: Breaker::new(load.retry.base.0, load.retry.cap.0),
                hold_until: None,
                latencies_ms: Vec::with_capacity(LATENCIES_KEPT),
                next_latency: 0,
                heard_at: Instant::now(),
                status: None,
                remedy: None,
            }),
            changed: Notify::new(),
            slots: match load.concurrency {
                Concurrency::Fixed => Slots::fixed(),
                Concurrency::Adaptive => Slots::adaptive(load.workers_max),
            },
            pace: load.rate.map(|rate| Mutex::new(Pace::new(rate))),
        }
    }

    pub(super) fn permit(&self) -> Permit {
        self.inner().breaker.permit(Instant::now())
    }

    pub(super) fn is_closed(&self) -> bool {
        self.inner().breaker.is_closed()
    }

    /// When the next probe may be made; `None` while the breaker is closed.
    pub(super) fn probe_at(&self) -> Option<Instant> {
        self.inner().breaker.trouble().map(|trouble| trouble.probe_at)
    }

    /// Whether a probe may be made now.
    pub(super) fn probe_is_due(&self) -> bool {
        self.probe_at().is_some_and(|at| at <= Instant::now())
    }

    /// Lets the next probe be made at once.
    pub(super) fn probe_now(&self) {
        self.inner().breaker.probe_now(Instant::now());
    }

    /// The time before which the sink asked not to be asked.
    pub(super) fn hold_until(&self) -> Option<Instant> {
        self.inner().hold_until.filter(|until| *until > Instant::now())
    }

    /// The sink is asked after nobody had asked: its silence begins only now.
    pub(super) fn asked_after_rest(&self) {
        self.inner().heard_at = Instant::now();
    }

    /// Takes the next place in the order of requests; gives the wait until it is due.
    pub(super) fn pace(&self) -> Option<Duration> {
        let mut pace = self.pace.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        Some(pace.take(Instant::now())).filter(|wait| !wait.is_zero())
    }

    /// The sink answered and is up.
    pub(super) fn success(&self, latency: Duration) -> Option<Change> {
        let mut inner = self.inner();
        let latency_ms = latency.as_secs_f32() * 1000.0;
        if inner.latencies_ms.len() < LATENCIES_KEPT {
            inner.latencies_ms.push(latency_ms);
        } else {
            let at = inner.next_latency;
            inner.latencies_ms[at] = latency_ms;
        }
        inner.next_latency = (inner.next_latency + 1) % LATENCIES_KEPT;
        inner.heard_at = Instant::now();
        let over = inner.breaker.success();
        drop(inner);
        over.map(|trouble| {
            self.changed.notify_waiters();
            Change::Closed(trouble)
        })
    }

    /// The request made under `permit` failed.
    pub(super) fn failure(
        &self,
        permit: Permit,
        failure: &Failure,
        refused: bool,
    ) -> Option<Change> {
        let now = Instant::now();
        let mut inner = self.inner();
        if failure.status.is_some() {
            inner.heard_at = now;
        }
        inner.status = failure.status;
        inner.remedy.clone_from(&failure.remedy);
        if let Some(after) = failure.after {
            let until = now + after;
            inner.hold_until = Some(inner.hold_until.map_or(until, |hold| hold.max(until)));
        }
        let opened =
            inner.breaker.failure(now, permit, &failure.reason, refused, failure.after).cloned();
        drop(inner);
        opened.map(|trouble| {
            self.changed.notify_waiters();
            Change::Opened(trouble)
        })
    }

    /// The request made under `permit` was given up without a result.
    pub(super) fn abandon(&self, permit: Permit) {
        if permit == Permit::Probe {
            self.inner().breaker.abandon();
        }
    }

    /// Waits until the breaker opens or closes.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// What the display shows.
    #[must_use]
    pub fn view(&self) -> GateView {
        let inner = self.inner();
        let mut sorted = inner.latencies_ms.clone();
        let view = GateView {
            trouble: inner.breaker.trouble().cloned(),
            status: inner.status,
            remedy: inner.remedy.clone(),
            p95_ms: None,
            heard_at: inner.heard_at,
        };
        drop(inner);
        sorted.sort_by(f32::total_cmp);
        let p95 = sorted.get(sorted.len() * 95 / 100).copied().map(f64::from);
        GateView { p95_ms: p95, ..view }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
