//! Encodes many rows at once: one look at all bytes finds where fields end and what they
//! need, then each field is two copies of a fixed length. A row becomes what [`Encoder`]
//! makes of it alone; rows with quotes within quotes go through csv-core.

use super::encode::{CHUNK, Encoder, Refused};
use super::index::{Index, LOOK_MAX, is_special};
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
        let mut kind = kind_of(index, bytes, from, to);
        if kind == Kind::Special && bytes[from] == b'"' {
            (from, to) = unquoted(bytes, from, to)?;
            kind = kind_of(index, bytes, from, to);
        }
        let number = encoder.numbers && kind == Kind::Number;
        let name = prefix.between(after_text, !number);
        out[at..at + CHUNK].copy_from_slice(&name.head);
        if !name.tail.is_empty() {
            out[at + CHUNK..at + name.length].copy_from_slice(&name.tail);
        }
        at += name.length;
        after_text = !number;
        if kind != Kind::Special {
            if to - from <= CHUNK {
                out[at..at + CHUNK].copy_from_slice(&bytes[from..from + CHUNK]);
            } else {
                out[at..at + to - from].copy_from_slice(&bytes[from..to]);
            }
            at += to - from;
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

/// What a field is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// As JSON spells numbers.
    Number,
    /// Nothing in it is escaped, and all of it is ASCII.
    Plain,
    /// It takes a closer look.
    Special,
}

/// What `bytes[from..to]` is.
#[inline]
fn kind_of(index: &Index, bytes: &[u8], from: usize, to: usize) -> Kind {
    let length = to - from;
    if length > LOOK_MAX {
        return if is_special(&bytes[from..to]) { Kind::Special } else { Kind::Plain };
    }
    let keep = (1 << length) - 1;
    if index.other(from) & keep != 0 {
        let field = &bytes[from..to];
        return match field[0] {
            _ if index.special(from) & keep != 0 => Kind::Special,
            b'-' | b'0'..=b'9' if is_number(field) => Kind::Number,
            _ => Kind::Plain,
        };
    }
    // Digits and points.
    let point = index.point(from) & keep;
    let whole = if point == 0 { length } else { point.trailing_zeros() as usize };
    let decimal = point & point.wrapping_sub(1) == 0
        && whole > 0
        && whole + 1 != length
        && (bytes[from] != b'0' || whole == 1);
    match decimal {
        true if length <= DIGITS_MAX => Kind::Number,
        true if is_number(&bytes[from..to]) => Kind::Number,
        _ => Kind::Plain,
    }
}

/// The inside of a field in quotes; `None` when there are other quotes in it, or
/// something behind.
fn unquoted(bytes: &[u8], from: usize, to: usize) -> Option<(usize, usize)> {
    let inside = bytes[from..to].strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    memchr::memchr(b'"', inside).is_none().then_some((from + 1, to - 1))
}

/// Makes `out` at least so long.
#[inline]
fn reserve(out: &mut Vec<u8>, length: usize) {
    if out.len() < length {
        out.resize(length + out.len() / 8, 0);
    }
}
