//! Cuts a CSV stream into records that keep their raw bytes and line numbers.
//!
//! A record without quotes is found by one search for its end and split where it
//! lies; csv-core takes over at the first quote. A quoted field that is never
//! closed costs its first line only: what it swallowed is cut again from the
//! next line on.

mod broken;
mod places;

use std::io::{self, Read};
use std::ops::Range;
use std::path::PathBuf;

use memchr::memchr3;
use rows::Quoted;

use super::error::SourceError;
use super::input::Input;
use super::position::Ending;

/// Bytes asked of the file at once; tests meet a buffer's end in every place.
const CHUNK: usize = if cfg!(test) { 61 } else { 128 << 10 };
/// Buffers that grew beyond this for one record are given back after it.
pub(super) const KEEP_MAX: usize = 1 << 20;

/// The bytes of a raw row that a rejection keeps.
pub(super) const RAW_MAX: usize = 64 << 10;

/// Limits that tests lower.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The longest record in bytes.
    pub(super) record_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { record_max: 16 << 20 }
    }
}

/// What was found next.
#[derive(Debug)]
pub(super) enum Found {
    /// A record; its bytes and fields are in [`Records`] until the next call.
    Record(Framed),
    /// Bytes that are no record.
    Broken(Broken),
    /// The end of the input.
    End,
}

/// Where the record lies.
#[derive(Debug, Clone)]
pub(super) struct Framed {
    /// The line it starts on, from 1.
    pub(super) line: u64,
    /// Whether it has quotes, so that its fields were copied out by csv-core.
    pub(super) quoted: bool,
    raw: Range<usize>,
}

/// A record that does not end as it should.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) line: u64,
    pub(super) reason: String,
    /// Its first line, at most [`RAW_MAX`] bytes.
    pub(super) raw: Vec<u8>,
}

/// The records of one input, one after the other.
#[derive(Debug)]
pub(super) struct Records {
    path: PathBuf,
    input: Input,
    pub(super) limits: Limits,
    buffer: Vec<u8>,
    /// What is read and not cut yet is `buffer[start..end]`.
    start: usize,
    end: usize,
    at_eof: bool,
    /// Why the file cannot be read beyond `end`.
    broken: Option<(io::ErrorKind, String)>,
    /// The line that `start` is on.
    line: u64,
    /// The record before ended with a `\r` at the buffer's end: a `\n` belongs to it.
    skip_newline: bool,
    recuts: u32,
    parser: Quoted,
    /// Bytes of the stream before the buffer.
    base: u64,
    /// `buffer[..hashed]`, and all before it, is in the hasher.
    hashed: usize,
    hasher: blake3::Hasher,
    /// Where the record found last was looked for; none when that has left the buffer.
    mark: Option<Mark>,
    /// How the record found last ended.
    ending: Ending,
}

/// A place in the buffer.
#[derive(Debug, Clone, Copy)]
struct Mark {
    at: usize,
    line: u64,
    after_cr: bool,
}

impl Records {
    pub(super) fn new(path: PathBuf, input: Input, delimiter: u8, limits: Limits) -> Self {
        Records {
            path,
            input,
            limits,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            at_eof: false,
            broken: None,
            line: 1,
            skip_newline: false,
            recuts: 0,
            parser: Quoted::new(delimiter),
            base: 0,
            hashed: 0,
            hasher: blake3::Hasher::new(),
            mark: None,
            ending: Ending::default(),
        }
    }

    /// What is read from.
    pub(super) fn input(&mut self) -> &mut Input {
        &mut self.input
    }

    /// Bytes of the file that are read and cut, about.
    pub(super) fn bytes_read(&self) -> u64 {
        self.input.bytes_read()
    }

    pub(super) fn bytes_total(&self) -> u64 {
        self.input.bytes_total
    }

    /// Removes a byte order mark; refuses what is certainly not UTF-8.
    pub(super) fn strip_mark(&mut self) -> Result<(), SourceError> {
        while self.end < 3 && self.fill()? {}
        let head = &self.buffer[..self.end];
        if head.starts_with(b"\xef\xbb\xbf") {
            self.start = 3;
        } else if head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff") {
            let problem = "is UTF-16; save it as UTF-8".to_owned();
            return Err(SourceError::Format { path: self.path.clone(), problem });
        }
        Ok(())
    }

    /// The next record; blank lines are none.
    pub(super) fn next(&mut self) -> Result<Found, SourceError> {
        let mut scanned = 0;
        self.mark_here();
        loop {
            if self.skip_newline && self.start < self.end {
                self.skip_newline = false;
                self.start += usize::from(self.buffer[self.start] == b'\n');
            }
            let pending = &self.buffer[self.start..self.end];
            let Some(at) = memchr3(b'"', b'\n', b'\r', &pending[scanned..]) else {
                scanned = pending.len();
                if scanned > self.limits.record_max {
                    return self.too_long();
                }
                if self.fill()? {
                    continue;
                }
                if scanned == 0 {
                    return Ok(Found::End);
                }
                return Ok(Found::Record(self.take_line(scanned, 0)));
            };
            let at = scanned + at;
            if pending[at] == b'"' {
                return self.quoted();
            }
            let terminator = 1 + usize::from(pending[at..].starts_with(b"\r\n"));
            self.skip_newline = terminator == 1 && pending[at] == b'\r';
            let framed = self.take_line(at, terminator);
            if at > 0 {
                return Ok(Found::Record(framed));
            }
            scanned = 0;
            self.mark_here();
        }
    }

    /// What is read and not cut yet; it begins with a record or a blank line.
    pub(super) fn pending(&mut self) -> &[u8] {
        if self.skip_newline && self.start < self.end {
            self.skip_newline = false;
            self.start += usize::from(self.buffer[self.start] == b'\n');
        }
        &self.buffer[self.start..self.end]
    }

    /// Whether nothing can be read any more: the file has ended or is broken.
    pub(super) fn no_more(&self) -> bool {
        self.at_eof || self.broken.is_some()
    }

    /// Cuts off `length` bytes of what is pending, which are whole records in so many
    /// lines, each with its end.
    pub(super) fn take(&mut self, length: usize, lines: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.buffer[self.start..self.start + length]);
        self.start += length;
        self.line += lines;
        self.mark = None;
        self.ended(true);
    }

    /// The line that comes next.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    fn mark_here(&mut self) {
        let (at, line, after_cr) = (self.start, self.line, self.skip_newline);
        self.mark = Some(Mark { at, line, after_cr });
    }

    /// Notes how a record ended; what an open quote has decided stays decided.
    fn ended(&mut self, with_its_line: bool) {
        if self.ending != Ending::OpenQuote {
            self.ending = if with_its_line { Ending::Line } else { Ending::File };
        }
    }

    /// The bytes of a record without its line end.
    pub(super) fn raw(&self, framed: &Framed) -> &[u8] {
        &self.buffer[framed.raw.clone()]
    }

    /// The bytes of a record and whatever is read behind them, and the record's length.
    pub(super) fn raw_padded(&self, framed: &Framed) -> (&[u8], usize) {
        (&self.buffer[framed.raw.start..], framed.raw.len())
    }

    /// How many fields a quoted record has.
    pub(super) fn field_count(&self) -> usize {
        self.parser.field_count()
    }

    /// The unquoted fields of a quoted record, if there are not absurdly many.
    pub(super) fn fields(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.parser.fields()
    }

    /// Cuts off the next `length` bytes as one line.
    fn take_line(&mut self, length: usize, terminator: usize) -> Framed {
        let raw = self.start..self.start + length;
        let framed = Framed { line: self.line, quoted: false, raw };
        self.start += length + terminator;
        self.line += 1;
        self.ended(terminator > 0);
        framed
    }

    fn quoted(&mut self) -> Result<Found, SourceError> {
        self.parser.begin();
        let mut length = 0;
        loop {
            let pending = &self.buffer[self.start + length..self.end];
            if pending.is_empty() {
                if length > self.limits.record_max {
                    return self.recut(length, "a quoted field is not closed within", true);
                }
                if self.fill()? {
                    continue;
                }
                // A line end closes the record unless a quoted field swallows it.
                if !self.parser.read(b"\n").0 {
                    return self.recut(length, "a quoted field is never closed", false);
                }
                break;
            }
            let (complete, count) = self.parser.read(pending);
            length += count;
            if complete {
                break;
            }
        }
        let bytes = &self.buffer[self.start..self.start + length];
        let content = match bytes {
            [content @ .., b'\r', b'\n'] | [content @ .., b'\r' | b'\n'] => content.len(),
            content => content.len(),
        };
        // csv-core stops after `\r`; the `\n` after it is dropped on the next call.
        self.skip_newline = bytes.ends_with(b"\r");
        let raw = self.start..self.start + content;
        let framed = Framed { line: self.line, quoted: true, raw };
        self.line += 1 + line_ends(&bytes[..content]);
        self.start += length;
        self.ended(content < length);
        Ok(Found::Record(framed))
    }

    /// Reads more behind what is pending, which may move towards the buffer's start;
    /// `false` at the end of the input.
    pub(super) fn fill(&mut self) -> Result<bool, SourceError> {
        if self.at_eof {
            return Ok(false);
        }
        if let Some((kind, text)) = &self.broken {
            return Err(self.unreadable(io::Error::new(*kind, text.clone())));
        }
        let from = self.hash_whole();
        let kept = self.end - from;
        self.mark =
            self.mark.and_then(|mark| Some(Mark { at: mark.at.checked_sub(from)?, ..mark }));
        (self.base, self.hashed) = (self.base + from as u64, 0);
        if self.buffer.len() > KEEP_MAX && kept < CHUNK {
            let mut smaller = Vec::with_capacity(2 * CHUNK);
            smaller.extend_from_slice(&self.buffer[from..self.end]);
            smaller.resize(2 * CHUNK, 0);
            self.buffer = smaller;
        } else {
            if from > 0 {
                self.buffer.copy_within(from..self.end, 0);
            }
            if self.buffer.len() < kept + CHUNK {
                self.buffer.resize((2 * self.buffer.len()).max(kept + CHUNK), 0);
            }
        }
        (self.start, self.end) = (self.start - from, kept);
        loop {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.at_eof = true,
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    self.broken = Some((source.kind(), source.to_string()));
                    return Err(self.unreadable(source));
                }
            }
            return Ok(!self.at_eof);
        }
    }
}

impl Records {
    fn unreadable(&self, source: io::Error) -> SourceError {
        SourceError::Read { path: self.path.clone(), line: self.line - 1, source }
    }
}

impl std::fmt::Display for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", bytesize::ByteSize(self.record_max as u64).display().iec())
    }
}

/// Line ends within a record: `\n`, `\r\n` and a lone `\r` are one each.
pub(super) fn line_ends(bytes: &[u8]) -> u64 {
    let mut count = 0;
    for at in memchr::memchr2_iter(b'\n', b'\r', bytes) {
        count += u64::from(bytes[at] == b'\n' || bytes.get(at + 1) != Some(&b'\n'));
    }
    count
}
