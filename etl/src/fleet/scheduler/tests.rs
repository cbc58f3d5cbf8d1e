//! The scheduler against a model that knows every due time by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::{Caps, Due, Fleet, Scheduler, Unsettled};
use crate::fleet::grid::Grid;
use crate::fleet::groups::{Groups, Membership};
use crate::fleet::slot::{Outcome, Slot};

const INTERVAL: u64 = 10_000;
const START: u64 = 1_800_000_003_000;

fn grid() -> Grid {
    Grid::new(Duration::from_millis(INTERVAL))
}

fn caps(all: usize) -> Caps {
    Caps { all, suspects: all, late: all }
}

fn scheduler(phases: &[u32], caps: Caps) -> Scheduler {
    let mut scheduler = Scheduler::new(grid(), caps, Groups::default());
    let slots = phases.iter().map(|phase| Slot::new(*phase)).collect();
    scheduler.replace(START, Fleet { slots, members: vec![] }, &[], Unsettled::PassOver);
    scheduler
}

/// Goes to `now` and begins all that may begin.
fn begin(scheduler: &mut Scheduler, now: u64) -> Vec<Due> {
    while scheduler.advance(now, 3) {}
    std::iter::from_fn(|| scheduler.begin_next()).collect()
}

fn targets(due: &[Due]) -> Vec<u32> {
    due.iter().map(|due| due.target).collect()
}

#[test]
fn each_is_polled_at_its_place_of_every_interval() {
    let mut scheduler = scheduler(&[9000, 1000, 5000], caps(10));
    // 3 s into the interval: the second is due again in the next one.
    assert_eq!(scheduler.next_due_ms(), Some(START + 2000));
    let mut seen = Vec::new();
    for now in (START..START + 3 * INTERVAL).step_by(500) {
        for due in begin(&mut scheduler, now) {
            assert!(due.due_ms <= now && now < due.due_ms + 500 && !due.held);
            seen.push(due.target);
            scheduler.ended(due.flight, Outcome::Answered, 1);
        }
    }
    assert_eq!(seen, [2, 0, 1, 2, 0, 1, 2, 0, 1]);
    assert_eq!(scheduler.counts().missed, 0);
}

#[test]
fn what_is_still_polled_or_waiting_when_it_is_due_again_is_missed_and_not_queued() {
    let mut scheduler = scheduler(&[4000, 5000], caps(1));
    let due = begin(&mut scheduler, START + 2000);
    assert_eq!(targets(&due), [0], "one may fly");
    // Round after round: both are missed each time.
    assert!(begin(&mut scheduler, START + 2000 + INTERVAL).is_empty());
    assert_eq!(scheduler.counts().missed, 2);
    scheduler.ended(due[0].flight, Outcome::Answered, 1);
    let next = begin(&mut scheduler, START + 2500 + INTERVAL);
    assert_eq!(targets(&next), [1]);
    assert_eq!(next[0].due_ms, START + 2000 + INTERVAL, "its poll is the one of this cycle");
    // The process stands still for a day: counted, and one poll each.
    scheduler.ended(next[0].flight, Outcome::Answered, 1);
    let missed = scheduler.counts().missed;
    let later = begin(&mut scheduler, START + 2500 + 8640 * INTERVAL);
    assert_eq!(later.len(), 1);
    assert_eq!(scheduler.counts().missed, missed + 2 * 8638);
}

#[test]
fn black_holes_fly_in_a_budget_of_their_own() {
    let phases: Vec<u32> = (0..20).map(|n| n * 10).collect();
    let mut scheduler = scheduler(&phases, Caps { all: 10, suspects: 2, late: 1 });
    let next_round = START + INTERVAL - 3000 + 500;
    let mut holes = Vec::new();
    while scheduler.advance(next_round, 100) {}
    while let Some(due) = scheduler.begin_next() {
        let hole = due.target < 5;
        let how = if hole { Outcome::TimedOut } else { Outcome::Answered };
        holes.extend(hole.then_some(due.target));
        scheduler.ended(due.flight, how, 1);
    }
    assert_eq!(holes.len(), 5);
    let flying = begin(&mut scheduler, next_round + INTERVAL);
    let suspects = flying.iter().filter(|due| due.target < 5);
    assert!(suspects.clone().all(|due| due.held) && suspects.count() == 2);
    assert_eq!(flying.len(), 10, "the others take the rest of the cap");
}

#[test]
fn a_full_host_parks_its_targets_and_they_come_back_with_the_end_of_a_poll() {
    let mut groups = Groups::new(Some(2), None);
    let members: Vec<Membership> = (0..6).map(|n| groups.number(Some(n / 5), Some(9))).collect();
    let mut scheduler = Scheduler::new(grid(), caps(10), groups);
    let slots = (0..6).map(|n| Slot::new(n * 10)).collect();
    scheduler.replace(START, Fleet { slots, members }, &[], Unsettled::PassOver);
    let now = START + INTERVAL - 3000 + 500;
    let mut flying = begin(&mut scheduler, now);
    assert_eq!(targets(&flying), [0, 1, 5]);
    let mut seen = BTreeSet::new();
    while let Some(due) = flying.pop() {
        seen.insert(due.target);
        scheduler.ended(due.flight, Outcome::Answered, 1);
        for due in begin(&mut scheduler, now) {
            assert!(due.held);
            flying.push(due);
        }
        assert!(flying.iter().filter(|due| due.target < 5).count() <= 2);
    }
    assert_eq!(seen.len(), 6);
    assert_eq!(scheduler.counts().missed, 0);
}

#[test]
fn a_restart_within_the_interval_polls_what_is_not_settled_and_nothing_else() {
    let now_cycle = grid().cycle_at(START, 0);
    let slot = |phase, settled_cycle| Slot { settled_cycle, ..Slot::new(phase) };
    // Due and settled; due and not; not due yet; demoted.
    let demoted = Slot { failures: 9, resume_cycle: now_cycle + 1, ..slot(1500, now_cycle - 1) };
    let slots =
        vec![slot(1000, now_cycle), slot(2000, now_cycle - 1), slot(4000, now_cycle - 1), demoted];
    for (then, late) in [(Unsettled::Poll, vec![1]), (Unsettled::PassOver, vec![])] {
        let mut scheduler = Scheduler::new(grid(), caps(9), Groups::default());
        let fleet = Fleet { slots: slots.clone(), members: vec![] };
        scheduler.replace(START, fleet, &[], then);
        let due = begin(&mut scheduler, START);
        assert_eq!(targets(&due), late);
        assert!(due.iter().all(|due| due.held && due.cycle == now_cycle));
        assert_eq!(scheduler.demoted(), 1);
        assert_eq!(targets(&begin(&mut scheduler, START + 1000)), [2]);
    }
}

#[test]
fn another_inventory_keeps_what_is_known_and_lets_polls_of_lost_targets_end() {
    let mut scheduler = scheduler(&[4000, 4010, 4020], caps(2));
    let flying = begin(&mut scheduler, START + 1500);
    assert_eq!(targets(&flying), [0, 1]);
    // The first is gone, the others have moved, one is new.
    let slots = [4020, 7000, 4010].map(Slot::new).to_vec();
    let moved = [None, Some(2), Some(0)];
    scheduler.replace(START + 1500, Fleet { slots, members: vec![] }, &moved, Unsettled::Leave);
    assert_eq!(scheduler.in_flight(), 2);
    assert!(scheduler.begin_next().is_none(), "the cap holds");
    assert_eq!(scheduler.ended(flying[0].flight, Outcome::Answered, 1), None);
    assert_eq!(targets(&begin(&mut scheduler, START + 1500)), [0], "it still waited");
    let (target, _) = scheduler.ended(flying[1].flight, Outcome::Failed, 7).unwrap_or_default();
    assert_eq!(target, 2);
    assert_eq!((scheduler.slots()[2].failures, scheduler.slots()[2].polled_at), (1, 7));
    assert_eq!(targets(&begin(&mut scheduler, START + 4000)), [1]);
}

/// What may happen between two looks at the scheduler.
#[derive(Debug, Clone)]
enum Step {
    /// Time goes on.
    Wait(u64),
    /// The poll at this place among those in flight ends.
    End(usize, bool, bool),
    /// The targets whose bits are set stay, and so many new ones come.
    Replace(u32, u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u64..4000).prop_map(Step::Wait),
        1 => (10_000u64..60_000).prop_map(Step::Wait),
        8 => (0usize..64, any::<bool>(), any::<bool>())
            .prop_map(|(at, well, late)| Step::End(at, well, late)),
        1 => (any::<u32>(), 0u8..4).prop_map(|(kept, new)| Step::Replace(kept, new)),
    ]
}

/// One target as the model sees it.
#[derive(Debug, Clone, Default)]
struct Modelled {
    phase: u32,
    host: u64,
    due: u64,
    begun: u64,
    flying: bool,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    /// Whatever happens: nothing is polled before it is due or twice at once or twice for
    /// a cycle; no limit is passed; every due time is polled, missed, passed over or still
    /// waits; and what could fly does.
    #[test]
    fn every_due_time_is_accounted_for(
        phases in proptest::collection::vec(0u32..INTERVAL as u32, 1..24),
        all in 1usize..8, suspects in 1usize..4, per_host in 1usize..4,
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let groups = Groups::new(Some(per_host), None);
        let mut scheduler = Scheduler::new(grid(), Caps { all, suspects, late: 1 }, groups);
        let mut model: Vec<Modelled> = phases
            .iter()
            .map(|phase| Modelled { phase: *phase, host: u64::from(phase % 3), ..Modelled::default() })
            .collect();
        let mut now = START;
        let fleet = fleet_of(&mut scheduler, &model);
        scheduler.replace(now, fleet, &[], Unsettled::PassOver);
        let mut flying: BTreeMap<u32, (Option<usize>, u64)> = BTreeMap::new();
        let (mut gone_due, mut gone_begun) = (0, 0);
        let mut cycles = BTreeSet::new();
        for step in steps {
            match step {
                Step::Wait(time) => {
                    for target in &mut model {
                        let cycle = |at| u64::from(grid().cycle_at(at, target.phase));
                        target.due += cycle(now + time) - cycle(now);
                    }
                    now += time;
                    while scheduler.advance(now, 5) {}
                }
                Step::End(at, well, late) => {
                    let Some(flight) = flying.keys().nth(at % flying.len().max(1)).copied() else {
                        continue;
                    };
                    let how = match (well, late) {
                        (true, _) => Outcome::Answered,
                        (_, true) => Outcome::TimedOut,
                        _ => Outcome::Failed,
                    };
                    let (target, _) = flying.remove(&flight).unwrap_or_default();
                    let ended = scheduler.ended(flight, how, 1);
                    prop_assert_eq!(ended.map(|(target, _)| target as usize), target);
                    if let Some(target) = target {
                        model[target].flying = false;
                    }
                }
                Step::Replace(kept, new) => {
                    let keeps = |at: usize| kept & (1 << (at % 32)) != 0;
                    let mut moved = Vec::new();
                    let mut next = Vec::new();
                    for (at, target) in model.iter().enumerate() {
                        moved.push(keeps(at).then_some(next.len() as u32));
                        if keeps(at) {
                            next.push(target.clone());
                        } else {
                            gone_due += target.due;
                            gone_begun += target.begun;
                        }
                    }
                    for n in 0..u32::from(new) {
                        let phase = (kept ^ n.wrapping_mul(2_654_435_761)) % INTERVAL as u32;
                        let host = u64::from(phase % 3);
                        next.push(Modelled { phase, host, ..Modelled::default() });
                    }
                    // Numbers of targets are given anew: a pair of target and cycle too.
                    cycles.clear();
                    for (target, _) in flying.values_mut() {
                        *target = target.and_then(|at| moved[at]).map(|at| at as usize);
                    }
                    model = next;
                    let fleet = fleet_of(&mut scheduler, &model);
                    scheduler.replace(now, fleet, &moved, Unsettled::Leave);
                }
            }
            while let Some(due) = scheduler.begin_next() {
                let target = &mut model[due.target as usize];
                prop_assert!(due.due_ms <= now && !target.flying);
                prop_assert!(cycles.insert((due.target, due.cycle)), "twice for one cycle");
                prop_assert_eq!(due.cycle, grid().cycle_at(now, target.phase));
                (target.flying, target.begun) = (true, target.begun + 1);
                flying.insert(due.flight, (Some(due.target as usize), target.host));
            }
            prop_assert_eq!(scheduler.in_flight(), flying.len());
            prop_assert!(flying.len() <= all);
            for host in 0..3 {
                let of_host = flying.values().filter(|(_, its)| *its == host).count();
                prop_assert!(of_host <= per_host, "{} polls of a host", of_host);
            }
            let due: u64 = gone_due + model.iter().map(|target| target.due).sum::<u64>();
            let begun: u64 = gone_begun + model.iter().map(|target| target.begun).sum::<u64>();
            let counts = scheduler.counts();
            prop_assert_eq!(counts.begun, begun);
            let accounted = begun + counts.missed + counts.passed_over;
            // The rest waits, or was waiting when the inventory lost it.
            prop_assert!(accounted <= due, "{:?} of {}", counts, due);
            if gone_due == 0 {
                prop_assert!(due - accounted <= model.len() as u64);
            }
            // With nothing in flight nothing waits: a limit cannot be what holds it.
            prop_assert!(!flying.is_empty() || scheduler.waiting() == 0);
        }
    }
}

fn fleet_of(scheduler: &mut Scheduler, model: &[Modelled]) -> Fleet {
    let slots = model.iter().map(|target| Slot::new(target.phase)).collect();
    let groups = scheduler.groups();
    let members = model.iter().map(|target| groups.number(Some(target.host), None)).collect();
    Fleet { slots, members }
}
