//! The sealed, immutable part of a batch: what is sent, spooled and replayed.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::value::RawValue;

use super::key::BatchKey;
use super::rows::{Rows, row_slices};

/// A sealed batch's bytes and identity. Cloning shares the bytes, so a retry
/// never copies.
#[derive(Debug, Clone)]
pub struct Payload {
    /// Fixed at sealing.
    pub key: BatchKey,
    /// The JSON array, exactly as it is sent and spooled.
    pub body: Bytes,
    /// The run that extracted the records.
    pub run_id: Arc<str>,
    /// Which records of the run it covers, by their sequence numbers. May be
    /// longer than the batch: rejected and filtered records lie in it too.
    pub range: Range<u64>,
    records: usize,
    /// Where each row ends; of a body that was read back only when somebody asks.
    ends: OnceLock<Arc<[u32]>>,
}

/// A body that is not a JSON array of values.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// Not JSON, or not an array.
    #[error("not a JSON array: {0}")]
    NotAnArray(#[from] serde_json::Error),
    /// Larger than a batch can be.
    #[error("larger than 4 GiB")]
    TooLarge,
}

impl Payload {
    /// Seals `rows`, which must not be empty.
    #[must_use]
    pub fn seal(
        rows: &mut Rows,
        range: Range<u64>,
        run_id: Arc<str>,
        key: impl FnOnce(&Range<u64>, &[u8]) -> BatchKey,
    ) -> Payload {
        Payload::of(rows.seal(), range, run_id, key)
    }

    /// The payload of sealed rows.
    pub(super) fn of(
        (body, ends): (Bytes, Arc<[u32]>),
        range: Range<u64>,
        run_id: Arc<str>,
        key: impl FnOnce(&Range<u64>, &[u8]) -> BatchKey,
    ) -> Payload {
        let key = key(&range, &body);
        Payload { key, body, run_id, range, records: ends.len(), ends: ends.into() }
    }

    /// Takes a body that was sealed earlier, by this program or another, and
    /// finds its rows. The bytes stay as they are when they are laid out as
    /// sealing does (`[row,row]` without spaces between), else they are laid out anew.
    ///
    /// # Errors
    /// When `body` is not a JSON array.
    pub fn from_array(
        body: Bytes,
        key: BatchKey,
        range: Range<u64>,
        run_id: Arc<str>,
    ) -> Result<Payload, PayloadError> {
        if body.len() > Rows::BYTES_MAX {
            return Err(PayloadError::TooLarge);
        }
        let values: Vec<&RawValue> = serde_json::from_slice(&body)?;
        let ends = row_ends(&values);
        let end = ends.last().map_or(0, |end| *end as usize);
        if values.is_empty() || end + 1 == body.len() {
            let (body, ends) = (body.clone(), ends.into());
            return Ok(Payload { key, body, run_id, range, records: values.len(), ends });
        }
        let mut rows = Rows::default();
        for value in &values {
            rows.push(value.get().as_bytes());
        }
        Ok(Payload::of(rows.seal(), range, run_id, |_, _| key))
    }

    /// Takes a body that this program sealed with so many records, for which a digest
    /// vouches: it is not looked into before somebody asks for its rows.
    #[must_use]
    pub(crate) fn vouched(
        body: Bytes,
        records: usize,
        key: BatchKey,
        range: Range<u64>,
        run_id: Arc<str>,
    ) -> Payload {
        Payload { key, body, run_id, range, records, ends: OnceLock::new() }
    }

    /// Number of records.
    #[must_use]
    pub fn records(&self) -> usize {
        self.records
    }

    /// The records one after the other, each a JSON value.
    pub fn rows(&self) -> impl Iterator<Item = &[u8]> {
        let ends = self.ends.get_or_init(|| {
            let values: Vec<&RawValue> = serde_json::from_slice(&self.body).unwrap_or_default();
            debug_assert_eq!(values.len(), self.records, "a body is not what was vouched for");
            row_ends(&values)
        });
        row_slices(&self.body, ends)
    }

    /// The payload of the records at `picked` (positions in this batch, ascending),
    /// under the key that `part` derives.
    #[must_use]
    pub fn select(&self, part: u64, picked: &[usize]) -> Payload {
        let mut rows = Rows::default();
        let mut next = picked.iter().copied().peekable();
        for (index, row) in self.rows().enumerate() {
            if next.peek() == Some(&index) {
                rows.push(row);
                next.next();
            }
        }
        let key = self.key.part(part);
        Payload::of(rows.seal(), self.range.clone(), self.run_id.clone(), |_, _| key)
    }

    /// Both halves under derived keys; `None` for a batch of one record.
    #[must_use]
    pub fn halves(&self) -> Option<[Payload; 2]> {
        let records = self.records();
        if records < 2 {
            return None;
        }
        let indices: Vec<usize> = (0..records).collect();
        let (left, right) = indices.split_at(records / 2);
        Some([self.select(0, left), self.select(1, right)])
    }
}

/// The ends of rows that follow one another with one byte between them. A body is
/// shorter than 4 GiB, so that they fit.
fn row_ends(values: &[&RawValue]) -> Arc<[u32]> {
    let ends = values.iter().scan(0, |end, value| {
        *end += 1 + value.get().len();
        Some(u32::try_from(*end).unwrap_or(u32::MAX))
    });
    ends.collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::Payload;
    use crate::batch::{BatchKey, KeyContext, Rows};

    fn sealed(rows: &[&str]) -> Payload {
        let mut buffer = Rows::default();
        for row in rows {
            buffer.push(row.as_bytes());
        }
        let keys = KeyContext::new("p", "s", "r");
        Payload::seal(&mut buffer, 0..rows.len() as u64, Arc::from("r"), |r, b| keys.key(r, b))
    }

    #[test]
    fn halves_hold_all_records_once_and_always_have_the_same_keys() {
        let batch = sealed(&["{\"a\":1}", "{\"a\":2}", "{\"a\":3}"]);
        let [left, right] = batch.halves().unwrap();
        assert_eq!(&left.body[..], br#"[{"a":1}]"#);
        assert_eq!(&right.body[..], br#"[{"a":2},{"a":3}]"#);
        let [again, _] = sealed(&["{\"a\":1}", "{\"a\":2}", "{\"a\":3}"]).halves().unwrap();
        assert_eq!(left.key, again.key);
        assert_ne!(left.key, right.key);
        assert!(left.halves().is_none());
    }

    #[test]
    fn a_body_read_back_is_the_same_bytes_and_rows() {
        let batch = sealed(&["{\"a\":1}", "{\"b\":\"],[\"}"]);
        let back =
            Payload::from_array(batch.body.clone(), batch.key, 0..2, Arc::from("r")).unwrap();
        assert_eq!(back.body, batch.body);
        assert_eq!(back.rows().collect::<Vec<_>>(), batch.rows().collect::<Vec<_>>());
        let run = Arc::from("r");
        let vouched = Payload::vouched(batch.body.clone(), 2, batch.key, 0..2, run);
        assert_eq!(vouched.records(), 2);
        let [halves, same] = [vouched.halves().unwrap(), batch.halves().unwrap()];
        assert_eq!(halves.map(|half| half.body), same.map(|half| half.body));
        assert_eq!(vouched.rows().collect::<Vec<_>>(), batch.rows().collect::<Vec<_>>());
    }

    #[test]
    fn a_foreign_layout_is_laid_out_anew() {
        let body = Bytes::from_static(b" [ {\"a\": 1} ,\n{\"b\":2} ]\n");
        let key = BatchKey::of_foreign_body(&body);
        let payload = Payload::from_array(body, key, 0..0, Arc::from("")).unwrap();
        assert_eq!(&payload.body[..], b"[{\"a\": 1},{\"b\":2}]");
        assert_eq!(payload.records(), 2);
        let bad = Payload::from_array(Bytes::from_static(b"[1,"), key, 0..0, Arc::from(""));
        assert!(bad.is_err());
    }
}
