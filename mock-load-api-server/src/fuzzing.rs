//! What must hold for any bytes as a batch: the body of the fuzz target
//! `mock_records` in `fuzz/`. The tests replay its corpus on the stable toolchain.
#![allow(missing_docs, reason = "only fuzzers and tests build this")]

use serde_json::value::RawValue;

use crate::records::{DEPTH_MAX, scan};

/// Any bytes as a batch: the scanner accepts what `serde_json` accepts, under our rules
/// that a record is an object with at least one key and not too deep, and hands out the
/// same records.
pub fn records(body: &[u8]) {
    assert_eq!(ours(body), reference(body), "{}", body.escape_ascii());
}

pub(crate) fn ours(body: &[u8]) -> Option<Vec<&[u8]>> {
    let mut records = Vec::new();
    scan(body, |record| records.push(record)).ok()?;
    Some(records)
}

pub(crate) fn reference(body: &[u8]) -> Option<Vec<&[u8]>> {
    let raw: Vec<&RawValue> = serde_json::from_slice(body).ok()?;
    let records: Vec<&[u8]> = raw.iter().map(|record| record.get().as_bytes()).collect();
    let fine = |record: &&[u8]| {
        record[0] == b'{' && record[1..].trim_ascii_start() != b"}" && depth(record) <= DEPTH_MAX
    };
    records.iter().all(fine).then_some(records)
}

/// How deep valid JSON nests; what is empty does not count.
fn depth(record: &[u8]) -> u32 {
    let (mut depth, mut deepest) = (0_u32, 0);
    let (mut in_string, mut opened) = (false, false);
    let mut bytes = record.iter().filter(|byte| !byte.is_ascii_whitespace());
    while let Some(byte) = bytes.next() {
        let closes = !in_string && matches!(byte, b'}' | b']');
        if opened && !closes {
            deepest = deepest.max(depth);
        }
        opened = !in_string && matches!(byte, b'{' | b'[');
        depth += u32::from(opened);
        depth -= u32::from(closes);
        match byte {
            b'\\' => drop(bytes.next()),
            b'"' => in_string = !in_string,
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::path::Path;

    #[test]
    fn the_corpus_of_batches_holds() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/mock_records");
        let mut files = 0;
        for entry in std::fs::read_dir(&corpus).unwrap() {
            let body = std::fs::read(entry.unwrap().path()).unwrap();
            for cut in 0..=body.len() {
                super::records(&body[..cut]);
            }
            files += 1;
        }
        assert!(files >= 3, "{files} files");
    }
}
