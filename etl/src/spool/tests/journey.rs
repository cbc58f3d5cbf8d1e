//! Spool and checkpoint together, as a run of a data file uses them, against a model:
//! whatever happens in whatever order, and wherever the process dies or a disk
//! operation fails, each record is at the API, in the spool, or beyond the watermark,
//! from where it is read again.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::fault::{Plan, with_plan};
use super::*;
use crate::checkpoint::{InputState, Place, Store, Ticket, Tracker};

/// A batch is two records long.
const BATCH: u64 = 2;
const GENERATIONS: [&str; 2] = ["checkpoint-a.json", "checkpoint-b.json"];

#[derive(Debug, Clone, Copy)]
enum Step {
    /// The next records of the file become a batch in memory.
    Seal,
    /// A batch in memory goes to the spool: because an attempt failed, or ahead of it.
    Spool { pick: usize, ahead: bool },
    /// The API takes a batch in memory; written ahead, its file goes.
    Deliver { pick: usize },
    /// The API takes a batch from the spool.
    Replay { pick: usize },
    /// An attempt with a batch from the spool fails, which is noted in its file.
    Retry { pick: usize },
    /// The watermark is written down.
    Note,
}

/// What befalls a step.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Goes,
    /// Its nth disk operation fails with EIO.
    Fails(usize),
    /// The process dies at its nth disk operation, or after it.
    Dies(usize),
    /// It goes; then the process ends, and the newest checkpoint is damaged.
    Damaged,
}

fn journey() -> impl Strategy<Value = Vec<(Step, Fate)>> {
    let step = prop_oneof![
        4 => Just(Step::Seal),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(pick, ahead)| Step::Spool { pick, ahead }),
        3 => any::<usize>().prop_map(|pick| Step::Deliver { pick }),
        2 => any::<usize>().prop_map(|pick| Step::Replay { pick }),
        1 => any::<usize>().prop_map(|pick| Step::Retry { pick }),
        4 => Just(Step::Note),
    ];
    let fate = prop_oneof![
        8 => Just(Fate::Goes),
        2 => (0usize..9).prop_map(Fate::Fails),
        3 => (0usize..9).prop_map(Fate::Dies),
        1 => Just(Fate::Damaged),
    ];
    proptest::collection::vec((step, fate), 1..60)
}

/// A batch that a worker holds.
struct Held {
    payload: Payload,
    /// Settled as soon as its file is durable.
    ticket: Option<Ticket>,
    ahead: Option<Stored>,
}

/// One process: all of this dies with it.
struct Process {
    spool: Spool,
    store: Store,
    state: crate::checkpoint::State,
    tracker: Arc<Tracker>,
    held: Vec<Held>,
    next: u64,
}

impl Process {
    fn start(root: &TempDir) -> Process {
        let (store, state, _) = Store::open(&root.path().join("p/state")).unwrap();
        let records = state.inputs.first().map_or(0, |input| input.sinks["http"].records);
        let (tracker, held) = (Tracker::new(records), Vec::new());
        Process { spool: spool(root), store, state, tracker, held, next: records }
    }

    fn watermark_on_disk(&self) -> u64 {
        self.state.inputs.first().map_or(0, |input| input.sinks["http"].records)
    }

    fn entry(&self, pick: usize) -> Option<Entry> {
        // What a worker holds is not for the replayer.
        let held: Vec<u64> =
            self.held.iter().filter_map(|it| it.ahead.as_ref()).map(Stored::sequence).collect();
        let mut entries = self.spool.entries().unwrap();
        entries.retain(|entry| !held.contains(&entry.sequence()));
        entries.get(pick % entries.len().max(1)).cloned()
    }

    /// Does one step; what the API has taken goes to `api`.
    fn take(&mut self, step: Step, api: &mut Api) {
        let some = |pick: usize, count: usize| (count > 0).then(|| pick % count.max(1));
        match step {
            Step::Seal => {
                let payload = payload(self.next);
                let ticket = Some(self.tracker.track(&payload.range));
                self.next = payload.range.end;
                self.held.push(Held { payload, ticket, ahead: None });
            }
            Step::Spool { pick, ahead } => {
                let Some(at) = some(pick, self.held.len()) else { return };
                self.write(at, ahead);
            }
            Step::Deliver { pick } => {
                let Some(at) = some(pick, self.held.len()) else { return };
                let Held { payload, ticket, ahead } = self.held.remove(at);
                api.takes(&payload);
                if let Some(ticket) = ticket {
                    Tracker::resolve(ticket);
                }
                // A file that cannot be removed is sent again under the same key.
                if let Some(stored) = ahead {
                    self.spool.remove(stored).ok();
                }
            }
            Step::Replay { pick } => {
                let Some(entry) = self.entry(pick) else { return };
                let (payload, _, stored) = self.spool.read(&entry).unwrap();
                api.takes(&payload);
                self.spool.remove(stored).ok();
            }
            Step::Retry { pick } => {
                let Some(entry) = self.entry(pick) else { return };
                let (payload, tried, mut stored) = self.spool.read(&entry).unwrap();
                let tried = attempts(tried.tried + 1);
                self.spool.update(&mut stored, State::Failed, 0, &payload, &tried).ok();
            }
            Step::Note => {
                let place = Place { records: self.tracker.watermark(), ..Place::default() };
                let sinks = [("http".to_owned(), place)].into();
                let path = "rows.csv".to_owned();
                let before = self.state.clone();
                self.state.set_input(InputState { path, sinks, ..InputState::default() });
                if self.store.save(&mut self.state).is_err() {
                    self.state = before;
                }
            }
        }
    }

    fn write(&mut self, at: usize, ahead: bool) {
        let held = &mut self.held[at];
        if held.ahead.is_none() {
            let (sequence, state) =
                (self.spool.next_sequence(), if ahead { State::Pending } else { State::Failed });
            let written = self.spool.write(state, 1, sequence, &held.payload, &attempts(0));
            let Ok(stored) = written else { return };
            held.ahead = Some(stored);
            if let Some(ticket) = held.ticket.take() {
                Tracker::resolve(ticket);
            }
        }
        if !ahead {
            // Out of the worker's hands: the replayer's from now on.
            drop(self.held.remove(at).ahead);
        }
    }
}

/// What has arrived, by key: one body each, however often it comes.
#[derive(Default)]
struct Api {
    batches: BTreeMap<String, Payload>,
}

impl Api {
    fn takes(&mut self, payload: &Payload) {
        let known = self.batches.entry(payload.key.to_string()).or_insert_with(|| payload.clone());
        assert_eq!(known.body, payload.body, "one key, two bodies");
    }

    fn records(&self) -> BTreeSet<u64> {
        self.batches.values().flat_map(|batch| batch.range.clone()).collect()
    }
}

/// After a restart: nothing before the watermark is nowhere.
fn nothing_is_lost(process: &Process, api: &Api) {
    let mut somewhere = api.records();
    for entry in process.spool.entries().unwrap() {
        somewhere.extend(process.spool.read(&entry).unwrap().0.range);
    }
    let watermark = process.watermark_on_disk();
    let lost: Vec<u64> = (0..watermark).filter(|record| !somewhere.contains(record)).collect();
    assert!(lost.is_empty(), "before the watermark {watermark} and nowhere: {lost:?}");
}

fn damage_the_newest(root: &TempDir) {
    let newest = GENERATIONS
        .iter()
        .map(|name| root.path().join("p/state").join(name))
        .filter_map(|path| {
            let text = std::fs::read_to_string(&path).ok()?;
            let state = crate::checkpoint::State::decode(text.as_bytes()).ok()?;
            Some((state.counter, path, text))
        })
        .max();
    if let Some((_, path, text)) = newest {
        std::fs::write(path, &text[..text.len() / 2]).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn every_record_is_delivered_spooled_or_read_again(journey in journey()) {
        let (root, mut api) = (scratch(), Api::default());
        let mut process = Process::start(&root);
        let mut sealed = 0;
        for (step, fate) in journey {
            let plan = match fate {
                Fate::Goes | Fate::Damaged => Plan::Watch,
                Fate::Fails(at) => Plan::FailOne(at, rustix::io::Errno::IO.raw_os_error()),
                Fate::Dies(at) => Plan::Crash(at),
            };
            with_plan(plan, || process.take(step, &mut api));
            sealed = sealed.max(process.next);
            if matches!(fate, Fate::Dies(_) | Fate::Damaged) {
                drop(process);
                if matches!(fate, Fate::Damaged) {
                    damage_the_newest(&root);
                }
                process = Process::start(&root);
                nothing_is_lost(&process, &api);
            }
        }

        // A last run without trouble reads on to where any run has come, and replays.
        drop(process);
        let mut process = Process::start(&root);
        nothing_is_lost(&process, &api);
        while process.next < sealed {
            process.take(Step::Seal, &mut api);
            process.take(Step::Deliver { pick: 0 }, &mut api);
        }
        while process.entry(0).is_some() {
            process.take(Step::Replay { pick: 0 }, &mut api);
        }
        prop_assert_eq!(api.records(), (0..sealed).collect());
        prop_assert_eq!(api.batches.len() as u64, sealed / BATCH);
    }
}
