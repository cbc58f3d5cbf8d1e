//! What each stage of a record's journey costs in time: rows read from CSV bytes and
//! encoded, framed, named by their key and sealed, compressed, made durable in the spool;
//! how far a file is loaded, made durable.
//!
//!     cargo bench -p bench                 all
//!     cargo bench -p bench -- seal         one
//!
//! Time for all units of a stage is printed, and units per second beside it. In
//! instructions: cargo run --release -p stages.

#![allow(missing_docs, reason = "criterion_group! makes an undocumented function")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use stages::{Desk, STAGES};

fn journey(criterion: &mut Criterion) {
    let mut desk = Desk::new();
    for stage in STAGES {
        let mut group = criterion.benchmark_group(stage.name);
        group.throughput(Throughput::Elements(stage.units));
        let what = format!("{} × {}", stage.units, stage.unit);
        group.bench_function(what, |bencher| bencher.iter(|| (stage.run)(&mut desk)));
        group.finish();
    }
}

criterion_group!(stages_in_turn, journey);
criterion_main!(stages_in_turn);
