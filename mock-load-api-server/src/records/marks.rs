//! Where a string may end or be wrong: one bit for every byte of a body that is a quote, a
//! backslash or a control character.
//!
//! Found for the whole body at once, in loops that the compiler turns into vector
//! instructions; a string is then skipped by counting zero bits, whatever its length.

const BLOCK: usize = 64;

/// The marked bytes of a body.
pub(super) struct Marks {
    /// One word for each 64 bytes; the bytes after the end are all marked.
    words: Vec<u64>,
    ascii: bool,
}

impl Marks {
    pub(super) fn new(bytes: &[u8]) -> Self {
        let (blocks, tail) = bytes.as_chunks::<BLOCK>();
        let mut words = Vec::with_capacity(blocks.len() + 1);
        let mut union = [0; BLOCK];
        for block in blocks {
            words.push(marks(block));
            for (all, byte) in union.iter_mut().zip(block) {
                *all |= byte;
            }
        }
        let mut last = [0; BLOCK];
        last[..tail.len()].copy_from_slice(tail);
        words.push(marks(&last));
        Self { words, ascii: union.is_ascii() && tail.is_ascii() }
    }

    /// Whether all bytes are ASCII.
    pub(super) fn ascii(&self) -> bool {
        self.ascii
    }

    /// The first marked byte at or after `at`, which is at most the body's length: so is
    /// the answer.
    #[inline]
    pub(super) fn next(&self, at: usize) -> usize {
        let mut word = at / BLOCK;
        let bits = self.words[word] >> (at % BLOCK);
        if bits != 0 {
            return at + bits.trailing_zeros() as usize;
        }
        loop {
            word += 1;
            let bits = self.words[word];
            if bits != 0 {
                return word * BLOCK + bits.trailing_zeros() as usize;
            }
        }
    }
}

#[inline]
fn marks(block: &[u8; BLOCK]) -> u64 {
    let mut flags = [0_u8; BLOCK];
    for (flag, byte) in flags.iter_mut().zip(block) {
        *flag = u8::from(*byte == b'"') | u8::from(*byte == b'\\') | u8::from(*byte < b' ');
    }
    let mut word = 0;
    for (at, eight) in flags.as_chunks::<8>().0.iter().enumerate() {
        // Eight bytes that are 0 or 1 become the eight bits of the highest byte.
        let bits = u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        word |= bits << (8 * at);
    }
    word
}

#[cfg(test)]
mod tests {
    use super::Marks;

    #[test]
    fn marks_are_where_they_belong_and_after_the_end() {
        let mut random = fastrand::Rng::with_seed(3);
        for length in (0..300).chain([1024, 4000]) {
            let bytes: Vec<u8> = (0..length)
                .map(|_| if random.u8(0..90) == 0 { random.u8(..) } else { b'a' })
                .collect();
            let marks = Marks::new(&bytes);
            assert_eq!(marks.ascii(), bytes.is_ascii());
            for at in 0..=length {
                let marked = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
                let expected = bytes[at..].iter().position(marked).map_or(length, |n| at + n);
                assert_eq!(marks.next(at), expected, "from {at} of {length}");
            }
        }
    }

    #[test]
    fn every_byte_is_marked_or_not() {
        for byte in 0..=255 {
            for place in [0, 7, 63, 64, 100] {
                let mut bytes = vec![b'a'; 130];
                bytes[place] = byte;
                let marked = matches!(byte, b'"' | b'\\' | 0..0x20);
                assert_eq!(Marks::new(&bytes).next(0), if marked { place } else { 130 });
            }
        }
    }
}
