//! A body that was read whole. Answers come one after the other, thousands a second, and
//! each is taken apart at once: the memory of one is that of the next.

use std::cell::RefCell;
use std::ops::Deref;

use bytes::Bytes;

/// A larger buffer is not kept.
const SPARE_MAX: usize = 64 << 10;

thread_local! {
    static SPARE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// See the module.
#[derive(Debug, Default)]
pub struct WholeBody(Vec<u8>);

impl From<Vec<u8>> for WholeBody {
    fn from(body: Vec<u8>) -> WholeBody {
        WholeBody(body)
    }
}

impl From<Bytes> for WholeBody {
    fn from(body: Bytes) -> WholeBody {
        WholeBody(body.into())
    }
}

impl Deref for WholeBody {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for WholeBody {
    fn drop(&mut self) {
        let mut body = std::mem::take(&mut self.0);
        // Gone only when the thread itself is about to be.
        SPARE
            .try_with(|spare| {
                let mut spare = spare.borrow_mut();
                if (spare.capacity() + 1..=SPARE_MAX).contains(&body.capacity()) {
                    body.clear();
                    *spare = body;
                }
            })
            .ok();
    }
}

/// Memory that an earlier body has left.
pub(super) fn spare() -> Vec<u8> {
    SPARE.with_borrow_mut(std::mem::take)
}

#[cfg(test)]
mod tests {
    use super::{SPARE_MAX, WholeBody, spare};

    #[test]
    fn what_one_leaves_the_next_one_takes_unless_it_is_large() {
        drop(spare());
        drop(WholeBody::from(b"an answer".to_vec()));
        let taken = spare();
        assert!(taken.is_empty() && taken.capacity() >= 9);
        drop(WholeBody::from(vec![0; SPARE_MAX + 1]));
        assert_eq!(spare().capacity(), 0);
    }
}
