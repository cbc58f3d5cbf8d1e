//! `dead/`: records that a sink refused for good, each with its reason. Kept
//! until a person decides; never replayed unless asked.

use std::io;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::Spool;
use super::gzip::{FrameError, frame};
use super::inspect::FileView;
use super::metadata::{Metadata, clean, unix_now};
use super::name::parse_dead;
use super::usage::Place;
use crate::batch::BatchKey;

/// The directory of dead letters within a spool.
pub(super) const DEAD: &str = "dead";

/// One record that was refused, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The record as it was sent, one JSON value.
    pub record: Bytes,
    /// Why it is here, for a person.
    pub reason: String,
    /// The sink's status code.
    pub status: Option<u16>,
    /// The beginning of the sink's answer; capped at [`DeadLetter::RESPONSE_MAX`] bytes when stored.
    pub response: String,
    /// The key of the batch that it was sent in.
    pub batch_key: String,
    /// When, in Unix seconds.
    pub time: u64,
}

/// A dead-letter file's content and the key its name begins with.
#[derive(Debug)]
pub(super) struct Sealed {
    pub file: Vec<u8>,
    pub key: BatchKey,
    pub modified: u64,
}

impl DeadLetter {
    /// The most of a sink's answer that is kept, in bytes.
    pub const RESPONSE_MAX: usize = 4096;
    const REASON_MAX: usize = 1000;
}

impl Spool {
    /// Removes a file of dead letters. Only for records that the sink has
    /// acknowledged since, or that are durably in another such file.
    ///
    /// # Errors
    /// When it is no file of dead letters of this spool, or cannot be removed.
    pub fn remove_dead(&self, file: &FileView) -> io::Result<()> {
        let name = file.path.file_name().unwrap_or_default();
        if parse_dead(std::os::unix::ffi::OsStrExt::as_bytes(name)).is_none() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.directory.existing_subdirectory(DEAD)?.remove(name)?;
        self.counts.subtract(Place::Dead, file.size, file.since);
        Ok(())
    }

    /// Whether the directory was removed while it was open: what waited in it is gone,
    /// and nothing can be written there any more.
    #[must_use]
    pub fn vanished(&self) -> bool {
        self.directory.stat_self().is_ok_and(|facts| facts.st_nlink == 0)
    }
}

/// The letters as one file.
pub(super) fn seal(letters: &[DeadLetter]) -> Result<Sealed, FrameError> {
    let mut body = vec![b'['];
    for (index, letter) in letters.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        write_letter(letter, &mut body);
    }
    body.push(b']');
    let first = letters.first();
    let key = first
        .and_then(|letter| letter.batch_key.parse().ok())
        .unwrap_or_else(|| BatchKey::of_foreign_body(&body));
    let modified = first.map_or_else(unix_now, |letter| letter.time);
    let metadata = Metadata {
        key: key.to_string(),
        records: letters.len() as u64,
        start: 0,
        end: 0,
        run: String::new(),
        tried: 1,
        answer: first.map(last_answer).unwrap_or_default(),
        first_at: modified,
        body_bytes: 0,
        body_blake3: String::new(),
        deflate_crc32: 0,
    };
    Ok(Sealed { file: frame(metadata, &body)?, key, modified })
}

fn last_answer(letter: &DeadLetter) -> String {
    let text = match letter.status {
        Some(status) => format!("{status} {:?}", letter.reason),
        None => letter.reason.clone(),
    };
    clean(&text, super::Attempts::ANSWER_MAX)
}

fn write_letter(letter: &DeadLetter, body: &mut Vec<u8>) {
    body.extend_from_slice(b"{\"record\":");
    match serde_json::from_slice::<&RawValue>(&letter.record) {
        Ok(record) => append_on_one_line(record, body),
        // Whatever it is, it is kept: as text when it is not JSON.
        Err(_) => append(&String::from_utf8_lossy(&letter.record), body),
    }
    body.extend_from_slice(b",\"reason\":");
    append(&clean(&letter.reason, DeadLetter::REASON_MAX), body);
    body.extend_from_slice(b",\"status\":");
    append(&letter.status, body);
    body.extend_from_slice(b",\"response\":");
    append(&clean(&letter.response, DeadLetter::RESPONSE_MAX), body);
    body.extend_from_slice(b",\"batch_key\":");
    append(&clean(&letter.batch_key, 64), body);
    body.extend_from_slice(b",\"time\":");
    append(&letter.time, body);
    body.push(b'}');
}

/// Line ends can only stand between JSON tokens, where a space says the same.
pub(super) fn append_on_one_line(value: &RawValue, body: &mut Vec<u8>) {
    body.extend(value.get().bytes().map(|c| if matches!(c, b'\n' | b'\r') { b' ' } else { c }));
}

/// Appends a value that always serializes: text, a number, or nothing.
fn append(value: &(impl Serialize + ?Sized), body: &mut Vec<u8>) {
    body.extend_from_slice(&serde_json::to_vec(value).unwrap_or_else(|_| b"null".to_vec()));
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use super::*;

    fn letter(record: &'static [u8]) -> DeadLetter {
        DeadLetter {
            record: Bytes::from_static(record),
            reason: "cpu_number: not a \"number\"".to_owned(),
            status: Some(422),
            response: "\u{1b}[2J{\"error\":\"no\"}".to_owned() + &"x".repeat(10_000),
            batch_key: "0123456789abcdef0123456789abcdef".to_owned(),
            time: 1_763_000_000,
        }
    }

    #[test]
    fn letters_are_a_json_array_with_record_reason_status_response_key_and_time() {
        let sealed = seal(&[letter(b"{\"a\":\n1.50}"), letter(b"not json \xff")]).unwrap();
        let (metadata, body) = super::super::gzip::unframe(&sealed.file).unwrap();
        assert_eq!((metadata.records, metadata.key), (2, sealed.key.to_string()));
        assert!(body.starts_with(b"[{\"record\":{\"a\": 1.50},\"reason\":"));
        let letters: Vec<serde_json::Value> = serde_json::from_slice(&body).unwrap();
        assert_eq!(letters[0]["status"], 422);
        assert_eq!(letters[0]["reason"], "cpu_number: not a \"number\"");
        assert_eq!(letters[0]["time"], 1_763_000_000);
        assert_eq!(letters[0]["batch_key"], "0123456789abcdef0123456789abcdef");
        let response = letters[0]["response"].as_str().unwrap();
        assert!(response.len() == DeadLetter::RESPONSE_MAX && response.starts_with("?[2J{"));
        assert_eq!(letters[1]["record"], "not json \u{fffd}");
    }

    #[test]
    fn a_letter_without_status_or_key_is_kept_all_the_same() {
        let letter = DeadLetter { status: None, batch_key: "odd".to_owned(), ..letter(b"1") };
        let sealed = seal(&[letter]).unwrap();
        let (_, body) = super::super::gzip::unframe(&sealed.file).unwrap();
        let letters: Vec<serde_json::Value> = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (&letters[0]["status"], &letters[0]["record"]),
            (&serde_json::Value::Null, &1.into())
        );
    }
}
