//! `dedupe`: of records with the same key only the first of a run stays. Keys are kept as
//! 128 bits of their digest; beyond the configured number the oldest is forgotten, so that
//! memory has a bound: a duplicate further apart than that passes.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use tracing::warn;

use super::Verdict;
use super::error::StepError;
use super::path::{Node, Path};
use super::record::find;
use super::scan::{text, text_of};

/// The keys of the records that have passed.
#[derive(Debug)]
pub(super) struct Dedupe {
    tree: Node,
    count: usize,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    keys: HashSet<u128>,
    /// The keys as they came.
    order: VecDeque<u128>,
    most: usize,
    full: bool,
}

impl Dedupe {
    pub(super) fn new(paths: &[Path], remember: usize) -> Self {
        let seen = Seen {
            keys: HashSet::new(),
            order: VecDeque::new(),
            most: remember.max(1),
            full: false,
        };
        Dedupe { tree: Node::of_sources(paths), count: paths.len(), seen: Mutex::new(seen) }
    }

    /// Begins with nothing remembered.
    pub(super) fn forget(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.keys.clear();
        seen.order.clear();
    }

    pub(super) fn apply(&self, row: &[u8], out: &mut Vec<u8>) -> Result<Verdict, StepError> {
        let mut found = vec![None; self.count];
        find(text(row)?, &self.tree, &mut found)?;
        if let Some(key) = key_of(&found)
            && !self.seen.lock().unwrap_or_else(PoisonError::into_inner).is_new(key)
        {
            return Ok(Verdict::Filtered);
        }
        out.extend_from_slice(row);
        Ok(Verdict::Keep)
    }
}

/// The digest of the values; `None` when one is missing or null, since nothing is known to
/// be the same then. Texts are compared by what they say, everything else as it is written.
fn key_of(values: &[Option<&str>]) -> Option<u128> {
    let mut hasher = blake3::Hasher::new();
    for value in values {
        let value = value.filter(|value| *value != "null")?;
        let text = text_of(value);
        let bytes = text.as_deref().unwrap_or(value).as_bytes();
        hasher.update(&[u8::from(text.is_some())]);
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    }
    let digest = hasher.finalize();
    digest.as_bytes().first_chunk().map(|bytes| u128::from_le_bytes(*bytes))
}

impl Seen {
    fn is_new(&mut self, key: u128) -> bool {
        if !self.keys.insert(key) {
            return false;
        }
        self.order.push_back(key);
        if self.order.len() > self.most {
            if let Some(oldest) = self.order.pop_front() {
                self.keys.remove(&oldest);
            }
            if !self.full {
                self.full = true;
                warn!(
                    remember = self.most,
                    "dedupe remembers no more keys and forgets the oldest; duplicates further \
                     apart than that pass"
                );
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use super::{Dedupe, Verdict};
    use crate::transform::path::Path;

    fn kept(step: &Dedupe, row: &str) -> bool {
        step.apply(row.as_bytes(), &mut Vec::new()).unwrap() == Verdict::Keep
    }

    fn by(paths: &[&str], remember: usize) -> Dedupe {
        let paths: Vec<Path> = paths.iter().map(|path| Path::parse(path).unwrap()).collect();
        Dedupe::new(&paths, remember)
    }

    #[test]
    fn the_first_of_a_key_stays() {
        let step = by(&["a", "b.c"], 100);
        assert!(kept(&step, r#"{"a":"x","b":{"c":1}}"#));
        assert!(!kept(&step, r#"{"b":{"c":1,"d":2},"a":"\u0078"}"#));
        for other in [
            r#"{"a":"x","b":{"c":"1"}}"#,
            r#"{"a":"x","b":{"c":1.0}}"#,
            r#"{"a":"x1","b":{"c":""}}"#,
            r#"{"a":"x","b":{"c":{}}}"#,
        ] {
            assert!(kept(&step, other), "{other}");
            assert!(!kept(&step, other), "{other}");
        }
    }

    #[test]
    fn a_record_without_its_key_is_no_duplicate() {
        let step = by(&["a", "b"], 100);
        for row in [r#"{"a":1}"#, r#"{"a":1,"b":null}"#, "{}"] {
            assert!(kept(&step, row) && kept(&step, row), "{row}");
        }
    }

    #[test]
    fn what_is_forgotten_passes_again() {
        let step = by(&["a"], 2);
        assert!(kept(&step, r#"{"a":1}"#) && !kept(&step, r#"{"a":1}"#));
        step.forget();
        assert!(kept(&step, r#"{"a":1}"#) && !kept(&step, r#"{"a":1}"#));
    }

    #[test]
    fn at_the_bound_the_oldest_key_is_forgotten() {
        let step = by(&["a"], 2);
        let kept = |n: u32| kept(&step, &format!("{{\"a\":{n}}}"));
        assert_eq!([kept(1), kept(2), kept(1)], [true, true, false]);
        assert_eq!([kept(3), kept(3), kept(2)], [true, false, false]);
        assert_eq!([kept(1), kept(3), kept(2)], [true, false, true]);
        let seen = step.seen.lock().unwrap();
        assert_eq!((seen.keys.len(), seen.order.len()), (2, 2));
    }
}
