//! Reads a request body as a JSON array of objects: one pass that checks the grammar of
//! RFC 8259 and hands out each record's bytes, without building a tree or allocating.
//!
//! Written by hand because this is the dearest part of a request: string contents are
//! skipped eight bytes at a time. 200 records of 167 bytes took 24 µs, `serde_json` with
//! `RawValue` 35 µs. The tests hold it against `serde_json`.

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
    let mut scanner = Scanner { bytes: body, at: 0, not_ascii: 0 };
    let count = scanner.records(&mut visit)?;
    if scanner.not_ascii & HIGHS != 0
        && let Err(error) = std::str::from_utf8(body)
    {
        return Err(Malformed { why: "invalid UTF-8", at: error.valid_up_to() });
    }
    Ok(count)
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Marks a quote, a backslash or a control character among eight string bytes: the lowest
/// bit set is the high bit of the first such byte. Bits above it may be set for nothing.
#[inline]
fn stops(word: u64) -> u64 {
    let quote = word ^ (ONES * 0x22);
    let backslash = word ^ (ONES * 0x5c);
    let stops = (quote.wrapping_sub(ONES) & !quote)
        | (backslash.wrapping_sub(ONES) & !backslash)
        | (word.wrapping_sub(ONES * 0x20) & !word);
    stops & HIGHS
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The union of all bytes looked at in strings: shows whether any was not ASCII.
    not_ascii: u64,
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
                visit(self.record()?);
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

    fn record(&mut self) -> Result<&'a [u8], Malformed> {
        let start = self.at;
        match self.peek() {
            Some(b'{') => {}
            None => return Err(self.wrong("truncated array")),
            Some(_) => return Err(self.wrong("a record is not an object")),
        }
        self.value()?;
        let record = &self.bytes[start..self.at];
        if record[1..].trim_ascii_start() == b"}" {
            return Err(Malformed { why: "a record is an empty object", at: start });
        }
        Ok(record)
    }

    /// One JSON value of any kind, without recursion.
    fn value(&mut self) -> Result<(), Malformed> {
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
                Some(b'"') => self.string()?,
                Some(digit @ (b'-' | b'0'..=b'9')) => self.number(digit)?,
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

    /// The rest of a string, after its opening quote. Bytes that need no look are skipped
    /// eight at a time.
    #[inline(always)]
    fn string(&mut self) -> Result<(), Malformed> {
        loop {
            while let Some(chunk) = self.bytes[self.at..].first_chunk::<8>() {
                let word = u64::from_le_bytes(*chunk);
                self.not_ascii |= word;
                let stops = stops(word);
                if stops != 0 {
                    self.at += stops.trailing_zeros() as usize / 8;
                    break;
                }
                self.at += 8;
            }
            match self.next() {
                Some(b'"') => return Ok(()),
                Some(byte) => self.unusual(byte)?,
                None => return Err(self.wrong("truncated string")),
            }
        }
    }

    /// A string byte other than the closing quote, already read.
    #[cold]
    fn unusual(&mut self, byte: u8) -> Result<(), Malformed> {
        match byte {
            b'\\' => self.escape(),
            0..0x20 => Err(self.wrong_before("control character in a string")),
            _ => {
                self.not_ascii |= u64::from(byte);
                Ok(())
            }
        }
    }

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
    fn number(&mut self, first: u8) -> Result<(), Malformed> {
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
    fn skip_space(&mut self) {
        while let Some(byte) = self.peek() {
            // One comparison where there is no space, as between most tokens.
            if byte > b' ' || !matches!(byte, b' ' | b'\n' | b'\t' | b'\r') {
                return;
            }
            self.at += 1;
        }
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    #[cold]
    fn wrong(&self, why: &'static str) -> Malformed {
        Malformed { why, at: self.at }
    }

    #[cold]
    fn wrong_before(&self, why: &'static str) -> Malformed {
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

#[cfg(test)]
mod tests;
