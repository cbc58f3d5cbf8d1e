//! The grammar of JSON, read byte by byte but for strings, which are skipped.

use super::form::Form;
use super::marks::Marks;
use super::{DEPTH_MAX, Malformed};

/// A place in a body.
pub(super) struct Scanner<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
    pub(super) marks: Marks,
    /// Where the texts and numbers of the values read by [`Scanner::value`] stand.
    pub(super) form: Form,
}

impl Scanner<'_> {
    /// One JSON value of any kind, without recursion.
    pub(super) fn value(&mut self) -> Result<(), Malformed> {
        let mut open = Nesting::default();
        loop {
            match self.next() {
                Some(b'{') => {
                    self.skip_space();
                    if self.peek() == Some(b'}') {
                        self.at += 1;
                    } else {
                        self.enter(&mut open, true)?;
                        self.key()?;
                        continue;
                    }
                }
                Some(b'[') => {
                    self.skip_space();
                    if self.peek() == Some(b']') {
                        self.at += 1;
                    } else {
                        self.enter(&mut open, false)?;
                        continue;
                    }
                }
                Some(b'"') => {
                    self.form.text_begins(self.at);
                    self.string()?;
                    self.form.value_ended(self.at);
                }
                Some(first @ (b'-' | b'0'..=b'9')) => {
                    self.form.number_begins(self.at - 1);
                    self.number(first)?;
                    self.form.value_ended(self.at);
                }
                Some(b't') => self.literal(b"rue")?,
                Some(b'f') => self.literal(b"alse")?,
                Some(b'n') => self.literal(b"ull")?,
                Some(_) => return Err(self.wrong_before("expected a JSON value")),
                None => return Err(self.wrong("truncated JSON")),
            }
            if self.leave(&mut open)? {
                return Ok(());
            }
        }
    }

    /// After a value: closes what ends here. True when the outermost value has ended, false
    /// when another value follows.
    fn leave(&mut self, open: &mut Nesting) -> Result<bool, Malformed> {
        while open.depth > 0 {
            self.skip_space();
            match (self.next(), open.in_object()) {
                (Some(b','), true) => {
                    self.skip_space();
                    self.key()?;
                    return Ok(false);
                }
                (Some(b','), false) => {
                    self.skip_space();
                    return Ok(false);
                }
                (Some(b'}'), true) | (Some(b']'), false) => open.pop(),
                (Some(_), true) => return Err(self.wrong_before("expected `,` or `}`")),
                (Some(_), false) => return Err(self.wrong_before("expected `,` or `]`")),
                (None, _) => return Err(self.wrong("truncated JSON")),
            }
        }
        Ok(true)
    }

    fn enter(&mut self, open: &mut Nesting, object: bool) -> Result<(), Malformed> {
        if open.depth == DEPTH_MAX {
            return Err(self.wrong("nested more than 128 deep"));
        }
        open.push(object);
        Ok(())
    }

    #[inline(always)]
    fn key(&mut self) -> Result<(), Malformed> {
        if self.next() != Some(b'"') {
            return Err(self.wrong_before("expected a key in quotes"));
        }
        self.string()?;
        self.skip_space();
        if self.next() != Some(b':') {
            return Err(self.wrong_before("expected `:`"));
        }
        self.skip_space();
        Ok(())
    }

    /// The rest of a string, after its opening quote.
    #[inline(always)]
    pub(super) fn string(&mut self) -> Result<(), Malformed> {
        loop {
            self.at = self.marks.next(self.at);
            match self.next() {
                Some(b'"') => return Ok(()),
                Some(b'\\') => self.escape()?,
                Some(_) => return Err(self.wrong_before("control character in a string")),
                None => return Err(self.wrong("truncated string")),
            }
        }
    }

    #[cold]
    fn escape(&mut self) -> Result<(), Malformed> {
        match self.next() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(()),
            Some(b'u') => {
                for _ in 0..4 {
                    match self.next() {
                        Some(digit) if digit.is_ascii_hexdigit() => {}
                        Some(_) => return Err(self.wrong_before("invalid \\u escape")),
                        None => return Err(self.wrong("truncated string")),
                    }
                }
                Ok(())
            }
            Some(_) => Err(self.wrong_before("invalid escape")),
            None => Err(self.wrong("truncated string")),
        }
    }

    /// The rest of a number after its first byte.
    #[inline]
    pub(super) fn number(&mut self, first: u8) -> Result<(), Malformed> {
        let leading = if first == b'-' { self.next() } else { Some(first) };
        match leading {
            Some(b'0') => {}
            Some(b'1'..=b'9') => self.skip_digits(),
            _ => return Err(self.wrong("invalid number")),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.some_digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.some_digits()?;
        }
        Ok(())
    }

    #[inline]
    fn some_digits(&mut self) -> Result<(), Malformed> {
        let start = self.at;
        self.skip_digits();
        if self.at == start {
            return Err(self.wrong("invalid number"));
        }
        Ok(())
    }

    #[inline]
    fn skip_digits(&mut self) {
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
    }

    fn literal(&mut self, rest: &'static [u8]) -> Result<(), Malformed> {
        if !self.bytes[self.at..].starts_with(rest) {
            return Err(self.wrong_before("expected a JSON value"));
        }
        self.at += rest.len();
        Ok(())
    }

    #[inline]
    pub(super) fn skip_space(&mut self) {
        while let Some(byte) = self.peek() {
            // One comparison where there is no space, as between most tokens.
            if byte > b' ' || !matches!(byte, b' ' | b'\n' | b'\t' | b'\r') {
                return;
            }
            self.at += 1;
        }
    }

    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    pub(super) fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    #[cold]
    pub(super) fn wrong(&self, why: &'static str) -> Malformed {
        Malformed { why, at: self.at }
    }

    #[cold]
    pub(super) fn wrong_before(&self, why: &'static str) -> Malformed {
        Malformed { why, at: self.at.saturating_sub(1) }
    }
}

/// The open brackets, one bit each: 1 an object, 0 an array.
#[derive(Default)]
struct Nesting {
    kinds: u128,
    depth: u32,
}

impl Nesting {
    fn push(&mut self, object: bool) {
        self.kinds = self.kinds << 1 | u128::from(object);
        self.depth += 1;
    }

    fn pop(&mut self) {
        self.kinds >>= 1;
        self.depth -= 1;
    }

    fn in_object(&self) -> bool {
        self.kinds & 1 == 1
    }
}
