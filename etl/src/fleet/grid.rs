//! When targets are due: each at its own place in every interval, on a grid of unix
//! time. The place is made from the target's identity, so that load spreads and a
//! restart changes nothing. Pure.

use std::time::Duration;

/// Due times of a fleet: `cycle × interval + phase`, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    interval_ms: u64,
}

impl Grid {
    /// A grid with that interval, at least one second.
    #[must_use]
    pub fn new(interval: Duration) -> Grid {
        let millis = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        Grid { interval_ms: millis.clamp(1000, u64::from(u32::MAX)) }
    }

    /// The interval in milliseconds.
    #[must_use]
    pub fn interval_ms(self) -> u64 {
        self.interval_ms
    }

    /// The place of a target in the interval, in milliseconds.
    #[must_use]
    pub fn phase(self, identity: u64) -> u32 {
        // The high bits of the product: evenly spread whatever the interval.
        let place = (u128::from(identity) * u128::from(self.interval_ms)) >> 64;
        u32::try_from(place).unwrap_or(0)
    }

    /// When a target with that phase is due in `cycle`.
    #[must_use]
    pub fn due_ms(self, cycle: u32, phase: u32) -> u64 {
        u64::from(cycle) * self.interval_ms + u64::from(phase)
    }

    /// The cycle whose due time a target with that phase has passed last.
    #[must_use]
    pub fn cycle_at(self, now_ms: u64, phase: u32) -> u32 {
        let cycle = now_ms.saturating_sub(u64::from(phase)) / self.interval_ms;
        u32::try_from(cycle).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::Grid;

    #[test]
    fn phases_are_spread_evenly() {
        let grid = Grid::new(Duration::from_secs(60));
        let mut seconds = [0; 60];
        for n in 0..60_000u64 {
            let hash = blake3::hash(&n.to_le_bytes());
            let mut first = [0; 8];
            first.copy_from_slice(&hash.as_bytes()[..8]);
            seconds[grid.phase(u64::from_le_bytes(first)) as usize / 1000] += 1;
        }
        assert!(seconds.iter().all(|count| (850..1150).contains(count)), "{seconds:?}");
    }

    proptest! {
        #[test]
        fn a_moment_is_in_exactly_one_cycle(
            secs in 1u64..90_000, identity: u64, now in 1_700_000_000_000u64..1_900_000_000_000,
        ) {
            let grid = Grid::new(Duration::from_secs(secs));
            let phase = grid.phase(identity);
            prop_assert!(u64::from(phase) < grid.interval_ms());
            let cycle = grid.cycle_at(now, phase);
            prop_assert!(grid.due_ms(cycle, phase) <= now);
            prop_assert!(grid.due_ms(cycle + 1, phase) > now);
        }
    }
}
