//! Alerts of `etl serve`: looks at all pipelines every second, and sends each receiver what
//! is due, one message at a time, as often as it takes. Runs know nothing of it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{JoinHandle, spawn_blocking};

use super::board::Board;
use super::channel::Channel;
use super::message::Message;
use super::once::usable;
use super::problems::{Kind, Look, observe};
use super::state;
use crate::config::Alerts;
use crate::load::backoff::full_jitter;
use crate::load::unix_seconds;
use crate::schedule::{Figures, Scheduler, Served};
use crate::stop::{Stop, Urgency};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// The first and the longest wait after a message that did not arrive.
const PAUSE: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(300);

/// Everybody who is told something, and all that they are told of.
#[derive(Default)]
struct Desk {
    receivers: BTreeMap<String, Receiver>,
    pipelines: BTreeMap<String, Watched>,
}

struct Receiver {
    channel: Arc<Channel>,
    board: Board,
    sending: Option<JoinHandle<(Message, Result<(), String>)>>,
    failures: u32,
    not_before: Instant,
}

struct Watched {
    alerts: Alerts,
    /// Who is told.
    receivers: Vec<String>,
    /// Due runs that were not begun, as far as they have been looked at.
    seen: u64,
    /// Of these, those since which no run has ended, and when the last of them was due.
    missed: u64,
    missed_at: u64,
}

/// Watches all pipelines of `scheduler` until it stops.
pub async fn watch(scheduler: Arc<Scheduler>, stop: Stop) {
    let mut desk = Desk::default();
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            // What was not told yet is kept, and told after the next start.
            () = stop.reached(Urgency::Drain) => return,
        }
        let scheduler_too = scheduler.clone();
        let looked = spawn_blocking(move || {
            desk.look(&scheduler_too);
            desk
        });
        desk = match looked.await {
            Ok(desk) => desk,
            Err(error) => {
                tracing::error!(%error, "looking for problems ended in a panic, beginning anew");
                Desk::default()
            }
        };
        desk.deliver(&scheduler).await;
    }
}

impl Desk {
    /// Notes what the problems of all pipelines are now. Blocks.
    fn look(&mut self, scheduler: &Scheduler) {
        let (now, mut problems) = (unix_seconds(), BTreeMap::new());
        let served = scheduler.served();
        let served =
            served.iter().filter_map(|it| Some((it, it.loaded()?.pipeline.alerts.clone()?)));
        let served: Vec<(&Arc<Served>, Alerts)> = served.collect();
        self.pipelines.retain(|name, _| served.iter().any(|(it, _)| it.name == *name));
        for (served, alerts) in served {
            let name = &served.name;
            let same = self.pipelines.get(name).is_some_and(|known| known.alerts == alerts);
            if !same {
                self.begin(scheduler, name, alerts);
            }
            let Some(watched) = self.pipelines.get_mut(name) else { continue };
            let figures = served.figures(scheduler.data_dir());
            watched.note_missed(&figures, now);
            let look = Look {
                run: figures.settled.as_ref(),
                spools: figures.spools,
                missed: Some(watched.missed),
                now,
            };
            let seen = observe(name, &watched.alerts, &look);
            problems.insert(name.clone(), seen.problems.len() as u64);
            let mut changed = false;
            for id in &watched.receivers {
                if let Some(receiver) = self.receivers.get_mut(id) {
                    changed |= receiver.board.update(now, name, &watched.alerts, &seen);
                }
            }
            if changed {
                self.save(scheduler, name);
            }
        }
        self.forget();
        scheduler.alerts().note(problems);
    }

    /// Begins to watch a pipeline, or goes on under another configuration.
    fn begin(&mut self, scheduler: &Scheduler, name: &str, alerts: Alerts) {
        let mut kept = state::load(scheduler.data_dir(), name);
        let mut receivers = Vec::new();
        for channel in usable(&alerts) {
            let id = channel.id.clone();
            let known = kept.remove(&id).unwrap_or_default();
            let channel = Arc::new(channel);
            let receiver = match self.receivers.entry(id.clone()) {
                Entry::Vacant(empty) => empty.insert(Receiver::new(channel)),
                Entry::Occupied(known) => {
                    let receiver = known.into_mut();
                    receiver.channel = channel;
                    receiver
                }
            };
            receiver.board.restore(name, known);
            receivers.push(id);
        }
        let mut watched = self.pipelines.remove(name).unwrap_or_else(|| Watched {
            alerts: alerts.clone(),
            receivers: Vec::new(),
            seen: 0,
            missed: 0,
            missed_at: 0,
        });
        (watched.alerts, watched.receivers) = (alerts, receivers);
        watched.remember_missed(&self.receivers, name);
        self.pipelines.insert(name.to_owned(), watched);
    }

    /// Leaves out receivers and alerts that belong to no pipeline any more.
    fn forget(&mut self) {
        let Desk { receivers, pipelines } = self;
        receivers.retain(|id, receiver| {
            let is_told = |name: &str| {
                pipelines.get(name).is_some_and(|watched| watched.receivers.contains(id))
            };
            receiver.board.retain(is_told);
            pipelines.values().any(|watched| watched.receivers.contains(id))
        });
    }

    /// Takes up what came of messages on their way, and sends what is due.
    async fn deliver(&mut self, scheduler: &Arc<Scheduler>) {
        let mut told = Vec::new();
        for receiver in self.receivers.values_mut() {
            if receiver.sending.as_ref().is_some_and(JoinHandle::is_finished)
                && let Some(sending) = receiver.sending.take()
            {
                let Ok((message, came)) = sending.await else { continue };
                scheduler.alerts().count(receiver.channel.kind(), came.is_ok());
                match came {
                    Ok(()) => {
                        receiver.failures = 0;
                        receiver.board.told(unix_seconds(), &message);
                        told.extend(message.pipelines().map(str::to_owned));
                    }
                    Err(error) => receiver.failed(&error),
                }
            }
            if receiver.sending.is_none()
                && Instant::now() >= receiver.not_before
                && let Some(message) = receiver.board.due(unix_seconds(), false)
            {
                let channel = receiver.channel.clone();
                receiver.sending = Some(tokio::spawn(async move {
                    let came = channel.send(&message).await;
                    (message, came)
                }));
            }
        }
        told.sort_unstable();
        told.dedup();
        told.iter().for_each(|name| self.save(scheduler, name));
    }

    /// Keeps what everybody was told about a pipeline.
    fn save(&self, scheduler: &Scheduler, name: &str) {
        let Some(watched) = self.pipelines.get(name) else { return };
        let known = watched.receivers.iter().filter_map(|id| {
            Some((id.clone(), self.receivers.get(id)?.board.alerts(name).to_vec()))
        });
        state::save(scheduler.data_dir(), name, known.collect());
    }
}

impl Receiver {
    fn new(channel: Arc<Channel>) -> Receiver {
        let board = Board::default();
        Receiver { channel, board, sending: None, failures: 0, not_before: Instant::now() }
    }

    fn failed(&mut self, error: &str) {
        self.failures = self.failures.saturating_add(1);
        let pause = full_jitter(PAUSE, PAUSE_MAX, self.failures, fastrand::f64());
        self.not_before = Instant::now() + pause;
        let (channel, failures) = (self.channel.kind().name(), self.failures);
        tracing::warn!(
            channel,
            error,
            failures,
            ?pause,
            "an alert could not be sent, trying again"
        );
    }
}

impl Watched {
    /// Counts due runs that were not begun, until a later one has ended.
    fn note_missed(&mut self, figures: &Figures, now: u64) {
        let all = figures.missed + figures.skipped;
        if all > self.seen {
            self.missed += all - self.seen;
            (self.seen, self.missed_at) = (all, now);
            // However soon it is over, it was there.
            return;
        }
        // A run's beginning is told to the second.
        if figures.settled.as_ref().is_some_and(|run| run.began + 1 >= self.missed_at) {
            self.missed = 0;
        }
    }

    /// Goes on where the process before ended: what was missed then is not over yet.
    fn remember_missed(&mut self, receivers: &BTreeMap<String, Receiver>, name: &str) {
        let boards = self.receivers.iter().filter_map(|id| receivers.get(id));
        for alert in boards.flat_map(|receiver| receiver.board.alerts(name)) {
            if alert.kind == Kind::Missed && alert.over.is_none() && self.missed == 0 {
                (self.missed, self.missed_at) = (1, alert.since);
            }
        }
    }
}
