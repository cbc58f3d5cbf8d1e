//! Things that cost more to make than to use again, kept between their uses.

use std::sync::{Mutex, PoisonError};

/// So many of them at most, the one that was kept last on top.
#[derive(Debug)]
pub(crate) struct Kept<T> {
    all: Mutex<Vec<T>>,
    max: usize,
}

impl<T> Kept<T> {
    /// None yet, later `max` at most.
    pub(crate) const fn new(max: usize) -> Kept<T> {
        Kept { all: Mutex::new(Vec::new()), max }
    }

    /// One that was used before, as it was left.
    pub(crate) fn take(&self) -> Option<T> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Keeps `it`, unless there are enough.
    pub(crate) fn keep(&self, it: T) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < self.max {
            all.push(it);
        }
    }

    /// Whether one of them is such.
    #[cfg(test)]
    pub(crate) fn has(&self, such: impl Fn(&T) -> bool) -> bool {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).iter().any(such)
    }
}

#[cfg(test)]
mod tests {
    use super::Kept;

    #[test]
    fn what_was_kept_last_comes_first_and_too_many_are_let_go() {
        let kept = Kept::new(2);
        for it in 1..=3 {
            kept.keep(it);
        }
        assert!(kept.has(|it| *it == 1) && !kept.has(|it| *it == 3));
        assert_eq!([kept.take(), kept.take(), kept.take()], [Some(2), Some(1), None]);
    }
}
