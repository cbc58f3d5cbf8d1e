//! A snapshot of a fleet as it is written: a few thousand targets at a time, so that
//! neither a copy of all of them is made nor the engine waits for it.

use std::io;

use super::shared::Shared;
use crate::fleet::memory::Memory;

/// Targets of a part.
const TARGETS: usize = 4096;

/// See the module.
pub(super) struct Snapshot<'a> {
    shared: &'a Shared,
    generation: u64,
    seen: u32,
    /// Targets that were written.
    written: usize,
    digest: blake3::Hasher,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Begun,
    Within,
    Whole,
    /// The inventory is another one than at the beginning.
    Overtaken,
}

impl<'a> Snapshot<'a> {
    pub(super) fn begin(shared: &'a Shared, generation: u64, seen: u32) -> Snapshot<'a> {
        let digest = blake3::Hasher::new();
        Snapshot { shared, generation, seen, written: 0, digest, state: State::Begun }
    }

    /// Puts the next part into an empty buffer; nothing behind the last.
    pub(super) fn next(&mut self, part: &mut Vec<u8>) -> io::Result<()> {
        if self.state == State::Whole {
            return Ok(());
        }
        let core = self.shared.core();
        if core.renewed {
            self.state = State::Overtaken;
            return Err(io::Error::other("the inventory has changed under it"));
        }
        if self.state == State::Begun {
            self.state = State::Within;
            let interval_ms = core.scheduler.grid().interval_ms();
            Memory::begin(part, self.generation, u64::from(self.seen), interval_ms);
        }
        self.written += core.snapshot(self.written, TARGETS, part);
        let whole = self.written == core.roster.len();
        drop(core);
        self.digest.update(part);
        if whole {
            self.state = State::Whole;
            part.extend_from_slice(self.digest.finalize().as_bytes());
        }
        Ok(())
    }

    /// Whether it was given up for a new one.
    pub(super) fn overtaken(&self) -> bool {
        self.state == State::Overtaken
    }
}
