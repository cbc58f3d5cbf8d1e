//! A data run: the source's rows are the records. They are cut off in the file's order,
//! piece by piece, encoded and transformed by several tasks at once, and taken in in the
//! file's order again, so that the same file gives the same batches.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tracing::Instrument;

use super::harvest::Harvest;
use super::intake::{Intake, Sealed, Workspace};
use super::order::Order;
use crate::checkpoint::{Place, Places};
use crate::config::CsvSource;
use crate::source::{CsvRows, Cut, Measure, Next, SourceError};
use crate::stop::Stop;
use crate::transform::Scratch;

/// Tasks that encode at once: more than anything takes what they make.
const TASKS_MAX: usize = 8;
/// Rows of a piece, where a batch of the first sink is no good measure.
const PIECE_ROWS: usize = 200;
const PIECE_ROWS_MAX: usize = 1000;
/// Bytes of a piece from which it may have fewer rows.
const PIECE_BYTES: usize = 128 << 10;
/// How often a place to go on from is noted, beside the end: often against how often
/// progress is written down, seldom against hashing up to each batch's end.
const PLACED_EVERY_MS: u64 = 10;

/// How far a file has been read in this run, for the display; bytes.
#[derive(Debug, Default)]
pub(super) struct FileProgress {
    pub(super) read: AtomicU64,
    pub(super) total: AtomicU64,
}

/// An open file, at the place where this run begins.
#[derive(Debug)]
pub(super) struct DataFile {
    pub(super) file: CsvRows,
    /// The number of the next record.
    pub(super) next: u64,
    pub(super) name: String,
    pub(super) places: Arc<Places>,
    pub(super) passed: Passed,
}
/// What this run has read of the file before it was cut short.
#[derive(Debug)]
pub(super) struct Passed {
    pub(super) csv: CsvSource,
    pub(super) records: Range<u64>,
}

impl Passed {
    /// Shows the records to the transform once more, where a step remembers what has
    /// passed: what such a step makes of the next record must not depend on whether the
    /// run was cut short. Nothing of it is counted or sent.
    fn recall(&self, intake: &Intake, stop: &Stop) -> Result<(), SourceError> {
        if self.records.is_empty() || !intake.remembers() {
            return Ok(());
        }
        let mut file = CsvRows::open(&self.csv)?;
        let (mut row, mut workspace) = (Vec::new(), Workspace::default());
        for number in 0..self.records.end {
            row.clear();
            match file.next_row(&mut row)? {
                _ if stop.asked() => break,
                Next::End => break,
                Next::Row if self.records.contains(&number) => intake.recall(&row, &mut workspace),
                Next::Row | Next::Rejected(_) => {}
            }
        }
        Ok(())
    }
}

/// A file while it is being read by several tasks.
struct Reading {
    cutting: Mutex<Cutting>,
    order: Order,
    intake: Arc<Intake>,
    progress: Arc<FileProgress>,
    stop: Stop,
    name: String,
    places: Arc<Places>,
    /// The number of the next record to be taken in.
    next: AtomicU64,
    /// Rows that one piece should have for batches to end with pieces again; else 0.
    short: AtomicUsize,
    /// There is or will be such a piece.
    shortened: AtomicBool,
    measure: Measure,
    began: Instant,
    /// When the next place is to be noted, counted from then: from then on pieces know
    /// theirs, until a batch ends in one.
    place_due_ms: AtomicU64,
    /// Bytes before the place where the run began.
    passed: u64,
}

/// Where cutting has come to; one task at a time.
struct Cutting {
    file: CsvRows,
    /// The number of the next piece.
    piece: u64,
    /// How it ended: whether with the file's end.
    ended: Option<Result<bool, SourceError>>,
}

impl DataFile {
    /// Reads the file to its end; says whether it came there.
    pub(super) async fn read(
        self,
        intake: Arc<Intake>,
        progress: Arc<FileProgress>,
        stop: Stop,
    ) -> Result<bool, String> {
        let DataFile { mut file, next, name, places, passed } = self;
        if let Err(error) = blocking(|| passed.recall(&intake, &stop)) {
            return Err(error.to_string());
        }
        let began = file.bytes_read();
        progress.total.store(file.bytes_total().unwrap_or(0).saturating_sub(began), Relaxed);
        file.read_ahead();
        // Where a step remembers, records come to it in their order.
        let tasks = if intake.remembers() { 1 } else { Handle::current().metrics().num_workers() };
        let reading = Arc::new(Reading {
            measure: measure(intake.filling().0),
            cutting: Mutex::new(Cutting { file, piece: 0, ended: None }),
            order: Order::new(),
            intake,
            progress,
            stop,
            name,
            places,
            next: AtomicU64::new(next),
            short: AtomicUsize::new(0),
            shortened: AtomicBool::new(false),
            began: Instant::now(),
            place_due_ms: AtomicU64::new(0),
            passed: began,
        });
        let mut working = JoinSet::new();
        for _ in 0..tasks.min(TASKS_MAX) {
            working.spawn(reading.clone().work().in_current_span());
        }
        let mut panicked = None;
        while let Some(ended) = working.join_next().await {
            panicked = panicked.or(ended.err());
        }
        if let Some(error) = panicked {
            return Err(format!("a reading task ended in a panic: {error}"));
        }
        reading.close().await
    }
}

impl Reading {
    /// Cuts off, encodes and hands in pieces until there are no more.
    async fn work(self: Arc<Self>) {
        let (mut encoder, mut scratch) = {
            let cutting = self.cutting.lock().await;
            (cutting.file.piece_encoder(), Scratch::default())
        };
        while let Some((number, mut harvest)) = self.cut().await {
            let unfinished = self.order.unfinished();
            encoder.encode(&mut harvest.piece);
            self.intake.prepare(&mut harvest, &self.name, &mut scratch);
            if self.order.put(number, harvest) {
                self.take_in().await;
            }
            unfinished.finish();
            // The sinks' workers have their turn.
            tokio::task::yield_now().await;
        }
    }

    /// The next piece, and its number.
    async fn cut(&self) -> Option<(u64, Harvest)> {
        let mut cutting = self.cutting.lock().await;
        if cutting.ended.is_some() || !self.order.room(cutting.piece).await {
            return None;
        }
        if self.stop.asked() {
            cutting.ended = Some(Ok(false));
            return None;
        }
        let placed = self.elapsed_ms() >= self.place_due_ms.load(Relaxed);
        let mut harvest = self.order.spare();
        let mut measure = self.measure;
        let short = self.short.swap(0, Relaxed);
        if short > 0 {
            (measure.rows, harvest.shortened) = (short, true);
        }
        let piece = &mut harvest.piece;
        let Cutting { file, ended, .. } = &mut *cutting;
        let mut cut = file.cut_piece(measure, placed, piece);
        while cut == Cut::More {
            file.more().await;
            cut = file.cut_piece(measure, placed, piece);
        }
        if cut == Cut::Odd {
            match blocking(|| file.read_piece(measure, placed, piece)) {
                Ok(true) => {}
                Ok(false) => *ended = Some(Ok(true)),
                Err(error) => *ended = Some(Err(error)),
            }
        }
        self.progress.read.store(file.bytes_read().saturating_sub(self.passed), Relaxed);
        if ended.is_some() && piece.is_empty() {
            return None;
        }
        let number = cutting.piece;
        cutting.piece += 1;
        Some((number, harvest))
    }

    /// Takes in what has been handed in, in the file's order, until the next piece is
    /// not there yet.
    async fn take_in(&self) {
        while let Some(mut harvest) = self.order.next() {
            let first = self.next.load(Relaxed);
            let sealed = self.intake.admit(&mut harvest).await;
            self.note_ends(first, &harvest, &sealed);
            self.next.store(first + harvest.piece.records() as u64, Relaxed);
            self.align(harvest.shortened);
            self.order.give_back(harvest);
            if !sealed.is_empty() {
                sealed.send().await;
            }
        }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Has one piece cut shorter when batches do not end with pieces any more, because a
    /// row was rejected or filtered: else each would have to be copied.
    fn align(&self, was_shortened: bool) {
        let (full, waiting) = self.intake.filling();
        if was_shortened {
            self.shortened.store(false, Relaxed);
        }
        if full == self.measure.rows && waiting > 0 && !self.shortened.swap(true, Relaxed) {
            self.short.store(full - waiting, Relaxed);
        }
    }

    /// Remembers for each sink where its last batch ended, where that is known.
    fn note_ends(&self, first: u64, harvest: &Harvest, sealed: &Sealed) {
        let mut known: Option<Place> = None;
        let mut noted = Vec::new();
        for (sink, end) in sealed.ends().iter().rev() {
            if noted.contains(sink) {
                continue;
            }
            noted.push(*sink);
            if known.as_ref().is_none_or(|known| known.records != *end) {
                let count = end.checked_sub(first).and_then(|count| usize::try_from(count).ok());
                let position = count.and_then(|count| harvest.piece.place_behind(count));
                known = position.map(|position| Place { records: *end, position });
            }
            if let Some(place) = &known {
                self.places.note(*sink, place.clone());
                self.place_due_ms.store(self.elapsed_ms() + PLACED_EVERY_MS, Relaxed);
            }
        }
    }

    /// Notes where reading has ended: the last batches are cut off here.
    async fn close(&self) -> Result<bool, String> {
        let mut cutting = self.cutting.lock().await;
        let records = self.next.load(Relaxed);
        let position = cutting.file.position();
        self.places.note_all(&Place { records, position });
        match cutting.ended.take() {
            Some(Ok(to_its_end)) => Ok(to_its_end),
            Some(Err(error)) => Err(error.to_string()),
            None => Ok(false),
        }
    }
}

/// Pieces that are batches of so many records, where these are neither tiny nor huge.
fn measure(records: usize) -> Measure {
    let rows = match records {
        0..PIECE_ROWS => records.max(1) * PIECE_ROWS.div_ceil(records.max(1)),
        PIECE_ROWS..=PIECE_ROWS_MAX => records,
        _ => PIECE_ROWS_MAX,
    };
    Measure { rows, bytes: PIECE_BYTES }
}

/// Does what may wait for a disk without holding other tasks up.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
        _ => work(),
    }
}
