//! Who is polled next. Targets stand on a ring in the order of their phases, and a hand
//! goes round once an interval: an idle target costs a place on the ring and nothing
//! else. Pure: takes the time as an argument and starts nothing.

use std::collections::VecDeque;

use super::grid::Grid;
use super::groups::{Groups, Membership};
use super::slot::{Outcome, Place, Slot};

/// Intervals behind which the hand skips: the process stood still.
const INTERVALS_BEHIND_MAX: u64 = 2;

/// How many polls may be in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// In all.
    pub all: usize,
    /// Of targets whose last poll ran into its deadline.
    pub suspects: usize,
    /// Of targets that a restart has left behind.
    pub late: usize,
}

impl Caps {
    /// Caps for so many polls in all: a quarter may be of suspects, an eighth late.
    #[must_use]
    pub fn of(all: usize) -> Caps {
        let all = all.max(1);
        Caps { all, suspects: (all / 4).max(1), late: (all / 8).max(1) }
    }
}

/// A poll that is to begin now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a poll that was given out must be begun, and its end be told"]
pub struct Due {
    /// Names the poll until it has ended.
    pub flight: u32,
    /// The target, by its place in the inventory.
    pub target: u32,
    /// For which cycle.
    pub cycle: u32,
    /// When it was due.
    pub due_ms: u64,
    /// Whether something other than the scheduler kept it waiting: a limit of its host or
    /// subnet, the suspects' own budget, a restart.
    pub held: bool,
}

/// A poll in flight.
#[derive(Debug, Clone, Copy)]
struct Flight {
    /// None when the inventory has lost it.
    target: Option<u32>,
    cycle: u32,
    member: Membership,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Grid,
    Suspect,
    Late,
}

/// Counts that only rise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Due times that came while the target was still waiting or polled.
    pub missed: u64,
    /// Due times passed over because the target is demoted.
    pub passed_over: u64,
    /// Polls that were given out.
    pub begun: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Scheduler {
    grid: Grid,
    caps: Caps,
    slots: Vec<Slot>,
    /// Targets in the order of their phases.
    ring: Vec<u32>,
    /// The next place on the ring, and the cycle that it will be due in.
    hand: usize,
    cycle: u32,
    ready: VecDeque<u32>,
    suspects: VecDeque<u32>,
    late: VecDeque<u32>,
    groups: Groups,
    /// One for each target, where there is any limit.
    members: Vec<Membership>,
    flights: Vec<Option<Flight>>,
    free: Vec<u32>,
    flying: [usize; 3],
    demoted: usize,
    counts: Counts,
}

/// Targets and what they belong to.
#[derive(Debug, Default)]
pub struct Fleet {
    /// In the order of the inventory.
    pub slots: Vec<Slot>,
    /// As many, or none where there is no limit.
    pub members: Vec<Membership>,
}

/// What becomes of targets whose last due time is over and not settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsettled {
    /// They are polled at once: a restart within the interval.
    Poll,
    /// Nothing until they are due again: nobody was there for long.
    PassOver,
    /// Nothing: their polls are under way.
    Leave,
}

impl Scheduler {
    /// A scheduler without targets.
    #[must_use]
    pub fn new(grid: Grid, caps: Caps, groups: Groups) -> Scheduler {
        Scheduler {
            grid,
            caps,
            slots: Vec::new(),
            ring: Vec::new(),
            hand: 0,
            cycle: 0,
            ready: VecDeque::new(),
            suspects: VecDeque::new(),
            late: VecDeque::new(),
            groups,
            members: Vec::new(),
            flights: Vec::new(),
            free: Vec::new(),
            flying: [0; 3],
            demoted: 0,
            counts: Counts::default(),
        }
    }

    /// Puts `fleet` in the place of the targets there are. `moved` says for each of the
    /// old ones where it is now; it keeps what is known of it. Those without a place are
    /// forgotten with the end of their poll.
    pub fn replace(&mut self, now_ms: u64, fleet: Fleet, moved: &[Option<u32>], then: Unsettled) {
        let Fleet { mut slots, members } = fleet;
        let place = |old: u32| moved.get(old as usize).copied().flatten();
        for (old, new) in self.slots.iter().zip(moved) {
            if let Some(slot) = new.and_then(|new| slots.get_mut(new as usize)) {
                *slot = *old;
            }
        }
        for slot in &mut slots {
            // What was due before a target was known is nothing that it owes.
            if slot.settled_cycle == 0 || then == Unsettled::PassOver {
                slot.settled_cycle = self.grid.cycle_at(now_ms, slot.phase);
            }
        }
        for flight in self.flights.iter_mut().flatten() {
            flight.target = flight.target.and_then(place);
        }
        for queue in [&mut self.ready, &mut self.suspects, &mut self.late] {
            *queue = queue.drain(..).filter_map(place).collect();
        }
        // The groups of what was parked may be others now: it is tried again.
        for target in self.groups.take_parked().into_iter().filter_map(place) {
            let slot = &mut slots[target as usize];
            slot.place = Place::Waiting;
            let queue = if slot.suspect { &mut self.suspects } else { &mut self.ready };
            queue.push_back(target);
        }
        self.demoted = slots.iter().filter(|slot| slot.demoted()).count();
        (self.slots, self.members) = (slots, members);
        self.lay_ring(now_ms);
        if then == Unsettled::Poll {
            self.catch_up(now_ms);
        }
    }

    /// Orders the targets, with the hand at the first that is due after now.
    fn lay_ring(&mut self, now_ms: u64) {
        let slots = &self.slots;
        self.ring = (0..u32::try_from(slots.len()).unwrap_or(u32::MAX)).collect();
        self.ring.sort_unstable_by_key(|target| (slots[*target as usize].phase, *target));
        self.cycle = self.grid.cycle_at(now_ms, 0);
        let into = now_ms - self.grid.due_ms(self.cycle, 0);
        let passed = |target: &u32| u64::from(slots[*target as usize].phase) <= into;
        self.hand = self.ring.partition_point(passed);
        self.turn();
    }

    /// Lets idle targets whose last due time is not settled be polled at once.
    fn catch_up(&mut self, now_ms: u64) {
        for target in &self.ring {
            let slot = &mut self.slots[*target as usize];
            let cycle = self.grid.cycle_at(now_ms, slot.phase);
            if slot.place == Place::Idle && slot.settled_cycle < cycle && slot.resume_cycle <= cycle
            {
                (slot.place, slot.cycle, slot.held) = (Place::Waiting, cycle, true);
                self.late.push_back(*target);
            }
        }
    }

    /// Goes on to the next cycle at the end of the ring.
    fn turn(&mut self) {
        if self.hand >= self.ring.len() {
            self.hand = 0;
            self.cycle = self.cycle.saturating_add(1);
        }
    }

    /// When the next target falls due; none without targets.
    #[must_use]
    pub fn next_due_ms(&self) -> Option<u64> {
        let target = *self.ring.get(self.hand)?;
        Some(self.grid.due_ms(self.cycle, self.slots[target as usize].phase))
    }

    /// Lets up to `most` targets fall due that are by now; says whether there are more.
    pub fn advance(&mut self, now_ms: u64, most: usize) -> bool {
        self.skip_what_is_long_past(now_ms);
        for _ in 0..most {
            if self.next_due_ms().is_none_or(|due_ms| due_ms > now_ms) {
                return false;
            }
            let target = self.ring[self.hand];
            self.falls_due(target);
            self.hand += 1;
            self.turn();
        }
        self.next_due_ms().is_some_and(|due_ms| due_ms <= now_ms)
    }

    /// After a long standstill: whole rounds of the hand are missed at once.
    fn skip_what_is_long_past(&mut self, now_ms: u64) {
        let Some(due_ms) = self.next_due_ms() else { return };
        let rounds = now_ms.saturating_sub(due_ms) / self.grid.interval_ms();
        if rounds >= INTERVALS_BEHIND_MAX {
            self.counts.missed += rounds * self.ring.len() as u64;
            let rounds = u32::try_from(rounds).unwrap_or(u32::MAX);
            self.cycle = self.cycle.saturating_add(rounds);
            for slot in &mut self.slots {
                if matches!(slot.place, Place::Waiting | Place::Parked) {
                    slot.cycle = slot.cycle.saturating_add(rounds);
                }
            }
        }
    }

    fn falls_due(&mut self, target: u32) {
        let slot = &mut self.slots[target as usize];
        match slot.place {
            Place::Idle if self.cycle < slot.resume_cycle => self.counts.passed_over += 1,
            Place::Idle => {
                (slot.place, slot.cycle, slot.held) = (Place::Waiting, self.cycle, slot.suspect);
                if slot.suspect {
                    self.suspects.push_back(target);
                } else {
                    self.ready.push_back(target);
                }
            }
            // The poll that is still to come is the one of this cycle.
            Place::Waiting | Place::Parked => {
                slot.cycle = self.cycle;
                self.counts.missed += 1;
            }
            Place::Flying => self.counts.missed += 1,
        }
    }

    /// The next poll that may begin; none when none is due or none may fly now.
    pub fn begin_next(&mut self) -> Option<Due> {
        loop {
            let (target, kind) = self.next_waiting()?;
            let member = self.members.get(target as usize).copied().unwrap_or(Membership::NONE);
            let slot = &mut self.slots[target as usize];
            if !self.groups.admit(target, member) {
                (slot.place, slot.held) = (Place::Parked, true);
                continue;
            }
            slot.place = Place::Flying;
            let (cycle, held) = (slot.cycle, slot.held);
            let due_ms = self.grid.due_ms(cycle, slot.phase);
            let flight = Flight { target: Some(target), cycle, member, kind };
            let number = match self.free.pop() {
                Some(free) => {
                    self.flights[free as usize] = Some(flight);
                    free
                }
                None => {
                    self.flights.push(Some(flight));
                    u32::try_from(self.flights.len() - 1).unwrap_or(u32::MAX)
                }
            };
            self.flying[kind as usize] += 1;
            self.counts.begun += 1;
            return Some(Due { flight: number, target, cycle, due_ms, held });
        }
    }

    /// Suspects come first, but few of them fly; what a restart has left comes last.
    fn next_waiting(&mut self) -> Option<(u32, Kind)> {
        if self.in_flight() >= self.caps.all {
            return None;
        }
        let may = |kind: Kind, cap: usize| self.flying[kind as usize] < cap;
        let (suspects, late) =
            (may(Kind::Suspect, self.caps.suspects), may(Kind::Late, self.caps.late));
        let suspect = if suspects { self.suspects.pop_front() } else { None };
        let found = suspect.map(|target| (target, Kind::Suspect));
        let found = found.or_else(|| Some((self.ready.pop_front()?, Kind::Grid)));
        found.or_else(|| if late { Some((self.late.pop_front()?, Kind::Late)) } else { None })
    }

    /// A poll has ended at `now_s`, unix seconds. Gives its target, by its place in the
    /// inventory now, and its cycle; none when the inventory has lost it.
    pub fn ended(&mut self, flight: u32, outcome: Outcome, now_s: u32) -> Option<(u32, u32)> {
        let ended = self.flights.get_mut(flight as usize).and_then(Option::take)?;
        self.free.push(flight);
        let flying = &mut self.flying[ended.kind as usize];
        *flying = flying.saturating_sub(1);
        for target in self.groups.release(ended.member).into_iter().flatten() {
            let slot = &mut self.slots[target as usize];
            slot.place = Place::Waiting;
            let queue = if slot.suspect { &mut self.suspects } else { &mut self.ready };
            // It has waited longest.
            queue.push_front(target);
        }
        let target = ended.target?;
        let slot = &mut self.slots[target as usize];
        slot.place = Place::Idle;
        let before = slot.demoted();
        slot.polled(outcome, ended.cycle, now_s);
        self.demoted = self.demoted + usize::from(slot.demoted()) - usize::from(before);
        Some((target, ended.cycle))
    }

    /// The target of a poll in flight, by its place in the inventory now.
    #[must_use]
    pub fn target_of(&self, flight: u32) -> Option<u32> {
        self.flights.get(flight as usize)?.as_ref()?.target
    }

    /// Notes that the records of a target's poll of `cycle` are settled.
    pub fn settled(&mut self, target: u32, cycle: u32) {
        if let Some(slot) = self.slots.get_mut(target as usize) {
            slot.settled_cycle = slot.settled_cycle.max(cycle);
        }
    }

    /// Other caps from now on.
    pub fn set_caps(&mut self, caps: Caps) {
        self.caps = caps;
    }

    /// How many polls may be in flight.
    #[must_use]
    pub fn caps(&self) -> Caps {
        self.caps
    }

    /// The due times.
    #[must_use]
    pub fn grid(&self) -> Grid {
        self.grid
    }

    /// What is known of each target.
    #[must_use]
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Numbers hosts and subnets.
    pub fn groups(&mut self) -> &mut Groups {
        &mut self.groups
    }

    /// Polls in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.flying.iter().sum()
    }

    /// Targets that are polled less often than once an interval.
    #[must_use]
    pub fn demoted(&self) -> usize {
        self.demoted
    }

    /// Targets that are due and not in flight.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.ready.len() + self.suspects.len() + self.late.len()
    }

    /// What it has counted.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

#[cfg(test)]
#[path = "scheduler/tests.rs"]
mod tests;
