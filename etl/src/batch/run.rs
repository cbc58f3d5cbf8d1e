//! The name of a run. It is part of every key, and tells when the run began, so that
//! a file that is made of a batch has the same name whenever it is made, and of two
//! runs the newer one is known.

use std::time::{SystemTime, UNIX_EPOCH};

/// Names a new run, in hexadecimal digits: 5 of chance, then when it began, 3 of
/// milliseconds and 8 of Unix seconds.
#[must_use]
pub fn new_run_id() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (seconds, ms) = (now.as_secs() & 0xffff_ffff, now.subsec_millis());
    format!("{:05x}{ms:03x}{seconds:08x}", fastrand::u32(..1 << 20))
}

/// When the run `id` began, Unix milliseconds; `None` for a name that is not of our making.
#[must_use]
pub fn run_began_ms(id: &str) -> Option<u64> {
    let ms = u64::from_str_radix(id.get(5..8)?, 16).ok()?;
    Some(run_began(id)? * 1000 + ms.min(999))
}

/// When the run `id` began, Unix seconds; `None` for a name that is not of our making.
#[must_use]
pub fn run_began(id: &str) -> Option<u64> {
    let digits = id.get(8..).filter(|digits| digits.len() == 8)?;
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::{new_run_id, run_began, run_began_ms};

    #[test]
    fn a_run_id_tells_when_the_run_began() {
        let id = new_run_id();
        assert_eq!(id.len(), 16);
        assert!(run_began(&id).is_some_and(|began| began > 1_700_000_000), "{id}");
        assert_eq!(run_began("9f3a61c06920a000"), Some(0x6920_a000));
        assert_eq!(run_began_ms("9f3a61c06920a000"), Some(0x6920_a000 * 1000 + 0x1c0));
        assert_eq!(run_began_ms(&id).map(|ms| ms / 1000), run_began(&id));
        assert_eq!(run_began_ms(""), None);
        assert_eq!(run_began("9f3a"), None);
        assert_eq!(run_began(""), None);
    }
}
