//! Reads a request body as a JSON array of objects: one pass that checks the grammar of
//! RFC 8259 and hands out each record's bytes, without building a tree or allocating.
//!
//! Written by hand because this is the dearest part of a request: see [`marks`] and [`form`]
//! for what makes it fast. The tests and a fuzz target hold it against `serde_json`.

mod form;
mod marks;
mod scanner;

use form::Form;
use marks::Marks;
use scanner::Scanner;

/// How deep a record may nest.
pub(crate) const DEPTH_MAX: u32 = 128;

/// Why a body is not a batch, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why} at byte {at}")]
pub(crate) struct Malformed {
    why: &'static str,
    at: usize,
}

/// Calls `visit` with each record of the array `body`, in order; returns how many there are.
pub(crate) fn scan<'a>(
    body: &'a [u8],
    mut visit: impl FnMut(&'a [u8]),
) -> Result<usize, Malformed> {
    let marks = Marks::new(body);
    let mut scanner = Scanner { bytes: body, at: 0, marks, form: Form::default() };
    let count = scanner.records(&mut visit)?;
    if !scanner.marks.ascii()
        && let Err(error) = std::str::from_utf8(body)
    {
        return Err(Malformed { why: "invalid UTF-8", at: error.valid_up_to() });
    }
    Ok(count)
}

impl<'a> Scanner<'a> {
    fn records(&mut self, visit: &mut impl FnMut(&'a [u8])) -> Result<usize, Malformed> {
        self.skip_space();
        match self.peek() {
            Some(b'[') => self.at += 1,
            None => return Err(self.wrong("empty body, expected a JSON array of objects")),
            Some(_) => return Err(self.wrong("expected a JSON array of objects")),
        }
        let mut count = 0;
        self.skip_space();
        if self.peek() == Some(b']') {
            self.at += 1;
        } else {
            loop {
                visit(self.record(count > 0)?);
                count += 1;
                self.skip_space();
                match self.next() {
                    Some(b',') => self.skip_space(),
                    Some(b']') => break,
                    Some(_) => return Err(self.wrong_before("expected `,` or `]`")),
                    None => return Err(self.wrong("truncated array")),
                }
            }
        }
        self.skip_space();
        match self.peek() {
            None => Ok(count),
            Some(_) => Err(self.wrong("more after the end of the array")),
        }
    }

    /// `keep_form` because the first record is often the only one.
    fn record(&mut self, keep_form: bool) -> Result<&'a [u8], Malformed> {
        let start = self.at;
        match self.peek() {
            Some(b'{') => {}
            None => return Err(self.wrong("truncated array")),
            Some(_) => return Err(self.wrong("a record is not an object")),
        }
        let form = std::mem::take(&mut self.form);
        let known = form.pass(self);
        self.form = form;
        if !known {
            self.at = start;
            if keep_form {
                self.form.begin(start);
            }
            self.value()?;
            self.form.end(self.at);
        }
        let record = &self.bytes[start..self.at];
        if record[1..].trim_ascii_start() == b"}" {
            return Err(Malformed { why: "a record is an empty object", at: start });
        }
        Ok(record)
    }
}

#[cfg(test)]
mod tests;
