//! Encodes many rows at once: one look at all bytes finds where fields end and what they
//! need, then each field is two copies of a fixed length. A row becomes what [`Encoder`]
//! makes of it alone; rows with quotes within quotes go through csv-core.

use super::encode::{CHUNK, Encoder, Refused};
use super::index::{Index, Marks};
use super::json::{is_number, put_escaped};
use super::masks::BLOCK;
use super::quoted::Quoted;

/// Zeros that follow the bytes of rows, so that a chunk can be read from any of them.
pub(super) const PADDING: usize = BLOCK;

/// Decimals with more digits take a longer look.
const DIGITS_MAX: usize = 17;
/// What escaping makes of one byte at most.
const ESCAPED_MAX: usize = 6;

/// What became of one row.
#[derive(Debug, Clone, Copy)]
pub(super) enum Made {
    /// It is encoded up to this place of the output.
    Row(usize),
    /// It is no record.
    Refused(Refused),
}

/// Encodes rows, with memory that it keeps.
#[derive(Debug)]
pub(super) struct Bulk {
    index: Index,
    quoted: Quoted,
    unquoted: Vec<u8>,
}

impl Bulk {
    pub(super) fn new(delimiter: u8) -> Bulk {
        Bulk { index: Index::default(), quoted: Quoted::new(delimiter), unquoted: Vec::new() }
    }

    /// Encodes the rows in the first `length` of `bytes`, which [`PADDING`] follows, into
    /// `out` from place `at` on, leaving a byte behind each. Calls `row` for each with its
    /// beginning and end in `bytes`, without its line end, and what became of it. Gives
    /// the place behind the last.
    pub(super) fn encode(
        &mut self,
        encoder: &Encoder,
        (bytes, length): (&[u8], usize),
        out: &mut Vec<u8>,
        mut at: usize,
        mut row: impl FnMut((usize, usize), Made),
    ) -> usize {
        self.index.build(bytes, length, encoder.delimiter);
        let columns = encoder.prefixes.len();
        let (mut start, mut first) = (0, 0);
        for line in 0..self.index.lines().len() {
            let line_end = self.index.lines()[line] as usize;
            let begin = start;
            start = line_end + 1;
            let cr = line_end > begin && bytes[line_end - 1] == b'\r';
            let end = line_end - usize::from(cr);
            if begin == end {
                // A blank line is none; its end is the only one in it.
                first += 1;
                continue;
            }
            let ends = self.index.ends(first);
            let made = if ends.get(columns - 1).is_some_and(|last| *last as usize == line_end) {
                first += columns;
                let fields = Row { begin, end, ends: &ends[..columns] };
                encode_row(&self.index, encoder, bytes, &fields, out, at)
            } else {
                let count = ends.partition_point(|end| (*end as usize) < start);
                first += count;
                Some(Made::Refused(Refused::Count(count)))
            };
            let made = match made {
                Some(made) => made,
                None => self.unquote(encoder, &bytes[begin..start], out, at),
            };
            if let Made::Row(behind) = made {
                at = behind + 1;
            }
            row((begin, end), made);
        }
        at
    }

    /// Encodes one row, `line` with its end, through csv-core.
    fn unquote(&mut self, encoder: &Encoder, line: &[u8], out: &mut Vec<u8>, at: usize) -> Made {
        self.quoted.reset();
        self.unquoted.clear();
        self.quoted.read(line);
        let count = self.quoted.field_count();
        if count != encoder.prefixes.len() {
            return Made::Refused(Refused::Count(count));
        }
        match encoder.encode_fields(self.quoted.fields(), &mut self.unquoted) {
            Err(refused) => Made::Refused(refused),
            Ok(()) => {
                let behind = at + self.unquoted.len();
                reserve(out, behind + 1);
                out[at..behind].copy_from_slice(&self.unquoted);
                Made::Row(behind)
            }
        }
    }
}

/// Where one row's fields end.
struct Row<'a> {
    begin: usize,
    end: usize,
    ends: &'a [u32],
}

/// Encodes one row's fields; `None` when csv-core has to unquote them.
#[inline]
fn encode_row(
    index: &Index,
    encoder: &Encoder,
    bytes: &[u8],
    row: &Row<'_>,
    out: &mut Vec<u8>,
    mut at: usize,
) -> Option<Made> {
    let room = encoder.room(row.end - row.begin);
    reserve(out, at + room);
    let (mut start, mut after_text) = (row.begin, false);
    for (column, (prefix, end)) in encoder.prefixes.iter().zip(row.ends).enumerate() {
        let (mut from, mut to) = (start, (*end as usize).min(row.end));
        start = *end as usize + 1;
        let mut marks = index.marks(bytes, from, to);
        if marks.special != 0 && bytes[from] == b'"' {
            (from, to) = unquoted(bytes, from, to)?;
            marks = index.marks(bytes, from, to);
        }
        let number = encoder.numbers && is_decimal(marks, &bytes[from..to]);
        let name = prefix.between(after_text, !number);
        at = put(out, at, &name.bytes, name.length);
        after_text = !number;
        if marks.special == 0 {
            at = put(out, at, &bytes[from..], to - from);
            continue;
        }
        let field = &bytes[from..to];
        if let Err(error) = std::str::from_utf8(field) {
            let bad = error.valid_up_to();
            let byte = field.get(bad).copied().unwrap_or_default();
            return Some(Made::Refused(Refused::NotUtf8 { column, at: bad, byte }));
        }
        reserve(out, at + ESCAPED_MAX * field.len() + room);
        at = put_escaped(out, at, field);
    }
    let ending: &[u8] = if after_text { b"\"}" } else { b"}" };
    out[at..at + ending.len()].copy_from_slice(ending);
    Some(Made::Row(at + ending.len()))
}

/// The inside of a field in quotes; `None` when there are other quotes in it, or
/// something behind.
fn unquoted(bytes: &[u8], from: usize, to: usize) -> Option<(usize, usize)> {
    let inside = bytes[from..to].strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    memchr::memchr(b'"', inside).is_none().then_some((from + 1, to - 1))
}

/// As [`is_number`]; most numbers are told by their marks.
#[inline]
fn is_decimal(marks: Marks, field: &[u8]) -> bool {
    let Some(first) = field.first() else { return false };
    if marks.other != 0 || field.len() > DIGITS_MAX {
        return matches!(first, b'-' | b'0'..=b'9') && is_number(field);
    }
    let whole = match marks.point {
        0 => field.len(),
        point if point & (point - 1) == 0 => point.trailing_zeros() as usize,
        _ => return false,
    };
    whole > 0 && whole + 1 != field.len() && (*first != b'0' || whole == 1)
}

/// Makes `out` at least so long.
#[inline]
fn reserve(out: &mut Vec<u8>, length: usize) {
    if out.len() < length {
        out.resize((2 * out.len()).max(length), 0);
    }
}

/// Puts the first `length` bytes of `padded` at `at`; what follows there is overwritten.
#[inline]
fn put(out: &mut [u8], at: usize, padded: &[u8], length: usize) -> usize {
    let to = out.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<CHUNK>());
    match (to, padded.first_chunk::<CHUNK>()) {
        (Some(to), Some(from)) if length <= CHUNK => *to = *from,
        _ => out[at..at + length].copy_from_slice(&padded[..length]),
    }
    at + length
}
