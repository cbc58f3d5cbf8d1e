//! Decides when collected rows are a batch: by records, by bytes, or because
//! the first one has waited long enough. Takes time as an argument.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::key::KeyContext;
use super::payload::Payload;
use super::rows::Rows;
use super::whole::Whole;

/// Collects the rows of one sink and seals them into payloads, in order.
#[derive(Debug)]
pub struct BatchBuilder {
    records_max: usize,
    bytes_max: usize,
    linger: Duration,
    keys: KeyContext,
    run_id: Arc<str>,
    rows: Rows,
    /// Sequence number of the first record not yet in a sealed batch.
    sealed_until: u64,
    /// Sequence number after the last record seen.
    seen_until: u64,
    first_at: Option<Instant>,
    /// Where an earlier process sealed by other reasons than records and bytes.
    cuts: VecDeque<u64>,
}

impl BatchBuilder {
    /// A builder whose first record has the sequence number `start`. A batch
    /// holds at most `records_max` records and `bytes_max` bytes of JSON, except
    /// that a single larger record travels alone.
    #[must_use]
    pub fn new(
        limits: &crate::config::BatchLimits,
        keys: KeyContext,
        run_id: Arc<str>,
        start: u64,
    ) -> Self {
        BatchBuilder {
            records_max: limits.records.max(1),
            bytes_max: usize::try_from(limits.bytes.0).unwrap_or(usize::MAX).min(Rows::BYTES_MAX),
            linger: limits.linger.0,
            keys,
            run_id,
            rows: Rows::default(),
            sealed_until: start,
            seen_until: start,
            first_at: None,
            cuts: VecDeque::new(),
        }
    }

    /// Seals also before the records with these sequence numbers (ascending), as an
    /// earlier process did: its batches come again as they were.
    #[must_use]
    pub fn with_cuts(mut self, cuts: impl IntoIterator<Item = u64>) -> Self {
        self.cuts.extend(cuts);
        self
    }

    /// Adds the record with sequence number `sequence`; gives back a batch when
    /// one is full. One or two may be sealed before and one after the row, so the
    /// caller passes `sealed` to collect them.
    pub fn push(&mut self, sequence: u64, row: &[u8], now: Instant, sealed: &mut Vec<Payload>) {
        self.seal_at_cut(sequence, sealed);
        if !self.rows.is_empty() && self.rows.bytes() + row.len() + 1 > self.bytes_max {
            sealed.extend(self.seal());
        }
        self.rows.push(row);
        self.seen_until = sequence + 1;
        self.first_at.get_or_insert(now);
        if self.rows.len() >= self.records_max || self.rows.bytes() >= self.bytes_max {
            sealed.extend(self.seal());
        }
    }

    /// Adds `rows`, the records from number `first` on: as a batch of their own where
    /// they are one as they are, else one by one.
    pub(crate) fn push_all(
        &mut self,
        first: u64,
        rows: &mut Whole<'_>,
        now: Instant,
        sealed: &mut Vec<Payload>,
    ) {
        let behind = first + rows.len() as u64;
        let fills = rows.len() == self.records_max && rows.bytes() <= self.bytes_max;
        self.seal_at_cut(first, sealed);
        let cut = self.cuts.front().is_some_and(|cut| *cut < behind);
        if fills && self.rows.is_empty() && !cut {
            self.seen_until = behind;
            let range = self.take_range();
            let keys = &self.keys;
            let key = |range: &Range<u64>, body: &[u8]| keys.key(range, body);
            sealed.push(Payload::of(rows.seal(), range, self.run_id.clone(), key));
            return;
        }
        for (sequence, row) in (first..).zip(rows.iter()) {
            self.push(sequence, row, now, sealed);
        }
    }

    /// The most records of a batch.
    #[must_use]
    pub fn records_max(&self) -> usize {
        self.records_max
    }

    /// Notes that the record with sequence number `sequence` exists but is not
    /// for this sink (rejected, filtered), so that the ranges have no gaps.
    pub fn skip(&mut self, sequence: u64, sealed: &mut Vec<Payload>) {
        self.seal_at_cut(sequence, sealed);
        self.seen_until = sequence + 1;
    }

    /// A range without a record for this sink, once it is as long as a batch; at the
    /// end of the run (`last`) of any length. The watermark may pass it at once.
    pub fn take_gap(&mut self, last: bool) -> Option<Range<u64>> {
        let length = self.seen_until - self.sealed_until;
        let long = length >= self.records_max as u64 || (last && length > 0);
        (self.rows.is_empty() && long).then(|| self.take_range())
    }

    /// When the collected rows must be sealed at the latest; `None` when empty.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.first_at.map(|first| first + self.linger)
    }

    /// Seals when the first row has waited for the linger time.
    pub fn seal_if_due(&mut self, now: Instant) -> Option<Payload> {
        if self.due().is_some_and(|due| due <= now) { self.seal() } else { None }
    }

    /// Seals what is there; `None` when empty.
    pub fn seal(&mut self) -> Option<Payload> {
        if self.rows.is_empty() {
            return None;
        }
        self.first_at = None;
        let range = self.take_range();
        let keys = &self.keys;
        Some(Payload::seal(&mut self.rows, range, self.run_id.clone(), |range, body| {
            keys.key(range, body)
        }))
    }

    /// Records collected and not sealed.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.rows.len()
    }

    fn seal_at_cut(&mut self, sequence: u64, sealed: &mut Vec<Payload>) {
        while self.cuts.front().is_some_and(|cut| *cut <= sequence) {
            self.cuts.pop_front();
            sealed.extend(self.seal());
        }
    }

    fn take_range(&mut self) -> Range<u64> {
        let range = self.sealed_until..self.seen_until;
        self.sealed_until = self.seen_until;
        range
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::BatchBuilder;
    use crate::batch::{KeyContext, Payload};
    use crate::config::{BatchLimits, Size, Span};

    fn builder(records: usize, bytes: u64) -> BatchBuilder {
        let limits =
            BatchLimits { records, bytes: Size(bytes), linger: Span(Duration::from_secs(1)) };
        BatchBuilder::new(&limits, KeyContext::new("p", "s", "r"), Arc::from("r"), 0)
    }

    fn bodies(sealed: &[Payload]) -> Vec<&[u8]> {
        sealed.iter().map(|payload| &payload.body[..]).collect()
    }

    #[test]
    fn seals_by_records() {
        let (mut builder, now, mut sealed) = (builder(2, 1 << 20), Instant::now(), Vec::new());
        for sequence in 0..5 {
            builder.push(sequence, b"1", now, &mut sealed);
        }
        sealed.extend(builder.seal());
        assert_eq!(bodies(&sealed), [&b"[1,1]"[..], b"[1,1]", b"[1]"]);
        let ranges: Vec<_> = sealed.iter().map(|payload| payload.range.clone()).collect();
        assert_eq!(ranges, [0..2, 2..4, 4..5]);
    }

    #[test]
    fn seals_by_bytes_and_a_large_record_travels_alone() {
        let (mut builder, now, mut sealed) = (builder(100, 9), Instant::now(), Vec::new());
        for (sequence, row) in [(0, &b"111"[..]), (1, b"222"), (2, b"33333333333"), (3, b"4")] {
            builder.push(sequence, row, now, &mut sealed);
        }
        sealed.extend(builder.seal());
        assert_eq!(bodies(&sealed), [&b"[111,222]"[..], b"[33333333333]", b"[4]"]);
    }

    #[test]
    fn seals_when_the_first_record_has_waited_and_skipped_records_leave_no_gap() {
        let (mut builder, now, mut sealed) = (builder(100, 1 << 20), Instant::now(), Vec::new());
        builder.skip(0, &mut sealed);
        builder.push(1, b"1", now, &mut sealed);
        builder.skip(2, &mut sealed);
        assert!(builder.seal_if_due(now + Duration::from_millis(999)).is_none());
        let batch = builder.seal_if_due(now + Duration::from_secs(1));
        assert_eq!(batch.map(|payload| payload.range), Some(0..3));
        assert_eq!(builder.due(), None);
    }

    #[test]
    fn a_cut_seals_as_an_earlier_process_did_and_never_twice() {
        let now = Instant::now();
        let mut sealed = Vec::new();
        let mut builder = builder(4, 1 << 20).with_cuts([2, 3, 9]);
        for sequence in 0..9 {
            builder.push(sequence, b"1", now, &mut sealed);
        }
        builder.skip(9, &mut sealed);
        sealed.extend(builder.seal());
        let ranges: Vec<_> = sealed.iter().map(|payload| payload.range.clone()).collect();
        assert_eq!(ranges, [0..2, 2..3, 3..7, 7..9]);
        assert_eq!(builder.take_gap(false), None);
        assert_eq!(builder.take_gap(true), Some(9..10));
    }

    #[test]
    fn a_gap_as_long_as_a_batch_is_passed() {
        let (mut builder, now, mut sealed) = (builder(2, 1 << 20), Instant::now(), Vec::new());
        builder.skip(0, &mut sealed);
        assert_eq!(builder.take_gap(false), None);
        builder.skip(1, &mut sealed);
        assert_eq!(builder.take_gap(false), Some(0..2));
        builder.push(2, b"1", now, &mut sealed);
        builder.skip(3, &mut sealed);
        assert_eq!(builder.take_gap(true), None);
        assert_eq!(builder.seal().map(|payload| payload.range), Some(2..4));
    }
}
