//! One pipeline's life in the server: begins runs when they are due, one at a time,
//! takes up a new configuration between them, and ends with the server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::plan::Plan;
use super::scheduler::Scheduler;
use super::served::{Activity, Served};
use super::timing::Moment;
use super::{runner, state};
use crate::config::{Loaded, Missed, Overlap, Schedule};
use crate::stop::Urgency;
use crate::telemetry::figures::span;

/// How often the clock is looked at: somebody may set it.
const TICK: Duration = Duration::from_secs(1);

/// The first and the longest wait before a run without end that ended begins again.
const AGAIN: Duration = Duration::from_secs(5);
const AGAIN_MAX: Duration = Duration::from_secs(300);

struct Worker {
    scheduler: Arc<Scheduler>,
    served: Arc<Served>,
    schedule: Option<Schedule>,
    plan: Option<Plan>,
    running: Option<JoinHandle<()>>,
    /// A run begins as soon as none is going on.
    queued: bool,
    /// Its run has no end, and begins again when it has one.
    endless: bool,
    /// When a run that ended all the same begins again, and the wait before that.
    again: Option<(Instant, Duration)>,
}

/// Serves one pipeline until the server stops or the pipeline is taken out.
pub(super) async fn work(scheduler: Arc<Scheduler>, served: Arc<Served>) {
    let stop = scheduler.stop.clone();
    let mut changes = served.changes();
    let mut orders = served.orders();
    let mut worker = Worker::new(scheduler, served);
    let mut ordered_runs = orders.borrow_and_update().runs;
    match worker.served.loaded() {
        Some(loaded) => worker.configure(&loaded, true),
        None => changes.mark_changed(),
    }
    loop {
        worker.begin_what_is_due();
        let wait = worker.until_due().map_or(TICK, |wait| wait.min(TICK));
        tokio::select! {
            () = stop.reached(Urgency::Drain) => break,
            changed = changes.changed() => {
                let loaded = changes.borrow_and_update().clone();
                match (changed, loaded) {
                    (Ok(()), Some(loaded)) => worker.configure(&loaded, false),
                    _ => {
                        worker.finish_run().await;
                        if worker.scheduler.forget(&worker.served) {
                            return;
                        }
                        changes.mark_changed();
                    }
                }
            }
            Ok(()) = orders.changed() => {
                let orders = *orders.borrow_and_update();
                worker.obey(orders.stopped, orders.runs != ordered_runs);
                ordered_runs = orders.runs;
            }
            () = ended(&mut worker.running) => {
                worker.running = None;
                worker.begin_again_later();
            }
            () = tokio::time::sleep(wait) => {}
        }
        if let Some(line) = worker.served.look() {
            worker.scheduler.tell(&format!("{}  {line}", worker.served.name));
        }
    }
    worker.finish_run().await;
}

/// Waits for the end of the run; for ever when there is none.
async fn ended(running: &mut Option<JoinHandle<()>>) {
    match running {
        Some(run) => {
            if let Err(error) = run.await {
                tracing::error!(%error, "a run ended in a panic");
            }
        }
        None => std::future::pending().await,
    }
}

impl Worker {
    fn new(scheduler: Arc<Scheduler>, served: Arc<Served>) -> Worker {
        Worker {
            scheduler,
            served,
            schedule: None,
            plan: None,
            running: None,
            queued: false,
            endless: false,
            again: None,
        }
    }

    /// A run that has no end has ended: it could not begin, or its thread is gone. It
    /// begins again, later and later as long as that happens.
    fn begin_again_later(&mut self) {
        if !self.endless || self.queued || self.served.stopped() {
            self.again = None;
            return;
        }
        let wait = match self.again {
            Some((at, wait)) if at.elapsed() < 2 * AGAIN_MAX => (2 * wait).min(AGAIN_MAX),
            _ => AGAIN,
        };
        self.again = Some((Instant::now() + wait, wait));
        self.scheduler.tell(&format!("{}  begins again in {}", self.served.name, span(wait)));
    }

    /// Plans by a configuration; `first` at the start of the server, which is when runs
    /// can have been missed.
    fn configure(&mut self, loaded: &Loaded, first: bool) {
        let pipeline = &loaded.pipeline;
        self.endless = pipeline.every().is_some();
        self.again = None;
        let unchanged = !first && self.schedule == pipeline.schedule && self.plan.is_some();
        if unchanged {
            return;
        }
        self.schedule.clone_from(&pipeline.schedule);
        let (Some(mut schedule), Some(timing)) = (pipeline.schedule.clone(), pipeline.timing())
        else {
            self.plan = None;
            self.queued = true;
            self.served.note(|figures| figures.due = None);
            return;
        };
        let data_dir = &self.scheduler.settings.data_dir;
        let last = state::last_start(data_dir, &pipeline.name);
        let now = self.scheduler.clock.now(&timing);
        if !first {
            // What the new schedule says of the past was never due.
            schedule.missed = Missed::Skip;
        }
        let plan = Plan::new(&pipeline.name, &schedule, timing, last, now);
        let stopped = self.served.stopped();
        if first && plan.missed > 0 && !stopped {
            let (missed, policy) = (plan.missed, schedule.missed);
            tracing::warn!(pipeline = pipeline.name, missed, ?policy, "runs were missed");
            self.served.note(|figures| figures.missed += missed);
        }
        self.served.note(|figures| figures.due = plan.due().filter(|_| !stopped));
        self.plan = Some(plan);
    }

    /// Does as it is told: nothing more, or a run now and then by the schedule again.
    fn obey(&mut self, stopped: bool, run: bool) {
        // A run that has no end is already what is wanted.
        self.queued = run && !stopped && !(self.endless && self.running.is_some());
        self.again = None;
        self.pass_over();
        let due = self.plan.as_ref().and_then(Plan::due);
        self.served.note(|figures| {
            figures.due = due.filter(|_| !stopped);
            figures.queued = false;
            figures.activity = match figures.activity {
                Activity::Stopped if !stopped => Activity::Waiting,
                Activity::Waiting | Activity::Ended if stopped => Activity::Stopped,
                ref going_on => going_on.clone(),
            };
        });
    }

    /// Goes on to a due time that is to come: what fell due while it was stopped was not to be
    /// run, and is not missed.
    fn pass_over(&mut self) {
        let now = self.now();
        if let (Some(plan), Some(now)) = (&mut self.plan, now)
            && plan.due().is_some_and(|due| due <= now)
        {
            plan.advance(now);
        }
    }

    fn now(&self) -> Option<Moment> {
        self.plan.as_ref().map(|plan| self.scheduler.clock.now(plan.timing()))
    }

    fn until_due(&self) -> Option<Duration> {
        let (due, now) = (self.plan.as_ref()?.due()?, self.now()?);
        Some((due - now).to_std().unwrap_or(Duration::ZERO))
    }

    /// Begins a run when one is due, or waits for the end of the one that is going on,
    /// as the schedule says.
    fn begin_what_is_due(&mut self) {
        if self.served.loaded().is_none() || self.scheduler.stop.asked() {
            return;
        }
        if self.served.stopped() {
            self.queued = false;
            self.pass_over();
            if self.running.is_none() {
                self.served.note(|figures| figures.activity = Activity::Stopped);
            }
            return;
        }
        if let Some(now) = self.now()
            && let Some(plan) = &mut self.plan
            && let Some(due) = plan.due()
            && due <= now
        {
            let passed = plan.advance(now);
            let next = plan.due();
            let lag = (now - due).to_std().unwrap_or(Duration::ZERO);
            self.served.note(|figures| {
                figures.due = next;
                figures.missed += passed;
            });
            match &self.running {
                None => {
                    self.queued = false;
                    self.begin(lag);
                }
                Some(_) => self.overlap(),
            }
        }
        let again = self.again.is_some_and(|(at, _)| at <= Instant::now());
        if (self.queued || again) && self.running.is_none() {
            self.queued = false;
            self.begin(Duration::ZERO);
        }
    }

    /// A run is due and one is going on.
    fn overlap(&mut self) {
        let overlap = self.schedule.as_ref().map(|schedule| schedule.overlap).unwrap_or_default();
        let name = &self.served.name;
        if overlap == Overlap::Queue && !self.queued {
            self.queued = true;
            tracing::info!(pipeline = name, "run queued: the one before is still going on");
        } else {
            tracing::warn!(pipeline = name, "run skipped: the one before is still going on");
            self.scheduler.tell(&format!("{name}  run skipped: the one before is still going on"));
            self.served.note(|figures| figures.skipped += 1);
        }
        let queued = self.queued;
        self.served.note(|figures| figures.queued = queued);
    }

    fn begin(&mut self, lag: Duration) {
        if let Some(now) = self.now()
            && let Err(error) =
                state::note_start(&self.scheduler.settings.data_dir, &self.served.name, now)
        {
            // What is at stake is a missed run after a restart.
            tracing::warn!(pipeline = self.served.name, %error, "the start could not be noted");
        }
        self.served.note(|figures| {
            figures.lag = lag;
            figures.queued = false;
        });
        let scheduled = self.plan.is_some();
        let (scheduler, served) = (self.scheduler.clone(), self.served.clone());
        self.running = Some(tokio::spawn(async move {
            runner::run(&scheduler, &served).await;
            let then = match scheduled {
                _ if served.stopped() => Activity::Stopped,
                true => Activity::Waiting,
                false => Activity::Ended,
            };
            served.note(|figures| {
                figures.activity = then;
                figures.settled.clone_from(&figures.last);
            });
        }));
    }

    /// Waits for the end of the run that is going on.
    async fn finish_run(&mut self) {
        if let Some(run) = self.running.take()
            && let Err(error) = run.await
        {
            tracing::error!(%error, "a run ended in a panic");
            self.scheduler.not_safe();
        }
    }
}
