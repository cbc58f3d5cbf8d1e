//! What 64 bytes of CSV hold, as masks with one bit for each byte. On x86-64 by the
//! vector instructions that every such processor has, elsewhere byte by byte; both say
//! the same.

/// Bytes looked at together.
pub(super) const BLOCK: usize = 64;

/// Where quotes and line ends are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Lines {
    pub(super) quote: u64,
    /// `\n`.
    pub(super) newline: u64,
    /// `\r`.
    pub(super) cr: u64,
}

/// Where fields end, and what their bytes need when they are encoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) quote: u64,
    pub(super) newline: u64,
    pub(super) delimiter: u64,
    /// Control characters, quotes and backslashes: they are escaped.
    pub(super) escape: u64,
    /// Parts of characters beyond ASCII: they are to be checked.
    pub(super) high: u64,
    pub(super) point: u64,
    /// Neither a digit nor a point.
    pub(super) other: u64,
}

/// The block that begins at `at`; what is missing of it is filled with zeros.
#[inline]
pub(super) fn block(bytes: &[u8], at: usize) -> [u8; BLOCK] {
    match bytes.get(at..).and_then(|rest| rest.first_chunk::<BLOCK>()) {
        Some(block) => *block,
        None => {
            let mut block = [0; BLOCK];
            let rest = bytes.get(at..).unwrap_or_default();
            block[..rest.len()].copy_from_slice(rest);
            block
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use vector::{fields, lines};

#[cfg(not(target_arch = "x86_64"))]
pub(super) use bytewise::{fields, lines};

#[cfg(target_arch = "x86_64")]
mod vector {
    #![allow(
        unsafe_code,
        reason = "vector instructions may be called only where the compiler is told that they exist"
    )]

    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set_epi64x,
        _mm_set1_epi8, _mm_sub_epi8,
    };

    use super::{BLOCK, Fields, Lines};

    /// See [`Lines`].
    #[inline]
    pub(in super::super) fn lines(block: &[u8; BLOCK]) -> Lines {
        // SAFETY: SSE2 is part of x86-64; no address is involved.
        unsafe { lines_of(block) }
    }

    /// See [`Fields`].
    #[inline]
    pub(in super::super) fn fields(block: &[u8; BLOCK], delimiter: u8) -> Fields {
        // SAFETY: as above.
        unsafe { fields_of(block, delimiter) }
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn lines_of(block: &[u8; BLOCK]) -> Lines {
        let mut found = Lines::default();
        for at in (0..BLOCK).step_by(16) {
            let part = part(block, at);
            found.quote |= bits(equal(part, b'"')) << at;
            found.newline |= bits(equal(part, b'\n')) << at;
            found.cr |= bits(equal(part, b'\r')) << at;
        }
        found
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn fields_of(block: &[u8; BLOCK], delimiter: u8) -> Fields {
        let mut found = Fields::default();
        for at in (0..BLOCK).step_by(16) {
            let part = part(block, at);
            let quote = equal(part, b'"');
            let escape = _mm_or_si128(_mm_or_si128(quote, equal(part, b'\\')), below(part, 0x1f));
            let digit = below(_mm_sub_epi8(part, byte(b'0')), 9);
            let point = equal(part, b'.');
            found.quote |= bits(quote) << at;
            found.newline |= bits(equal(part, b'\n')) << at;
            found.delimiter |= bits(equal(part, delimiter)) << at;
            found.escape |= bits(escape) << at;
            found.high |= bits(part) << at;
            found.point |= bits(point) << at;
            found.other |= (bits(_mm_or_si128(digit, point)) ^ 0xffff) << at;
        }
        found
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn part(block: &[u8; BLOCK], at: usize) -> __m128i {
        _mm_set_epi64x(word(block, at + 8), word(block, at))
    }

    #[inline]
    fn word(block: &[u8; BLOCK], at: usize) -> i64 {
        let mut word = [0; 8];
        word.copy_from_slice(&block[at..at + 8]);
        i64::from_le_bytes(word)
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn byte(value: u8) -> __m128i {
        _mm_set1_epi8(value.cast_signed())
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn equal(part: __m128i, value: u8) -> __m128i {
        _mm_cmpeq_epi8(part, byte(value))
    }

    /// Bytes that are at most `value`.
    #[inline]
    #[target_feature(enable = "sse2")]
    fn below(part: __m128i, value: u8) -> __m128i {
        _mm_cmpeq_epi8(_mm_min_epu8(part, byte(value)), part)
    }

    /// The highest bit of each byte.
    #[inline]
    #[target_feature(enable = "sse2")]
    fn bits(part: __m128i) -> u64 {
        u64::from(_mm_movemask_epi8(part).cast_unsigned())
    }
}

#[cfg(any(test, not(target_arch = "x86_64")))]
mod bytewise {
    use super::{BLOCK, Fields, Lines};

    /// See [`Lines`].
    pub(in super::super) fn lines(block: &[u8; BLOCK]) -> Lines {
        let mut found = Lines::default();
        for (at, byte) in block.iter().enumerate() {
            found.quote |= u64::from(*byte == b'"') << at;
            found.newline |= u64::from(*byte == b'\n') << at;
            found.cr |= u64::from(*byte == b'\r') << at;
        }
        found
    }

    /// See [`Fields`].
    pub(in super::super) fn fields(block: &[u8; BLOCK], delimiter: u8) -> Fields {
        let mut found = Fields::default();
        for (at, byte) in block.iter().enumerate() {
            let escape = matches!(byte, 0..=0x1f | b'"' | b'\\');
            let number = matches!(byte, b'0'..=b'9' | b'.');
            found.quote |= u64::from(*byte == b'"') << at;
            found.newline |= u64::from(*byte == b'\n') << at;
            found.delimiter |= u64::from(*byte == delimiter) << at;
            found.escape |= u64::from(escape) << at;
            found.high |= u64::from(*byte >= 0x80) << at;
            found.point |= u64::from(*byte == b'.') << at;
            found.other |= u64::from(!number) << at;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{BLOCK, block, bytewise, fields, lines};

    proptest! {
        #[test]
        fn both_ways_say_the_same(
            any in proptest::collection::vec(any::<u8>(), BLOCK),
            few in proptest::collection::vec(proptest::sample::select(&b"\"\n\r,.;09/:\\\x1f \x7f\x80"[..]), BLOCK),
            delimiter in 1u8..0x7f,
        ) {
            for bytes in [any, few] {
                let block = block(&bytes, 0);
                prop_assert_eq!(lines(&block), bytewise::lines(&block));
                prop_assert_eq!(fields(&block, delimiter), bytewise::fields(&block, delimiter));
            }
        }
    }

    #[test]
    fn a_block_that_is_not_all_there_ends_with_zeros() {
        assert_eq!(block(b"abc", 1)[..4], *b"bc\0\0");
        assert_eq!(block(b"abc", 7), [0; BLOCK]);
        assert_eq!(lines(&block(b"x\n", 0)).newline, 2);
    }
}
