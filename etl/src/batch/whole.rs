//! Rows on their way into the batches of several sinks: where they are a batch as they
//! are, its bytes are shared and not copied.

use std::sync::Arc;

use bytes::Bytes;

use super::rows::{Rows, row_slices};

/// Rows that can be read, and sealed more than once.
#[derive(Debug)]
pub(crate) struct Whole<'a> {
    rows: &'a mut Rows,
    sealed: Option<(Bytes, Arc<[u32]>)>,
}

impl<'a> Whole<'a> {
    pub(crate) fn new(rows: &'a mut Rows) -> Whole<'a> {
        Whole { rows, sealed: None }
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.sealed.as_ref().map_or(self.rows.len(), |(_, ends)| ends.len())
    }

    /// Bytes of the JSON array of them.
    pub(crate) fn bytes(&self) -> usize {
        self.sealed.as_ref().map_or(self.rows.bytes(), |(body, _)| body.len())
    }

    /// The rows one after the other.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let (body, ends) = match &self.sealed {
            Some((body, ends)) => (&**body, &**ends),
            None => self.rows.parts(),
        };
        row_slices(body, ends)
    }

    /// The JSON array of all rows, and their ends in it.
    pub(crate) fn seal(&mut self) -> (Bytes, Arc<[u32]>) {
        self.sealed.get_or_insert_with(|| self.rows.seal()).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::{Rows, Whole};

    #[test]
    fn sealed_rows_can_still_be_read_and_sealed_again() {
        let mut rows = Rows::default();
        rows.push(b"1");
        rows.push(b"22");
        let mut whole = Whole::new(&mut rows);
        let before: Vec<Vec<u8>> = whole.iter().map(<[u8]>::to_vec).collect();
        let (first, _) = whole.seal();
        assert_eq!(&first[..], b"[1,22]");
        assert_eq!((whole.len(), whole.bytes()), (2, 6));
        assert_eq!(whole.iter().collect::<Vec<_>>(), before);
        assert_eq!(whole.seal().0, first);
    }
}
