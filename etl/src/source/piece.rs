//! A stretch of a file's rows. It is cut off in the file's order, which is quick, and
//! encoded anywhere, which is not; rows that cannot be cut off so are encoded one by one
//! where they are read.

use std::sync::Arc;

use rows::{Bulk, Cutter, Made, Measure, PADDING, Scan};

use super::csv::{CsvRows, Next, Rejection, RowMaker};
use super::error::SourceError;
use super::position::{Ending, Position};
use super::records::{KEEP_MAX, line_ends};
use crate::batch::Rows;

/// Records of a file in its order, good and bad.
#[derive(Debug, Default)]
pub struct Piece {
    /// The good ones, once it is encoded.
    pub rows: Rows,
    /// The others, each with its place among all.
    pub rejections: Vec<(usize, Rejection)>,
    /// How many there are of both, also when the rows were taken out.
    count: usize,
    /// Rows still to be encoded, and zeros behind them.
    raw: Vec<u8>,
    length: usize,
    /// The line that they begin on.
    line: u64,
    /// Where each record begins in `raw`; empty for records read one by one.
    begins: Vec<u32>,
    /// The lines of records read one by one.
    lines: Vec<u64>,
    begin: Option<Box<Begin>>,
    end: Option<Position>,
}

/// Where a piece begins.
#[derive(Debug)]
struct Begin {
    hasher: blake3::Hasher,
    bytes: u64,
    line: u64,
}

/// What came of cutting a piece off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// It is cut.
    Done,
    /// It does not end in what has been read: [`CsvRows::more`] is to be called.
    More,
    /// What comes next cannot be cut: [`CsvRows::read_piece`] is to be called.
    Odd,
}

/// Encodes pieces of one file.
#[derive(Debug)]
pub struct PieceEncoder {
    maker: Arc<RowMaker>,
    bulk: Bulk,
}

impl Piece {
    /// Forgets everything but the memory.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.rejections.clear();
        self.raw.clear();
        if self.raw.capacity() > KEEP_MAX {
            self.raw = Vec::new();
        }
        self.begins.clear();
        self.lines.clear();
        (self.count, self.length, self.line) = (0, 0, 0);
        (self.begin, self.end) = (None, None);
    }

    /// How many records it has, once it is encoded.
    #[must_use]
    pub fn records(&self) -> usize {
        self.count
    }

    /// Whether there is nothing in it, encoded or not.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0 && self.length == 0
    }

    /// The place behind `count` of its records, where that is known: in a piece that was
    /// cut off with its place, and at the end of one that was read one by one.
    #[must_use]
    pub fn place_behind(&self, count: usize) -> Option<Position> {
        let Some(begin) = &self.begin else {
            return self.end.clone().filter(|_| count == self.records());
        };
        let end = match count.checked_sub(1) {
            None => 0,
            // With everything up to the next record, which may be blank lines.
            Some(last) => self.begins.get(last + 1).map_or(self.length, |next| *next as usize),
        };
        let before = self.raw.get(..end)?;
        let mut hasher = begin.hasher.clone();
        hasher.update(before);
        Some(Position {
            bytes: begin.bytes + end as u64,
            line: begin.line + line_ends(before),
            after_cr: false,
            fingerprint: hasher.finalize().to_hex().to_string(),
            ending: Ending::Line,
        })
    }

    /// The line on which its record number `at` begins.
    #[must_use]
    pub fn line_of(&self, at: usize) -> u64 {
        let before = self.begins.get(at).and_then(|begin| self.raw.get(..*begin as usize));
        match before {
            Some(before) => self.line + line_ends(before),
            None => self.lines.get(at).copied().unwrap_or(self.line),
        }
    }
}

impl CsvRows {
    /// What encodes pieces of this file; one for each task.
    #[must_use]
    pub fn piece_encoder(&self) -> PieceEncoder {
        let maker = self.maker.clone();
        PieceEncoder { bulk: Bulk::new(maker.encoder.delimiter), maker }
    }

    /// Cuts the next rows off what has been read. With `placed`, the piece knows its place.
    pub fn cut_piece(&mut self, measure: Measure, placed: bool, piece: &mut Piece) -> Cut {
        if self.check_first {
            return Cut::Odd;
        }
        let mut cutter = Cutter::new(self.maker.encoder.delimiter);
        let whole = self.records.no_more();
        let pending = self.records.pending();
        let length = pending.len();
        match cutter.scan(pending, measure, whole) {
            Scan::Found { end, lines } => {
                self.take_piece(end, lines, placed, piece);
                Cut::Done
            }
            Scan::More if length <= self.records.limits.record_max => Cut::More,
            Scan::More | Scan::Odd => Cut::Odd,
        }
    }

    /// Has the rest of the file read by a thread. To be called within a runtime.
    pub fn read_ahead(&mut self) {
        self.records.input().read_ahead();
    }

    /// Waits until more of the file is there, where it is read ahead, and takes it.
    pub async fn more(&mut self) {
        self.records.input().ready().await;
        // What is there already is good, and goes first; the error comes again behind it.
        drop(self.records.fill());
    }

    /// Reads on until the next rows are there, and cuts them off; what cannot be cut is
    /// read record by record. `false` at the end of the file. Blocks.
    ///
    /// # Errors
    /// When the file cannot be read any further; the records in the piece are good.
    pub fn read_piece(
        &mut self,
        measure: Measure,
        placed: bool,
        piece: &mut Piece,
    ) -> Result<bool, SourceError> {
        let mut cutter = Cutter::new(self.maker.encoder.delimiter);
        while !self.check_first {
            let whole = self.records.no_more();
            let pending = self.records.pending();
            let length = pending.len();
            match cutter.scan(pending, measure, whole) {
                Scan::Found { end, lines } => {
                    self.take_piece(end, lines, placed, piece);
                    return Ok(true);
                }
                // As in `more`.
                Scan::More if length <= self.records.limits.record_max => {
                    drop(self.records.fill());
                }
                Scan::More | Scan::Odd => break,
            }
        }
        self.read_one_by_one(measure, placed, piece)
    }

    fn take_piece(&mut self, length: usize, lines: u64, placed: bool, piece: &mut Piece) {
        piece.line = self.records.line();
        if placed {
            let (hasher, bytes) = self.records.hashed();
            piece.begin = Some(Box::new(Begin { hasher, bytes, line: piece.line }));
        }
        self.records.take(length, lines, &mut piece.raw);
        piece.length = length;
        piece.raw.resize(length + PADDING, 0);
    }

    fn read_one_by_one(
        &mut self,
        measure: Measure,
        placed: bool,
        piece: &mut Piece,
    ) -> Result<bool, SourceError> {
        let mut read = Ok(());
        piece.line = self.records.line();
        let full = |piece: &Piece| {
            piece.count >= measure.rows || (piece.count > 0 && piece.rows.bytes() >= measure.bytes)
        };
        while !full(piece) {
            let mut next = Ok(Next::End);
            piece.rows.push_with(|row| next = self.next_row(row));
            if !matches!(next, Ok(Next::Row)) {
                piece.rows.pop();
            }
            match next {
                Ok(Next::Row) => {}
                Ok(Next::Rejected(rejection)) => piece.rejections.push((piece.count, rejection)),
                Ok(Next::End) => break,
                Err(error) => {
                    read = Err(error);
                    break;
                }
            }
            piece.count += 1;
            piece.lines.push(self.line());
        }
        if placed && read.is_ok() {
            piece.end = Some(self.position());
        }
        read.map(|()| piece.records() > 0)
    }
}

impl PieceEncoder {
    /// Encodes what was cut off.
    pub fn encode(&mut self, piece: &mut Piece) {
        let Piece { rows, rejections, raw, length, line, begins, count, .. } = piece;
        if *length == 0 {
            return;
        }
        let PieceEncoder { maker, bulk } = self;
        rows.push_many(|out, at, ends| {
            let mut taken = |(begin, end): (usize, usize), made| {
                let short = |place: usize| u32::try_from(place).unwrap_or(u32::MAX);
                match made {
                    Made::Row(behind) => ends.push(short(behind)),
                    Made::Refused(refused) => {
                        let line = *line + line_ends(&raw[..begin]);
                        let rejection = maker.rejection(line, &raw[begin..end], refused);
                        rejections.push((begins.len(), rejection));
                    }
                }
                begins.push(short(begin));
            };
            bulk.encode(&maker.encoder, (raw, *length), out, at, &mut taken)
        });
        *count = begins.len();
    }
}

#[cfg(test)]
mod tests;
