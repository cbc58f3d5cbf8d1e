//! Cuts whole records off a file without taking them apart, so that several tasks can:
//! finding ends of rows costs a tenth of encoding them. A line end outside quotes ends a
//! record; what is within quotes is told by their number. Where csv-core may see quotes
//! otherwise, or a line ends in an unusual way, nothing is cut: that stretch is read
//! record by record.

use super::masks::{BLOCK, Way, Work, best, block};

/// What a scan came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// The rows wanted end here; so many lines are before.
    Found {
        /// Behind its last byte.
        end: usize,
        /// Line ends in it.
        lines: u64,
    },
    /// There is no such end in what is there.
    More,
    /// Not to be cut.
    Odd,
}

/// How much is cut off at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measure {
    /// Rows.
    pub rows: usize,
    /// Bytes from which fewer rows will do.
    pub bytes: usize,
}

/// Looks for the end of the next rows, over several calls where more is read meanwhile.
#[derive(Debug)]
pub struct Cutter {
    delimiter: u8,
    /// Everything before is looked at.
    scanned: usize,
    /// A quote is open.
    quoted: bool,
    /// The place behind the last closed quote.
    closed: Option<usize>,
    /// The byte before `scanned` is a `\r`.
    after_cr: bool,
    rows: usize,
    lines: u64,
    /// The last end of a row, with the lines before it.
    last: Option<(usize, u64)>,
}

/// See [`Cutter::scan`].
struct Scanning<'a> {
    cutter: &'a mut Cutter,
    bytes: &'a [u8],
    measure: Measure,
    whole: bool,
}

impl Work for Scanning<'_> {
    type Output = Scan;

    #[inline(always)]
    fn go(self, way: impl Way) -> Scan {
        self.cutter.scan_by(way, self.bytes, self.measure, self.whole)
    }
}

impl Cutter {
    /// For rows whose fields end with this byte.
    #[must_use]
    pub fn new(delimiter: u8) -> Cutter {
        Cutter {
            delimiter,
            scanned: 0,
            quoted: false,
            closed: None,
            after_cr: false,
            rows: 0,
            lines: 0,
            last: None,
        }
    }

    /// Looks on in `bytes`, which begin with a record and have grown since the last
    /// call. At the end of the file (`whole`) the last rows will do.
    pub fn scan(&mut self, bytes: &[u8], measure: Measure, whole: bool) -> Scan {
        best(Scanning { cutter: self, bytes, measure, whole })
    }

    #[inline(always)]
    fn scan_by(&mut self, way: impl Way, bytes: &[u8], measure: Measure, whole: bool) -> Scan {
        while self.scanned + BLOCK <= bytes.len() || (whole && self.scanned < bytes.len()) {
            let found = way.lines(&block(bytes, self.scanned));
            let lone = found.cr & !(found.newline >> 1) & !(1 << (BLOCK - 1));
            let line_goes_on = self.after_cr && found.newline & 1 == 0;
            let wanted = measure.rows.saturating_sub(self.rows).max(1);
            let count = found.newline.count_ones();
            if lone != 0 || line_goes_on {
                return self.odd_after_rows();
            }
            if found.quote == 0 && (self.quoted || (count as usize) < wanted) {
                self.lines += u64::from(count);
                if !self.quoted && found.newline != 0 {
                    self.rows += count as usize;
                    let end = self.scanned + BLOCK - found.newline.leading_zeros() as usize;
                    self.last = Some((end, self.lines));
                }
            } else if let Some(scan) = self.step(bytes, found.quote, found.newline, wanted) {
                return scan;
            }
            self.after_cr = found.cr >> (BLOCK - 1) != 0;
            self.scanned += BLOCK;
            if self.scanned >= measure.bytes
                && let Some((end, lines)) = self.last
            {
                return Scan::Found { end, lines };
            }
        }
        match self.last {
            Some((end, lines)) if whole => Scan::Found { end, lines },
            _ if whole => Scan::Odd,
            _ => Scan::More,
        }
    }

    /// Goes through a block quote by quote and line by line.
    fn step(&mut self, bytes: &[u8], quotes: u64, newlines: u64, wanted: usize) -> Option<Scan> {
        let (mut left, mut wanted) = (quotes | newlines, wanted);
        while left != 0 {
            let bit = left & left.wrapping_neg();
            let at = self.scanned + left.trailing_zeros() as usize;
            left ^= bit;
            if quotes & bit == 0 {
                self.lines += 1;
                if !self.quoted {
                    self.rows += 1;
                    self.last = Some((at + 1, self.lines));
                    wanted -= 1;
                    if wanted == 0 {
                        return Some(Scan::Found { end: at + 1, lines: self.lines });
                    }
                }
            } else if self.quoted {
                (self.quoted, self.closed) = (false, Some(at + 1));
            } else if self.may_open(bytes, at) {
                self.quoted = true;
            } else {
                return Some(self.odd_after_rows());
            }
        }
        None
    }

    /// Whether the quote at `at` begins a field, or is the second of two within one.
    fn may_open(&self, bytes: &[u8], at: usize) -> bool {
        match at.checked_sub(1).and_then(|before| bytes.get(before)) {
            None => true,
            Some(b'"') => self.closed == Some(at),
            Some(byte) => *byte == self.delimiter || *byte == b'\n',
        }
    }

    /// Rows before what is odd can be cut off.
    fn odd_after_rows(&self) -> Scan {
        self.last.map_or(Scan::Odd, |(end, lines)| Scan::Found { end, lines })
    }
}
