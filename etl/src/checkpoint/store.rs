//! A pipeline's state on disk: two files written in turn, so that a whole one is
//! there whatever happens to the other. Each is replaced by the spool's durable
//! write; the newest that checks is the state.

use std::io;
use std::path::{Path, PathBuf};

use super::state::State;
use crate::spool::{KeptFiles, OpenError, WriteError, WriteErrorKind};

pub(super) const GENERATIONS: [&str; 2] = ["checkpoint-a.json", "checkpoint-b.json"];
/// More than 256 files and a million targets need.
const BYTES_MAX: u64 = 64 << 20;

/// The state of one pipeline; nobody else can change it while this lives.
#[derive(Debug)]
pub struct Store {
    files: KeptFiles,
    counter: u64,
}

/// A generation that did not check and was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file's name.
    pub file: &'static str,
    /// What is wrong with it.
    pub reason: String,
    /// Where it is now; none when it could not be moved.
    pub moved: Option<PathBuf>,
}

/// Why there is no state to work with.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory cannot be used, perhaps because another process has it.
    #[error("state: {0}")]
    Open(#[from] OpenError),
    /// A generation is there and cannot be read now.
    #[error("state: cannot read {}: {source}; as far as can be told nothing is wrong with what it holds", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It could not be made durable.
    #[error("state: {0}")]
    Write(#[from] WriteError),
}

impl StoreError {
    /// Whether the disk or the system failed, and not what was configured.
    #[must_use]
    pub fn is_fault(&self) -> bool {
        match self {
            StoreError::Open(error) => error.is_fault(),
            StoreError::Read { source, .. } => WriteErrorKind::of(source).is_fault(),
            StoreError::Write(error) => error.kind.is_fault(),
        }
    }
}

impl Store {
    /// Opens the state in `directory` and takes its lock; gives the newest generation
    /// that checks, an empty state when there is none, and what was damaged.
    ///
    /// # Errors
    /// When the directory cannot be used or a file cannot be read now. Damaged files
    /// are no error.
    pub fn open(directory: &Path) -> Result<(Store, State, Vec<Damage>), StoreError> {
        let files = KeptFiles::open(directory)?;
        let (mut newest, mut damages) = (State::default(), Vec::new());
        for file in GENERATIONS {
            let content = match files.read(file, BYTES_MAX) {
                Ok(None) => continue,
                Ok(Some(content)) => State::decode(&content).map_err(|error| error.to_string()),
                // Too long, a directory, a link: nothing that was written here.
                Err(error) if not_ours(&error) => Err(error.to_string()),
                Err(source) => {
                    return Err(StoreError::Read { path: files.path().join(file), source });
                }
            };
            match content {
                Ok(state) if state.counter >= newest.counter => newest = state,
                Ok(_) => {}
                Err(reason) => {
                    let moved = files.quarantine(file, &reason).ok();
                    damages.push(Damage { file, reason, moved });
                }
            }
        }
        Ok((Store { files, counter: newest.counter }, newest, damages))
    }

    /// Writes `state` as the newest generation; durable when this returns.
    ///
    /// # Errors
    /// When the system refuses; both generations are then as they were.
    pub fn save(&mut self, state: &mut State) -> Result<(), WriteError> {
        state.counter = self.counter.saturating_add(1);
        let file = GENERATIONS[usize::from(state.counter % 2 == 1)];
        self.files.replace(file, &state.encode())?;
        self.counter = state.counter;
        Ok(())
    }

    /// Writes `state` as both generations: for what must not be lost together with
    /// the newest one.
    ///
    /// # Errors
    /// As [`Store::save`].
    pub fn save_twice(&mut self, state: &mut State) -> Result<(), WriteError> {
        self.save(state)?;
        self.save(state)
    }
}

fn not_ours(error: &io::Error) -> bool {
    let link = error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
    link || error.kind() == io::ErrorKind::InvalidData
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use proptest::prelude::*;

    use super::super::state::tests::sample;
    use super::{GENERATIONS, Store, StoreError};
    use crate::checkpoint::State;
    use crate::spool::OpenError;

    fn save(directory: &Path, run: &str) {
        let (mut store, mut state, _) = Store::open(directory).unwrap();
        state.inputs = sample(0).inputs;
        run.clone_into(&mut state.inputs[0].run_id);
        store.save(&mut state).unwrap();
    }

    fn run_of(state: &State) -> Option<&str> {
        state.inputs.first().map(|input| input.run_id.as_str())
    }

    #[test]
    fn the_newest_generation_that_checks_is_the_state() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("state");
        for run in ["one", "two", "three"] {
            save(&directory, run);
            let (_, state, damages) = Store::open(&directory).unwrap();
            assert_eq!((run_of(&state), damages), (Some(run), vec![]));
        }
        let newest = directory.join(GENERATIONS[1]);
        assert_eq!(std::fs::metadata(&newest).unwrap().permissions().mode() & 0o777, 0o600);
        let bytes = std::fs::read(&newest).unwrap();
        for damaged in [&b""[..], b"{}", &bytes[..bytes.len() - 1], b"etl checkpoint 2 00\n{}"] {
            std::fs::write(&newest, damaged).unwrap();
            let (_, state, damages) = Store::open(&directory).unwrap();
            assert_eq!(run_of(&state), Some("two"));
            assert_eq!(damages.len(), 1);
            let moved = damages[0].moved.clone().unwrap();
            assert_eq!(std::fs::read(moved).unwrap(), damaged);
        }
        // The next write goes on from what was found.
        save(&directory, "four");
        let (_, state, damages) = Store::open(&directory).unwrap();
        assert_eq!((run_of(&state), damages.len()), (Some("four"), 0));
    }

    #[test]
    fn with_both_damaged_it_begins_anew_and_keeps_them() {
        let root = tempfile::tempdir().unwrap();
        save(root.path(), "one");
        save(root.path(), "two");
        std::fs::write(root.path().join(GENERATIONS[0]), "x").unwrap();
        std::fs::remove_file(root.path().join(GENERATIONS[1])).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.path().join(GENERATIONS[1])).unwrap();
        let (_, state, damages) = Store::open(root.path()).unwrap();
        assert_eq!((state, damages.len()), (State::default(), 2));
        assert!(std::fs::read_dir(root.path().join("corrupt")).unwrap().count() >= 2);
    }

    #[test]
    fn only_one_process_can_have_it() {
        let root = tempfile::tempdir().unwrap();
        let held = Store::open(root.path()).unwrap();
        let second = Store::open(root.path());
        assert!(matches!(second, Err(StoreError::Open(OpenError::Locked { .. }))), "{second:?}");
        drop(held);
        assert!(Store::open(root.path()).is_ok());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        /// Whatever happens to the newest generation, and with whatever reopening in
        /// between: the state is the last one written or the one before, never another.
        #[test]
        fn damage_costs_one_generation_at_most(
            steps in proptest::collection::vec((any::<bool>(), any::<u16>(), 0..8u8), 1..12),
        ) {
            let root = tempfile::tempdir().unwrap();
            let (mut last, mut before) = (None, None);
            for (number, (damage, at, bit)) in steps.into_iter().enumerate() {
                save(root.path(), &number.to_string());
                (before, last) = (last.or(before), Some(number.to_string()));
                if damage && before.is_some() {
                    let (_, state, _) = Store::open(root.path()).unwrap();
                    let file = GENERATIONS[usize::from(state.counter % 2 == 1)];
                    let path = root.path().join(file);
                    let mut bytes = std::fs::read(&path).unwrap();
                    let at = usize::from(at) % bytes.len();
                    bytes[at] ^= 1 << bit;
                    std::fs::write(&path, bytes).unwrap();
                    last = None;
                }
                let (_, state, _) = Store::open(root.path()).unwrap();
                prop_assert_eq!(run_of(&state), last.as_deref().or(before.as_deref()));
            }
        }
    }
}
