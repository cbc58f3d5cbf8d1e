//! What the engine, the inventory, the scribe and those who ask share: the targets, where
//! each is, and which of their records are not settled yet. Everybody holds the lock for
//! a moment only: the engine is waiting for it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::Notify;

use super::clock::WallClock;
use crate::config::Every as Settings;
use crate::extract::Target;
use crate::fleet::grid::Grid;
use crate::fleet::groups::Groups;
use crate::fleet::memory::{self, Known};
use crate::fleet::roster::Roster;
use crate::fleet::scheduler::{Caps, Fleet, Scheduler, Unsettled};
use crate::fleet::slot::Slot;

/// Failing targets whose reason is kept.
const REASONS_MAX: usize = 10_000;
/// The most of a reason that is kept.
const REASON_CHARS_MAX: usize = 200;
/// Targets that one look takes the lock for.
const LOOK_TARGETS: u32 = 1000;

/// See the module.
#[derive(Debug)]
pub(in crate::pipeline) struct Shared {
    core: Mutex<Core>,
    /// Told when a poll has ended that something waits for, or targets have come.
    pub(super) wake: Notify,
    pub(super) clock: WallClock,
}

/// What is behind the lock.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) roster: Roster,
    pub(super) scheduler: Scheduler,
    /// Records that are not settled: the number after a poll's last record, its target,
    /// its cycle.
    settling: VecDeque<(u64, u32, u32)>,
    /// Targets of which the journal does not know yet what is known.
    noted: Vec<u32>,
    /// The targets are others than those of the last snapshot.
    pub(super) renewed: bool,
    reasons: HashMap<u32, Box<str>>,
}

/// Which targets are asked for.
#[derive(Debug, Clone, Default)]
pub struct TargetFilter {
    /// Only those whose last poll failed.
    pub failing: bool,
    /// Only those that are polled less often.
    pub demoted: bool,
    /// Only those that are called so.
    pub name: Option<String>,
    /// At most so many.
    pub limit: usize,
}

/// One target as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TargetView {
    /// What messages call it.
    pub name: String,
    /// `ok`, `failing`, `demoted` or `new`.
    pub state: &'static str,
    /// Failures in a row.
    pub failures: u8,
    /// Why the last poll failed, where that is still known.
    pub error: Option<String>,
    /// Whether it is being polled.
    pub in_flight: bool,
    /// When its last poll ended, unix seconds.
    pub polled_at: Option<u32>,
    /// When it will be polled next, unix seconds.
    pub next_at: u64,
}

impl Shared {
    pub(super) fn new(settings: &Settings) -> Shared {
        let groups = Groups::new(settings.per_host, settings.per_subnet);
        let scheduler = Scheduler::new(Grid::new(settings.interval.0), Caps::of(1), groups);
        let core = Core {
            roster: Roster::default(),
            scheduler,
            settling: VecDeque::new(),
            noted: Vec::new(),
            renewed: true,
            reasons: HashMap::new(),
        };
        Shared { core: Mutex::new(core), wake: Notify::new(), clock: WallClock::start() }
    }

    pub(super) fn core(&self) -> MutexGuard<'_, Core> {
        // Every change is whole before anything in it can panic.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The targets that `filter` asks for, and how many there are in all that it fits.
    pub(in crate::pipeline) fn targets(&self, filter: &TargetFilter) -> (Vec<TargetView>, usize) {
        let (mut found, mut count) = (Vec::new(), 0);
        let mut from = 0;
        loop {
            let core = self.core();
            let slots = core.scheduler.slots();
            if from as usize >= slots.len() {
                return (found, count);
            }
            for target in from..(from + LOOK_TARGETS).min(slots.len() as u32) {
                let slot = &slots[target as usize];
                if (filter.failing && slot.failures == 0) || (filter.demoted && !slot.demoted()) {
                    continue;
                }
                let named = filter.name.is_some().then(|| core.name(target));
                if named.is_some() && named != filter.name {
                    continue;
                }
                count += 1;
                if found.len() < filter.limit {
                    found.push(core.view(target, slot, self.clock.now_ms()));
                }
            }
            from += LOOK_TARGETS;
        }
    }
}

impl Core {
    /// Puts other targets in force; `known` is what is remembered of them.
    pub(super) fn replace(
        &mut self,
        now_ms: u64,
        roster: Roster,
        fleet: Fleet,
        moved: &[Option<u32>],
        then: Unsettled,
    ) {
        let place = |old: u32| moved.get(old as usize).copied().flatten();
        self.scheduler.replace(now_ms, fleet, moved, then);
        self.roster = roster;
        self.settling = std::mem::take(&mut self.settling)
            .into_iter()
            .filter_map(|(until, target, cycle)| Some((until, place(target)?, cycle)))
            .collect();
        self.reasons = std::mem::take(&mut self.reasons)
            .into_iter()
            .filter_map(|(target, reason)| Some((place(target)?, reason)))
            .collect();
        // The next snapshot has it all.
        self.noted.clear();
        self.renewed = true;
    }

    /// Notes that the records of a poll end before record `until`; none without records.
    pub(super) fn polled(&mut self, flight: u32, cycle: u32, until: Option<u64>) {
        let Some(target) = self.scheduler.target_of(flight) else { return };
        match until {
            Some(until) => self.settling.push_back((until, target, cycle)),
            None => self.settle(target, cycle),
        }
    }

    /// Notes that a target's poll of `cycle` leaves nothing to be settled.
    pub(super) fn settle(&mut self, target: u32, cycle: u32) {
        self.scheduler.settled(target, cycle);
        if self.noted.len() >= self.roster.len() {
            // Nobody has written it down for long: a snapshot is shorter.
            self.renewed = true;
            self.noted.clear();
        }
        self.noted.push(target);
    }

    /// Settles what lies before `watermark`, in which all sinks agree.
    pub(super) fn settle_before(&mut self, watermark: u64) {
        while let Some((until, target, cycle)) = self.settling.front().copied()
            && until <= watermark
        {
            self.settling.pop_front();
            self.settle(target, cycle);
        }
    }

    /// What the journal does not know yet, as notes for it.
    pub(super) fn take_notes(&mut self) -> Vec<u8> {
        let mut notes = Vec::new();
        for target in self.noted.drain(..) {
            if let Some(slot) = self.scheduler.slots().get(target as usize) {
                memory::note(&mut notes, target, slot);
            }
        }
        notes
    }

    /// Begins a snapshot: what is known is in it, or is noted from now on.
    pub(super) fn begin_snapshot(&mut self) {
        self.noted.clear();
        self.renewed = false;
    }

    /// Appends what is known of up to `most` targets from `from` on; gives their number.
    pub(super) fn snapshot(&self, from: usize, most: usize, part: &mut Vec<u8>) -> usize {
        let known = self.roster.identities().iter().zip(self.scheduler.slots());
        let before = part.len();
        let known = known.skip(from).take(most);
        known.for_each(|(identity, slot)| memory::push(part, &Known::of(*identity, slot)));
        (part.len() - before) / memory::ENTRY
    }

    /// Keeps why a target's poll failed.
    pub(super) fn keep_reason(&mut self, target: u32, reason: &str) {
        if self.reasons.len() < REASONS_MAX || self.reasons.contains_key(&target) {
            let reason: String = reason.chars().take(REASON_CHARS_MAX).collect();
            self.reasons.insert(target, reason.into());
        }
    }

    pub(super) fn forget_reason(&mut self, target: u32) {
        self.reasons.remove(&target);
    }

    fn name(&self, target: u32) -> String {
        let row = self.roster.row(target);
        Target::again(u64::from(target), row).label()
    }

    fn view(&self, target: u32, slot: &Slot, now_ms: u64) -> TargetView {
        let grid = self.scheduler.grid();
        let next = (grid.cycle_at(now_ms, slot.phase) + 1).max(slot.resume_cycle);
        TargetView {
            name: self.name(target),
            state: match slot {
                slot if slot.demoted() => "demoted",
                Slot { failures: 1.., .. } => "failing",
                Slot { polled_at: 0, .. } => "new",
                _ => "ok",
            },
            failures: slot.failures,
            error: self.reasons.get(&target).map(|reason| reason.to_string()),
            in_flight: slot.flying(),
            polled_at: Some(slot.polled_at).filter(|at| *at > 0),
            next_at: grid.due_ms(next, slot.phase) / 1000,
        }
    }
}
