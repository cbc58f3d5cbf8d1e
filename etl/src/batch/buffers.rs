//! Buffers of batches that are over, kept for the next ones: a fresh one would have to be
//! asked of the system and cleared, page by page.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

/// Buffers that are kept, and the largest: 4 MiB in all.
const KEPT_MAX: usize = 64;
const BYTES_MAX: usize = 64 << 10;

static KEPT: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// An empty buffer, with room for `capacity` bytes.
pub(super) fn buffer(capacity: usize) -> Vec<u8> {
    let kept = match capacity {
        0..=BYTES_MAX => KEPT.lock().unwrap_or_else(PoisonError::into_inner).pop(),
        _ => None,
    };
    let mut buffer = kept.unwrap_or_default();
    buffer.clear();
    buffer.reserve(capacity);
    buffer
}

/// Keeps the memory of `body`, unless somebody else still has it.
pub(crate) fn give_back(body: Bytes) {
    let Ok(body) = body.try_into_mut() else { return };
    if body.capacity() > BYTES_MAX {
        return;
    }
    let buffer = Vec::from(body);
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.len() < KEPT_MAX {
        kept.push(buffer);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{BYTES_MAX, buffer, give_back};

    #[test]
    fn a_buffer_comes_back_empty_and_only_when_nobody_else_has_it() {
        let mut first = buffer(100);
        first.extend_from_slice(b"abc");
        let body = Bytes::from(first);
        let shared = body.clone();
        give_back(body);
        assert_eq!(&shared[..], b"abc");
        give_back(shared);
        let again = buffer(BYTES_MAX);
        assert!(again.is_empty() && again.capacity() >= BYTES_MAX);
    }
}
