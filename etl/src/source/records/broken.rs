//! Giving up on a record: on its first line only, whatever it has swallowed.

use memchr::memchr2;

use super::super::error::SourceError;
use super::super::position::Ending;
use super::{Broken, Found, RAW_MAX, Records};

/// How often a record that never ends is cut again from its second line; each may
/// cost reading [`super::Limits::record_max`] bytes twice.
const RECUTS_MAX: u32 = 100;

impl Records {
    /// Gives up on the record at `start`: its first line is broken, and cutting goes
    /// on with the line after.
    pub(super) fn recut(
        &mut self,
        length: usize,
        why: &str,
        cap: bool,
    ) -> Result<Found, SourceError> {
        self.parser.reset();
        if !cap {
            self.ending = Ending::OpenQuote;
        }
        let bytes = &self.buffer[self.start..self.start + length];
        let Some(first) = memchr2(b'\n', b'\r', bytes) else {
            return if cap { self.too_long() } else { Ok(self.broken(length, 0, why.to_owned())) };
        };
        if self.recuts == RECUTS_MAX {
            let (path, line, count) = (self.path.clone(), self.line, self.recuts);
            return Err(SourceError::Quotes { path, line, count });
        }
        self.recuts += 1;
        let terminator = 1 + usize::from(bytes[first..].starts_with(b"\r\n"));
        let reason = if cap { format!("{why} {}", self.limits) } else { why.to_owned() };
        Ok(self.broken(first, terminator, reason))
    }

    /// Gives up on a line that is longer than a record may be and drops it.
    pub(super) fn too_long(&mut self) -> Result<Found, SourceError> {
        let reason = format!("the line is longer than {}", self.limits);
        let line_end =
            |records: &Self| memchr2(b'\n', b'\r', &records.buffer[records.start..records.end]);
        let found = self.broken(self.end - self.start, 0, reason);
        while self.fill()? {
            if let Some(at) = line_end(self) {
                self.start += at + 1;
                self.skip_newline = self.buffer[self.start - 1] == b'\r';
                self.ended(true);
                break;
            }
            self.start = self.end;
        }
        Ok(found)
    }

    fn broken(&mut self, length: usize, terminator: usize, reason: String) -> Found {
        let framed = self.take_line(length, terminator);
        let raw = self.raw(&framed);
        let raw = raw[..raw.len().min(RAW_MAX)].to_vec();
        Found::Broken(Broken { line: framed.line, reason, raw })
    }
}
