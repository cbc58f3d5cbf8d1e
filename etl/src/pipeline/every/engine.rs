//! Begins polls when they are due and sees them through. One thread: the dispatcher and
//! all polls take turns on a runtime of their own. An idle target costs no task; a poll
//! that waits for its sink keeps its place in flight, so that a full spool slows polling.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tracing::{debug, info};

use super::gather;
use super::open_files::Share;
use super::shared::{Core, Shared};
use crate::batch::Rows;
use crate::extract::{ExtractError, Extractor, Target};
use crate::fleet::scheduler::{Caps, Due};
use crate::fleet::slot::{DEMOTE_AFTER, Outcome};
use crate::pipeline::intake::{Intake, Workspace};
use crate::stop::{Stop, Urgency};
use crate::telemetry::figures::{count, counted};
use crate::telemetry::{Books, FleetSnapshot};

/// Polls that are begun, and due times looked at, before others have their turn.
const TURN: usize = 64;
/// The longest sleep of the dispatcher.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// At the end, polls in flight have so long to come to theirs.
const END_WITHIN: Duration = Duration::from_secs(5);
/// Name lookups at once.
const LOOKUP_THREADS: usize = 16;
/// Memory of polls that have ended, kept for the next ones.
const WORKSPACES_MAX: usize = 32;

/// What polls the fleet.
pub(super) struct Engine {
    pub(super) shared: Arc<Shared>,
    pub(super) extractor: Arc<Extractor>,
    pub(super) intake: Arc<Intake>,
    pub(super) books: Arc<Books>,
    pub(super) stop: Stop,
    /// Polls in flight at most; found where it is not given.
    pub(super) workers: Option<usize>,
    /// Files that are spoken for.
    pub(super) reserved: u64,
}

/// What dispatcher and polls have in common.
struct Polling {
    engine: Engine,
    /// Tells polls in flight to give up.
    quit: Notify,
    quitting: AtomicBool,
    /// Nothing is begun any more: the end of every poll is waited for.
    ending: AtomicBool,
    workspaces: std::sync::Mutex<Vec<Workspace>>,
}

impl Engine {
    /// Polls until it is asked to stop and every poll has ended.
    pub(super) fn run(self) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(LOOKUP_THREADS)
            .on_thread_park(gather::before_sleep)
            .build()?;
        let polling = Arc::new(Polling {
            engine: self,
            quit: Notify::new(),
            quitting: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            workspaces: std::sync::Mutex::default(),
        });
        runtime.block_on(polling.dispatch());
        // A name lookup may still be stuck.
        runtime.shutdown_background();
        Ok(())
    }
}

impl Polling {
    async fn dispatch(self: &Arc<Self>) {
        let share = Share::take();
        let Engine { shared, stop, books, .. } = &self.engine;
        let stopped = stop.reached(Urgency::Drain);
        tokio::pin!(stopped);
        let interval_ms = shared.core().scheduler.grid().interval_ms();
        let mut cycle = shared.clock.now_ms() / interval_ms;
        let mut before = books.fleet().snapshot();
        self.size(&share);
        while !stop.asked() {
            let now_cycle = shared.clock.now_ms() / interval_ms;
            if now_cycle != cycle {
                cycle = now_cycle;
                before = self.tell_cycle(&before);
                self.size(&share);
            }
            let (more, next_ms) = self.begin_due();
            if more {
                tokio::task::yield_now().await;
                continue;
            }
            let latest = tokio::time::Instant::now() + SLEEP_MAX;
            let until = next_ms.map_or(latest, |ms| shared.clock.instant(ms).min(latest));
            tokio::select! {
                () = tokio::time::sleep_until(until) => {}
                () = shared.wake.notified() => {}
                () = &mut stopped => {}
            }
        }
        self.see_off().await;
    }

    /// Waits for the polls in flight: those that answer soon are not lost, and others are
    /// given up after a while, or at once when that is wanted.
    async fn see_off(&self) {
        let Engine { shared, stop, .. } = &self.engine;
        self.ending.store(true, Relaxed);
        let patience = async {
            tokio::select! {
                () = tokio::time::sleep(END_WITHIN) => {}
                () = stop.reached(Urgency::Now) => {}
            }
        };
        tokio::pin!(patience);
        let mut patient = true;
        while shared.core().scheduler.in_flight() > 0 {
            tokio::select! {
                () = shared.wake.notified() => {}
                () = &mut patience, if patient => {
                    patient = false;
                    self.quitting.store(true, Relaxed);
                    self.quit.notify_waiters();
                }
            }
        }
    }

    /// Sets how many polls may be in flight.
    fn size(&self, share: &Share) {
        let engine = &self.engine;
        let all = engine.workers.unwrap_or_else(|| share.polls_max(engine.reserved));
        engine.shared.core().scheduler.set_caps(Caps::of(all));
        engine.books.fleet().in_flight_max.store(all as u64, Relaxed);
    }

    /// Begins what is due; says whether there is more to do at once, and when the next
    /// target falls due.
    fn begin_due(self: &Arc<Self>) -> (bool, Option<u64>) {
        let shared = &self.engine.shared;
        let now_us = shared.clock.now_us();
        let mut begun = 0;
        let mut core = shared.core();
        let due_left = core.scheduler.advance(now_us / 1000, TURN);
        while begun < TURN
            && let Some(due) = core.scheduler.begin_next()
        {
            begun += 1;
            let row = core.roster.row(due.target);
            // Whatever becomes of the task: the poll's end is told.
            let flight = Flight { polling: self.clone(), due, outcome: Outcome::Abandoned };
            if !due.held {
                let lag = Duration::from_micros(now_us.saturating_sub(due.due_ms * 1000));
                self.engine.books.fleet().lag(lag);
            }
            drop(tokio::spawn(flight.fly(Target::again(u64::from(due.target), row))));
        }
        self.note_levels(&core);
        (due_left || begun == TURN, core.scheduler.next_due_ms())
    }

    fn note_levels(&self, core: &Core) {
        let (fleet, scheduler) = (self.engine.books.fleet(), &core.scheduler);
        let in_flight = scheduler.in_flight() as u64;
        fleet.in_flight.store(in_flight, Relaxed);
        self.engine.books.targets_in_flight.store(in_flight, Relaxed);
        fleet.missed.store(scheduler.counts().missed, Relaxed);
        fleet.demoted.store(scheduler.demoted() as u64, Relaxed);
        fleet.targets.store(core.roster.len() as u64, Relaxed);
    }

    /// Tells log and people what came of a cycle.
    fn tell_cycle(&self, before: &FleetSnapshot) -> FleetSnapshot {
        let fleet = self.engine.books.fleet();
        let now = fleet.snapshot();
        let cycle = now.since(before);
        let failed = cycle.failed + cycle.timed_out;
        let lag = match cycle.lag_percentile(99) {
            Some(lag) => format!("p99 lag below {}", humantime::format_duration(lag)),
            None if cycle.polls() == 0 => "no poll".to_owned(),
            None => "p99 lag above 10s".to_owned(),
        };
        let line = format!(
            "cycle  {} of {}  answered {}  failed {}  missed {}  demoted {}  {lag}",
            counted(cycle.polls(), "poll"),
            counted(now.targets, "target"),
            count(cycle.answered),
            count(failed),
            count(cycle.missed),
            count(now.demoted),
        );
        info!(
            targets = now.targets,
            polls = cycle.polls(),
            answered = cycle.answered,
            failed,
            missed = cycle.missed,
            demoted = now.demoted,
            in_flight = now.in_flight,
            lag,
            "fleet cycle"
        );
        fleet.tell(line);
        now
    }

    fn workspace(&self) -> Workspace {
        let mut kept = self.workspaces.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        kept.pop().unwrap_or_default()
    }

    fn keep(&self, workspace: Workspace) {
        let mut kept = self.workspaces.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if kept.len() < WORKSPACES_MAX {
            kept.push(workspace);
        }
    }
}

/// A poll in flight; its end is told when it is dropped.
struct Flight {
    polling: Arc<Polling>,
    due: Due,
    outcome: Outcome,
}

impl Flight {
    async fn fly(mut self, target: Target) {
        let engine = &self.polling.engine;
        // Made before the look at the flag, so that no call is missed.
        let quit = self.polling.quit.notified();
        if self.polling.quitting.load(Relaxed) {
            return;
        }
        let mut rows = Rows::few();
        let asked = Instant::now();
        let polled = tokio::select! {
            polled = engine.extractor.extract(&target, &mut rows) => polled,
            () = quit => return,
        };
        engine.books.requests.count(asked.elapsed(), polled.is_ok());
        engine.books.targets_done.fetch_add(1, Relaxed);
        match polled {
            Ok(()) => {
                engine.books.fleet().answered.fetch_add(1, Relaxed);
                self.outcome = Outcome::Answered;
                // Apart, so that a poll that waits for its answer is no larger for it.
                Box::pin(self.polling.take_in(self.due, &target, &rows)).await;
            }
            Err(error) => {
                self.outcome = self.polling.failed(self.due, &target, &error);
            }
        }
    }
}

impl Polling {
    /// Hands a poll's records on; waits where a sink is behind.
    async fn take_in(&self, due: Due, target: &Target, rows: &Rows) {
        let mut workspace = self.workspace();
        let place = || target.label();
        let sealed = self.engine.intake.take(rows, &place, &mut workspace).await;
        self.keep(workspace);
        {
            let mut core = self.engine.shared.core();
            core.polled(due.flight, due.cycle, sealed.until());
            if let Some(target_now) = core.scheduler.target_of(due.flight)
                && core.scheduler.slots()[target_now as usize].failures > 0
            {
                core.forget_reason(target_now);
                info!(appliance = target.label(), "answers again");
            }
        }
        if !sealed.is_empty() {
            sealed.send().await;
        }
    }

    /// Counts a poll without records. Told in the log when it is news: the first failure,
    /// and the one that demotes.
    fn failed(&self, due: Due, target: &Target, error: &ExtractError) -> Outcome {
        let fleet = self.engine.books.fleet();
        let outcome = if error.is_timeout() { Outcome::TimedOut } else { Outcome::Failed };
        match outcome {
            Outcome::TimedOut => fleet.timed_out.fetch_add(1, Relaxed),
            _ => fleet.failed.fetch_add(1, Relaxed),
        };
        let mut core = self.engine.shared.core();
        core.polled(due.flight, due.cycle, None);
        let Some(now) = core.scheduler.target_of(due.flight) else { return outcome };
        let failures = core.scheduler.slots()[now as usize].failures.saturating_add(1);
        core.keep_reason(now, &error.to_string());
        drop(core);
        let appliance = target.label();
        match failures {
            1 => info!(appliance, %error, "extraction failed"),
            DEMOTE_AFTER => info!(appliance, %error, failures, "demoted: it is asked less often"),
            _ => debug!(appliance, %error, failures, "extraction failed"),
        }
        outcome
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let engine = &self.polling.engine;
        let mut core = engine.shared.core();
        core.scheduler.ended(self.due.flight, self.outcome, engine.shared.clock.now_s());
        let wanted = core.scheduler.waiting() > 0 || self.polling.ending.load(Relaxed);
        self.polling.note_levels(&core);
        drop(core);
        if wanted {
            engine.shared.wake.notify_one();
        }
    }
}
