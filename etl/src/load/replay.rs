//! Replay: what earlier runs, and this one, left in the spool goes out again
//! beside the new batches, a few files in memory at a time: in a run everything,
//! oldest first, in `etl spool replay` what its plan picks.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use async_channel::Sender;
use tokio::sync::{oneshot, watch};
use tracing::{error, warn};

use super::ahead::{Ahead, Read};
use super::parts::Parts;
use super::precedence::Precedence;
use super::resend;
use super::worker::{Origin, Replayed};
use crate::spool::inspect::FileView;
use crate::stop::Urgency;

/// The wait between two passes over a spool that could not be emptied; doubles
/// up to [`PASS_PAUSE_MAX`].
const PASS_PAUSE_MIN: Duration = Duration::from_secs(1);
const PASS_PAUSE_MAX: Duration = Duration::from_secs(30);
/// The wait while somebody else's probe is on its way.
const PROBE_PAUSE: Duration = Duration::from_millis(100);

/// The wait for new batches that go first.
const GIVE_WAY_PAUSE: Duration = Duration::from_millis(1);

/// How often a sink that is down when nothing new comes any more is asked.
const LAST_PROBES: u32 = 3;

/// Files whose results a pass waits for; it collects the older half of them at a time, so
/// that the workers never wait for it.
const OUTSTANDING_MAX: usize = 64;

/// What one pass over the spool achieved.
#[derive(Debug, Default, Clone, Copy)]
struct Pass {
    files: u64,
    progressed: u64,
}

/// Replays until the live batches are done and nothing more can be delivered.
pub(super) async fn run(parts: Arc<Parts>, out: Sender<Replayed>) {
    let mut live_done = parts.live_done.subscribe();
    if let Some(files) = &parts.plan.dead {
        dead_letters(&parts, files, &out, &live_done).await;
        return;
    }
    let mut pause = PASS_PAUSE_MIN;
    let mut may_send = parts.plan.batches_max.unwrap_or(u64::MAX);
    loop {
        let last = *live_done.borrow_and_update();
        let pass = one_pass(&parts, &out, &live_done, &mut may_send).await;
        let more = pass.progressed > 0 || (pass.files > 0 && may_probe_again(&parts));
        if parts.stop.asked() || may_send == 0 || (last && !more) {
            return;
        }
        if last || (pass.files > 0 && pass.progressed == pass.files) {
            pause = PASS_PAUSE_MIN;
            continue;
        }
        // While the sink is down its breaker says when to ask again, and nobody else.
        let soonest = Instant::now() + PROBE_PAUSE;
        let probe_at = parts.gate.probe_at().map(|at| at.max(soonest));
        let next = probe_at.unwrap_or_else(|| Instant::now() + pause);
        tokio::select! {
            () = turned(&mut live_done) => {}
            () = parts.stop.reached(Urgency::Drain) => return,
            // A little later, so that what fails together goes out together.
            () = later(parts.spooled.notified()), if pass.files == 0 => {}
            () = tokio::time::sleep_until(next.into()), if pass.files > 0 => {}
        }
        if probe_at.is_none() {
            pause = (pause * 2).min(PASS_PAUSE_MAX);
        }
    }
}

/// Whether a sink that is down may be asked once more at the end of the run.
fn may_probe_again(parts: &Parts) -> bool {
    parts.gate.probe_at().is_some() && parts.last_probes.load(Relaxed) < LAST_PROBES
}

/// Waits for `event` and then for the shortest pause.
async fn later(event: impl Future<Output = ()>) {
    event.await;
    tokio::time::sleep(PASS_PAUSE_MIN).await;
}

/// Waits until no worker will take a new batch.
async fn turned(live_done: &mut watch::Receiver<bool>) {
    // The sender lives as long as the sink's parts.
    drop(live_done.wait_for(|done| *done).await);
}

/// Sends every picked file that is in the spool now, once.
async fn one_pass(
    parts: &Arc<Parts>,
    out: &Sender<Replayed>,
    live_done: &watch::Receiver<bool>,
    may_send: &mut u64,
) -> Pass {
    let mut pass = Pass::default();
    let entries = match parts.disk.run(|spool| spool.entries()).await {
        Ok(Ok(entries)) => entries,
        Ok(Err(error)) | Err(error) => {
            error!(sink = parts.name, %error, "could not list the spool");
            return pass;
        }
    };
    let mut ahead = Ahead::new(parts, parts.plan.pick(entries));
    let mut outstanding = Vec::new();
    let mut precedence = Precedence::new(Instant::now(), parts.live_taken.load(Relaxed));
    while *may_send > 0 {
        give_way(parts, live_done, &mut precedence).await;
        let Some(read) = ahead.next().await else { break };
        let Some(probe) = leave_to_send(parts, live_done).await else {
            break;
        };
        pass.files += 1;
        *may_send -= 1;
        let (done, result) = oneshot::channel();
        let Read { payload, attempts, stored, sequence } = read;
        let origin = Origin::Spool(stored, attempts);
        if out.send(Replayed { payload, origin, sequence, done }).await.is_err() {
            break;
        }
        outstanding.push(result);
        // A probe's result decides whether the next file may be sent at all, and
        // results are collected now and then so that they do not pile up.
        if probe {
            pass.progressed += settled(&mut outstanding).await;
        } else if outstanding.len() >= OUTSTANDING_MAX {
            let rest = outstanding.split_off(OUTSTANDING_MAX / 2);
            pass.progressed += settled(&mut outstanding).await;
            outstanding = rest;
        }
    }
    pass.progressed += settled(&mut outstanding).await;
    pass
}

/// Waits while new batches go first.
async fn give_way(parts: &Parts, live_done: &watch::Receiver<bool>, precedence: &mut Precedence) {
    while !*live_done.borrow()
        && !parts.stop.asked()
        && !precedence.allows(Instant::now(), parts.live_taken.load(Relaxed))
    {
        tokio::time::sleep(GIVE_WAY_PAUSE).await;
    }
}

/// Sends the records of dead-letter files, each file once; those that cannot be
/// delivered now stay.
async fn dead_letters(
    parts: &Arc<Parts>,
    files: &[FileView],
    out: &Sender<Replayed>,
    live_done: &watch::Receiver<bool>,
) {
    let mut outstanding = Vec::new();
    for file in files {
        let Some(probe) = leave_to_send(parts, live_done).await else {
            break;
        };
        let to_read = file.clone();
        let payload = match parts.disk.run(move |_| resend::payload(&to_read)).await {
            Ok(Ok(payload)) => payload,
            Ok(Err(reason)) => {
                warn!(file = %file.path.display(), reason, "could not read dead letters, they stay");
                continue;
            }
            Err(error) => {
                warn!(file = %file.path.display(), %error, "could not read dead letters, they stay");
                continue;
            }
        };
        let (done, result) = oneshot::channel();
        let sequence = parts.spool.next_sequence();
        let origin = Origin::Dead(file.clone());
        if out.send(Replayed { payload, origin, sequence, done }).await.is_err() {
            break;
        }
        outstanding.push(result);
        if probe || outstanding.len() >= OUTSTANDING_MAX {
            settled(&mut outstanding).await;
        }
    }
    settled(&mut outstanding).await;
}

/// Waits until the sink may be asked; says whether the file is the probe. `None`
/// when the pass should end: the run does, or the sink is down and nothing is
/// left to wait for.
async fn leave_to_send(parts: &Parts, live_done: &watch::Receiver<bool>) -> Option<bool> {
    let mut live_done = live_done.clone();
    loop {
        if parts.stop.asked() {
            return None;
        }
        let Some(probe_at) = parts.gate.probe_at() else {
            return Some(false);
        };
        let finished = *live_done.borrow_and_update();
        if finished {
            // The end of the run: the last questions, without waiting for their time.
            let asked = parts.last_probes.fetch_add(1, Relaxed);
            if asked >= LAST_PROBES {
                return None;
            }
            let pause = if asked == 0 { Duration::ZERO } else { parts.retry.base.0 };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = parts.stop.reached(Urgency::Drain) => return None,
            }
            parts.gate.probe_now();
            return Some(true);
        }
        if probe_at <= Instant::now() {
            return Some(true);
        }
        tokio::select! {
            () = tokio::time::sleep_until(probe_at.into()) => {}
            _ = live_done.changed() => {}
            () = parts.gate.changed() => {}
            () = parts.stop.reached(Urgency::Drain) => return None,
        }
    }
}

/// Waits for the results and counts those that moved something.
async fn settled(outstanding: &mut Vec<oneshot::Receiver<bool>>) -> u64 {
    let mut progressed = 0;
    for result in outstanding.drain(..) {
        progressed += u64::from(result.await.unwrap_or(false));
    }
    progressed
}
