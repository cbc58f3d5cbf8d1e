//! Intake: extracted records are transformed, numbered, and collected into each
//! sink's batches. One lock gives every record its sequence number, so that a
//! batch covers one range of numbers whatever order the extraction finished in.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::harvest::Harvest;
use super::rejects::{Reject, RejectSender};
use crate::batch::{Batch, BatchBuilder, Payload, Rows};
use crate::load::runtime::Outlet;
use crate::telemetry::{Books, SinkInput};
use crate::transform::{Chain, Scratch, Verdict};

/// Where extracted records enter the batches of all sinks.
#[derive(Debug)]
pub struct Intake {
    chain: Arc<Chain>,
    books: Arc<Books>,
    rejects: RejectSender,
    begin: Begin,
    inner: Mutex<Inner>,
}

/// Where numbering begins, and what an earlier process has done of it.
#[derive(Debug, Clone, Default)]
pub struct Begin {
    /// The number of the first record that is handed in.
    pub first: u64,
    /// Rejects before this one are written down.
    pub rejects_until: u64,
    /// The number of the next record; all rejects before it have been handed over.
    pub numbered: Arc<AtomicU64>,
}

/// One sink's place in the intake.
#[derive(Debug)]
pub struct Inlet {
    /// What it gets.
    pub input: SinkInput,
    /// Makes its batches; begins with record `start`.
    pub builder: BatchBuilder,
    /// Takes them.
    pub outlet: Outlet,
    /// Records before this one are settled in this sink.
    pub start: u64,
}

/// What there was to seal at the end.
#[derive(Debug)]
#[must_use = "sealed batches must be sent"]
pub struct Closed {
    /// To be sent once `cuts` are durable.
    pub sealed: Sealed,
    /// Per sink, where its last batch was cut off.
    pub cuts: Vec<(String, u64)>,
}

#[derive(Debug)]
struct Inner {
    /// The next record's number in this run.
    next_sequence: u64,
    numbered: Arc<AtomicU64>,
    sinks: Vec<Inlet>,
    /// Sinks that get nothing of it.
    elsewhere: Vec<Outlet>,
}

/// Batches that were sealed and must now be sent, each to its sink.
#[derive(Debug, Default)]
#[must_use = "sealed batches must be sent"]
pub struct Sealed {
    batches: Vec<(Outlet, Batch)>,
    /// Ends of ranges that were closed, with or without a batch, each with the number
    /// of its sink.
    ends: Vec<(usize, u64)>,
    /// The number after the last record that was taken in; none without one.
    until: Option<u64>,
}

/// Memory that one producer reuses from record to record.
#[derive(Debug, Default)]
pub struct Workspace {
    scratch: Scratch,
    transformed: Rows,
    /// For each extracted row what became of it.
    fates: Vec<Fate>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    Dropped,
}

impl Intake {
    /// An intake into `sinks`, each with its builder.
    #[must_use]
    pub fn new(
        chain: Arc<Chain>,
        books: Arc<Books>,
        rejects: RejectSender,
        begin: Begin,
        sinks: Vec<Inlet>,
    ) -> Self {
        begin.numbered.store(begin.first, Release);
        let (next_sequence, numbered) = (begin.first, begin.numbered.clone());
        let inner = Mutex::new(Inner { next_sequence, numbered, sinks, elsewhere: Vec::new() });
        Intake { chain, books, rejects, begin, inner }
    }

    /// An intake beside this one, with numbers and batches of its own, into the same
    /// sinks; those `elsewhere` get nothing of it.
    #[must_use]
    pub fn beside(&self, begin: Begin, sinks: Vec<Inlet>, elsewhere: Vec<Outlet>) -> Intake {
        let (chain, books) = (self.chain.clone(), self.books.clone());
        let intake = Intake::new(chain, books, self.rejects.clone(), begin, sinks);
        intake.inner().elsewhere = elsewhere;
        intake
    }

    /// Every sink: what it gets, and where that goes in.
    #[must_use]
    pub fn outlets(&self) -> Vec<(SinkInput, Outlet)> {
        self.inner().sinks.iter().map(|sink| (sink.input, sink.outlet.clone())).collect()
    }

    /// Takes in the records of one source position; what is sealed must be sent.
    /// `place` names it in messages.
    pub async fn take(
        &self,
        rows: &Rows,
        place: &(dyn Fn() -> String + Sync),
        workspace: &mut Workspace,
    ) -> Sealed {
        self.transform(rows, place, workspace).await;
        self.add(rows, workspace)
    }

    /// Transforms a harvest, which is then ready to be admitted; not in any order unless
    /// a step remembers.
    pub fn prepare(&self, harvest: &mut Harvest, file: &str, scratch: &mut Scratch) {
        harvest.transform(&self.chain, file, scratch);
    }

    /// Takes in a harvest; what is sealed must be sent. One after the other, in the order
    /// of the source.
    pub async fn admit(&self, harvest: &mut Harvest) -> Sealed {
        let records = harvest.records() as u64;
        self.books.extracted.fetch_add(records, Relaxed);
        self.books.filtered.fetch_add(harvest.filtered(), Relaxed);
        let first = self.inner().next_sequence;
        for (at, reject) in harvest.rejects() {
            self.count_reject(reject, first + at as u64).await;
        }
        self.add_harvest(harvest)
    }

    /// The most records of a batch of the first sink, and how many it has collected.
    pub fn filling(&self) -> (usize, usize) {
        let inner = self.inner();
        let builder = inner.sinks.first().map(|sink| &sink.builder);
        builder.map_or((1, 0), |builder| (builder.records_max(), builder.waiting()))
    }

    /// Whether a step remembers records that have passed.
    pub fn remembers(&self) -> bool {
        self.chain.remembers()
    }

    /// Lets the steps see a record that an earlier process of this run has taken in.
    pub fn recall(&self, row: &[u8], workspace: &mut Workspace) {
        workspace.transformed.clear();
        let Workspace { scratch, transformed, .. } = workspace;
        // What became of it was counted then.
        transformed.push_with(|out| drop(self.chain.apply(row, scratch, out)));
    }

    /// Lets the steps forget the records that have passed.
    pub fn forget(&self) {
        self.chain.forget();
    }

    /// Counts a record that the source itself refused and writes it down.
    pub async fn reject(&self, reject: Reject) -> Sealed {
        self.books.extracted.fetch_add(1, Relaxed);
        let number = self.inner().next_sequence;
        self.count_reject(reject, number).await;
        let (mut sealed, mut payloads) = (Sealed::default(), Vec::new());
        let mut inner = self.inner();
        let sequence = inner.take_sequence();
        for (number, sink) in inner.sinks.iter_mut().enumerate() {
            if sequence < sink.start {
                continue;
            }
            sink.builder.skip(sequence, &mut payloads);
            sealed.collect(number, sink, &mut payloads);
        }
        sealed.until = Some(sequence + 1);
        sealed
    }

    /// Leaves out the numbers before `number`: a source has changed under its records,
    /// which come again under numbers that none of them had.
    pub fn pass_to(&self, number: u64) -> Sealed {
        let (mut sealed, mut payloads) = (Sealed::default(), Vec::new());
        let mut inner = self.inner();
        if number <= inner.next_sequence {
            return sealed;
        }
        inner.next_sequence = number;
        inner.numbered.store(number, Release);
        for (index, sink) in inner.sinks.iter_mut().enumerate() {
            if sink.start < number {
                sink.builder.skip(number - 1, &mut payloads);
            }
            sealed.collect(index, sink, &mut payloads);
        }
        sealed.until = Some(number);
        sealed
    }

    /// Seals what has waited long enough; gives the time of the next look.
    pub async fn seal_due(&self) -> Option<Instant> {
        let (sealed, next) = {
            let (mut sealed, now) = (Sealed::default(), Instant::now());
            let mut inner = self.inner();
            for (number, sink) in inner.sinks.iter_mut().enumerate() {
                let mut payloads: Vec<_> = sink.builder.seal_if_due(now).into_iter().collect();
                sealed.collect(number, sink, &mut payloads);
            }
            (sealed, inner.sinks.iter().filter_map(|sink| sink.builder.due()).min())
        };
        sealed.send().await;
        next
    }

    /// Seals everything that is left.
    pub fn close(self) -> Closed {
        let Intake { inner, .. } = self;
        let (mut sealed, mut cuts) = (Sealed::default(), Vec::new());
        let sinks = inner.into_inner().unwrap_or_else(PoisonError::into_inner).sinks;
        for (number, mut sink) in sinks.into_iter().enumerate() {
            let mut payloads: Vec<_> = sink.builder.seal().into_iter().collect();
            if let Some(payload) = payloads.first() {
                cuts.push((sink.outlet.name().to_owned(), payload.range.end));
            }
            sealed.collect(number, &mut sink, &mut payloads);
            if let Some(range) = sink.builder.take_gap(true) {
                sink.outlet.pass(&range);
            }
        }
        Closed { sealed, cuts }
    }

    /// Applies the transform to all rows, outside the lock.
    async fn transform(
        &self,
        rows: &Rows,
        place: &(dyn Fn() -> String + Sync),
        workspace: &mut Workspace,
    ) {
        workspace.transformed.clear();
        workspace.fates.clear();
        self.books.extracted.fetch_add(rows.len() as u64, Relaxed);
        if self.chain.is_empty() {
            return;
        }
        let first = self.inner().next_sequence;
        for (number, row) in (first..).zip(rows.iter()) {
            let mut verdict = Ok(Verdict::Keep);
            workspace.transformed.push_with(|out| {
                verdict = self.chain.apply(row, &mut workspace.scratch, out);
            });
            if !matches!(verdict, Ok(Verdict::Keep)) {
                workspace.transformed.pop();
            }
            workspace.fates.push(match verdict {
                Ok(Verdict::Keep) => Fate::Kept,
                Ok(Verdict::Filtered) => {
                    self.books.filtered.fetch_add(1, Relaxed);
                    Fate::Dropped
                }
                Err(error) => {
                    let reject =
                        Reject { place: place(), reason: error.to_string(), record: row.to_vec() };
                    self.count_reject(reject, number).await;
                    Fate::Dropped
                }
            });
        }
    }

    /// Numbers the rows and puts them into the builders.
    fn add(&self, rows: &Rows, workspace: &Workspace) -> Sealed {
        let (mut sealed, now) = (Sealed::default(), Instant::now());
        let mut payloads = Vec::new();
        let passed_through = self.chain.is_empty();
        let mut transformed = workspace.transformed.iter();
        let mut inner = self.inner();
        for (index, raw) in rows.iter().enumerate() {
            let sequence = inner.take_sequence();
            let kept = match workspace.fates.get(index) {
                _ if passed_through => Some(raw),
                Some(Fate::Kept) => transformed.next(),
                _ => None,
            };
            if kept.is_some() {
                inner.elsewhere.iter().for_each(Outlet::goes_elsewhere);
            }
            for (number, sink) in inner.sinks.iter_mut().enumerate() {
                let row = if sink.input == SinkInput::Raw { Some(raw) } else { kept };
                match row {
                    Some(_) if sequence < sink.start => sink.outlet.had_already(),
                    None if sequence < sink.start => {}
                    Some(row) => sink.builder.push(sequence, row, now, &mut payloads),
                    None => sink.builder.skip(sequence, &mut payloads),
                }
                sealed.collect(number, sink, &mut payloads);
            }
            sealed.until = Some(sequence + 1);
        }
        sealed
    }

    /// Numbers the records of a harvest and puts them into the builders.
    fn add_harvest(&self, harvest: &mut Harvest) -> Sealed {
        let (mut sealed, now) = (Sealed::default(), Instant::now());
        let mut payloads = Vec::new();
        let mut inner = self.inner();
        let records = harvest.records() as u64;
        let first = inner.take_sequences(records);
        let (mut kinds, outline) = harvest.parts();
        if !inner.elsewhere.is_empty() {
            let kept = outline.of(SinkInput::Transformed).filter(|kept| *kept);
            kept.for_each(|_| inner.elsewhere.iter().for_each(Outlet::goes_elsewhere));
        }
        for (number, sink) in inner.sinks.iter_mut().enumerate() {
            let rows = kinds.of(sink.input);
            if rows.len() as u64 == records && first >= sink.start {
                sink.builder.push_all(first, rows, now, &mut payloads);
                sealed.collect(number, sink, &mut payloads);
                continue;
            }
            let mut rows = rows.iter();
            for (sequence, there) in (first..).zip(outline.of(sink.input)) {
                match there.then(|| rows.next()).flatten() {
                    Some(_) if sequence < sink.start => sink.outlet.had_already(),
                    None if sequence < sink.start => {}
                    Some(row) => sink.builder.push(sequence, row, now, &mut payloads),
                    None => sink.builder.skip(sequence, &mut payloads),
                }
                sealed.collect(number, sink, &mut payloads);
            }
        }
        sealed.until = Some(first + records);
        sealed
    }

    /// Counts a reject and writes it down, unless an earlier process has. `number`
    /// is exact where that can be: where records come in a fixed order.
    async fn count_reject(&self, reject: Reject, number: u64) {
        self.books.reject(|| format!("{} {}", reject.place, reject.reason));
        if number >= self.begin.rejects_until {
            self.rejects.write(reject).await;
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn take_sequence(&mut self) -> u64 {
        self.take_sequences(1)
    }

    /// The first of `count` numbers.
    fn take_sequences(&mut self, count: u64) -> u64 {
        let first = self.next_sequence;
        self.next_sequence += count;
        self.numbered.store(self.next_sequence, Release);
        first
    }
}

impl Sealed {
    /// Ends of ranges that were closed, each with the number of its sink: places to go
    /// on from, once they are settled.
    pub fn ends(&self) -> &[(usize, u64)] {
        &self.ends
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// The number after the last record that was taken in; none without one.
    pub fn until(&self) -> Option<u64> {
        self.until
    }

    /// Takes what a sink has sealed, in that order, and lets its watermark pass a gap.
    fn collect(&mut self, number: usize, sink: &mut Inlet, payloads: &mut Vec<Payload>) {
        for payload in payloads.drain(..) {
            self.ends.push((number, payload.range.end));
            self.batches.push((sink.outlet.clone(), sink.outlet.track(payload)));
        }
        if let Some(range) = sink.builder.take_gap(false) {
            self.ends.push((number, range.end));
            sink.outlet.pass(&range);
        }
    }

    /// Sends each batch to its sink; waits where a sink is behind.
    pub async fn send(self) {
        for (outlet, batch) in self.batches {
            outlet.send(batch).await;
        }
    }
}
