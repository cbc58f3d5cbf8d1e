//! The buffer that rows are encoded into, laid out so that sealing it into a
//! JSON array rewrites one byte per row and copies nothing.

use std::sync::Arc;

use bytes::Bytes;

use super::buffers::{empty, keep, used};

/// Encoded rows: a reserved first byte, then each row's JSON followed by a
/// newline. Sealing turns the first byte into `[`, every newline but the last
/// into `,`, and the last into `]`.
#[derive(Debug, Default)]
pub struct Rows {
    buffer: Vec<u8>,
    /// For each row the offset just past its last byte, that is of its newline.
    ends: Vec<u32>,
    /// Takes no buffer that a batch has left.
    few: bool,
}

impl Rows {
    /// For the rows of one target: their buffer is their own, and the large ones are left
    /// to batches.
    #[must_use]
    pub fn few() -> Rows {
        Rows { few: true, ..Rows::default() }
    }

    /// The largest buffer, so that row ends fit in 32 bits.
    pub const BYTES_MAX: usize = u32::MAX as usize - 1;

    /// A larger buffer is not kept.
    const KEEP_MAX: usize = 1 << 20;

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of the JSON array that sealing now would give.
    #[must_use]
    pub fn bytes(&self) -> usize {
        if self.buffer.is_empty() { 2 } else { self.buffer.len() }
    }

    /// Appends one row, a complete JSON value without newlines.
    pub fn push(&mut self, row: &[u8]) {
        self.push_with(|buffer| buffer.extend_from_slice(row));
    }

    /// Appends one row that `encode` writes at the end of the buffer.
    pub fn push_with(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        if self.buffer.is_empty() {
            if self.buffer.capacity() == 0 && !self.few {
                self.buffer = empty();
            }
            self.buffer.push(b'[');
        }
        encode(&mut self.buffer);
        debug_assert!(self.buffer.len() <= Self::BYTES_MAX);
        self.ends.push(u32::try_from(self.buffer.len()).unwrap_or(u32::MAX));
        self.buffer.push(b'\n');
    }

    /// Appends as many rows as `write` writes into the buffer from a place on; it grows
    /// the buffer as it needs, leaves a byte behind each row, whose place it appends to
    /// the ends, and gives the place behind the last of these bytes. What is in the buffer
    /// behind the place it begins at has no meaning.
    pub(crate) fn push_many(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>, usize, &mut Vec<u32>) -> usize,
    ) {
        let rows = self.ends.len();
        if self.buffer.is_empty() {
            keep(std::mem::replace(&mut self.buffer, used()));
            match self.buffer.first_mut() {
                Some(first) => *first = b'[',
                None => self.buffer.push(b'['),
            }
        }
        let begin = self.ends.last().map_or(1, |end| *end as usize + 1);
        let end = write(&mut self.buffer, begin, &mut self.ends);
        debug_assert!(end <= Self::BYTES_MAX);
        self.buffer.truncate(end);
        for end in &self.ends[rows..] {
            self.buffer[*end as usize] = b'\n';
        }
    }

    /// Takes the last row back.
    pub fn pop(&mut self) {
        self.ends.pop();
        self.buffer.truncate(self.ends.last().map_or(0, |end| *end as usize + 1));
    }

    /// The buffer and the rows' ends in it.
    pub(super) fn parts(&self) -> (&[u8], &[u32]) {
        (&self.buffer, &self.ends)
    }

    /// The rows one after the other.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        row_slices(&self.buffer, &self.ends)
    }

    /// Turns the rows into one JSON array and their ends, leaving this empty.
    pub fn seal(&mut self) -> (Bytes, Arc<[u32]>) {
        let mut body = std::mem::take(&mut self.buffer);
        match self.ends.split_last() {
            None => body = b"[]".to_vec(),
            Some((last, others)) => {
                for end in others {
                    body[*end as usize] = b',';
                }
                body[*last as usize] = b']';
            }
        }
        let ends = Arc::from(&*self.ends);
        self.ends.clear();
        (Bytes::from(body), ends)
    }

    /// Forgets all rows and keeps the memory, unless that is a lot.
    pub fn clear(&mut self) {
        if self.buffer.capacity() > Self::KEEP_MAX {
            self.buffer = Vec::new();
        }
        self.buffer.clear();
        self.ends.clear();
    }
}

/// The rows of a buffer laid out as above, sealed or not.
pub(super) fn row_slices<'a>(
    buffer: &'a [u8],
    ends: &'a [u32],
) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    let mut start = 1;
    ends.iter().map(move |end| {
        let row = &buffer[start..*end as usize];
        start = *end as usize + 1;
        row
    })
}

#[cfg(test)]
mod tests {
    use super::super::buffers::KEPT;
    use super::{Rows, keep};

    #[test]
    fn sealing_gives_a_json_array_and_keeps_row_boundaries() {
        let mut rows = Rows::default();
        rows.push(br#"{"a":1}"#);
        rows.push(br#"{"b":2}"#);
        assert_eq!(rows.bytes(), 17);
        let (body, ends) = rows.seal();
        assert_eq!(&body[..], br#"[{"a":1},{"b":2}]"#);
        assert_eq!(*ends, [8, 16]);
        assert!(rows.is_empty());
        assert_eq!(&rows.seal().0[..], b"[]");
    }

    #[test]
    fn few_rows_take_no_buffer_of_a_batch() {
        // Other tests use the same buffers: this one is told by its size.
        let odd = 23_456;
        let there = || KEPT.has(|it| it.capacity() == odd);
        keep(Vec::with_capacity(odd));
        let mut rows = Rows::few();
        rows.push(b"1");
        assert!(rows.buffer.capacity() < odd && there());
    }

    #[test]
    fn a_row_taken_back_leaves_no_trace() {
        let mut rows = Rows::default();
        rows.push(b"1");
        rows.pop();
        assert!(rows.is_empty());
        rows.push(b"2");
        rows.push(b"333");
        rows.pop();
        rows.push(b"4");
        assert_eq!(rows.iter().collect::<Vec<_>>(), [b"2", b"4"]);
        assert_eq!(&rows.seal().0[..], b"[2,4]");
    }
}
