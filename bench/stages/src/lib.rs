//! The stages of a record's journey, each by itself over data that is prepared once: what
//! `cargo bench` measures in time, and the program beside this in instructions.

#![allow(clippy::unwrap_used, reason = "a stage that does not work should stop the measurement")]

use std::fs::File;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use etl::batch::{BatchBuilder, KeyContext, Payload, Rows};
use etl::checkpoint::{InputState, Place, State, Store};
use etl::config::{BatchLimits, CsvSource, Size, Span};
use etl::deflate;
use etl::source::{CsvRows, Measure, Piece, Position};
use etl::spool::{self, Attempts, Spool, SpoolOptions};
use etl_fixtures::CpuCsv;
use tempfile::TempDir;

/// Rows of the file that is read.
const ROWS: u64 = 2_000;
/// Rows of a batch.
const BATCH: u64 = 200;

/// A stage: what it is called, what is counted in it, and how many of them it does.
#[derive(Clone, Copy)]
pub struct Stage {
    /// Its name, which is that of its function too.
    pub name: &'static str,
    /// One of what it does.
    pub unit: &'static str,
    /// So many of them each time.
    pub units: u64,
    /// Does it.
    pub run: fn(&mut Desk),
}

/// Every stage, in the order of the journey.
pub const STAGES: [Stage; 7] = [
    Stage { name: "parse_encode", unit: "row", units: ROWS, run: Desk::parse_encode },
    Stage { name: "frame", unit: "batch", units: ROWS / BATCH, run: Desk::frame },
    Stage { name: "key", unit: "batch", units: ROWS / BATCH, run: Desk::key },
    Stage { name: "seal", unit: "batch", units: ROWS / BATCH, run: Desk::seal },
    Stage { name: "gzip", unit: "batch", units: ROWS / BATCH, run: Desk::gzip },
    Stage { name: "spool_write", unit: "batch", units: ROWS / BATCH, run: Desk::spool_write },
    Stage { name: "checkpoint", unit: "checkpoint", units: 1, run: Desk::checkpoint },
];

/// What the stages work on.
pub struct Desk {
    source: CsvSource,
    rows: Vec<Vec<u8>>,
    payloads: Vec<Payload>,
    keys: KeyContext,
    spool: Spool,
    store: Store,
    state: State,
    _directory: TempDir,
}

impl Default for Desk {
    fn default() -> Self {
        Desk::new()
    }
}

impl Desk {
    /// Prepares a file of rows, a spool and a state, in a temporary directory.
    #[must_use]
    pub fn new() -> Desk {
        let directory = tempfile::tempdir().unwrap();
        let source = csv_file(directory.path());
        let mut rows = Vec::new();
        read(&source, |piece| rows.extend(piece.rows.iter().map(<[u8]>::to_vec)));
        let options = SpoolOptions { max_bytes: 1 << 30, min_free: 0 };
        let spool = Spool::open(&directory.path().join("spool"), options).unwrap();
        let (store, state, _) = Store::open(&directory.path().join("state")).unwrap();
        let mut desk = Desk {
            source,
            rows,
            payloads: Vec::new(),
            keys: KeyContext::new("bench", "http", "run"),
            spool,
            store,
            state,
            _directory: directory,
        };
        desk.payloads = desk.sealed();
        desk
    }

    /// Rows of CSV to rows of JSON.
    #[inline(never)]
    pub fn parse_encode(&mut self) {
        read(&self.source, |piece| _ = black_box(piece));
    }

    /// Rows to the JSON array that is sent.
    #[inline(never)]
    pub fn frame(&mut self) {
        for batch in self.rows.chunks(BATCH as usize) {
            let mut rows = Rows::default();
            batch.iter().for_each(|row| rows.push(row));
            black_box(rows.seal());
        }
    }

    /// The idempotency key of a batch.
    #[inline(never)]
    pub fn key(&mut self) {
        for payload in &self.payloads {
            black_box(self.keys.key(&payload.range, &payload.body));
        }
    }

    /// Rows to batches with their keys: both of the above, and where a batch ends.
    #[inline(never)]
    pub fn seal(&mut self) {
        black_box(self.sealed());
    }

    /// A body compressed as it is sent and spooled.
    #[inline(never)]
    pub fn gzip(&mut self) {
        for payload in &self.payloads {
            black_box(deflate::gzip(&payload.body));
        }
    }

    /// A batch made durable, and removed. What the kernel does is time and no instruction
    /// of ours, fsync above all.
    #[inline(never)]
    pub fn spool_write(&mut self) {
        for payload in &self.payloads {
            let sequence = self.spool.next_sequence();
            let attempts = Attempts::untried();
            let stored = self.spool.write(spool::State::Failed, 1, sequence, payload, &attempts);
            self.spool.remove(stored.unwrap()).unwrap();
        }
    }

    /// How far a file is loaded, made durable.
    #[inline(never)]
    pub fn checkpoint(&mut self) {
        let mut input = InputState {
            path: "/var/lib/etl/rows.csv".to_owned(),
            run_id: "20261121T120000-0123456789abcdef".to_owned(),
            digest: "0".repeat(64),
            ..InputState::default()
        };
        let position = Position { bytes: 83_500_000, line: 1_000_000, ..Position::default() };
        input.sinks.insert("http".to_owned(), Place { records: 1_000_000, position });
        self.state.set_input(input);
        self.store.save(&mut self.state).unwrap();
    }

    fn sealed(&self) -> Vec<Payload> {
        let limits = BatchLimits {
            records: BATCH as usize,
            bytes: Size(1 << 20),
            linger: Span(Duration::from_secs(1)),
        };
        let mut builder = BatchBuilder::new(&limits, self.keys.clone(), Arc::from("run"), 0);
        let (mut sealed, now) = (Vec::new(), Instant::now());
        for (row, sequence) in self.rows.iter().zip(0..) {
            builder.push(sequence, row, now, &mut sealed);
        }
        sealed.extend(builder.seal());
        sealed
    }
}

fn csv_file(directory: &Path) -> CsvSource {
    let path = directory.join("rows.csv");
    CpuCsv::new(ROWS, 42).write(File::create(&path).unwrap()).unwrap();
    serde_json::from_value(serde_json::json!({ "path": path })).unwrap()
}

/// Calls `take` with every piece of the file, encoded, as a run cuts and encodes them.
fn read(source: &CsvSource, mut take: impl FnMut(&Piece)) {
    let mut file = CsvRows::open(source).unwrap();
    let mut encoder = file.piece_encoder();
    let measure = Measure { rows: BATCH as usize, bytes: 128 << 10 };
    let (mut piece, mut records) = (Piece::default(), 0);
    while file.read_piece(measure, false, &mut piece).unwrap() {
        encoder.encode(&mut piece);
        assert!(piece.rejections.is_empty(), "{:?}", piece.rejections);
        records += piece.records() as u64;
        take(&piece);
        piece.clear();
    }
    assert_eq!(records, ROWS);
}

#[cfg(test)]
mod tests {
    use super::{BATCH, Desk, ROWS, STAGES};

    #[test]
    fn every_stage_does_its_work_and_leaves_nothing_behind() {
        let mut desk = Desk::new();
        assert_eq!((desk.rows.len() as u64, desk.payloads.len() as u64), (ROWS, ROWS / BATCH));
        for stage in STAGES {
            (stage.run)(&mut desk);
            (stage.run)(&mut desk);
        }
        assert_eq!(desk.spool.entries().unwrap().len(), 0);
        assert_eq!(desk.state.counter, 2);
    }
}
