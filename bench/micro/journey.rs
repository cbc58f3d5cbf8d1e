//! What one record costs on its way, stage by stage: rows read from CSV bytes and
//! encoded, batches sealed with their key, batches made durable in the spool.
//!
//!     cargo bench -p bench                 all
//!     cargo bench -p bench -- seal         one
//!
//! Time per batch is printed, and rows per second beside it.

#![allow(missing_docs, reason = "criterion_group! makes an undocumented function")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot be set up should stop")]

use std::fs::File;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use etl::batch::{BatchBuilder, KeyContext, Payload};
use etl::config::{BatchLimits, CsvSource, Size, Span};
use etl::source::{CsvRows, Next};
use etl::spool::{Attempts, Spool, SpoolOptions, State};
use etl_fixtures::CpuCsv;

const ROWS: u64 = 20_000;
const BATCH: u64 = 200;

fn csv_file(directory: &Path) -> CsvSource {
    let path = directory.join("rows.csv");
    CpuCsv::new(ROWS, 42).write(File::create(&path).unwrap()).unwrap();
    serde_json::from_value(serde_json::json!({ "path": path })).unwrap()
}

/// Calls `take` with every row of the file, encoded.
fn read(source: &CsvSource, mut take: impl FnMut(&[u8])) {
    let mut rows = CsvRows::open(source).unwrap();
    let mut row = Vec::new();
    loop {
        row.clear();
        match rows.next_row(&mut row).unwrap() {
            Next::Row => take(&row),
            Next::Rejected(rejection) => panic!("{rejection:?}"),
            Next::End => return,
        }
    }
}

fn builder() -> BatchBuilder {
    let limits = BatchLimits {
        records: BATCH as usize,
        bytes: Size(1 << 20),
        linger: Span(Duration::from_secs(1)),
    };
    BatchBuilder::new(&limits, KeyContext::new("bench", "http", "run"), Arc::from("run"), 0)
}

fn seal_all<'a>(rows: impl IntoIterator<Item = &'a Vec<u8>>) -> Vec<Payload> {
    let mut builder = builder();
    let mut sealed = Vec::new();
    let now = Instant::now();
    for (row, sequence) in rows.into_iter().zip(0..) {
        builder.push(sequence, row, now, &mut sealed);
    }
    sealed.extend(builder.seal());
    sealed
}

fn read_and_encode(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let source = csv_file(directory.path());
    let mut group = criterion.benchmark_group("read and encode");
    group.throughput(Throughput::Elements(ROWS));
    group.bench_function("20,000 rows of 84 bytes", |bencher| {
        bencher.iter(|| read(&source, |row| _ = black_box(row)));
    });
    group.finish();
}

fn seal(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let mut rows = Vec::new();
    read(&csv_file(directory.path()), |row| rows.push(row.to_vec()));
    let mut group = criterion.benchmark_group("seal");
    group.throughput(Throughput::Elements(ROWS));
    group.bench_function("100 batches of 200 rows, with keys", |bencher| {
        bencher.iter(|| black_box(seal_all(&rows)));
    });
    group.finish();
}

fn spool(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let mut rows = Vec::new();
    read(&csv_file(directory.path()), |row| rows.push(row.to_vec()));
    let payload = seal_all(rows.iter().take(BATCH as usize)).remove(0);
    let options = SpoolOptions { max_bytes: 1 << 30, min_free: 0 };
    let spool = Spool::open(&directory.path().join("spool"), options).unwrap();
    let mut group = criterion.benchmark_group("spool");
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("200 rows durable, then removed", |bencher| {
        bencher.iter(|| {
            let sequence = spool.next_sequence();
            let stored =
                spool.write(State::Failed, 1, sequence, &payload, &Attempts::untried()).unwrap();
            spool.remove(stored).unwrap();
        });
    });
    group.finish();
}

criterion_group!(journey, read_and_encode, seal, spool);
criterion_main!(journey);
