//! Things that cost more to make than to use again, kept between their uses.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// So many of them at most, the one that was kept last on top.
#[derive(Debug)]
pub(crate) struct Kept<T> {
    inner: Mutex<Inner<T>>,
    max: usize,
    weight_max: usize,
    weigh: fn(&T) -> usize,
}

#[derive(Debug)]
struct Inner<T> {
    all: Vec<T>,
    weight: usize,
}

impl<T> Kept<T> {
    /// None yet, later `max` at most, which together weigh `weight_max` at most.
    pub(crate) const fn new(max: usize, weight_max: usize, weigh: fn(&T) -> usize) -> Kept<T> {
        let inner = Mutex::new(Inner { all: Vec::new(), weight: 0 });
        Kept { inner, max, weight_max, weigh }
    }

    /// One that was used before, as it was left.
    pub(crate) fn take(&self) -> Option<T> {
        let mut inner = self.inner();
        let it = inner.all.pop()?;
        inner.weight -= (self.weigh)(&it);
        Some(it)
    }

    /// Keeps `it`, unless there are enough.
    pub(crate) fn keep(&self, it: T) {
        let mut inner = self.inner();
        let weight = inner.weight + (self.weigh)(&it);
        if inner.all.len() < self.max && weight <= self.weight_max {
            inner.weight = weight;
            inner.all.push(it);
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one of them is such.
    #[cfg(test)]
    pub(crate) fn has(&self, such: impl Fn(&T) -> bool) -> bool {
        self.inner().all.iter().any(such)
    }
}

#[cfg(test)]
mod tests {
    use super::Kept;

    #[test]
    fn what_was_kept_last_comes_first_and_too_many_are_let_go() {
        let kept = Kept::new(2, 0, |_| 0);
        for it in 1..=3 {
            kept.keep(it);
        }
        assert!(kept.has(|it| *it == 1) && !kept.has(|it| *it == 3));
        assert_eq!([kept.take(), kept.take(), kept.take()], [Some(2), Some(1), None]);
    }

    #[test]
    fn what_is_kept_weighs_so_much_at_most() {
        let kept = Kept::new(9, 10, |it: &usize| *it);
        for it in [4, 6, 1] {
            kept.keep(it);
        }
        assert_eq!(kept.take(), Some(6));
        kept.keep(7);
        kept.keep(5);
        assert_eq!([kept.take(), kept.take(), kept.take()], [Some(5), Some(4), None]);
    }
}
