//! Takes rows from a connection value by value, makes JSON lines of them, and hands them
//! on in chunks of a bounded size: no result set is ever in memory.

use std::ops::Range;

use rows::json::push_string;
use tokio::sync::mpsc::Sender;

use super::error::SqlError;

/// A chunk is handed on when it has so many bytes.
const CHUNK_BYTES: usize = 128 * 1024;
/// Or so many rows.
const CHUNK_ROWS: usize = 1024;

/// What each row becomes.
#[derive(Debug, Clone)]
pub struct Shape {
    /// For each column that becomes a field, `{"name":` or `,"name":`.
    fields: Vec<Vec<u8>>,
    /// What stands behind the last field: added fields and `}`.
    tail: Vec<u8>,
    /// Places in the page's columns that make the key.
    order: Vec<usize>,
}

/// Rows on their way to the intake.
#[derive(Debug, Default)]
pub struct Chunk {
    bytes: Vec<u8>,
    entries: Vec<Span>,
}

#[derive(Debug)]
struct Span {
    row: Range<usize>,
    key: Range<usize>,
    refused: Option<String>,
}

/// One row of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The record, one line of JSON; not whole for a refused row.
    pub row: &'a [u8],
    /// The row's key, a JSON array.
    pub key: &'a [u8],
    /// Why the row is no record.
    pub refused: Option<&'a str>,
}

/// Writes rows into chunks.
#[derive(Debug)]
pub struct RowWriter {
    shape: Shape,
    chunk: Chunk,
    out: Sender<Chunk>,
    /// The number of the next value of the row.
    column: usize,
    /// Where the row begins.
    began: usize,
    /// Where each value of the key stands in the row, or in `hidden`.
    spans: Vec<Range<usize>>,
    /// Values that are there for the key alone.
    hidden: Vec<u8>,
    /// Where the value that was begun last begins.
    value_at: usize,
    refused: Option<String>,
    written: u64,
}

impl Shape {
    /// Rows with these fields; `added` are names and JSON values that every row gets.
    /// `order` are the places of the key's values among all columns that are read, of
    /// which the ones beyond `fields` are for the key alone.
    #[must_use]
    pub fn new(fields: &[&str], added: &[(String, String)], order: Vec<usize>) -> Shape {
        let mut names = Vec::with_capacity(fields.len());
        for (index, name) in fields.iter().enumerate() {
            names.push(prefix(index == 0, name));
        }
        let mut tail = Vec::new();
        for (index, (name, value)) in added.iter().enumerate() {
            tail.extend_from_slice(&prefix(fields.is_empty() && index == 0, name));
            tail.extend_from_slice(value.as_bytes());
        }
        if fields.is_empty() && added.is_empty() {
            tail.push(b'{');
        }
        tail.push(b'}');
        Shape { fields: names, tail, order }
    }
}

fn prefix(first: bool, name: &str) -> Vec<u8> {
    let mut text = vec![if first { b'{' } else { b',' }];
    push_string(&mut text, name);
    text.push(b':');
    text
}

impl RowWriter {
    /// A writer of rows of this shape into `out`.
    #[must_use]
    pub fn new(shape: Shape, out: Sender<Chunk>) -> RowWriter {
        let spans = vec![0..0; shape.order.len()];
        RowWriter {
            shape,
            chunk: Chunk::default(),
            out,
            column: 0,
            began: 0,
            spans,
            hidden: Vec::new(),
            value_at: 0,
            refused: None,
            written: 0,
        }
    }

    /// Begins the row's next value: exactly one JSON value without a line break is to be
    /// appended to what this gives, and nothing else.
    #[inline]
    pub fn value(&mut self) -> &mut Vec<u8> {
        self.end_value();
        let column = self.column;
        self.column += 1;
        match self.shape.fields.get(column) {
            Some(name) => {
                self.chunk.bytes.extend_from_slice(name);
                self.value_at = self.chunk.bytes.len();
                &mut self.chunk.bytes
            }
            None => {
                self.value_at = self.hidden.len();
                &mut self.hidden
            }
        }
    }

    /// Says that the row has a value that cannot be written, and why: it is rejected by
    /// itself. Its other values, at least those of the key, are written as usual; the one
    /// that cannot be is written as null.
    pub fn refuse(&mut self, why: String) {
        self.refused.get_or_insert(why);
    }

    /// Ends the row. Waits while the chunks before it are not taken.
    ///
    /// # Errors
    /// When nobody takes rows any more: the run is to end.
    pub async fn end_row(&mut self) -> Result<(), SqlError> {
        self.finish_row();
        if self.chunk.bytes.len() >= CHUNK_BYTES || self.chunk.entries.len() >= CHUNK_ROWS {
            self.flush().await?;
        }
        Ok(())
    }

    /// Hands on what is left.
    ///
    /// # Errors
    /// When nobody takes rows any more.
    pub async fn flush(&mut self) -> Result<(), SqlError> {
        if self.chunk.entries.is_empty() {
            return Ok(());
        }
        let chunk = Chunk {
            bytes: Vec::with_capacity(self.chunk.bytes.len()),
            entries: Vec::with_capacity(self.chunk.entries.len()),
        };
        let full = std::mem::replace(&mut self.chunk, chunk);
        self.out.send(full).await.map_err(|_| SqlError::stopped())
    }

    /// Rows that were written.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    fn finish_row(&mut self) {
        self.end_value();
        self.chunk.bytes.extend_from_slice(&self.shape.tail);
        let row = self.began..self.chunk.bytes.len();
        let bytes = &mut self.chunk.bytes;
        let key_at = bytes.len();
        bytes.push(b'[');
        for (index, (at, span)) in self.shape.order.iter().zip(&self.spans).enumerate() {
            if index > 0 {
                bytes.push(b',');
            }
            match *at < self.shape.fields.len() {
                true => bytes.extend_from_within(span.clone()),
                false => bytes.extend_from_slice(&self.hidden[span.clone()]),
            }
        }
        bytes.push(b']');
        let key = key_at..bytes.len();
        self.chunk.entries.push(Span { row, key, refused: self.refused.take() });
        self.hidden.clear();
        self.column = 0;
        self.began = self.chunk.bytes.len();
        self.written += 1;
    }

    /// Notes where the value that was begun last stands, if it is part of the key.
    #[inline]
    fn end_value(&mut self) {
        let Some(last) = self.column.checked_sub(1) else {
            self.began = self.chunk.bytes.len();
            return;
        };
        for (place, at) in self.shape.order.iter().enumerate() {
            if *at == last {
                let end = match last < self.shape.fields.len() {
                    true => self.chunk.bytes.len(),
                    false => self.hidden.len(),
                };
                self.spans[place] = self.value_at..end;
            }
        }
    }
}

impl Chunk {
    /// The rows in their order.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.entries.iter().map(|span| Entry {
            row: &self.bytes[span.row.clone()],
            key: &self.bytes[span.key.clone()],
            refused: span.refused.as_deref(),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use tokio::sync::mpsc::channel;

    use super::{CHUNK_ROWS, RowWriter, Shape};

    #[tokio::test]
    async fn rows_have_their_fields_what_is_added_and_a_key_also_of_columns_not_shown() {
        let (sender, mut chunks) = channel(4);
        let added = [("shard".to_owned(), "\"eu\"".to_owned())];
        // Read are updated_at, name, id; the key is (updated_at, id), and id is not shown.
        let shape = Shape::new(&["updated_at", "name"], &added, vec![0, 2]);
        let mut rows = RowWriter::new(shape, sender);
        for id in 1..=2 {
            rows.value().extend_from_slice(b"\"now\"");
            rows.value().extend_from_slice(b"null");
            rows.value().extend_from_slice(id.to_string().as_bytes());
            if id == 2 {
                rows.refuse("name is no text".to_owned());
            }
            rows.end_row().await.unwrap();
        }
        rows.flush().await.unwrap();
        let chunk = chunks.recv().await.unwrap();
        let seen: Vec<_> = chunk.entries().collect();
        assert_eq!(seen[0].row, br#"{"updated_at":"now","name":null,"shard":"eu"}"#);
        assert_eq!(seen[0].key, br#"["now",1]"#);
        assert_eq!((seen[1].key, seen[1].refused), (&br#"["now",2]"#[..], Some("name is no text")));
        assert_eq!((seen[0].refused, rows.written()), (None, 2));
    }

    #[tokio::test]
    async fn a_chunk_is_bounded_and_an_end_is_noticed() {
        let (sender, mut chunks) = channel(1);
        let mut rows = RowWriter::new(Shape::new(&["a"], &[], vec![0]), sender);
        for _ in 0..=CHUNK_ROWS {
            rows.value().push(b'1');
            rows.end_row().await.unwrap();
        }
        assert_eq!(chunks.recv().await.unwrap().entries().count(), CHUNK_ROWS);
        drop(chunks);
        assert!(rows.flush().await.is_err());
    }
}
