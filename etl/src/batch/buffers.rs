//! Buffers of batches that are over, kept for the next ones: a fresh one would have to be
//! asked of the system and cleared, page by page.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// The most that is kept: so many buffers, so many bytes in all, so many in one.
const COUNT_MAX: usize = 48;
const TOTAL_MAX: usize = 6 << 20;
const BYTES_MAX: usize = 2 << 20;

/// What is kept.
#[derive(Debug)]
struct Kept {
    buffers: Vec<Vec<u8>>,
    /// Their capacities together.
    bytes: usize,
}

impl Kept {
    fn take(&mut self) -> Vec<u8> {
        let buffer = self.buffers.pop().unwrap_or_default();
        self.bytes -= buffer.capacity();
        buffer
    }

    /// Unless it is large or much is kept already.
    fn keep(&mut self, buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        let fits = capacity <= BYTES_MAX && self.bytes + capacity <= TOTAL_MAX;
        if capacity > 0 && fits && self.buffers.len() < COUNT_MAX {
            self.bytes += capacity;
            self.buffers.push(buffer);
        }
    }
}

static KEPT: Mutex<Kept> = Mutex::new(Kept { buffers: Vec::new(), bytes: 0 });

fn kept() -> MutexGuard<'static, Kept> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A buffer with what a former batch has left in it, of no meaning: what is written over
/// need not be cleared.
pub(super) fn used() -> Vec<u8> {
    kept().take()
}

/// An empty buffer.
pub(super) fn empty() -> Vec<u8> {
    let mut buffer = used();
    buffer.clear();
    buffer
}

/// Keeps the memory of `body`, unless somebody else still has it.
pub(crate) fn give_back(body: Bytes) {
    if let Ok(body) = body.try_into_mut() {
        keep(Vec::from(body));
    }
}

/// Keeps `buffer`, unless it is large or much is kept already.
pub(super) fn keep(buffer: Vec<u8>) {
    kept().keep(buffer);
}

/// Whether a buffer of this capacity is kept.
#[cfg(test)]
pub(super) fn is_kept(capacity: usize) -> bool {
    kept().buffers.iter().any(|it| it.capacity() == capacity)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{BYTES_MAX, Kept, TOTAL_MAX, empty, give_back, is_kept, used};

    #[test]
    fn a_buffer_comes_back_only_when_nobody_else_has_it_and_is_not_huge() {
        // Other tests use the same buffers: this one is told by its size.
        let odd = 12_345;
        let body = Bytes::from(vec![7; odd]);
        let shared = body.clone();
        give_back(body);
        assert!(!is_kept(odd));
        assert_eq!(shared[..], vec![7; odd]);
        drop((shared, used()));
        assert!(empty().is_empty());
        give_back(Bytes::from(vec![7; BYTES_MAX + 1]));
        assert!(!is_kept(BYTES_MAX + 1));
    }

    #[test]
    fn large_buffers_are_kept_up_to_a_sum() {
        let mut kept = Kept { buffers: Vec::new(), bytes: 0 };
        for _ in 0..10 {
            kept.keep(Vec::with_capacity(1 << 20));
        }
        assert_eq!((kept.buffers.len(), kept.bytes), (6, TOTAL_MAX));
        assert_eq!(kept.take().capacity(), 1 << 20);
        kept.keep(Vec::with_capacity(BYTES_MAX));
        assert_eq!((kept.buffers.len(), kept.bytes), (5, 5 << 20));
    }
}
