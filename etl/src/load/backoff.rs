//! Full-jitter exponential backoff: the wait before attempt n is uniform between
//! nothing and `min(cap, base * 2^n)` (M. Brooker, "Exponential Backoff And
//! Jitter", AWS Architecture Blog, 2015).

use std::time::Duration;

/// The ceiling of the wait after `failures` failed attempts in a row (at least 1).
#[must_use]
pub fn ceiling(base: Duration, cap: Duration, failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    base.saturating_mul(1 << doublings).min(cap)
}

/// The wait after `failures` failed attempts in a row; `random` is uniform in 0..1.
#[must_use]
pub fn full_jitter(base: Duration, cap: Duration, failures: u32, random: f64) -> Duration {
    ceiling(base, cap, failures).mul_f64(random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{ceiling, full_jitter};

    #[test]
    fn waits_double_up_to_the_cap_and_jitter_stays_below_them() {
        let (base, cap) = (Duration::from_secs(1), Duration::from_secs(30));
        let ceilings: Vec<u64> = (1..8).map(|n| ceiling(base, cap, n).as_secs()).collect();
        assert_eq!(ceilings, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(ceiling(base, cap, u32::MAX), cap);
        assert_eq!(full_jitter(base, cap, 3, 0.5), Duration::from_secs(2));
        assert_eq!(full_jitter(base, cap, 3, 0.0), Duration::ZERO);
    }
}
