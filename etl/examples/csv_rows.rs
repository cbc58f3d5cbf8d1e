//! Encodes a CSV file's rows and says what one costs:
//! `cargo run --release -p etl --example csv_rows -- FILE [ROUNDS]`.
#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::error::Error;
use std::time::Instant;

use etl::config::CsvSource;
use etl::source::{CsvRows, Next};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("which file?")?;
    let rounds: u32 = arguments.next().map_or(Ok(3), |rounds| rounds.parse())?;
    for _ in 0..rounds {
        let config = CsvSource {
            path: path.clone().into(),
            header: true,
            columns: Vec::new(),
            delimiter: ',',
            numbers: true,
        };
        let mut source = CsvRows::open(&config)?;
        let (mut out, mut rows, mut rejected, mut bytes) = (Vec::new(), 0u32, 0u32, 0usize);
        let started = Instant::now();
        loop {
            match source.next_row(&mut out)? {
                Next::Row => rows += 1,
                Next::Rejected(_) => rejected += 1,
                Next::End => break,
            }
            // As a batch would: collect 200 rows, hand them on.
            if rows.is_multiple_of(200) {
                bytes += out.len();
                out.clear();
            }
        }
        let nanoseconds = started.elapsed().as_secs_f64() * 1e9 / f64::from(rows.max(1));
        println!(
            "{rows} rows, {rejected} rejected, {bytes} bytes of JSON, {nanoseconds:.1} ns/row"
        );
    }
    Ok(())
}
