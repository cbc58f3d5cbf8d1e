//! Where fields end in a stretch of rows, and which of their bytes need a closer look.

use super::json::{CLASSES, ESCAPE, HIGH};
use super::masks::{BLOCK, block, fields};

/// What was found; kept from one stretch to the next for its memory.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Ends of fields: delimiters and line ends outside quotes. Longer than it needs to
    /// be; `count` are valid.
    ends: Vec<u32>,
    count: usize,
    /// Line ends outside quotes.
    lines: Vec<u32>,
    /// For each block, and one more.
    marks: Vec<Marks>,
}

/// Bytes that need a closer look, with a bit for each byte.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Marks {
    /// They are escaped, or their encoding is checked.
    pub(super) special: u64,
    /// Points.
    pub(super) point: u64,
    /// Neither digits nor points.
    pub(super) other: u64,
}

impl Index {
    /// Looks at the first `length` of `bytes`: whole rows.
    pub(super) fn build(&mut self, bytes: &[u8], length: usize, delimiter: u8) {
        self.lines.clear();
        self.marks.clear();
        let (mut count, mut open) = (0, 0u64);
        for at in (0..length).step_by(BLOCK) {
            let found = fields(&block(bytes, at), delimiter);
            let mut ends = found.delimiter | found.newline;
            let mut newlines = found.newline;
            if found.quote | open != 0 {
                let quoted = between(found.quote) ^ open;
                open = if quoted >> (BLOCK - 1) == 0 { 0 } else { u64::MAX };
                (ends, newlines) = (ends & !quoted, newlines & !quoted);
            }
            let special = found.escape | found.high;
            self.marks.push(Marks { special, point: found.point, other: found.other });
            if self.ends.len() < count + BLOCK {
                self.ends.resize((2 * self.ends.len()).max(count + BLOCK), 0);
            }
            let base = u32::try_from(at).unwrap_or(u32::MAX);
            while ends != 0 {
                self.ends[count] = base + ends.trailing_zeros();
                count += 1;
                ends &= ends - 1;
            }
            while newlines != 0 {
                self.lines.push(base + newlines.trailing_zeros());
                newlines &= newlines - 1;
            }
        }
        self.count = count;
        self.marks.push(Marks::default());
    }

    /// Ends of lines.
    pub(super) fn lines(&self) -> &[u32] {
        &self.lines
    }

    /// Ends of fields, from number `first` on.
    #[inline]
    pub(super) fn ends(&self, first: usize) -> &[u32] {
        self.ends[..self.count].get(first..).unwrap_or_default()
    }

    /// The marks of `bytes[from..to]`. Of more than [`BLOCK`] bytes they only tell
    /// whether there is such a byte.
    #[inline]
    pub(super) fn marks(&self, bytes: &[u8], from: usize, to: usize) -> Marks {
        if to - from > BLOCK {
            return Marks::of(&bytes[from..to]);
        }
        let (at, shift) = (from / BLOCK, from % BLOCK);
        let (low, high) = (self.marks[at], self.marks[at + 1]);
        let unused = u32::try_from(BLOCK - (to - from)).unwrap_or(u32::MAX);
        let keep = u64::MAX.checked_shr(unused).unwrap_or(0);
        // In two steps, because a shift by 64 cannot be.
        let cut = |low: u64, high: u64| (low >> shift | (high << 1) << (63 - shift)) & keep;
        Marks {
            special: cut(low.special, high.special),
            point: cut(low.point, high.point),
            other: cut(low.other, high.other),
        }
    }
}

impl Marks {
    /// Whether a long field has bytes that need a closer look.
    #[inline(never)]
    fn of(field: &[u8]) -> Marks {
        let class = field.iter().fold(0, |class, byte| class | CLASSES[usize::from(*byte)]);
        let special = u64::from(class & (ESCAPE | HIGH) != 0);
        Marks { special, point: 0, other: u64::MAX }
    }
}

/// Bits from an odd one up to the next: what is quoted, with its first quote.
#[inline]
fn between(quotes: u64) -> u64 {
    let mut bits = quotes;
    for shift in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << shift;
    }
    bits
}
