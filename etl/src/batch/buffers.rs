//! Buffers of batches that are over, kept for the next ones: a fresh one would have to be
//! asked of the system and cleared, page by page.

use bytes::Bytes;

use crate::reuse::Kept;

/// The most that is kept: so many buffers, so many bytes in all, so many in one.
const COUNT_MAX: usize = 48;
const TOTAL_MAX: usize = 6 << 20;
const BYTES_MAX: usize = 2 << 20;

pub(super) static KEPT: Kept<Vec<u8>> = Kept::new(COUNT_MAX, TOTAL_MAX, Vec::capacity);

/// A buffer with what a former batch has left in it, of no meaning: what is written over
/// need not be cleared.
pub(super) fn used() -> Vec<u8> {
    KEPT.take().unwrap_or_default()
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
    if (1..=BYTES_MAX).contains(&buffer.capacity()) {
        KEPT.keep(buffer);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{BYTES_MAX, KEPT, empty, give_back, used};

    #[test]
    fn a_buffer_comes_back_only_when_nobody_else_has_it_and_is_not_huge() {
        // Other tests use the same buffers: this one is told by its size.
        let odd = 12_345;
        let kept = || KEPT.has(|it| it.capacity() == odd);
        let body = Bytes::from(vec![7; odd]);
        let shared = body.clone();
        give_back(body);
        assert!(!kept());
        assert_eq!(shared[..], vec![7; odd]);
        drop((shared, used()));
        assert!(empty().is_empty());
        give_back(Bytes::from(vec![7; BYTES_MAX + 1]));
        assert!(!KEPT.has(|it| it.capacity() > BYTES_MAX));
    }
}
