//! The files that a fleet's state is kept in: the snapshot, replaced whole, and the
//! journal of what was settled since. Nothing here is worth a record: what is lost costs
//! polls that are made twice.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::checkpoint::StoreError;
use crate::fleet::memory::{self, Memory};
use crate::spool::KeptFiles;

const SNAPSHOT: &str = "targets.bin";
const JOURNAL: &str = "settled.log";
/// More than ten million targets need.
const BYTES_MAX: u64 = 512 << 20;

/// The state's directory; nobody else can change it while this lives.
#[derive(Debug)]
pub(super) struct Files {
    kept: KeptFiles,
    generation: u64,
    /// None until there is a snapshot that it belongs to.
    journal: Option<File>,
}

impl Files {
    /// Opens the state in `directory`; gives what it says, and what people should know.
    pub(super) fn open(directory: &Path) -> Result<(Files, Memory, Vec<String>), StoreError> {
        let kept = KeptFiles::open(directory)?;
        let mut notices = Vec::new();
        let mut memory = Memory::default();
        let read = match kept.read(SNAPSHOT, BYTES_MAX) {
            Ok(None) => Ok(Memory::default()),
            Ok(Some(bytes)) => Memory::decode(&bytes).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match read {
            Ok(read) => {
                memory = read;
                if let Ok(Some(journal)) = kept.read(JOURNAL, BYTES_MAX) {
                    memory.replay(&journal);
                }
            }
            Err(reason) => {
                let moved = kept.quarantine(SNAPSHOT, &reason);
                let moved =
                    moved.map_or_else(|error| error.to_string(), |to| to.display().to_string());
                notices.push(format!(
                    "warning: {SNAPSHOT} is damaged ({reason}); set aside: {moved}; no record is \
                     lost, every target is polled when it is due"
                ));
            }
        }
        Ok((Files { kept, generation: memory.generation, journal: None }, memory, notices))
    }

    /// The generation of the next snapshot.
    pub(super) fn next_generation(&self) -> u64 {
        self.generation + 1
    }

    /// Replaces the snapshot with one of [`Files::next_generation`], durably, and begins a
    /// journal behind it.
    /// The snapshot comes in parts, up to an empty one.
    pub(super) fn replace(
        &mut self,
        next: impl FnMut(&mut Vec<u8>) -> io::Result<()>,
    ) -> io::Result<()> {
        self.kept.replace_in_parts(SNAPSHOT, next).map_err(io::Error::other)?;
        self.generation += 1;
        self.journal = None;
        let mut options = File::options();
        options.create(true).truncate(true).write(true).mode(0o600);
        let mut journal = options.open(self.journal_path())?;
        journal.write_all(&memory::journal(self.generation))?;
        self.journal = Some(journal);
        Ok(())
    }

    /// Whether notes can be added: there is a journal.
    pub(super) fn takes_notes(&self) -> bool {
        self.journal.is_some()
    }

    /// Adds notes to the journal: there after the end of the process, and after that of
    /// the machine with the next snapshot.
    pub(super) fn note(&mut self, notes: &[u8], seen: u32) -> io::Result<()> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        let written = journal.write_all(&memory::sealed(notes, seen, self.generation));
        if written.is_err() {
            // What would come behind half a block is never read.
            self.journal = None;
        }
        written
    }

    fn journal_path(&self) -> PathBuf {
        self.kept.path().join(JOURNAL)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use std::io;

    use super::{Files, JOURNAL, SNAPSHOT};
    use crate::fleet::memory::{self, Known, Memory};
    use crate::fleet::slot::Slot;

    /// In parts of a few bytes.
    fn replace(files: &mut Files) {
        let mut bytes = Vec::new();
        Memory::begin(&mut bytes, files.next_generation(), 1_800_000_000, 60_000);
        memory::push(&mut bytes, &Known { identity: 7, ..Known::default() });
        let digest = blake3::hash(&bytes);
        bytes.extend_from_slice(digest.as_bytes());
        let mut parts = bytes.chunks(7);
        let written = files.replace(|part| {
            part.extend(parts.next().unwrap_or_default());
            Ok(())
        });
        written.unwrap();
    }

    #[test]
    fn what_was_noted_is_there_again_and_an_old_journal_is_not() {
        let root = tempfile::tempdir().unwrap();
        let (mut files, memory, notices) = Files::open(root.path()).unwrap();
        assert_eq!((memory, notices.len()), (Memory::default(), 0));
        assert!(!files.takes_notes());
        replace(&mut files);
        let (mut notes, mut slot) = (Vec::new(), Slot::new(0));
        slot.settled_cycle = 42;
        memory::note(&mut notes, 0, &slot);
        files.note(&notes, 1_800_000_009).unwrap();
        let journal = std::fs::read(root.path().join(JOURNAL)).unwrap();
        drop(files);
        let (mut files, memory, _) = Files::open(root.path()).unwrap();
        assert_eq!((memory.seen, memory.targets[0].settled_cycle), (1_800_000_009, 42));
        // Killed between the snapshot and its journal: the old one says nothing.
        replace(&mut files);
        std::fs::write(root.path().join(JOURNAL), journal).unwrap();
        drop(files);
        let (_, memory, _) = Files::open(root.path()).unwrap();
        assert_eq!((memory.generation, memory.targets[0].settled_cycle), (2, 0));
    }

    #[test]
    fn a_snapshot_that_is_given_up_changes_nothing() {
        let root = tempfile::tempdir().unwrap();
        let (mut files, ..) = Files::open(root.path()).unwrap();
        replace(&mut files);
        let before = std::fs::read(root.path().join(SNAPSHOT)).unwrap();
        let mut parts = 0;
        let given_up = files.replace(|part| {
            parts += 1;
            part.push(0);
            if parts < 3 { Ok(()) } else { Err(io::Error::other("overtaken")) }
        });
        assert!(given_up.is_err_and(|error| error.to_string().contains("overtaken")));
        assert_eq!(std::fs::read(root.path().join(SNAPSHOT)).unwrap(), before);
        let left = std::fs::read_dir(root.path()).unwrap().filter_map(Result::ok);
        let names: Vec<_> = left.map(|entry| entry.file_name()).collect();
        assert!(!names.iter().any(|name| name.to_string_lossy().contains("tmp")), "{names:?}");
    }

    #[test]
    fn a_damaged_snapshot_is_set_aside_and_said() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path()).unwrap();
        std::fs::write(root.path().join(SNAPSHOT), "nonsense").unwrap();
        let (_, memory, notices) = Files::open(root.path()).unwrap();
        assert_eq!(memory, Memory::default());
        assert!(notices[0].contains("damaged") && notices[0].contains("corrupt"), "{notices:?}");
        assert!(!root.path().join(SNAPSHOT).exists());
    }
}
