//! Where fields end in a stretch of rows, and which of their bytes need a closer look.

use super::json::{CLASSES, ESCAPE, HIGH};
use super::masks::{BLOCK, block, fields};

/// Bytes that are looked at together: what is left of a mask that begins anywhere.
pub(super) const LOOK_MAX: usize = 56;

/// What was found; kept from one stretch to the next for its memory.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Ends of fields: delimiters and line ends outside quotes. Longer than it needs to
    /// be; `count` are valid.
    ends: Vec<u32>,
    count: usize,
    /// Line ends outside quotes.
    lines: Vec<u32>,
    special: Marks,
    point: Marks,
    other: Marks,
}

/// A bit for each byte, and some zeros.
#[derive(Debug, Default)]
struct Marks(Vec<u8>);

impl Index {
    /// Looks at the first `length` of `bytes`: whole rows.
    pub(super) fn build(&mut self, bytes: &[u8], length: usize, delimiter: u8) {
        self.lines.clear();
        for marks in [&mut self.special, &mut self.point, &mut self.other] {
            marks.0.clear();
        }
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
            self.special.push(found.escape | found.high);
            self.point.push(found.point);
            self.other.push(found.other);
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
        for marks in [&mut self.special, &mut self.point, &mut self.other] {
            marks.push(0);
        }
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

    /// Of the [`LOOK_MAX`] bytes from `at` those that are escaped or whose encoding is
    /// checked; with others behind them.
    #[inline]
    pub(super) fn special(&self, at: usize) -> u64 {
        self.special.from(at)
    }

    /// Points, as above.
    #[inline]
    pub(super) fn point(&self, at: usize) -> u64 {
        self.point.from(at)
    }

    /// What is neither digit nor point, as above.
    #[inline]
    pub(super) fn other(&self, at: usize) -> u64 {
        self.other.from(at)
    }
}

impl Marks {
    #[inline]
    fn push(&mut self, block: u64) {
        self.0.extend_from_slice(&block.to_le_bytes());
    }

    #[inline]
    fn from(&self, at: usize) -> u64 {
        let bytes = self.0.get(at / 8..).and_then(|rest| rest.first_chunk::<8>());
        u64::from_le_bytes(bytes.copied().unwrap_or_default()) >> (at % 8)
    }
}

/// Whether a long field is escaped or its encoding checked.
pub(super) fn is_special(field: &[u8]) -> bool {
    let class = field.iter().fold(0, |class, byte| class | CLASSES[usize::from(*byte)]);
    class & (ESCAPE | HIGH) != 0
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
