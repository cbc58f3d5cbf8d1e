//! How fast batches become durable; run by hand on the disk that matters:
//! `cargo test -p etl --release --lib spool::tests::speed -- --ignored --nocapture`

use std::io::Write;
use std::time::{Duration, Instant};

use super::*;

fn appliance_batch(number: u64) -> Payload {
    let mut random = fastrand::Rng::with_seed(number);
    let mut rows = Rows::default();
    for row in 0..200 {
        let mut value = || f64::from(random.u32(0..10_000)) / 100.0;
        let record = format!(
            r#"{{"name":"device-{}","cpu_number":"0","timestamp":1763000000,"indicators":[{{"name":"utilization","value":{}}},{{"name":"user","value":{}}}]}}"#,
            number * 200 + row,
            value(),
            value()
        );
        rows.push(record.as_bytes());
    }
    let keys = KeyContext::new("p", "s", "r");
    Payload::seal(&mut rows, number..number + 200, Arc::from("run-1"), |r, b| keys.key(r, b))
}

#[test]
#[ignore = "a measurement"]
fn batches_made_durable_per_second() {
    let batches: Vec<Payload> = (0..64).map(appliance_batch).collect();
    for threads in [1u32, 10, 32] {
        // On the build's disk, not in memory.
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
        let root = tempfile::tempdir_in(target).unwrap();
        let (spool, batches) = (&spool(&root), &batches);
        let start = Instant::now();
        std::thread::scope(|scope| {
            for worker in 0..threads {
                scope.spawn(move || {
                    while start.elapsed() < Duration::from_secs(3) {
                        let sequence = spool.next_sequence();
                        let batch = &batches[(sequence % 64) as usize];
                        drop(
                            spool
                                .write(State::Failed, worker, sequence, batch, &attempts(1))
                                .unwrap(),
                        );
                    }
                });
            }
        });
        let (seconds, usage) = (start.elapsed().as_secs_f64(), spool.usage());
        let start = Instant::now();
        for entry in spool.entries().unwrap() {
            drop(spool.read(&entry).unwrap());
        }
        let read = usage.batches as f64 / start.elapsed().as_secs_f64();
        let written = usage.batches as f64 / seconds;
        let size = usage.bytes / usage.batches.max(1);
        writeln!(
            std::io::stdout(),
            "{threads:2} threads: {written:6.0} batches/s durable, {size} bytes each; \
             {read:6.0} batches/s read and checked by one"
        )
        .unwrap();
    }
}

#[test]
#[ignore = "a measurement"]
fn a_spool_of_many_files_is_opened_and_listed() {
    const FILES: u64 = 200_000;
    let root = scratch();
    let directory = spool(&root).directory().to_owned();
    for sequence in 0..FILES {
        let name = format!("buffer_failed_worker1-{sequence:020}-{sequence:016x}.json.gz");
        std::fs::write(directory.join(name), b"").unwrap();
    }
    let start = Instant::now();
    let spool = spool(&root);
    let opened = start.elapsed();
    let start = Instant::now();
    assert_eq!(spool.entries().unwrap().len() as u64, FILES);
    let (listed, bytes) = (start.elapsed(), size_of::<Entry>());
    let text = format!("{FILES} files: opened {opened:.1?}, listed {listed:.1?}, {bytes} B each");
    writeln!(std::io::stdout(), "{text}").unwrap();
}
