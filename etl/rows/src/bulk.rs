//! Encodes many rows at once: one look at all bytes finds where fields end and what they
//! need, then each field is two copies of a fixed length. A row becomes what [`Encoder`]
//! makes of it alone; rows with quotes within quotes go through csv-core.

use super::encode::{CHUNK, Encoder, Name, Refused};
use super::index::{End, Index, Known, LOOK_MAX, is_special};
use super::json::{is_number, put_escaped};
use super::masks::{BLOCK, Way, Work, best};
use super::quoted::Quoted;

/// Zeros that follow the bytes of rows, so that a chunk can be read from any of them.
pub const PADDING: usize = BLOCK;

/// Decimals with more digits take a longer look.
const DIGITS_MAX: usize = 17;
/// What escaping makes of one byte at most.
const ESCAPED_MAX: usize = 6;

/// What became of one row.
#[derive(Debug, Clone, Copy)]
pub enum Made {
    /// It is encoded up to this place of the output.
    Row(usize),
    /// It is no record.
    Refused(Refused),
}

/// Encodes rows, with memory that it keeps.
#[derive(Debug)]
pub struct Bulk {
    index: Index,
    quoted: Quoted,
    unquoted: Vec<u8>,
}

impl Bulk {
    /// For rows whose fields end with this byte.
    #[must_use]
    pub fn new(delimiter: u8) -> Bulk {
        Bulk { index: Index::default(), quoted: Quoted::new(delimiter), unquoted: Vec::new() }
    }

    /// Encodes the rows in the first `length` of `bytes`, which [`PADDING`] follows, into
    /// `out` from place `at` on, leaving a byte behind each. Calls `row` for each with its
    /// beginning and end in `bytes`, without its line end, and what became of it. Gives
    /// the place behind the last.
    pub fn encode(
        &mut self,
        encoder: &Encoder,
        (bytes, length): (&[u8], usize),
        out: &mut Vec<u8>,
        at: usize,
        row: &mut dyn FnMut((usize, usize), Made),
    ) -> usize {
        best(Encoding { bulk: self, encoder, bytes, length, out, at, row })
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

/// Rows on their way; see [`Bulk::encode`].
struct Encoding<'a> {
    bulk: &'a mut Bulk,
    encoder: &'a Encoder,
    bytes: &'a [u8],
    length: usize,
    out: &'a mut Vec<u8>,
    at: usize,
    row: &'a mut dyn FnMut((usize, usize), Made),
}

impl Work for Encoding<'_> {
    type Output = usize;

    #[inline(always)]
    fn go(self, way: impl Way) -> usize {
        let Encoding { bulk, encoder, bytes, length, out, mut at, row } = self;
        bulk.index.build(way, bytes, length, (encoder.delimiter, encoder.numbers));
        let columns = encoder.prefixes.len();
        let (mut start, mut first) = (0, 0);
        for line in 0..bulk.index.lines().len() {
            let line_end = bulk.index.lines()[line] as usize;
            let begin = start;
            start = line_end + 1;
            let cr = line_end > begin && bytes[line_end - 1] == b'\r';
            let end = line_end - usize::from(cr);
            if begin == end {
                // A blank line is none; its end is the only one in it.
                first += 1;
                continue;
            }
            let ends = bulk.index.ends(first);
            let made = if ends.get(columns - 1).is_some_and(|last| last.at() == line_end) {
                first += columns;
                let fields = Row { begin, end, ends: &ends[..columns] };
                encode_row(&bulk.index, encoder, bytes, &fields, out, at)
            } else {
                let count = ends.partition_point(|end| end.at() < start);
                first += count;
                Some(Made::Refused(Refused::Count(count)))
            };
            let made = match made {
                Some(made) => made,
                None => bulk.unquote(encoder, &bytes[begin..start], out, at),
            };
            if let Made::Row(behind) = made {
                at = behind + 1;
            }
            row((begin, end), made);
        }
        at
    }
}

/// Where one row's fields end.
struct Row<'a> {
    begin: usize,
    end: usize,
    ends: &'a [End],
}

/// How far a row is encoded.
#[derive(Debug, Clone, Copy)]
struct Cursor {
    /// Fields that are done.
    column: usize,
    /// Where the next one begins.
    start: usize,
    /// The place of the output.
    at: usize,
    /// The field before is a text.
    after_text: bool,
}

/// Encodes one row's fields; `None` when csv-core has to unquote them.
#[inline(always)]
fn encode_row(
    index: &Index,
    encoder: &Encoder,
    bytes: &[u8],
    row: &Row<'_>,
    out: &mut Vec<u8>,
    at: usize,
) -> Option<Made> {
    reserve(out, at + encoder.room(row.end - row.begin));
    let mut cursor = Cursor { column: 0, start: row.begin, at, after_text: false };
    loop {
        cursor = put_known(encoder, bytes, row, out, cursor);
        if cursor.column == row.ends.len() {
            break;
        }
        if let Err(refused) = put_looked_at(index, encoder, bytes, row, out, &mut cursor)? {
            return Some(Made::Refused(refused));
        }
    }
    let ending: &[u8] = if cursor.after_text { b"\"}" } else { b"}" };
    out[cursor.at..cursor.at + ending.len()].copy_from_slice(ending);
    Some(Made::Row(cursor.at + ending.len()))
}

/// Encodes fields up to one that takes a closer look.
#[inline(always)]
fn put_known(
    encoder: &Encoder,
    bytes: &[u8],
    row: &Row<'_>,
    out: &mut [u8],
    mut cursor: Cursor,
) -> Cursor {
    let prefixes = encoder.prefixes[cursor.column..].iter();
    for (prefix, end) in prefixes.zip(&row.ends[cursor.column..]) {
        let (from, to) = (cursor.start, end.at());
        let length = to - from;
        let text = match end.known() {
            Known::Number if length <= DIGITS_MAX => false,
            Known::Text if length <= CHUNK => true,
            _ => break,
        };
        cursor.at += put_name(prefix.between(cursor.after_text, text), out, cursor.at);
        out[cursor.at..cursor.at + CHUNK].copy_from_slice(&bytes[from..from + CHUNK]);
        cursor = Cursor {
            column: cursor.column + 1,
            start: to + 1,
            at: cursor.at + length,
            after_text: text,
        };
    }
    cursor
}

/// Encodes one field, whatever it is; `None` when csv-core has to unquote it.
#[inline(never)]
fn put_looked_at(
    index: &Index,
    encoder: &Encoder,
    bytes: &[u8],
    row: &Row<'_>,
    out: &mut Vec<u8>,
    cursor: &mut Cursor,
) -> Option<Result<(), Refused>> {
    let column = cursor.column;
    let end = row.ends[column].at();
    let (mut from, mut to) = (cursor.start, end.min(row.end));
    let mut kind = kind_of(index, bytes, from, to);
    if kind == Kind::Special && bytes[from] == b'"' {
        (from, to) = unquoted(bytes, from, to)?;
        kind = kind_of(index, bytes, from, to);
    }
    let text = !encoder.numbers || kind != Kind::Number;
    let mut at = cursor.at;
    at += put_name(encoder.prefixes[column].between(cursor.after_text, text), out, at);
    let field = &bytes[from..to];
    if kind != Kind::Special {
        out[at..at + field.len()].copy_from_slice(field);
        at += field.len();
    } else if let Err(error) = std::str::from_utf8(field) {
        let bad = error.valid_up_to();
        let byte = field.get(bad).copied().unwrap_or_default();
        return Some(Err(Refused::NotUtf8 { column, at: bad, byte }));
    } else {
        reserve(out, at + ESCAPED_MAX * field.len() + encoder.room(row.end - row.begin));
        at = put_escaped(out, at, field);
    }
    *cursor = Cursor { column: column + 1, start: end + 1, at, after_text: text };
    Some(Ok(()))
}

/// Writes what stands between two fields; gives its length.
#[inline(always)]
fn put_name(name: &Name, out: &mut [u8], at: usize) -> usize {
    out[at..at + CHUNK].copy_from_slice(&name.head);
    if name.length > CHUNK {
        out[at + CHUNK..at + name.length].copy_from_slice(&name.tail);
    }
    name.length
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
