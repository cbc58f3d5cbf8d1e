//! Any sequence of operations, restarts and crashes, against a model in memory.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::fault::{Plan, with_plan};
use super::*;

#[derive(Debug, Clone)]
enum Step {
    Write {
        pending: bool,
        worker: u32,
    },
    Update {
        pick: usize,
        worker: u32,
        tried: u32,
    },
    Remove {
        pick: usize,
    },
    Damage {
        pick: usize,
    },
    DeadLetter,
    Reopen,
    /// The next write or update dies at its nth operation, then the spool is reopened.
    Crash {
        at: usize,
        pick: usize,
        update: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    number: u64,
    state: State,
    tried: u32,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (any::<bool>(), 0u32..3).prop_map(|(pending, worker)| Step::Write { pending, worker }),
        3 => (any::<usize>(), 0u32..3, 1u32..9)
            .prop_map(|(pick, worker, tried)| Step::Update { pick, worker, tried }),
        2 => any::<usize>().prop_map(|pick| Step::Remove { pick }),
        1 => any::<usize>().prop_map(|pick| Step::Damage { pick }),
        1 => Just(Step::DeadLetter),
        2 => Just(Step::Reopen),
        2 => (0usize..8, any::<usize>(), any::<bool>())
            .prop_map(|(at, pick, update)| Step::Crash { at, pick, update }),
    ];
    proptest::collection::vec(step, 1..30)
}

struct World {
    root: TempDir,
    spool: Option<Spool>,
    known: BTreeMap<u64, Known>,
    numbers: u64,
    damaged: u64,
    letters: u64,
}

impl World {
    fn spool(&self) -> &Spool {
        self.spool.as_ref().unwrap()
    }

    fn reopen(&mut self) {
        self.spool = None;
        self.spool = Some(spool(&self.root));
    }

    fn entry(&self, pick: usize) -> Option<(u64, Entry)> {
        let entries = self.spool().entries().unwrap();
        let entry = entries.get(pick % entries.len().max(1))?;
        Some((entry.sequence(), entry.clone()))
    }

    fn write(&mut self, state: State, worker: u32) -> (u64, Known, bool) {
        self.numbers += 1;
        let (number, sequence) = (self.numbers, self.spool().next_sequence());
        let fine = self
            .spool()
            .write(state, worker, sequence, &payload(number), &attempts(0))
            .map(drop)
            .is_ok();
        (sequence, Known { number, state, tried: 0 }, fine)
    }

    fn update(&mut self, pick: usize, worker: u32, tried: u32) -> Option<(u64, Known, bool)> {
        let (sequence, entry) = self.entry(pick)?;
        let (batch, _, mut stored) = self.spool().read(&entry).unwrap();
        let number = batch.range.start;
        let fine = self
            .spool()
            .update(&mut stored, State::Failed, worker, &batch, &attempts(tried))
            .is_ok();
        Some((sequence, Known { number, state: State::Failed, tried }, fine))
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Write { pending, worker } => {
                let state = if pending { State::Pending } else { State::Failed };
                let (sequence, known, fine) = self.write(state, worker);
                assert!(fine);
                self.known.insert(sequence, known);
            }
            Step::Update { pick, worker, tried } => {
                if let Some((sequence, known, fine)) = self.update(pick, worker, tried) {
                    assert!(fine);
                    self.known.insert(sequence, known);
                }
            }
            Step::Remove { pick } => {
                if let Some((sequence, entry)) = self.entry(pick) {
                    let (_, _, stored) = self.spool().read(&entry).unwrap();
                    self.spool().remove(stored).unwrap();
                    self.known.remove(&sequence);
                }
            }
            Step::Damage { pick } => {
                if let Some((sequence, entry)) = self.entry(pick) {
                    let path = self.spool().directory().join(entry.file_name());
                    let mut bytes = std::fs::read(&path).unwrap();
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 1;
                    std::fs::write(&path, bytes).unwrap();
                    assert!(matches!(self.spool().read(&entry), Err(ReadError::Corrupt { .. })));
                    self.spool().quarantine(&entry, "damaged").unwrap();
                    self.known.remove(&sequence);
                    self.damaged += 1;
                }
            }
            Step::DeadLetter => {
                self.spool().dead_letter(&[letter()]).map(drop).unwrap();
                self.letters += 1;
            }
            Step::Reopen => self.reopen(),
            Step::Crash { at, pick, update } => self.crash(at, pick, update),
        }
    }

    fn crash(&mut self, at: usize, pick: usize, update: bool) {
        let (done, _) = with_plan(Plan::Crash(at), || {
            if update { self.update(pick, 1, 9) } else { Some(self.write(State::Pending, 1)) }
        });
        self.reopen();
        let Some((sequence, new, reported)) = done else { return };
        let there = self.spool().entries().unwrap().into_iter().find(|e| e.sequence() == sequence);
        let Some(entry) = there else {
            assert!(!reported && !update, "a durable batch is gone");
            return;
        };
        // In doubt, the new or the old; reported, the new.
        let (_, tried, _) = self.spool().read(&entry).unwrap();
        let found = Known { number: new.number, state: entry.state(), tried: tried.tried };
        assert!(found == new || (!reported && Some(&found) == self.known.get(&sequence)));
        self.known.insert(sequence, found);
    }

    fn check(&self) {
        let spool = self.spool();
        let entries = spool.entries().unwrap();
        let found: BTreeMap<u64, Known> = entries
            .iter()
            .map(|entry| {
                let (batch, tried, _) = spool.read(entry).unwrap();
                assert_eq!(batch.body, payload(batch.range.start).body);
                let (number, state) = (batch.range.start, entry.state());
                (entry.sequence(), Known { number, state, tried: tried.tried })
            })
            .collect();
        assert_eq!(found, self.known);
        assert_eq!(entries.len(), found.len(), "every batch once");
        let usage = spool.usage();
        assert_eq!(usage.batches, entries.len() as u64);
        assert_eq!(usage.bytes, entries.iter().map(Entry::size).sum::<u64>());
        assert_eq!((usage.corrupt_files, usage.dead_files), (self.damaged, self.letters));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn the_spool_holds_what_the_model_holds(steps in steps()) {
        let root = scratch();
        let spool = Some(spool(&root));
        let mut world =
            World { root, spool, known: BTreeMap::new(), numbers: 0, damaged: 0, letters: 0 };
        for step in steps {
            world.apply(step);
            world.check();
        }
    }
}
