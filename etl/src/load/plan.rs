//! Which of the waiting batches a replay sends, and in which order. Pure: names
//! and times in, a choice out. A run's own replay takes everything, oldest first.

use std::ffi::OsStr;
use std::time::Duration;

use crate::spool::Entry;
use crate::spool::inspect::FileView;

/// How many of a key's digits a file's name carries.
const DIGITS_IN_NAME: usize = 16;

/// What a replay sends.
#[derive(Debug, Clone, Default)]
pub struct ReplayPlan {
    /// The newest batch first instead of the oldest.
    pub newest_first: bool,
    /// Only batches first tried this long ago or longer.
    pub older_than: Option<Duration>,
    /// Only batches whose key begins so, by the 16 digits in the file's name. A
    /// file without a key in its name is then left out.
    pub key_prefix: String,
    /// At most so many batches.
    pub batches_max: Option<u64>,
    /// The time that ages count to, in Unix seconds.
    pub now: u64,
    /// These dead-letter files instead of what waits.
    pub dead: Option<Vec<FileView>>,
}

/// What a plan must know of a file.
pub trait Candidate {
    /// Its name in the spool directory.
    fn name(&self) -> std::ffi::OsString;
    /// Since when it waits, in Unix seconds.
    fn since(&self) -> u64;
}

impl Candidate for Entry {
    fn name(&self) -> std::ffi::OsString {
        self.file_name()
    }

    fn since(&self) -> u64 {
        Entry::since(self)
    }
}

impl Candidate for FileView {
    fn name(&self) -> std::ffi::OsString {
        self.path.file_name().unwrap_or_default().to_os_string()
    }

    fn since(&self) -> u64 {
        self.since
    }
}

impl ReplayPlan {
    /// Those of `files`, given oldest first, that are to be sent, in the order of sending.
    /// [`ReplayPlan::batches_max`] is the caller's to count.
    #[must_use]
    pub fn pick<T: Candidate>(&self, mut files: Vec<T>) -> Vec<T> {
        files.retain(|file| self.wants(&file.name(), file.since()));
        if self.newest_first {
            files.reverse();
        }
        files
    }

    fn wants(&self, name: &OsStr, since: u64) -> bool {
        let age = Duration::from_secs(self.now.saturating_sub(since));
        let old_enough = self.older_than.is_none_or(|least| age >= least);
        let prefix = &self.key_prefix[..self.key_prefix.len().min(DIGITS_IN_NAME)];
        old_enough
            && (prefix.is_empty() || key_digits(name).is_some_and(|key| key.starts_with(prefix)))
    }
}

/// The digits of the key that a file's name carries.
fn key_digits(name: &OsStr) -> Option<&str> {
    let stem = name.to_str()?.strip_suffix(".json.gz")?;
    let (_, key) = stem.rsplit_once('-')?;
    (key.len() == DIGITS_IN_NAME).then_some(key)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::time::Duration;

    use super::{Candidate, ReplayPlan};

    #[derive(Debug, Clone, PartialEq)]
    struct File(&'static str, u64);

    impl Candidate for File {
        fn name(&self) -> OsString {
            self.0.into()
        }

        fn since(&self) -> u64 {
            self.1
        }
    }

    #[test]
    fn picks_by_age_and_key_and_orders_by_time() {
        let legacy = File("buffer_failed_worker0.json.gz", 10);
        let old = File("buffer_failed_worker3-00000000000000000042-0123456789abcdef.json.gz", 100);
        let new = File("buffer_pending_worker3-00000000000000000043-0123ffffffffffff.json.gz", 900);
        let all = vec![legacy.clone(), old.clone(), new.clone()];
        let plan = ReplayPlan { now: 1000, ..ReplayPlan::default() };
        assert_eq!(plan.pick(all.clone()), all);
        let newest = ReplayPlan { newest_first: true, ..plan.clone() };
        assert_eq!(newest.pick(all.clone()), [new.clone(), old.clone(), legacy.clone()]);
        let aged = ReplayPlan { older_than: Some(Duration::from_secs(900)), ..plan.clone() };
        assert_eq!(aged.pick(all.clone()), [legacy, old.clone()]);
        let keyed = |prefix: &str| {
            ReplayPlan { key_prefix: prefix.to_owned(), ..plan.clone() }.pick(all.clone())
        };
        assert_eq!(keyed("0123"), [old.clone(), new]);
        assert_eq!(keyed("0123456789abcdef0123456789abcdef"), [old]);
        assert!(keyed("4").is_empty());
    }
}
