//! What 64 bytes of CSV hold, as masks with one bit for each byte: on x86-64 by AVX2
//! where the processor has it, else by SSE2, which every such one has; elsewhere byte by
//! byte. All say the same.

/// Bytes looked at together.
pub(crate) const BLOCK: usize = 64;

/// Where quotes and line ends are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Lines {
    pub(crate) quote: u64,
    /// `\n`.
    pub(crate) newline: u64,
    /// `\r`.
    pub(crate) cr: u64,
}

/// Where fields end, and what their bytes need when they are encoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Fields {
    pub(crate) quote: u64,
    pub(crate) newline: u64,
    pub(crate) delimiter: u64,
    /// Control characters, quotes and backslashes, which are escaped, and parts of
    /// characters beyond ASCII, which are to be checked.
    pub(crate) special: u64,
    pub(crate) digit: u64,
    /// The digit 0.
    pub(crate) zero: u64,
    pub(crate) point: u64,
    /// What else numbers are spelled with: `+`, `-`, `e` and `E`.
    pub(crate) sign: u64,
}

/// A way to find masks. A value of it shows that this processor can go it.
pub(crate) trait Way: Copy {
    /// See [`Lines`].
    fn lines(self, block: &[u8; BLOCK]) -> Lines;

    /// See [`Fields`].
    fn fields(self, block: &[u8; BLOCK], delimiter: u8) -> Fields;
}

/// Something to do with masks, in the best way there is. What is to be compiled for that
/// way must be inlined into [`Work::go`].
pub(crate) trait Work {
    /// What comes of it.
    type Output;

    /// Does it.
    fn go(self, way: impl Way) -> Self::Output;
}

/// The block that begins at `at`; what is missing of it is filled with zeros.
#[inline]
pub(crate) fn block(bytes: &[u8], at: usize) -> [u8; BLOCK] {
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
pub(crate) use vector::best;

#[cfg(not(target_arch = "x86_64"))]
pub(crate) use bytewise::best;

#[cfg(target_arch = "x86_64")]
mod vector {
    #![allow(
        unsafe_code,
        reason = "vector instructions may be called only where the compiler is told that they exist"
    )]

    use std::arch::x86_64::{
        __m128i, __m256i, _mm_cmpeq_epi8, _mm_cmpgt_epi8, _mm_min_epu8, _mm_movemask_epi8,
        _mm_or_si128, _mm_set_epi64x, _mm_set1_epi8, _mm_sub_epi8, _mm256_cmpeq_epi8,
        _mm256_cmpgt_epi8, _mm256_min_epu8, _mm256_movemask_epi8, _mm256_or_si256,
        _mm256_set_epi64x, _mm256_set1_epi8, _mm256_sub_epi8,
    };

    use super::{BLOCK, Fields, Lines, Way, Work};

    /// Does `work` in the best way of this processor.
    pub(crate) fn best<T: Work>(work: T) -> T::Output {
        match Wide::here() {
            // SAFETY: the value shows that there is what the function is compiled for.
            Some(wide) => unsafe { widely(work, wide) },
            None => work.go(Narrow),
        }
    }

    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn widely<T: Work>(work: T, wide: Wide) -> T::Output {
        work.go(wide)
    }

    /// 16 bytes at a time.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Narrow;

    /// 32 bytes at a time.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Wide(());

    impl Wide {
        /// None where the processor has not all of it.
        pub(crate) fn here() -> Option<Wide> {
            let here = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("lzcnt")
                && is_x86_feature_detected!("popcnt");
            here.then_some(Wide(()))
        }
    }

    /// The functions of one width, which differ in the names of the instructions only.
    macro_rules! masks {
        (
            $way:ty, $feature:literal, $width:literal, $part:ty, $load:ident, $set:ident,
            $equal:ident, $above:ident, $min:ident, $sub:ident, $or:ident, $bits:ident
        ) => {
            impl Way for $way {
                #[inline(always)]
                fn lines(self, block: &[u8; BLOCK]) -> Lines {
                    #[inline]
                    #[target_feature(enable = $feature)]
                    fn lines(block: &[u8; BLOCK]) -> Lines {
                        let equal = |part, value: u8| $equal(part, $set(value.cast_signed()));
                        let mut found = Lines::default();
                        for at in (0..BLOCK).step_by($width) {
                            let part = $load(block, at);
                            found.quote |= $bits(equal(part, b'"')) << at;
                            found.newline |= $bits(equal(part, b'\n')) << at;
                            found.cr |= $bits(equal(part, b'\r')) << at;
                        }
                        found
                    }
                    // SAFETY: there is a value of the way; no address is involved.
                    unsafe { lines(block) }
                }

                #[inline(always)]
                fn fields(self, block: &[u8; BLOCK], delimiter: u8) -> Fields {
                    #[inline]
                    #[target_feature(enable = $feature)]
                    fn fields(block: &[u8; BLOCK], delimiter: u8) -> Fields {
                        let byte = |value: u8| $set(value.cast_signed());
                        let equal = |part, value| $equal(part, byte(value));
                        let below = |part, value| $equal($min(part, byte(value)), part);
                        let mut found = Fields::default();
                        for at in (0..BLOCK).step_by($width) {
                            let part = $load(block, at);
                            let quote = equal(part, b'"');
                            // Signed: bytes beyond ASCII are below all others.
                            let low_or_high = $above(byte(b' '), part);
                            let special = $or($or(quote, equal(part, b'\\')), low_or_high);
                            let letter = equal($or(part, byte(0x20)), b'e');
                            let sign = $or(letter, $or(equal(part, b'+'), equal(part, b'-')));
                            let digit = below($sub(part, byte(b'0')), 9);
                            found.quote |= $bits(quote) << at;
                            found.newline |= $bits(equal(part, b'\n')) << at;
                            found.delimiter |= $bits(equal(part, delimiter)) << at;
                            found.special |= $bits(special) << at;
                            found.digit |= $bits(digit) << at;
                            found.zero |= $bits(equal(part, b'0')) << at;
                            found.point |= $bits(equal(part, b'.')) << at;
                            found.sign |= $bits(sign) << at;
                        }
                        // What is compared must not get parted from what makes bits of it: where
                        // these end up behind a branch, they are made one by one.
                        std::hint::black_box(found)
                    }
                    // SAFETY: as above.
                    unsafe { fields(block, delimiter) }
                }
            }
        };
    }

    masks!(
        Narrow,
        "sse2",
        16,
        __m128i,
        load_narrow,
        _mm_set1_epi8,
        _mm_cmpeq_epi8,
        _mm_cmpgt_epi8,
        _mm_min_epu8,
        _mm_sub_epi8,
        _mm_or_si128,
        bits_narrow
    );
    masks!(
        Wide,
        "avx2",
        32,
        __m256i,
        load_wide,
        _mm256_set1_epi8,
        _mm256_cmpeq_epi8,
        _mm256_cmpgt_epi8,
        _mm256_min_epu8,
        _mm256_sub_epi8,
        _mm256_or_si256,
        bits_wide
    );

    #[inline]
    #[target_feature(enable = "sse2")]
    fn load_narrow(block: &[u8; BLOCK], at: usize) -> __m128i {
        _mm_set_epi64x(word(block, at + 8), word(block, at))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn load_wide(block: &[u8; BLOCK], at: usize) -> __m256i {
        let [a, b, c, d] = [0, 8, 16, 24].map(|word_at| word(block, at + word_at));
        _mm256_set_epi64x(d, c, b, a)
    }

    #[inline]
    fn word(block: &[u8; BLOCK], at: usize) -> i64 {
        let mut word = [0; 8];
        word.copy_from_slice(&block[at..at + 8]);
        i64::from_le_bytes(word)
    }

    /// The highest bit of each byte.
    #[inline]
    #[target_feature(enable = "sse2")]
    fn bits_narrow(part: __m128i) -> u64 {
        u64::from(_mm_movemask_epi8(part).cast_unsigned())
    }

    /// As above.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn bits_wide(part: __m256i) -> u64 {
        u64::from(_mm256_movemask_epi8(part).cast_unsigned())
    }
}

#[cfg(any(test, not(target_arch = "x86_64")))]
mod bytewise {
    use super::{BLOCK, Fields, Lines, Way};

    /// Does `work` byte by byte.
    #[cfg(not(target_arch = "x86_64"))]
    pub(crate) fn best<T: super::Work>(work: T) -> T::Output {
        work.go(Bytewise)
    }

    /// Byte by byte.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Bytewise;

    impl Way for Bytewise {
        fn lines(self, block: &[u8; BLOCK]) -> Lines {
            let mut found = Lines::default();
            for (at, byte) in block.iter().enumerate() {
                found.quote |= u64::from(*byte == b'"') << at;
                found.newline |= u64::from(*byte == b'\n') << at;
                found.cr |= u64::from(*byte == b'\r') << at;
            }
            found
        }

        fn fields(self, block: &[u8; BLOCK], delimiter: u8) -> Fields {
            let mut found = Fields::default();
            for (at, byte) in block.iter().enumerate() {
                let special = matches!(byte, 0..=0x1f | b'"' | b'\\' | 0x80..);
                found.quote |= u64::from(*byte == b'"') << at;
                found.newline |= u64::from(*byte == b'\n') << at;
                found.delimiter |= u64::from(*byte == delimiter) << at;
                found.special |= u64::from(special) << at;
                found.digit |= u64::from(byte.is_ascii_digit()) << at;
                found.zero |= u64::from(*byte == b'0') << at;
                found.point |= u64::from(*byte == b'.') << at;
                found.sign |= u64::from(matches!(byte, b'+' | b'-' | b'e' | b'E')) << at;
            }
            found
        }
    }
}

#[cfg(test)]
pub(crate) use bytewise::Bytewise;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{BLOCK, Bytewise, Way, block};

    fn same(one: impl Way, other: impl Way, bytes: &[u8], delimiter: u8) {
        let block = block(bytes, 0);
        assert_eq!(one.lines(&block), other.lines(&block));
        assert_eq!(one.fields(&block, delimiter), other.fields(&block, delimiter));
    }

    #[cfg(target_arch = "x86_64")]
    proptest! {
        #[test]
        fn all_ways_say_the_same(
            any in proptest::collection::vec(any::<u8>(), BLOCK),
            few in proptest::collection::vec(
                proptest::sample::select(&b"\"\n\r,.;019/:+-,eEdfDF\\\x1f \x7f\x80"[..]), BLOCK
            ),
            delimiter in 1u8..0x7f,
        ) {
            use super::vector::{Narrow, Wide};
            for bytes in [any, few] {
                same(Narrow, Bytewise, &bytes, delimiter);
                if let Some(wide) = Wide::here() {
                    same(wide, Bytewise, &bytes, delimiter);
                }
            }
        }
    }

    #[test]
    fn a_block_that_is_not_all_there_ends_with_zeros() {
        assert_eq!(block(b"abc", 1)[..4], *b"bc\0\0");
        assert_eq!(block(b"abc", 7), [0; BLOCK]);
        assert_eq!(Bytewise.lines(&block(b"x\n", 0)).newline, 2);
    }
}
