//! A body of one record a line, split where it arrives.

use std::io::{BufRead, BufReader, Read};

use super::decode::trouble;
use super::error::Trouble;

/// What is read at once.
const BUFFER: usize = 64 * 1024;
/// The most of a line that is too long that is kept.
const EXCERPT: usize = 1024;

/// The lines of a body; of each at most `cap` bytes are held.
pub struct Lines {
    reader: BufReader<Box<dyn Read + Send>>,
    cap: usize,
}

/// What the next line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// One that is in the buffer, without its end.
    Whole,
    /// Longer than allowed; its beginning is in the buffer.
    TooLong,
    /// There is none.
    End,
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines").field("cap", &self.cap).finish_non_exhaustive()
    }
}

impl Lines {
    pub(super) fn new(body: Box<dyn Read + Send>, cap: usize) -> Lines {
        Lines { reader: BufReader::with_capacity(BUFFER, body), cap }
    }

    /// Reads the next line that is not blank into `line`. What a broken body ends with
    /// is no line.
    pub(super) fn next(&mut self, line: &mut Vec<u8>) -> Result<Line, Trouble> {
        loop {
            line.clear();
            let (mut length, mut ended) = (0, false);
            while !ended {
                let part = self.reader.fill_buf().map_err(|error| trouble(&error))?;
                if part.is_empty() {
                    if length == 0 {
                        return Ok(Line::End);
                    }
                    break;
                }
                let end = memchr::memchr(b'\n', part);
                let used = end.unwrap_or(part.len());
                ended = end.is_some();
                length += used;
                // As much as is allowed and one byte, so that the excess shows.
                let room = (self.cap + 1).saturating_sub(line.len());
                line.extend_from_slice(&part[..used.min(room)]);
                let passed = used + usize::from(ended);
                self.reader.consume(passed);
                // A line without bytes still is one.
                length += usize::from(ended);
            }
            if line.len() > self.cap {
                line.truncate(EXCERPT);
                return Ok(Line::TooLong);
            }
            if !line.trim_ascii().is_empty() {
                return Ok(Line::Whole);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use super::{Line, Lines};

    fn all(text: &'static [u8], cap: usize) -> Vec<(Line, String)> {
        let mut lines = Lines::new(Box::new(text), cap);
        let (mut line, mut found) = (Vec::new(), Vec::new());
        loop {
            match lines.next(&mut line).unwrap() {
                Line::End => return found,
                kind => found.push((kind, String::from_utf8_lossy(&line).trim().to_owned())),
            }
        }
    }

    #[test]
    fn lines_are_split_and_blank_ones_passed_over() {
        let whole = |text: &str| (Line::Whole, text.to_owned());
        assert_eq!(all(b"{}\r\n\n  \n[1]\n3", 10), [whole("{}"), whole("[1]"), whole("3")]);
        assert_eq!(all(b"", 10), []);
        assert_eq!(all(b"\n", 10), []);
        let long = (Line::TooLong, "12345".to_owned());
        assert_eq!(all(b"1234\n123456789\n5", 4), [whole("1234"), long, whole("5")]);
    }
}
