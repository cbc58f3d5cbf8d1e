//! Files of the earlier Go program, `buffer_failed_workerN.json.gz`: no metadata,
//! perhaps several gzip members, perhaps several JSON values one after the other.
//! All records of all values are taken; the gzip checksums are all there is to check.

use std::io::Read;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use serde_json::value::RawValue;

use super::dead::append_on_one_line;
use super::gzip::BODY_MAX;
use crate::batch::{BatchKey, Payload, Rows};

/// Why a file without metadata is not replayed.
#[derive(Debug, thiserror::Error)]
pub(super) enum LegacyProblem {
    #[error("empty file")]
    Empty,
    #[error("cut short or damaged: {0}")]
    Gzip(std::io::Error),
    #[error("larger than {} MiB when decompressed", BODY_MAX >> 20)]
    TooLarge,
    #[error("not JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("holds a JSON value that is neither a record nor an array of records")]
    NotRecords,
    #[error("holds no record")]
    NoRecords,
}

/// All records of a whole file as one batch, under a key made of its content.
pub(super) fn read(file: &[u8]) -> Result<Payload, LegacyProblem> {
    if file.is_empty() {
        return Err(LegacyProblem::Empty);
    }
    let body = decompress(file)?;
    let mut rows = Rows::default();
    for value in serde_json::Deserializer::from_slice(&body).into_iter::<&RawValue>() {
        take_records(value?, &mut rows)?;
    }
    if rows.is_empty() {
        return Err(LegacyProblem::NoRecords);
    }
    let key = BatchKey::of_foreign_body(&body);
    Ok(Payload::seal(&mut rows, 0..0, Arc::from(""), |_, _| key))
}

/// Decompresses to the end, twice: once to learn the size within the cap, once to
/// keep it, so that a bomb costs no memory.
fn decompress(file: &[u8]) -> Result<Vec<u8>, LegacyProblem> {
    let capped = || MultiGzDecoder::new(file).take(BODY_MAX as u64 + 1);
    let length = std::io::copy(&mut capped(), &mut std::io::sink()).map_err(LegacyProblem::Gzip)?;
    if length > BODY_MAX as u64 {
        return Err(LegacyProblem::TooLarge);
    }
    let mut body = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    capped().read_to_end(&mut body).map_err(LegacyProblem::Gzip)?;
    Ok(body)
}

fn take_records(value: &RawValue, rows: &mut Rows) -> Result<(), LegacyProblem> {
    match value.get().as_bytes().first() {
        Some(b'[') => {
            for record in serde_json::from_str::<Vec<&RawValue>>(value.get())? {
                take_record(record, rows);
            }
            Ok(())
        }
        Some(b'{') => {
            take_record(value, rows);
            Ok(())
        }
        // What Go writes for a slice that was never filled.
        _ if value.get() == "null" => Ok(()),
        _ => Err(LegacyProblem::NotRecords),
    }
}

fn take_record(record: &RawValue, rows: &mut Rows) {
    rows.push_with(|buffer| append_on_one_line(record, buffer));
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use std::io::Write;

    use flate2::{Compression, GzBuilder};

    use super::*;

    /// One gzip member with the header that Go's `compress/gzip` writes.
    fn member(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        let mut file = encoder.finish().unwrap();
        file[8] = 0;
        file
    }

    fn rows(file: &[u8]) -> Vec<String> {
        let payload = read(file).unwrap();
        payload.rows().map(|row| String::from_utf8(row.to_vec()).unwrap()).collect()
    }

    #[test]
    fn all_values_of_all_members_are_taken() {
        let file = [member(b"[{\"a\":1},{\"a\":2}]\n[{\"a\":3}]\n"), member(b"[{\"a\":4}]\n")];
        assert_eq!(rows(&file.concat()), [r#"{"a":1}"#, r#"{"a":2}"#, r#"{"a":3}"#, r#"{"a":4}"#]);
        let across = [member(b"[{\"a\":1},{\"a"), member(b"\":2}]\n")].concat();
        assert_eq!(rows(&across), [r#"{"a":1}"#, r#"{"a":2}"#]);
        assert_eq!(rows(&member(b"null\n{\"a\":\n1}\n")), [r#"{"a": 1}"#]);
    }

    #[test]
    fn the_key_depends_on_the_content_only() {
        let text = b"[{\"a\":1}]\n";
        let (one, two) = (member(text), [member(&text[..4]), member(&text[4..])].concat());
        assert_eq!(read(&one).unwrap().key, read(&two).unwrap().key);
        assert_ne!(read(&one).unwrap().key, read(&member(b"[{\"a\":2}]\n")).unwrap().key);
    }

    #[test]
    fn what_is_not_an_array_of_records_is_refused() {
        assert!(matches!(read(b""), Err(LegacyProblem::Empty)));
        assert!(matches!(read(&member(b"")), Err(LegacyProblem::NoRecords)));
        assert!(matches!(read(&member(b"[]\n")), Err(LegacyProblem::NoRecords)));
        assert!(matches!(read(&member(b"[1]\n17\n")), Err(LegacyProblem::NotRecords)));
        assert!(matches!(read(&member(b"[{\"a\":1}")), Err(LegacyProblem::Json(_))));
        assert!(matches!(read(&member(b"[{\"a\":1}] x")), Err(LegacyProblem::Json(_))));
        assert!(matches!(read(&member(b"[\"\xff\"]")), Err(LegacyProblem::Json(_))));
        assert!(matches!(read(b"[{\"a\":1}]"), Err(LegacyProblem::Gzip(_))));
        let bomb = member(&vec![b' '; BODY_MAX + 1]);
        assert!(matches!(read(&bomb), Err(LegacyProblem::TooLarge)));
        let trailing = [&member(b"[{\"a\":1}]\n")[..], b"\0"].concat();
        assert!(matches!(read(&trailing), Err(LegacyProblem::Gzip(_))));
    }

    #[test]
    fn a_flipped_bit_or_a_cut_never_gives_other_records() {
        let text =
            b"[{\"name\":\"device-0\",\"v\":1},{\"name\":\"device-1\",\"v\":2}]\n[{\"v\":3}]\n";
        let file = [member(text), member(b"[{\"v\":4}]\n")].concat();
        let (right, boundary) = (read(&file).unwrap().body, member(text).len());
        for bit in 0..file.len() * 8 {
            let mut bad = file.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            if let Ok(payload) = read(&bad) {
                assert_eq!(payload.body, right, "bit {bit}");
            }
        }
        for length in (0..file.len()).filter(|length| *length != boundary) {
            assert!(read(&file[..length]).is_err(), "cut at {length}");
        }
    }
}
