//! Where fields end in a stretch of rows, and what they are: most are told from masks of
//! 64 bytes, for all fields in them at once; the others take a closer look.

use super::json::{CLASSES, ESCAPE, HIGH};
use super::masks::{BLOCK, Way, block};

/// Bytes that are looked at together, so that a bit is left over.
pub(crate) const LOOK_MAX: usize = BLOCK - 1;

/// Ends that are written down together.
const ENDS: usize = 8;

/// What was found; kept from one stretch to the next for its memory.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Ends of fields: delimiters and line ends outside quotes. Longer than it needs to
    /// be; `count` are valid.
    ends: Vec<End>,
    count: usize,
    /// Line ends outside quotes. As above.
    lines: Vec<u32>,
    line_count: usize,
    special: Marks,
    point: Marks,
    other: Marks,
}

/// Where a field ends, and what it is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct End(u32);

/// What is known of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// As JSON spells numbers, if it is not too long.
    Number,
    /// No number; nothing in it is escaped, and all of it is ASCII.
    Text,
    /// It takes a closer look.
    Nothing,
}

/// A bit for each byte, and some zeros.
#[derive(Debug, Default)]
struct Marks(Vec<u64>);

/// What one block leaves to the next.
#[derive(Debug)]
struct Left {
    /// Ones within quotes, else zeros.
    quoted: u64,
    /// The last byte ended a field, was a point in one, was a zero that began one.
    end: u64,
    point: u64,
    zero: u64,
    /// The field that goes on has such bytes.
    special: u64,
    pointed: u64,
    text: u64,
    odd: u64,
}

impl End {
    const NUMBER: u32 = 1 << 31;
    const TEXT: u32 = 1 << 30;

    /// The place of the delimiter or line end.
    #[inline(always)]
    pub(crate) fn at(self) -> usize {
        (self.0 & (End::TEXT - 1)) as usize
    }

    /// What the field before it is.
    #[inline(always)]
    pub(crate) fn known(self) -> Known {
        if self.0 & End::NUMBER != 0 {
            Known::Number
        } else if self.0 & End::TEXT != 0 {
            Known::Text
        } else {
            Known::Nothing
        }
    }
}

impl Index {
    /// Looks at the first `length` of `bytes`: whole rows, less than a GiB. Without
    /// `numbers` these are texts like others.
    #[inline(always)]
    pub(crate) fn build(
        &mut self,
        way: impl Way,
        bytes: &[u8],
        length: usize,
        (delimiter, numbers): (u8, bool),
    ) {
        debug_assert!(length < End::TEXT as usize, "an end has no room for such places");
        (self.count, self.line_count) = (0, 0);
        let blocks = length.div_ceil(BLOCK);
        for marks in [&mut self.special, &mut self.point, &mut self.other] {
            marks.make_room(blocks);
        }
        let mut left = Left::before_all();
        for number in 0..blocks {
            let at = number * BLOCK;
            let found = way.fields(&block(bytes, at), delimiter);
            let (mut ends, mut newlines) = (found.delimiter | found.newline, found.newline);
            if found.quote | left.quoted != 0 {
                let quoted = between(found.quote) ^ left.quoted;
                left.quoted = if quoted >> (BLOCK - 1) == 0 { 0 } else { u64::MAX };
                (ends, newlines) = (ends & !quoted, newlines & !quoted);
            }
            let other = !(found.digit | found.point);
            self.special.0[number] = found.special;
            self.point.0[number] = found.point;
            self.other.0[number] = other;

            let within = !ends;
            let starts = ends << 1 | left.end;
            let has_special = reach(found.special & within, within, &mut left.special);
            // A point that is reached from one before it.
            let points = found.point & within;
            let second = reach(points, within, &mut left.pointed) & points;
            let never = (other & !found.sign & within) | second;
            let is_text = reach(never, within, &mut left.text);
            let zeros = found.zero & starts & within;
            let behind_zero = found.digit & (zeros << 1 | left.zero);
            let odd = never | ((other | (found.point & starts) | behind_zero) & within);
            let is_odd = reach(odd, within, &mut left.odd);
            let behind_point = points << 1 | left.point;
            let mut are_numbers = ends & !(is_odd | behind_point | starts);
            let mut are_texts = ends & (is_text | starts) & !has_special;
            if !numbers {
                (are_numbers, are_texts) = (0, are_texts | are_numbers);
            }
            left.end = ends >> (BLOCK - 1);
            left.point = points >> (BLOCK - 1);
            left.zero = zeros >> (BLOCK - 1);

            let base = u32::try_from(at).unwrap_or(u32::MAX);
            self.put_ends(base, ends, are_numbers, are_texts);
            self.put_lines(base, newlines);
        }
    }

    /// Notes the ends of one block; some at once, so that their number need not be guessed.
    #[inline(always)]
    fn put_ends(&mut self, base: u32, ends: u64, numbers: u64, texts: u64) {
        let count = ends.count_ones() as usize;
        if self.ends.len() < self.count + BLOCK {
            self.ends.resize((2 * self.ends.len()).max(self.count + BLOCK), End::default());
        }
        let (mut rest, mut put) = (ends, self.count);
        self.count += count;
        while put < self.count {
            let Some(some) = self.ends[put..].first_chunk_mut::<ENDS>() else { return };
            for end in some {
                let bit = rest.trailing_zeros();
                let number = (numbers >> (bit & 63)) as u32 & 1;
                let text = (texts >> (bit & 63)) as u32 & 1;
                *end = End((base + bit) | (number << 31) | (text << 30));
                rest &= rest.wrapping_sub(1);
            }
            put += ENDS;
        }
    }

    /// Notes the line ends of one block, of which there is seldom more than one.
    #[inline(always)]
    fn put_lines(&mut self, base: u32, newlines: u64) {
        if self.lines.len() < self.line_count + BLOCK {
            self.lines.resize((2 * self.lines.len()).max(self.line_count + BLOCK), 0);
        }
        let mut rest = newlines;
        let mut put = self.line_count;
        self.line_count += newlines.count_ones() as usize;
        loop {
            self.lines[put] = base + rest.trailing_zeros();
            rest &= rest.wrapping_sub(1);
            put += 1;
            if rest == 0 {
                return;
            }
        }
    }

    /// Ends of lines.
    pub(crate) fn lines(&self) -> &[u32] {
        &self.lines[..self.line_count]
    }

    /// Ends of fields, from number `first` on.
    #[inline(always)]
    pub(crate) fn ends(&self, first: usize) -> &[End] {
        self.ends[..self.count].get(first..).unwrap_or_default()
    }

    /// Of the [`LOOK_MAX`] bytes from `at` those that are escaped or whose encoding is
    /// checked; with others behind them.
    #[inline]
    pub(crate) fn special(&self, at: usize) -> u64 {
        self.special.from(at)
    }

    /// Points, as above.
    #[inline]
    pub(crate) fn point(&self, at: usize) -> u64 {
        self.point.from(at)
    }

    /// What is neither digit nor point, as above.
    #[inline]
    pub(crate) fn other(&self, at: usize) -> u64 {
        self.other.from(at)
    }
}

impl Marks {
    /// For so many blocks, and zeros behind them.
    fn make_room(&mut self, blocks: usize) {
        if self.0.len() <= blocks {
            self.0.resize(blocks + 1, 0);
        }
        self.0[blocks] = 0;
    }

    #[inline]
    fn from(&self, at: usize) -> u64 {
        let (word, bit) = (at / BLOCK, at % BLOCK);
        let here = self.0.get(word).copied().unwrap_or_default() >> bit;
        let next = self.0.get(word + 1).copied().unwrap_or_default();
        // In two steps: by 64 at once would be by none.
        here | next << 1 << (BLOCK - 1 - bit)
    }
}

impl Left {
    /// Before the first block, where a field begins.
    fn before_all() -> Left {
        Left { quoted: 0, end: 1, point: 0, zero: 0, special: 0, pointed: 0, text: 0, odd: 0 }
    }
}

/// What the bits of `marks` reach when they are carried on through the ones of `within`,
/// in which they are, and one further: the end of each field that has one. Among the marks
/// those that are reached from an earlier one.
#[inline(always)]
fn reach(marks: u64, within: u64, carried: &mut u64) -> u64 {
    let (sum, one) = marks.overflowing_add(within);
    let (sum, other) = sum.overflowing_add(*carried);
    *carried = u64::from(one | other);
    sum
}

/// Whether a long field is escaped or its encoding checked.
pub(crate) fn is_special(field: &[u8]) -> bool {
    let class = field.iter().fold(0, |class, byte| class | CLASSES[usize::from(*byte)]);
    class & (ESCAPE | HIGH) != 0
}

/// Bits from an odd one up to the next: what is quoted, with its first quote.
#[inline(always)]
fn between(quotes: u64) -> u64 {
    let mut bits = quotes;
    for shift in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << shift;
    }
    bits
}
