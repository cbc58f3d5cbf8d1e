//! Runs the project's own watermark under loom, which tries every interleaving
//! of its threads: the watermark never passes a record that is not safe, and a
//! channel that is full makes the producer wait and drops nothing.

#[path = "../../etl/src/checkpoint/watermark.rs"]
#[allow(dead_code, reason = "the model needs a part of it")]
mod watermark;

/// What `etl/src/checkpoint` takes from the standard library.
mod sync {
    pub(super) use loom::sync::{Mutex, MutexGuard};
}

use std::collections::VecDeque;
use std::sync::Arc;

use loom::sync::atomic::{AtomicBool, Ordering::Relaxed};
use loom::sync::{Condvar, Mutex};
use loom::thread;
use watermark::{Ticket, Tracker};

/// Which records are durable somewhere, told before their ticket is resolved.
/// Relaxed: what orders it before the watermark can only be the watermark's lock.
type Durable = Arc<[AtomicBool; 3]>;

fn durable() -> Durable {
    Arc::new(std::array::from_fn(|_| AtomicBool::new(false)))
}

/// Fails when the watermark claims a record that is not durable.
fn claims_only_what_is_safe(tracker: &Tracker, durable: &Durable) -> u64 {
    let watermark = tracker.watermark();
    for (record, durable) in durable.iter().enumerate().take(watermark as usize) {
        assert!(durable.load(Relaxed), "watermark {watermark}, record {record} is not safe");
    }
    watermark
}

/// Two workers settle while a third party reads, as the checkpoint writer does.
fn settling_in_any_order_never_claims_too_much() {
    let (tracker, durable) = (Tracker::new(0), durable());
    let tickets: Vec<Ticket> = (0..2).map(|n| tracker.track(&(n..n + 1))).collect();
    let workers: Vec<_> = tickets
        .into_iter()
        .enumerate()
        .map(|(record, ticket)| {
            let durable = durable.clone();
            thread::spawn(move || {
                durable[record].store(true, Relaxed);
                Tracker::resolve(ticket);
            })
        })
        .collect();
    let seen = claims_only_what_is_safe(&tracker, &durable);
    assert!(claims_only_what_is_safe(&tracker, &durable) >= seen, "the watermark went back");
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    assert_eq!((tracker.watermark(), tracker.open()), (2, 0));
}

/// A worker that dies drops its ticket: the watermark stays before it for good.
fn a_dropped_ticket_holds_the_watermark_back() {
    let (tracker, durable) = (Tracker::new(0), durable());
    let (first, second) = (tracker.track(&(0..1)), tracker.track(&(1..2)));
    let dying = thread::spawn(move || drop(first));
    let (shared, too) = (tracker.clone(), durable.clone());
    let settling = thread::spawn(move || {
        too[1].store(true, Relaxed);
        Tracker::resolve(second);
        // Tracking goes on meanwhile.
        let third = shared.track(&(2..3));
        too[2].store(true, Relaxed);
        Tracker::resolve(third);
    });
    claims_only_what_is_safe(&tracker, &durable);
    dying.join().unwrap();
    settling.join().unwrap();
    assert_eq!((tracker.watermark(), tracker.open()), (0, 3));
}

/// A channel with room for one batch, as the loader uses its own.
struct HandOff {
    waiting: Mutex<(VecDeque<(usize, Ticket)>, bool)>,
    changed: Condvar,
}

const ROOM: usize = 1;

impl HandOff {
    fn send(&self, batch: (usize, Ticket)) {
        let mut waiting = self.waiting.lock().unwrap();
        while waiting.0.len() >= ROOM {
            waiting = self.changed.wait(waiting).unwrap();
        }
        waiting.0.push_back(batch);
        self.changed.notify_all();
    }

    fn close(&self) {
        self.waiting.lock().unwrap().1 = true;
        self.changed.notify_all();
    }

    fn receive(&self) -> Option<(usize, Ticket)> {
        let mut waiting = self.waiting.lock().unwrap();
        loop {
            assert!(waiting.0.len() <= ROOM, "more waits than there is room for");
            if let Some(batch) = waiting.0.pop_front() {
                self.changed.notify_all();
                return Some(batch);
            }
            if waiting.1 {
                return None;
            }
            waiting = self.changed.wait(waiting).unwrap();
        }
    }
}

/// The producer tracks and hands over, two workers settle, and all is settled.
fn a_bounded_hand_off_loses_nothing() {
    let (tracker, durable) = (Tracker::new(0), durable());
    let hand_off =
        Arc::new(HandOff { waiting: Mutex::new((VecDeque::new(), false)), changed: Condvar::new() });
    let workers: Vec<_> = (0..2)
        .map(|_| {
            let (hand_off, durable, tracker) = (hand_off.clone(), durable.clone(), tracker.clone());
            thread::spawn(move || {
                while let Some((record, ticket)) = hand_off.receive() {
                    durable[record].store(true, Relaxed);
                    Tracker::resolve(ticket);
                    claims_only_what_is_safe(&tracker, &durable);
                }
            })
        })
        .collect();
    for record in 0..3 {
        let ticket = tracker.track(&(record..record + 1));
        hand_off.send((record as usize, ticket));
    }
    hand_off.close();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    assert_eq!((tracker.watermark(), tracker.open()), (3, 0));
}

fn explore(name: &str, preemptions: Option<usize>, model: fn()) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    let began = std::time::Instant::now();
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = count.clone();
    builder.check(move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        model();
    });
    let bound = preemptions.map_or("all".to_owned(), |n| format!("up to {n} preemptions"));
    println!("{name}: {} interleavings ({bound}) in {:.1?}", count.load(std::sync::atomic::Ordering::Relaxed), began.elapsed());
}

fn main() {
    explore("settling in any order", None, settling_in_any_order_never_claims_too_much);
    explore("a dropped ticket", None, a_dropped_ticket_holds_the_watermark_back);
    explore("a bounded hand-off", Some(2), a_bounded_hand_off_loses_nothing);
}
