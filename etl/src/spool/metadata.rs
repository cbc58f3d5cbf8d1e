//! What travels in a spool file's gzip header, where `zcat` and `jq` never see
//! it: identity, counts, attempts and the digests that make a flipped bit show.
//!
//! The header's extra field holds one RFC 1952 subfield, `ET`:
//! a version byte, BLAKE3 over that byte and the rest, and the rest as JSON. The
//! JSON names the body's own BLAKE3, so the digest covers metadata and body, and
//! metadata can be trusted without reading the body.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::batch::{BatchKey, Payload};

/// What has been tried with a batch so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attempts {
    /// How often it was sent.
    pub tried: u32,
    /// What the sink said last; [`clean`]ed and capped at [`Attempts::ANSWER_MAX`] bytes when stored.
    pub last_answer: String,
    /// When the batch was sealed or first tried, in Unix seconds; its age counts from here.
    pub first_at: u64,
}

/// Everything about a batch but its records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Metadata {
    /// The batch key, 32 hexadecimal digits.
    pub key: String,
    pub records: u64,
    /// Source range, as the payload carries it.
    pub start: u64,
    pub end: u64,
    pub run: String,
    pub tried: u32,
    pub answer: String,
    pub first_at: u64,
    pub body_bytes: u64,
    /// BLAKE3 over the uncompressed body.
    pub body_blake3: String,
    /// CRC-32 over the compressed body: its padding bits are covered by nothing else.
    pub deflate_crc32: u32,
}

/// Why an extra field is not ours or not whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum MetadataError {
    #[error("no etl metadata in its header")]
    Missing,
    #[error("metadata of format {0}, which this etl does not know; use a newer one")]
    Version(u8),
    #[error("metadata does not match its digest")]
    Digest,
    #[error("metadata is not understood: {0}")]
    Content(String),
}

const SUBFIELD: [u8; 2] = *b"ET";
const VERSION: u8 = 1;
const DIGEST_LEN: usize = blake3::OUT_LEN;
/// Subfield id and length, version, digest.
const FRAME: usize = 4 + 1 + DIGEST_LEN;

impl Attempts {
    /// The most of the sink's last answer that is kept, in bytes.
    pub const ANSWER_MAX: usize = 200;

    /// A batch that has not been sent yet, sealed now.
    #[must_use]
    pub fn untried() -> Attempts {
        Attempts { first_at: unix_now(), ..Attempts::default() }
    }
}

impl Metadata {
    /// What there is to say about `payload`; the frame adds what it knows of the bytes.
    pub fn of(payload: &Payload, attempts: &Attempts) -> Metadata {
        Metadata {
            key: payload.key.to_string(),
            records: payload.records() as u64,
            start: payload.range.start,
            end: payload.range.end,
            run: payload.run_id.to_string(),
            tried: attempts.tried,
            answer: clean(&attempts.last_answer, Attempts::ANSWER_MAX),
            first_at: attempts.first_at,
            body_bytes: 0,
            body_blake3: String::new(),
            deflate_crc32: 0,
        }
    }

    /// The whole extra field, without its own length; `None` when it would not
    /// fit into the 65,535 bytes that gzip allows.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let json = serde_json::to_vec(self).ok()?;
        let length = u16::try_from(1 + DIGEST_LEN + json.len()).ok()?;
        u16::try_from(FRAME + json.len()).ok()?;
        let mut extra = Vec::with_capacity(FRAME + json.len());
        extra.extend_from_slice(&SUBFIELD);
        extra.extend_from_slice(&length.to_le_bytes());
        extra.push(VERSION);
        extra.extend_from_slice(digest(VERSION, &json).as_bytes());
        extra.extend_from_slice(&json);
        Some(extra)
    }

    /// Reads an extra field that must be exactly one subfield of ours.
    pub fn decode(extra: &[u8]) -> Result<Metadata, MetadataError> {
        if extra.len() < FRAME || extra[..2] != SUBFIELD {
            return Err(MetadataError::Missing);
        }
        let length = usize::from(u16::from_le_bytes([extra[2], extra[3]]));
        if length != extra.len() - 4 {
            return Err(MetadataError::Digest);
        }
        let (version, json) = (extra[4], &extra[FRAME..]);
        // A flipped version byte of ours is damage, not a newer format.
        if digest(version, json).as_bytes()[..] != extra[5..FRAME] {
            return Err(MetadataError::Digest);
        }
        if version != VERSION {
            return Err(MetadataError::Version(version));
        }
        let mut metadata: Metadata =
            serde_json::from_slice(json).map_err(|e| MetadataError::Content(e.to_string()))?;
        metadata.answer = clean(&metadata.answer, Attempts::ANSWER_MAX);
        Ok(metadata)
    }

    pub fn key(&self) -> Result<BatchKey, MetadataError> {
        self.key.parse().map_err(|e| MetadataError::Content(format!("{e}")))
    }

    pub fn attempts(&self) -> Attempts {
        Attempts { tried: self.tried, last_answer: self.answer.clone(), first_at: self.first_at }
    }
}

fn digest(version: u8, json: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[version]);
    hasher.update(json);
    hasher.finalize()
}

/// Foreign text made harmless for terminals and logs, at most `bytes_max` long:
/// control and text-direction characters become `?`, line ends a space.
#[must_use]
pub fn clean(text: &str, bytes_max: usize) -> String {
    let mut cleaned = String::with_capacity(text.len().min(bytes_max));
    for c in text.chars() {
        let c = match c {
            '\n' | '\r' | '\t' => ' ',
            '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}' => '?',
            c if c.is_control() => '?',
            c => c,
        };
        if cleaned.len() + c.len_utf8() > bytes_max {
            break;
        }
        cleaned.push(c);
    }
    cleaned
}

/// The clock in Unix seconds; 0 for a clock before 1970.
pub(super) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn metadata() -> Metadata {
        Metadata {
            key: "0123456789abcdef0123456789abcdef".to_owned(),
            records: 2,
            start: 5,
            end: 9,
            run: "9f3a".to_owned(),
            tried: 3,
            answer: "503 Service Unavailable".to_owned(),
            first_at: 1_763_000_000,
            body_bytes: 5,
            body_blake3: blake3::hash(b"[1,2]").to_hex().to_string(),
            deflate_crc32: 7,
        }
    }

    #[test]
    fn metadata_is_one_proper_subfield_and_comes_back() {
        let extra = metadata().encode().unwrap();
        assert_eq!(&extra[..2], b"ET");
        assert_eq!(usize::from(u16::from_le_bytes([extra[2], extra[3]])), extra.len() - 4);
        assert_eq!(Metadata::decode(&extra), Ok(metadata()));
    }

    #[test]
    fn every_flip_and_every_cut_shows() {
        let extra = metadata().encode().unwrap();
        for bit in 0..extra.len() * 8 {
            let mut bad = extra.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Metadata::decode(&bad).is_err(), "bit {bit}");
        }
        for length in 0..extra.len() {
            assert!(Metadata::decode(&extra[..length]).is_err(), "cut at {length}");
        }
    }

    #[test]
    fn another_version_and_another_key_are_told_apart_from_damage() {
        let mut extra = metadata().encode().unwrap();
        extra[4] = 9;
        let right = digest(9, &extra[FRAME..]);
        extra[5..FRAME].copy_from_slice(right.as_bytes());
        assert_eq!(Metadata::decode(&extra), Err(MetadataError::Version(9)));
        assert!(Metadata { key: "zz".to_owned(), ..metadata() }.key().is_err());
    }

    #[test]
    fn metadata_that_gzip_cannot_hold_is_refused() {
        assert!(Metadata { run: "r".repeat(65_000), ..metadata() }.encode().is_some());
        assert!(Metadata { run: "r".repeat(65_600), ..metadata() }.encode().is_none());
    }

    #[test]
    fn foreign_text_loses_what_a_terminal_would_obey() {
        assert_eq!(clean("a\x1b[31mb\r\nc\u{202e}d\0", 200), "a?[31mb  c?d?");
        assert_eq!(clean(&"é".repeat(200), 200).len(), 200);
        assert_eq!(clean("éé", 3), "é");
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(extra in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Metadata::decode(&extra).is_err());
        }

        #[test]
        fn cleaning_twice_changes_nothing(text in "\\PC*|[\\x00-\\x20]*", max in 0usize..50) {
            let once = clean(&text, max);
            prop_assert!(once.len() <= max);
            prop_assert_eq!(clean(&once, max), once.clone());
        }
    }
}
