//! The form of a record: all of it but its texts and numbers.
//!
//! Records of one batch are mostly of one form. One that has the form of a record that was
//! read before, byte by byte, with any text where that has a text and any number where
//! that has a number, is as well-formed as that one: only the values have to be read.

use super::scanner::Scanner;

/// A record's form, as places in the body.
#[derive(Default)]
pub(super) struct Form {
    parts: Vec<Part>,
    /// Where the last value ended, while a record is being read whose form is kept.
    from: Option<usize>,
}

/// Bytes between two values, and what comes after them.
struct Part {
    from: usize,
    until: usize,
    then: Then,
}

#[derive(Clone, Copy)]
enum Then {
    /// The opening quote is the last byte of the part.
    Text,
    Number,
    End,
}

impl Form {
    /// Begins another form, of the record that begins at `at`.
    pub(super) fn begin(&mut self, at: usize) {
        self.parts.clear();
        self.from = Some(at);
    }

    pub(super) fn text_begins(&mut self, at: usize) {
        self.part(at, Then::Text);
    }

    pub(super) fn number_begins(&mut self, at: usize) {
        self.part(at, Then::Number);
    }

    pub(super) fn value_ended(&mut self, at: usize) {
        if let Some(from) = &mut self.from {
            *from = at;
        }
    }

    /// The record ends at `at`.
    pub(super) fn end(&mut self, at: usize) {
        self.part(at, Then::End);
        self.from = None;
    }

    fn part(&mut self, until: usize, then: Then) {
        if let Some(from) = self.from {
            self.parts.push(Part { from, until, then });
        }
    }

    /// Moves `scanner` to the end of a record of this form; false when there is none.
    pub(super) fn pass(&self, scanner: &mut Scanner<'_>) -> bool {
        let mut parts = self.parts.iter();
        loop {
            let Some(part) = parts.next() else { return false };
            let Some(bytes) = scanner.bytes.get(scanner.at..) else { return false };
            if !begins_with(bytes, &scanner.bytes[part.from..part.until]) {
                return false;
            }
            scanner.at += part.until - part.from;
            let read = match part.then {
                Then::Text => scanner.string(),
                Then::Number => match scanner.next() {
                    Some(first @ (b'-' | b'0'..=b'9')) => scanner.number(first),
                    _ => return false,
                },
                Then::End => return true,
            };
            if read.is_err() {
                return false;
            }
        }
    }
}

/// `bytes.starts_with(part)`, without a call for the few bytes that a part has.
#[inline]
fn begins_with(bytes: &[u8], part: &[u8]) -> bool {
    let Some(bytes) = bytes.get(..part.len()) else { return false };
    let (ours, rest) = bytes.as_chunks::<8>();
    let (theirs, other) = part.as_chunks::<8>();
    let same =
        |(one, two): (&[u8; 8], &[u8; 8])| u64::from_le_bytes(*one) == u64::from_le_bytes(*two);
    if !ours.iter().zip(theirs).all(same) {
        return false;
    }
    if rest.is_empty() {
        return true;
    }
    match (bytes.last_chunk::<8>(), part.last_chunk::<8>()) {
        // The last eight bytes, some of them once more.
        (Some(ours), Some(theirs)) => same((ours, theirs)),
        _ => rest.iter().zip(other).all(|(one, two)| one == two),
    }
}
