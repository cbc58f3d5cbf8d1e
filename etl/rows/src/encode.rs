//! One row's fields as one JSON object, straight into the output buffer. The bulk
//! path: no allocation, each byte of a plain line is looked at once to find the
//! field's end and what its encoding needs, and short texts are copied 32 bytes at a
//! time, whatever their length, because a copy of a known length is a few instructions.

use super::json::{CLASSES, DELIMITER, ESCAPE, HIGH, is_number_of, push_escaped, push_string};

/// What is copied at once of a short text.
pub(crate) const CHUNK: usize = 32;

/// Why a row is no record.
#[derive(Debug, Clone, Copy)]
pub enum Refused {
    /// It has this many fields.
    Count(usize),
    /// A field has a byte that does not belong there.
    NotUtf8 {
        /// Counted from 0.
        column: usize,
        /// Its place in the field.
        at: usize,
        /// The byte.
        byte: u8,
    },
}

/// Writes fields as a JSON object.
#[derive(Debug)]
pub struct Encoder {
    /// `{"first":`, `,"second":` and so on.
    pub(crate) prefixes: Vec<Prefix>,
    prefix_bytes: usize,
    /// Ends a field.
    pub delimiter: u8,
    /// What bytes mean in a line, where the delimiter ends a field.
    line_classes: Box<[u8; 256]>,
    pub(crate) numbers: bool,
}

/// A column's name as it begins a field. Four of them: with the quote that ends a text
/// before it, the one that begins a text, neither or both.
#[derive(Debug)]
pub(crate) struct Prefix([Name; 4]);

/// A text whose beginning is copied as a whole. Its place among others is found by a shift.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Name {
    /// Its first bytes, and zeros behind it.
    pub(crate) head: [u8; CHUNK],
    /// The others.
    pub(crate) tail: Box<[u8]>,
    pub(crate) length: usize,
}

impl Prefix {
    fn new(first: bool, column: &str) -> Prefix {
        let name = |after_text: bool, text: bool| {
            let mut bytes = Vec::new();
            if after_text {
                bytes.push(b'"');
            }
            bytes.push(if first { b'{' } else { b',' });
            push_string(&mut bytes, column);
            bytes.push(b':');
            if text {
                bytes.push(b'"');
            }
            let mut head = [0; CHUNK];
            let (short, tail) = bytes.split_at(bytes.len().min(CHUNK));
            head[..short.len()].copy_from_slice(short);
            Name { head, tail: tail.into(), length: bytes.len() }
        };
        Prefix([name(false, false), name(false, true), name(true, false), name(true, true)])
    }

    /// The name between two fields, of which either may be a text.
    #[inline]
    pub(crate) fn between(&self, before_is_text: bool, is_text: bool) -> &Name {
        &self.0[2 * usize::from(before_is_text) + usize::from(is_text)]
    }
}

impl Name {
    fn push(&self, out: &mut Vec<u8>) {
        push_short(out, &self.head, self.length.min(CHUNK));
        out.extend_from_slice(&self.tail);
    }
}

impl Encoder {
    /// For rows of these columns; with `numbers`, what is a JSON number becomes one.
    #[must_use]
    pub fn new(columns: &[String], delimiter: u8, numbers: bool) -> Self {
        let prefixes: Vec<Prefix> =
            columns.iter().enumerate().map(|(at, name)| Prefix::new(at == 0, name)).collect();
        let prefix_bytes = prefixes.iter().map(|prefix| prefix.0[0].length).sum();
        let mut line_classes = Box::new(CLASSES);
        line_classes[usize::from(delimiter)] |= DELIMITER;
        Encoder { prefixes, prefix_bytes, delimiter, line_classes, numbers }
    }

    /// What a row of so many bytes needs of the output at most, if nothing in it is
    /// escaped.
    pub fn room(&self, length: usize) -> usize {
        self.prefix_bytes + length + 3 * self.prefixes.len() + 2 * CHUNK
    }

    /// Encodes a line without quotes, the first `length` bytes of `padded`; what
    /// follows it there is of no meaning.
    pub fn encode_line(
        &self,
        padded: &[u8],
        length: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Refused> {
        let line = &padded[..length];
        out.reserve(self.prefix_bytes + length + 3 * self.prefixes.len() + CHUNK);
        let count_fields = || line.iter().filter(|byte| **byte == self.delimiter).count() + 1;
        let mut start = 0;
        for (column, prefix) in self.prefixes.iter().enumerate() {
            let Some(bytes) = line.get(start..) else { return Err(Refused::Count(column)) };
            let (mut class, mut length) = (0, bytes.len());
            for (at, byte) in bytes.iter().enumerate() {
                let this = self.line_classes[usize::from(*byte)];
                if this & DELIMITER != 0 {
                    length = at;
                    break;
                }
                class |= this;
            }
            prefix.0[0].push(out);
            let field = self.encode_field(&padded[start..], length, class, out);
            start += length + 1;
            if let Err((at, byte)) = field {
                let count = count_fields();
                return Err(if count == self.prefixes.len() {
                    Refused::NotUtf8 { column, at, byte }
                } else {
                    Refused::Count(count)
                });
            }
        }
        if start <= line.len() {
            return Err(Refused::Count(count_fields()));
        }
        out.push(b'}');
        Ok(())
    }

    /// Encodes fields that csv-core has unquoted, one for each column.
    pub fn encode_fields<'a>(
        &self,
        fields: impl Iterator<Item = &'a [u8]>,
        out: &mut Vec<u8>,
    ) -> Result<(), Refused> {
        for (column, (prefix, field)) in self.prefixes.iter().zip(fields).enumerate() {
            prefix.0[0].push(out);
            let class = field.iter().fold(0, |class, byte| class | CLASSES[usize::from(*byte)]);
            self.encode_field(field, field.len(), class, out)
                .map_err(|(at, byte)| Refused::NotUtf8 { column, at, byte })?;
        }
        out.push(b'}');
        Ok(())
    }

    /// Encodes one field, the first `length` bytes of `padded`, whose bytes have the
    /// classes `class`; fails with the place and value of the first byte that is not
    /// UTF-8.
    #[inline]
    fn encode_field(
        &self,
        padded: &[u8],
        length: usize,
        class: u8,
        out: &mut Vec<u8>,
    ) -> Result<(), (usize, u8)> {
        let field = &padded[..length];
        if self.numbers && is_number_of(class, field) {
            push_short(out, padded, length);
            return Ok(());
        }
        if class & HIGH != 0
            && let Err(error) = std::str::from_utf8(field)
        {
            let at = error.valid_up_to();
            return Err((at, field.get(at).copied().unwrap_or_default()));
        }
        out.push(b'"');
        if class & ESCAPE == 0 {
            push_short(out, padded, length);
        } else {
            push_escaped(out, field);
        }
        out.push(b'"');
        Ok(())
    }
}

/// Appends the first `length` bytes of `padded`.
#[inline]
fn push_short(out: &mut Vec<u8>, padded: &[u8], length: usize) {
    match padded.first_chunk::<CHUNK>() {
        Some(chunk) if length <= CHUNK => {
            let end = out.len() + length;
            out.extend_from_slice(chunk);
            out.truncate(end);
        }
        _ => out.extend_from_slice(&padded[..length]),
    }
}
