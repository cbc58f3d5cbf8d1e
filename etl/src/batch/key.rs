//! Idempotency keys: fixed when a batch is sealed, the same for every attempt,
//! restart and replay, and never made of a worker, an attempt or a clock.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// 128 bits naming one batch; written as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BatchKey([u8; 16]);

/// What all keys of one sink in one run have in common.
#[derive(Debug, Clone)]
pub struct KeyContext {
    hasher: blake3::Hasher,
    /// What is hashed before a batch's range and body.
    begins: Box<[u8]>,
}

/// Bytes that are hashed first, together. BLAKE3 takes 16 chunks of 1 KiB at once where so
/// many are handed over from a multiple of 16 on; with what stands before a body handed over
/// by itself, it would take most of a batch one by one, two by two and so on.
const FIRST: usize = 16 << 10;

/// The text is not a batch key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a batch key is 32 hexadecimal digits")]
pub struct KeyError;

impl KeyContext {
    /// Keys of `sink` in `pipeline` during the run `run_id`.
    #[must_use]
    pub fn new(pipeline: &str, sink: &str, run_id: &str) -> Self {
        let mut begins = Vec::new();
        for part in [pipeline, sink, run_id] {
            begins.extend_from_slice(&(part.len() as u64).to_le_bytes());
            begins.extend_from_slice(part.as_bytes());
        }
        let hasher = blake3::Hasher::new_derive_key("etl 2026 batch key v1");
        KeyContext { hasher, begins: begins.into() }
    }

    /// The key of the batch that covers `range` of the run's records with `body`.
    #[must_use]
    pub fn key(&self, range: &Range<u64>, body: &[u8]) -> BatchKey {
        let mut first = Vec::with_capacity(FIRST.max(self.begins.len() + 16));
        first.extend_from_slice(&self.begins);
        first.extend_from_slice(&range.start.to_le_bytes());
        first.extend_from_slice(&range.end.to_le_bytes());
        let (with_them, rest) = body.split_at(body.len().min(FIRST.saturating_sub(first.len())));
        first.extend_from_slice(with_them);
        let mut hasher = self.hasher.clone();
        hasher.update(&first);
        hasher.update(rest);
        BatchKey::first_half(&hasher)
    }
}

impl BatchKey {
    /// The key of part `part` of a batch that had to be split; the same split
    /// gives the same keys, so a split that is repeated after a crash is recognised.
    #[must_use]
    pub fn part(&self, part: u64) -> BatchKey {
        let mut hasher = blake3::Hasher::new_derive_key("etl 2026 batch part v1");
        hasher.update(&self.0);
        hasher.update(&part.to_le_bytes());
        BatchKey::first_half(&hasher)
    }

    /// The key of a spooled file that was written without one.
    #[must_use]
    pub fn of_foreign_body(body: &[u8]) -> BatchKey {
        let mut hasher = blake3::Hasher::new_derive_key("etl 2026 foreign batch v1");
        hasher.update(body);
        BatchKey::first_half(&hasher)
    }

    /// The first 16 of the 32 digits, as spool file names carry them.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string()[..16].to_owned()
    }

    fn first_half(hasher: &blake3::Hasher) -> BatchKey {
        let mut key = [0; 16];
        key.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        BatchKey(key)
    }
}

impl fmt::Display for BatchKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for BatchKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for BatchKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        if text.len() != 32 || !text.bytes().all(hex) {
            return Err(KeyError);
        }
        u128::from_str_radix(text, 16).map(|n| BatchKey(n.to_be_bytes())).map_err(|_| KeyError)
    }
}

#[cfg(test)]
mod tests {
    use super::{BatchKey, FIRST, KeyContext};

    /// Keys are promised to those who resume and replay: they are the hash of all parts in
    /// their order, however these are handed over.
    #[test]
    fn a_key_is_the_hash_of_its_parts_one_after_the_other() {
        let body: Vec<u8> = (0..5 * FIRST).map(|at| (at * 31 % 251) as u8).collect();
        for name in ["p", &"long".repeat(FIRST)] {
            let context = KeyContext::new(name, "http", "r1");
            for length in [0, 1, 900, FIRST - 60, FIRST - 16, FIRST, FIRST + 1, 33_700, 5 * FIRST] {
                let mut hasher = blake3::Hasher::new_derive_key("etl 2026 batch key v1");
                for part in [name, "http", "r1"] {
                    hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
                }
                hasher.update(&7u64.to_le_bytes()).update(&207u64.to_le_bytes());
                hasher.update(&body[..length]);
                let expected = hasher.finalize().to_hex()[..32].to_owned();
                assert_eq!(context.key(&(7..207), &body[..length]).to_string(), expected);
            }
        }
    }

    #[test]
    fn a_key_depends_on_every_part_of_its_identity_and_on_nothing_else() {
        let key = |p, s, r, range, body: &[u8]| KeyContext::new(p, s, r).key(&range, body);
        let base = key("p", "http", "r1", 0..2, b"[1,2]");
        assert_eq!(base, key("p", "http", "r1", 0..2, b"[1,2]"));
        for other in [
            key("q", "http", "r1", 0..2, b"[1,2]"),
            key("p", "file", "r1", 0..2, b"[1,2]"),
            key("p", "http", "r2", 0..2, b"[1,2]"),
            key("p", "http", "r1", 1..2, b"[1,2]"),
            key("p", "http", "r1", 0..2, b"[1,3]"),
            key("ph", "ttp", "r1", 0..2, b"[1,2]"),
        ] {
            assert_ne!(base, other);
        }
        assert_ne!(base.part(0), base.part(1));
        assert_eq!(base.to_string().parse(), Ok(base));
        assert!("xyz".parse::<BatchKey>().is_err());
        assert!("+0000000000000000000000000000001".parse::<BatchKey>().is_err());
    }
}
