//! Places between records: what was read before one, told by its hash, and going there again.

use super::super::error::SourceError;
use super::super::position::{Beginning, Behind, Ending, Position};
use super::{Mark, Records};

/// What is hashed at once begins at a multiple of this in the stream: BLAKE3 takes 16 chunks
/// of 1 KiB together where it can, and every step from another place on splits them up.
const HASHED: usize = if cfg!(test) { 32 } else { 16 << 10 };

impl Records {
    /// The hash of everything before what is pending, and its bytes.
    pub(in crate::source) fn hashed(&self) -> (blake3::Hasher, u64) {
        let mut hasher = self.hasher.clone();
        hasher.update(&self.buffer[self.hashed..self.start]);
        (hasher, self.base + self.start as u64)
    }

    /// The place after the record found last.
    pub(in crate::source) fn position(&mut self) -> Position {
        self.hash_until(self.start);
        self.place(Mark { at: self.start, line: self.line, after_cr: self.skip_newline })
    }

    /// The place before the record found last; none when that is not known any more.
    /// To be asked before [`Records::position`]. How the record before it ended is
    /// not said: with a line, since another record follows.
    pub(in crate::source) fn position_before(&mut self) -> Option<Position> {
        let mark = self.mark.filter(|mark| mark.at >= self.hashed)?;
        self.hash_until(mark.at);
        Some(Position { ending: Ending::Line, ..self.place(mark) })
    }

    /// Passes over everything before `position`, hashing it.
    pub(in crate::source) fn advance(
        &mut self,
        position: &Position,
    ) -> Result<Beginning, SourceError> {
        while self.base + (self.start as u64) < position.bytes {
            if self.start == self.end && !self.fill()? {
                return Ok(Beginning::Shorter);
            }
            let left = position.bytes - self.base - self.start as u64;
            let here = self.end - self.start;
            self.start += usize::try_from(left).map_or(here, |left| left.min(here));
        }
        (self.line, self.skip_newline) = (position.line, position.after_cr);
        self.ending = position.ending;
        let same = self.position() == *position;
        Ok(if same { Beginning::Same } else { Beginning::Changed })
    }

    /// What stands behind the place that [`Records::advance`] went to.
    pub(in crate::source) fn behind(&mut self) -> Result<Behind, SourceError> {
        while self.start == self.end && self.fill()? {}
        let next = (self.start < self.end).then(|| self.buffer[self.start]);
        if matches!((next, self.ending), (Some(b'\n' | b'\r'), Ending::File)) {
            // The last line ends here, and not where the file ended.
            self.line = self.line.saturating_sub(1);
        }
        Ok(match (next, self.ending) {
            (None, _) => Behind::Nothing,
            (Some(_), Ending::Line) | (Some(b'\n' | b'\r'), Ending::File) => Behind::More,
            (Some(_), Ending::File | Ending::OpenQuote) => Behind::Other,
        })
    }

    /// Hashes what is cut, but for the bytes behind the last multiple of [`HASHED`]; gives
    /// the place in the buffer up to which all is hashed.
    pub(super) fn hash_whole(&mut self) -> usize {
        let cut = self.base + self.start as u64;
        let beyond = usize::try_from(cut % HASHED as u64).unwrap_or(usize::MAX);
        self.hash_until(self.start.saturating_sub(beyond));
        self.hashed
    }

    fn hash_until(&mut self, until: usize) {
        if until > self.hashed {
            self.hasher.update(&self.buffer[self.hashed..until]);
            self.hashed = until;
        }
    }

    /// The place of `mark`, up to which everything is hashed and nothing more.
    fn place(&self, mark: Mark) -> Position {
        Position {
            bytes: self.base + mark.at as u64,
            line: mark.line,
            after_cr: mark.after_cr,
            fingerprint: self.hasher.finalize().to_hex().to_string(),
            ending: self.ending,
        }
    }
}
