//! The name of a run. It is part of every key, and tells when the run began, so that
//! a file that is made of a batch has the same name whenever it is made.

use crate::load::unix_seconds;

/// Names a new run: 8 hexadecimal digits of chance, then 8 of when it began, Unix seconds.
#[must_use]
pub fn new_run_id() -> String {
    format!("{:08x}{:08x}", fastrand::u32(..), unix_seconds() & 0xffff_ffff)
}

/// When the run `id` began, Unix seconds; `None` for a name that is not of our making.
#[must_use]
pub fn run_began(id: &str) -> Option<u64> {
    let digits = id.get(8..).filter(|digits| digits.len() == 8)?;
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::{new_run_id, run_began};

    #[test]
    fn a_run_id_tells_when_the_run_began() {
        let id = new_run_id();
        assert_eq!(id.len(), 16);
        assert!(run_began(&id).is_some_and(|began| began > 1_700_000_000), "{id}");
        assert_eq!(run_began("9f3a61c06920a000"), Some(0x6920_a000));
        assert_eq!(run_began("9f3a"), None);
        assert_eq!(run_began(""), None);
    }
}
