//! What outlives the process: of each target when it was settled and how it fares. A
//! snapshot that is replaced whole, and behind it a journal of what was settled since,
//! in blocks that each have their check. Binary: a large fleet is written often.

use super::slot::Slot;

const SNAPSHOT: &[u8; 12] = b"etl fleet 1\n";
const JOURNAL: &[u8; 12] = b"etl settled\n";
/// Bytes of a target in a snapshot.
pub const ENTRY: usize = 22;
const NOTE: usize = 14;
const DIGEST: usize = 32;
const CHECK: usize = 8;
const BLOCK_HEAD: usize = 8;

/// What is known of one target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Known {
    /// Who it is.
    pub identity: u64,
    /// The last cycle whose records are settled.
    pub settled_cycle: u32,
    /// Not polled before this cycle.
    pub resume_cycle: u32,
    /// When its last poll ended, unix seconds.
    pub polled_at: u32,
    /// Failures in a row.
    pub failures: u8,
    /// Whether the last one ran into its deadline.
    pub suspect: bool,
}

/// What is known of a fleet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// Rises with every snapshot: tells which journal belongs to it.
    pub generation: u64,
    /// When it was last known to be at work, unix seconds.
    pub seen: u64,
    /// The interval that the cycles are counted in, milliseconds.
    pub interval_ms: u64,
    /// Its targets.
    pub targets: Vec<Known>,
}

/// Why bytes are no memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not what this program writes.
    #[error("it does not begin as the state of a fleet does")]
    Header,
    /// Not what was written.
    #[error("its digest does not match")]
    Digest,
}

impl Known {
    /// What is known of a target by its place in the schedule.
    #[must_use]
    pub fn of(identity: u64, slot: &Slot) -> Known {
        Known {
            identity,
            settled_cycle: slot.settled_cycle,
            resume_cycle: slot.resume_cycle,
            polled_at: slot.polled_at,
            failures: slot.failures,
            suspect: slot.suspect,
        }
    }

    /// A place in the schedule with what is known; cycles only where `cycles` are still
    /// counted in the same way.
    #[must_use]
    pub fn slot(&self, phase: u32, cycles: bool) -> Slot {
        Slot {
            settled_cycle: if cycles { self.settled_cycle } else { 0 },
            resume_cycle: if cycles { self.resume_cycle } else { 0 },
            polled_at: self.polled_at,
            failures: self.failures,
            suspect: self.suspect,
            ..Slot::new(phase)
        }
    }
}

impl Memory {
    /// The beginning of a snapshot; its targets and the digest of it all follow.
    pub fn begin(snapshot: &mut Vec<u8>, generation: u64, seen: u64, interval_ms: u64) {
        snapshot.extend_from_slice(SNAPSHOT);
        for number in [generation, seen, interval_ms] {
            snapshot.extend_from_slice(&number.to_le_bytes());
        }
    }

    /// Reads what was written, and nothing else.
    ///
    /// # Errors
    /// When a single bit is not as it was written.
    pub fn decode(bytes: &[u8]) -> Result<Memory, DecodeError> {
        let rest = bytes.strip_prefix(SNAPSHOT).ok_or(DecodeError::Header)?;
        let body_len = rest.len().checked_sub(24 + DIGEST).ok_or(DecodeError::Digest)?;
        let (content, digest) = bytes.split_at(bytes.len() - DIGEST);
        if blake3::hash(content).as_bytes() != digest || !body_len.is_multiple_of(ENTRY) {
            return Err(DecodeError::Digest);
        }
        let entries = &rest[24..24 + body_len];
        let known = |entry: &[u8]| Known {
            identity: u64_at(entry, 0),
            settled_cycle: u32_at(entry, 8),
            resume_cycle: u32_at(entry, 12),
            polled_at: u32_at(entry, 16),
            failures: entry[20],
            suspect: entry[21] != 0,
        };
        Ok(Memory {
            generation: u64_at(rest, 0),
            seen: u64_at(rest, 8),
            interval_ms: u64_at(rest, 16),
            targets: entries.chunks_exact(ENTRY).map(known).collect(),
        })
    }

    /// Adds what a journal has noted since this snapshot; stops at the first block that is
    /// not whole. A journal of another snapshot has nothing to add.
    pub fn replay(&mut self, journal: &[u8]) {
        let Some(mut rest) = journal.strip_prefix(JOURNAL) else { return };
        if rest.len() < 8 || u64_at(rest, 0) != self.generation {
            return;
        }
        rest = &rest[8..];
        while let Some((seen, notes, behind)) = block(rest, self.generation) {
            for note in notes.chunks_exact(NOTE) {
                let Some(known) = self.targets.get_mut(u32_at(note, 0) as usize) else { return };
                known.settled_cycle = u32_at(note, 4);
                known.resume_cycle = u32_at(note, 8);
                (known.failures, known.suspect) = (note[12], note[13] != 0);
                known.polled_at = seen;
            }
            self.seen = self.seen.max(u64::from(seen));
            rest = behind;
        }
    }
}

/// Appends a target to a snapshot.
pub fn push(snapshot: &mut Vec<u8>, known: &Known) {
    snapshot.extend_from_slice(&known.identity.to_le_bytes());
    for number in [known.settled_cycle, known.resume_cycle, known.polled_at] {
        snapshot.extend_from_slice(&number.to_le_bytes());
    }
    snapshot.extend_from_slice(&[known.failures, u8::from(known.suspect)]);
}

/// The beginning of the journal behind the snapshot of that generation.
#[must_use]
pub fn journal(generation: u64) -> Vec<u8> {
    [&JOURNAL[..], &generation.to_le_bytes()].concat()
}

/// Appends what is known now of the target at place `at` of the snapshot to a block.
pub fn note(notes: &mut Vec<u8>, at: u32, slot: &Slot) {
    for number in [at, slot.settled_cycle, slot.resume_cycle] {
        notes.extend_from_slice(&number.to_le_bytes());
    }
    notes.extend_from_slice(&[slot.failures, u8::from(slot.suspect)]);
}

/// A block of the journal with `notes`, written at `seen`, unix seconds.
#[must_use]
pub fn sealed(notes: &[u8], seen: u32, generation: u64) -> Vec<u8> {
    let length = u32::try_from(notes.len()).unwrap_or(0);
    let mut block = [length.to_le_bytes(), seen.to_le_bytes()].concat();
    block.extend_from_slice(notes);
    let check = check(&block, generation);
    block.extend_from_slice(&check);
    block
}

/// The first block: when it was written, its notes, and what is behind it.
fn block(bytes: &[u8], generation: u64) -> Option<(u32, &[u8], &[u8])> {
    let length = u32_at(bytes.get(..BLOCK_HEAD)?, 0) as usize;
    let content = bytes.get(..BLOCK_HEAD.checked_add(length)?)?;
    let behind = &bytes[content.len()..];
    let whole = behind.get(..CHECK)? == check(content, generation) && length.is_multiple_of(NOTE);
    whole.then(|| (u32_at(bytes, 4), &content[BLOCK_HEAD..], &behind[CHECK..]))
}

fn check(block: &[u8], generation: u64) -> [u8; CHECK] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&generation.to_le_bytes()).update(block);
    let mut check = [0; CHECK];
    check.copy_from_slice(&hasher.finalize().as_bytes()[..CHECK]);
    check
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |it| u64::from_le_bytes(*it))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |it| u32::from_le_bytes(*it))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{DecodeError, Known, Memory, journal, note, push, sealed};
    use crate::fleet::slot::Slot;

    fn known(n: u32) -> Known {
        Known {
            identity: u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            settled_cycle: n,
            resume_cycle: n / 2,
            polled_at: 1_800_000_000 + n,
            failures: (n % 7) as u8,
            suspect: n % 7 > 3,
        }
    }

    fn encoded(memory: &Memory) -> Vec<u8> {
        let Memory { generation, seen, interval_ms, targets } = memory;
        let mut bytes = Vec::new();
        Memory::begin(&mut bytes, *generation, *seen, *interval_ms);
        targets.iter().for_each(|known| push(&mut bytes, known));
        let digest = blake3::hash(&bytes);
        bytes.extend_from_slice(digest.as_bytes());
        bytes
    }

    fn memory(targets: u32) -> Memory {
        let targets = (0..targets).map(known).collect();
        Memory { generation: 7, seen: 1_800_000_000, interval_ms: 60_000, targets }
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_of_a_snapshot_is_noticed() {
        let bytes = encoded(&memory(3));
        assert_eq!(Memory::decode(&bytes), Ok(memory(3)));
        assert_eq!(Memory::decode(&encoded(&memory(0))), Ok(memory(0)));
        assert_eq!(Memory::decode(b"etl checkpoint"), Err(DecodeError::Header));
        for at in 0..bytes.len() {
            assert!(Memory::decode(&bytes[..at]).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert!(Memory::decode(&flipped).is_err(), "bit {bit} of byte {at}");
            }
        }
    }

    /// A journal of three blocks, each of which settles one target.
    fn three_blocks(generation: u64) -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends) = (journal(generation), Vec::new());
        for at in 0..3 {
            let mut notes = Vec::new();
            note(&mut notes, at, &Slot { settled_cycle: 1000 + at, failures: 9, ..Slot::new(0) });
            bytes.extend_from_slice(&sealed(&notes, 1_900_000_000, generation));
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    fn settled(memory: &Memory) -> usize {
        memory.targets.iter().filter(|known| known.settled_cycle >= 1000).count()
    }

    #[test]
    fn a_journal_counts_up_to_its_first_block_that_is_not_whole() {
        let (bytes, ends) = three_blocks(7);
        for cut in 0..=bytes.len() {
            let mut memory = memory(3);
            memory.replay(&bytes[..cut]);
            assert_eq!(settled(&memory), ends.iter().filter(|end| **end <= cut).count(), "{cut}");
        }
        let mut whole = memory(3);
        whole.replay(&bytes);
        assert_eq!((whole.seen, whole.targets[2].failures), (1_900_000_000, 9));
        assert_eq!(whole.targets[2].polled_at, 1_900_000_000);
        // Of another snapshot, or of one with fewer targets.
        let mut other = memory(3);
        other.replay(&three_blocks(6).0);
        assert_eq!(other, memory(3));
        let mut fewer = memory(2);
        fewer.replay(&bytes);
        assert_eq!(settled(&fewer), 2);
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_no_flipped_bit_settles_a_target(
            at in 0usize..10_000, bit in 0u8..8, noise in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let (mut bytes, ends) = three_blocks(7);
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            let mut one = memory(3);
            one.replay(&bytes);
            prop_assert!(settled(&one) <= ends.iter().filter(|end| **end <= at).count());
            let mut other = memory(3);
            other.replay(&[journal(7), noise.clone()].concat());
            prop_assert!(Memory::decode(&noise).is_err());
        }
    }
}
