//! A sample of the counters in as few bytes as they take, for it is kept for every target
//! between its polls: some 40 for one CPU. Nothing is rounded.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::exposition::{CpuSeconds, Seconds};
use super::samples::{KEPT_MAX, Key};
use super::shelf::Shelf;

/// A number that is no whole count of hundredths: its eight bytes follow.
const EXACT: u64 = 1;
/// Counts of hundredths below that are exact as floating-point numbers.
const HUNDREDTHS_MAX: f64 = 4_503_599_627_370_496.0;

/// The last sample of each target.
#[derive(Debug, Default)]
pub(super) struct PackedSamples(Mutex<Shelf>);

impl PackedSamples {
    /// When the last sample of a target was taken, and what it was.
    pub(super) fn last(&self, key: Key) -> Option<(Duration, Vec<CpuSeconds>)> {
        self.lock().get(key).map(unpack)
    }

    /// Keeps a sample, taken at `taken` on whatever clock, in place of the last one.
    pub(super) fn keep(&self, key: Key, taken: Duration, cpus: &[CpuSeconds]) {
        let packed = pack(taken, cpus);
        let mut shelf = self.lock();
        // Without room the one before stays: percentages are then of a longer time.
        if shelf.len() < KEPT_MAX || shelf.get(key).is_some() {
            shelf.put(key, &packed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pack(taken: Duration, cpus: &[CpuSeconds]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64 * cpus.len() + 8);
    push(&mut bytes, u64::try_from(taken.as_micros()).unwrap_or(u64::MAX));
    for CpuSeconds { cpu, seconds } in cpus {
        push(&mut bytes, cpu.len() as u64);
        bytes.extend_from_slice(cpu.as_bytes());
        for seconds in seconds {
            push_seconds(&mut bytes, *seconds);
        }
    }
    bytes
}

fn unpack(packed: &[u8]) -> (Duration, Vec<CpuSeconds>) {
    let mut rest = packed;
    let taken = Duration::from_micros(take(&mut rest));
    let mut cpus = Vec::with_capacity(packed.len().div_ceil(64));
    while !rest.is_empty() {
        let length = usize::try_from(take(&mut rest)).unwrap_or(usize::MAX);
        let (name, behind) = rest.split_at(length.min(rest.len()));
        rest = behind;
        let mut seconds: Seconds = [0.0; 8];
        seconds.iter_mut().for_each(|seconds| *seconds = take_seconds(&mut rest));
        cpus.push(CpuSeconds { cpu: String::from_utf8_lossy(name).into(), seconds });
    }
    (taken, cpus)
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "what does not come back the same is kept as it is"
)]
fn push_seconds(bytes: &mut Vec<u8>, seconds: f64) {
    let hundredths = (seconds * 100.0).round();
    if (0.0..HUNDREDTHS_MAX).contains(&hundredths) && hundredths / 100.0 == seconds {
        push(bytes, (hundredths as u64) << 1);
    } else {
        push(bytes, EXACT);
        bytes.extend_from_slice(&seconds.to_le_bytes());
    }
}

#[allow(clippy::cast_precision_loss, reason = "it was made of such a number")]
fn take_seconds(rest: &mut &[u8]) -> f64 {
    match take(rest) {
        EXACT => match rest.split_first_chunk() {
            Some((seconds, behind)) => {
                *rest = behind;
                f64::from_le_bytes(*seconds)
            }
            None => f64::NAN,
        },
        doubled => (doubled >> 1) as f64 / 100.0,
    }
}

/// Seven bits a byte, the lowest first; the highest bit says that more follow.
fn push(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

fn take(rest: &mut &[u8]) -> u64 {
    let (mut number, mut shift) = (0, 0);
    while let Some((byte, behind)) = rest.split_first() {
        *rest = behind;
        number |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    number
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{CpuSeconds, pack, unpack};

    #[test]
    fn a_small_sample_is_small() {
        let seconds = [31_536_000.25, 1.0, 5.5, 1234.56, 0.0, 0.01, 77.7, 0.0];
        let cpus = [CpuSeconds { cpu: "0".into(), seconds }];
        let packed = pack(Duration::from_secs(86_400), &cpus);
        assert!(packed.len() <= 32, "{}", packed.len());
        assert_eq!(unpack(&packed), (Duration::from_secs(86_400), cpus.to_vec()));
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_out_as_it_was(
            micros in 0u64..1 << 62,
            cpus in prop::collection::vec(
                ("[0-9a-z\u{e4}]{0,40}", prop::array::uniform8(prop_oneof![
                    (0u64..1 << 60).prop_map(|hundredths| hundredths as f64 / 100.0),
                    0.0..f64::MAX,
                ])),
                0..5,
            ),
        ) {
            let cpu = |(cpu, seconds): (String, [f64; 8])| CpuSeconds { cpu: cpu.into(), seconds };
            let cpus: Vec<_> = cpus.into_iter().map(cpu).collect();
            let taken = Duration::from_micros(micros);
            prop_assert_eq!(unpack(&pack(taken, &cpus)), (taken, cpus));
        }
    }
}
