//! A fast 128-bit fingerprint of bytes, for the ledger.
//!
//! Two independent lanes of folded 64 × 64 → 128 bit multiplication, 16 bytes a step. Not
//! cryptographic: it tells apart records of a test run, not of an adversary. The values are
//! the same on every machine and in every run.

use std::hash::{BuildHasherDefault, Hasher};

const SECRET: [u64; 4] =
    [0x2d35_8dcc_aa6c_78a5, 0x8bb8_4b93_962e_acc9, 0x4b33_a62e_d433_d4a3, 0x4d5a_2da5_1de1_aa47];

/// The fingerprint of `bytes`.
pub(crate) fn fingerprint(bytes: &[u8]) -> u128 {
    let mut lanes = Lanes::new();
    let (blocks, tail) = bytes.as_chunks::<16>();
    for block in blocks {
        lanes.add(u128::from_le_bytes(*block));
    }
    if !tail.is_empty() {
        // The last 16 bytes again, rather than a copy of a few; the length tells where they
        // begin.
        let last = bytes.last_chunk::<16>().copied().unwrap_or_else(|| {
            let mut padded = [0; 16];
            padded[..tail.len()].copy_from_slice(tail);
            padded
        });
        lanes.add(u128::from_le_bytes(last));
    }
    lanes.finish(bytes.len() as u64)
}

/// The fingerprint of a sequence of fingerprints.
pub(crate) fn fingerprint_of_all(fingerprints: &[u128]) -> u128 {
    let mut lanes = Lanes::new();
    for fingerprint in fingerprints {
        lanes.add(*fingerprint);
    }
    lanes.finish(fingerprints.len() as u64)
}

/// One number in `0..2^64` for a seed and a subject, evenly spread.
pub(crate) fn mix(seed: u64, subject: u128, ordinal: u64) -> u64 {
    let low = fold(seed ^ SECRET[0], low_half(subject) ^ SECRET[1]);
    let high = fold(ordinal ^ SECRET[2], high_half(subject) ^ SECRET[3]);
    fold(low ^ ordinal ^ SECRET[3], high ^ seed ^ SECRET[1])
}

/// `mix` as a fraction in `[0, 1)`.
pub(crate) fn draw(seed: u64, subject: u128, ordinal: u64) -> f64 {
    const STEPS: f64 = (1_u64 << 53) as f64;
    (mix(seed, subject, ordinal) >> 11) as f64 / STEPS
}

struct Lanes {
    left: u64,
    right: u64,
}

impl Lanes {
    fn new() -> Self {
        Self { left: SECRET[0], right: SECRET[1] }
    }

    #[inline]
    fn add(&mut self, block: u128) {
        let (low, high) = (low_half(block), high_half(block));
        self.left = fold(low ^ SECRET[2], high ^ self.left);
        self.right = fold(low ^ self.right, high ^ SECRET[3]);
    }

    fn finish(self, length: u64) -> u128 {
        let left = fold(self.left ^ length, SECRET[2]);
        let right = fold(self.right ^ length, SECRET[3]);
        u128::from(right) << 64 | u128::from(left)
    }
}

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    low_half(product) ^ high_half(product)
}

#[inline]
fn low_half(wide: u128) -> u64 {
    wide as u64
}

#[inline]
fn high_half(wide: u128) -> u64 {
    (wide >> 64) as u64
}

/// Hashes what is already a fingerprint by taking half of it.
#[derive(Default)]
pub(crate) struct Already(u64);

/// The hasher for sets and maps of fingerprints.
pub(crate) type ByFingerprint = BuildHasherDefault<Already>;

impl Hasher for Already {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 ^= low_half(fingerprint(bytes));
    }

    fn write_u128(&mut self, fingerprint: u128) {
        self.0 = low_half(fingerprint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_length_and_every_single_bit_changes_the_fingerprint() {
        let mut seen = HashSet::new();
        for length in 0..80 {
            let mut bytes = vec![0_u8; length];
            assert!(seen.insert(fingerprint(&bytes)));
            for bit in 0..length * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert!(seen.insert(fingerprint(&bytes)));
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }

    #[test]
    fn draws_are_evenly_spread() {
        let below = (0..100_000).filter(|n| draw(42, 7, *n) < 0.2).count();
        assert!((19_500..20_500).contains(&below), "{below}");
        let below = (0..100_000)
            .filter(|n| draw(42, fingerprint(format!("key-{n}").as_bytes()), 0) < 0.2)
            .count();
        assert!((19_500..20_500).contains(&below), "{below}");
    }
}
