//! A loader worker: takes batches from the channel and from the replayer in
//! turn, and sees each one through to a place where it is safe.

use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};

use async_channel::Receiver;
use tokio::sync::oneshot;
use tracing::error;

use super::away::Delivered;
use super::delivery::{Ended, unix_seconds};
use super::handed::Waiting;
use super::parts::{Parts, Placed};
use super::precedence::LIVE_FOR_EACH;
use super::resend::resend;
use crate::batch::{Batch, Outcome, Payload};
use crate::config::SpoolMode;
use crate::spool::inspect::FileView;
use crate::spool::{Attempts, State, Stored};

/// While there are both, this batch of a worker's is a replayed one, the others are new.
/// Reading one back costs more than making a new one.
const REPLAY_EVERY: u64 = LIVE_FOR_EACH + 1;

/// A batch read back from the spool.
pub(super) struct Replayed {
    pub(super) payload: Payload,
    pub(super) origin: Origin,
    pub(super) sequence: u64,
    /// Told whether anything of it was delivered or found dead.
    pub(super) done: oneshot::Sender<bool>,
}

/// Where a replayed batch comes from, and is until it is delivered.
pub(super) enum Origin {
    /// Its own file.
    Spool(Stored, Attempts),
    /// A file of dead letters.
    Dead(FileView),
}

/// Serves both channels until both are closed and empty. `label` names the
/// worker in file names and logs and means nothing else.
pub(super) async fn run(
    parts: Arc<Parts>,
    label: u32,
    live: Receiver<Batch>,
    replay: Receiver<Replayed>,
) {
    let mut taking_live = Some(TakesLive(parts.clone()));
    let mut replay_open = true;
    let mut turn = 0_u64;
    while taking_live.is_some() || replay_open {
        turn = turn.wrapping_add(1);
        // Before anything new, or a disk that refuses everything would let them pile up.
        if let Ok(refused) = parts.refused.1.try_recv() {
            write_again(&parts, Some(refused)).await;
        }
        // Neither a long spool nor a fast source starves the other, and new batches keep
        // most of the sink.
        let replay_first = replay_open && turn.is_multiple_of(REPLAY_EVERY);
        let next = tokio::select! {
            biased;
            replayed = replay.recv(), if replay_first => Next::Replayed(replayed.ok()),
            batch = live.recv(), if taking_live.is_some() => Next::Live(batch.ok()),
            replayed = replay.recv(), if replay_open => Next::Replayed(replayed.ok()),
            refused = parts.refused.1.recv() => Next::Refused(refused.ok()),
        };
        match next {
            Next::Live(Some(batch)) => {
                parts.live_taken.fetch_add(1, Relaxed);
                load(&parts, label, batch).await;
            }
            Next::Live(None) => {
                write_all_handed(&parts).await;
                taking_live = None;
            }
            Next::Refused(refused) => write_again(&parts, refused).await,
            Next::Replayed(Some(replayed)) => reload(&parts, label, replayed).await,
            Next::Replayed(None) => replay_open = false,
        }
    }
}

/// What a worker takes next; `None` when no more will come that way.
enum Next {
    Live(Option<Batch>),
    /// A batch that was handed over and that the disk has not taken.
    Refused(Option<Waiting>),
    Replayed(Option<Replayed>),
}

/// A worker that may still take new batches; the last one to go, even in a
/// panic, tells the replayer that no more will come.
struct TakesLive(Arc<Parts>);

impl Drop for TakesLive {
    fn drop(&mut self) {
        if self.0.live_workers.fetch_sub(1, AcqRel) == 1 {
            self.0.live_done.send_replace(true);
        }
    }
}

/// Delivers a new batch, or leaves it in the spool.
async fn load(parts: &Arc<Parts>, label: u32, batch: Batch) {
    let Batch { payload, sequence, mut ack } = batch;
    let held = parts.hold(sequence);
    let mut attempts = Attempts { tried: 0, last_answer: String::new(), first_at: unix_seconds() };
    let mut stored = None;
    if parts.mode == SpoolMode::WriteAhead {
        // When the disk refuses, the batch is still sent: it is not counted as
        // spooled, and its ack stays open until it is somewhere.
        stored = parts.write(State::Pending, label, sequence, &payload, &attempts).await.ok();
        if stored.is_some() {
            ack.durable();
        }
    }
    let ended = parts.courier().carry(payload.clone(), &mut attempts, 0).await;
    let waiting = Waiting { label, payload, attempts, ack, held };
    let waiting = match stored.is_none() && ended.is_whole(&waiting.payload) {
        true => match parts.hand_over(waiting) {
            Ok(()) => return,
            Err(waiting) => *waiting,
        },
        false => waiting,
    };
    place(parts, waiting, stored, ended).await;
}

/// Sees to it that every record of a batch is somewhere, and settles it.
async fn place(parts: &Arc<Parts>, waiting: Waiting, stored: Option<Stored>, ended: Ended) {
    let Waiting { label, ref payload, ref attempts, .. } = waiting;
    match parts.place(label, payload, stored, attempts.clone(), ended, true).await {
        Some(placed) => {
            waiting.settle(placed);
            parts.stop_if_too_many_rejected(placed.dead_lettered);
        }
        None => error!(
            sink = parts.name,
            records = payload.records(),
            "the run ended before these records were safe; they are in neither spool nor sink"
        ),
    }
}

/// Sees to a batch that the disk has not taken, as its worker would have.
async fn write_again(parts: &Arc<Parts>, refused: Option<Waiting>) {
    if let Some(waiting) = refused {
        let ended = Ended { left: vec![waiting.payload.clone()], ..Ended::default() };
        place(parts, waiting, None, ended).await;
    }
}

/// Waits for all batches that were handed over.
async fn write_all_handed(parts: &Arc<Parts>) {
    parts.all_handed_written().await;
    while let Ok(refused) = parts.refused.1.try_recv() {
        write_again(parts, Some(refused)).await;
    }
}

/// Delivers a batch from the spool, or leaves it there.
async fn reload(parts: &Arc<Parts>, label: u32, replayed: Replayed) {
    let Replayed { payload, origin, sequence, done } = replayed;
    let held = parts.hold(sequence);
    let (stored, mut attempts) = match origin {
        Origin::Spool(stored, attempts) => (stored, attempts),
        Origin::Dead(file) => {
            let placed = resend(parts, label, &payload, file).await;
            parts.books.replayed.fetch_add(placed.delivered, Relaxed);
            placed.tell(label, "replayed");
            drop(held);
            done.send(placed.delivered + placed.dead_lettered > 0).ok();
            return;
        }
    };
    let ours = parts.is_ours(&payload.run_id, sequence);
    let earlier = if ours { 0 } else { parts.tried_earlier(payload.key, attempts.tried) };
    let ended = parts.courier().carry(payload.clone(), &mut attempts, earlier).await;
    if ended.left.is_empty() {
        parts.forget_tries(payload.key);
    }
    let whole = ended.left.is_empty() && ended.dead.is_empty();
    let (placed, file) = if whole {
        (Placed { delivered: ended.delivered, ..Placed::default() }, Some(stored))
    } else {
        let place = parts.place(label, &payload, Some(stored), attempts, ended, ours);
        (place.await.unwrap_or_default(), None)
    };
    parts.books.replayed.fetch_add(placed.delivered, Relaxed);
    if ours {
        parts.books.recovered(Outcome {
            delivered: placed.delivered,
            spooled: 0,
            dead_lettered: placed.dead_lettered,
        });
    } else {
        parts.books.replayed_earlier.fetch_add(placed.delivered, Relaxed);
        parts.books.replay_dead_lettered.fetch_add(placed.dead_lettered, Relaxed);
    }
    placed.tell(label, "replayed");
    parts.stop_if_too_many_rejected(placed.dead_lettered);
    if let Some(file) = file {
        parts.take_away(Delivered { file, held, done });
        return;
    }
    drop(held);
    // Nobody listens any more when the pass was given up.
    done.send(placed.delivered + placed.dead_lettered > 0).ok();
}
