//! The frame of a spool file: one gzip member that any tool reads, with our
//! metadata in its header. Reading accepts exactly what writing makes; whatever
//! differs by a bit is refused with the reason.

use bytes::Bytes;
use flate2::{Crc, Decompress, FlushDecompress, Status};

use super::metadata::{Metadata, MetadataError};
use crate::deflate::{self, trailer};
use crate::reuse::Kept;

/// The largest body written or read: what a decompression bomb can cost.
pub(super) const BODY_MAX: usize = if cfg!(test) { 4 << 20 } else { 256 << 20 };
/// The largest file worth opening: an incompressible body, its header and slack.
pub(super) const FILE_MAX: u64 = (BODY_MAX + BODY_MAX / 1000 + (128 << 10)) as u64;
/// The longest header; the first bytes of a file that hold all its metadata.
pub(super) const HEADER_MAX: u64 = FIXED.len() as u64 + 2 + u16::MAX as u64;

/// Magic, deflate, FEXTRA, no time, fastest, no system: fixed, so that the same
/// batch gives the same bytes and every flipped header bit shows.
const FIXED: [u8; 10] = [0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 4, 255];
const TRAILER: usize = 8;
/// Decompressors that are kept, for a fresh one clears its window; those that met damage
/// are not.
static KEPT: Kept<Decompress> = Kept::new(16, 0, |_| 0);

/// Why bytes cannot be framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("the batch is larger than {} MiB, which the spool would not read back", BODY_MAX >> 20)]
    BodyTooLarge,
    #[error("the batch's metadata is larger than a gzip header can hold")]
    MetadataTooLarge,
}

/// Why a file does not check.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameProblem {
    #[error("empty file")]
    Empty,
    #[error("not a gzip file of etl's making")]
    NotOurs,
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    #[error("cut short or damaged: {0}")]
    Damaged(&'static str),
    #[error("larger than {} MiB when decompressed", BODY_MAX >> 20)]
    TooLarge,
}

/// A whole file for `body`; fills in what `metadata` says about the body.
pub(super) fn frame(mut metadata: Metadata, body: &[u8]) -> Result<Vec<u8>, FrameError> {
    if body.len() > BODY_MAX {
        return Err(FrameError::BodyTooLarge);
    }
    let mut deflated = Vec::new();
    deflate::deflate(body, &mut deflated);
    metadata.body_bytes = body.len() as u64;
    metadata.body_blake3 = blake3::hash(body).to_hex().to_string();
    metadata.deflate_crc32 = crc32(&deflated);
    let extra = metadata.encode().ok_or(FrameError::MetadataTooLarge)?;
    let extra_length = u16::try_from(extra.len()).map_err(|_| FrameError::MetadataTooLarge)?;
    let mut file = Vec::with_capacity(FIXED.len() + 2 + extra.len() + deflated.len() + TRAILER);
    file.extend_from_slice(&FIXED);
    file.extend_from_slice(&extra_length.to_le_bytes());
    file.extend_from_slice(&extra);
    file.extend_from_slice(&deflated);
    file.extend_from_slice(&trailer(body));
    Ok(file)
}

/// The metadata at the beginning of a file, checked against its own digest, and
/// where the compressed body begins. `beginning` may end anywhere after it.
pub(super) fn header(beginning: &[u8]) -> Result<(Metadata, usize), FrameProblem> {
    if beginning.is_empty() {
        return Err(FrameProblem::Empty);
    }
    if !beginning.starts_with(&FIXED) {
        let gzip_without_extra = beginning.starts_with(&FIXED[..3]);
        let missing = gzip_without_extra.then_some(FrameProblem::Metadata(MetadataError::Missing));
        return Err(missing.unwrap_or(FrameProblem::NotOurs));
    }
    let rest = &beginning[FIXED.len()..];
    let Some((length, rest)) = rest.split_first_chunk::<2>() else {
        return Err(FrameProblem::Damaged("its header ends early"));
    };
    let length = usize::from(u16::from_le_bytes(*length));
    let extra = rest.get(..length).ok_or(FrameProblem::Damaged("its header ends early"))?;
    Ok((Metadata::decode(extra)?, FIXED.len() + 2 + length))
}

/// Whether a file begins as [`frame`] begins it, whatever follows.
pub(super) fn begins_like_ours(file: &[u8]) -> bool {
    file.starts_with(&FIXED) && file.get(12..14).is_some_and(|subfield| subfield == b"ET")
}

/// Reads a whole file: metadata and body, every checksum and digest checked.
pub(super) fn unframe(file: &[u8]) -> Result<(Metadata, Bytes), FrameProblem> {
    let (metadata, start) = header(file)?;
    let rest = &file[start..];
    if rest.len() < TRAILER {
        return Err(FrameProblem::Damaged("its end is missing"));
    }
    let (deflated, end) = rest.split_at(rest.len() - TRAILER);
    if crc32(deflated) != metadata.deflate_crc32 {
        return Err(FrameProblem::Damaged("the compressed records do not match their checksum"));
    }
    let length = usize::try_from(metadata.body_bytes).unwrap_or(usize::MAX);
    if length > BODY_MAX {
        return Err(FrameProblem::TooLarge);
    }
    let body = inflate_exactly(deflated, length)?;
    if blake3::hash(&body).to_hex().as_str() != metadata.body_blake3 {
        return Err(FrameProblem::Damaged("the records do not match their digest"));
    }
    if trailer(&body) != *end {
        return Err(FrameProblem::Damaged("the gzip checksum does not match"));
    }
    Ok((metadata, Bytes::from(body)))
}

/// Inflates all of `deflated` into exactly `length` bytes.
fn inflate_exactly(deflated: &[u8], length: usize) -> Result<Vec<u8>, FrameProblem> {
    const DAMAGED: FrameProblem = FrameProblem::Damaged("the records do not decompress");
    let mut inflate = KEPT.take().unwrap_or_else(|| Decompress::new(false));
    // One byte more, so that a longer body shows instead of merely filling the buffer.
    let mut body = vec![0; length + 1];
    let status =
        inflate.decompress(deflated, &mut body, FlushDecompress::Finish).map_err(|_| DAMAGED)?;
    let whole = status == Status::StreamEnd
        && inflate.total_in() == deflated.len() as u64
        && inflate.total_out() == length as u64;
    body.truncate(length);
    if !whole {
        return Err(DAMAGED);
    }
    inflate.reset(false);
    KEPT.keep(inflate);
    Ok(body)
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    use proptest::prelude::*;

    use super::*;

    const BODY: &[u8] = br#"[{"name":"device-0","v":1},{"name":"device-1","v":2}]"#;

    fn metadata() -> Metadata {
        Metadata {
            key: "0123456789abcdef0123456789abcdef".to_owned(),
            records: 2,
            start: 0,
            end: 2,
            run: "9f3a".to_owned(),
            tried: 1,
            answer: "503".to_owned(),
            first_at: 1_763_000_000,
            body_bytes: 0,
            body_blake3: String::new(),
            deflate_crc32: 0,
        }
    }

    #[test]
    fn a_frame_comes_back_and_is_always_the_same_bytes() {
        let file = frame(metadata(), BODY).unwrap();
        let (read, body) = unframe(&file).unwrap();
        assert_eq!(&body[..], BODY);
        assert_eq!((read.records, read.body_bytes), (2, BODY.len() as u64));
        assert_eq!(frame(metadata(), BODY).unwrap(), file);
    }

    #[test]
    fn every_flipped_bit_every_cut_and_every_addition_shows() {
        let file = frame(metadata(), BODY).unwrap();
        for bit in 0..file.len() * 8 {
            let mut bad = file.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(unframe(&bad).is_err(), "bit {bit}");
        }
        for length in 0..file.len() {
            assert!(unframe(&file[..length]).is_err(), "cut at {length}");
        }
        for byte in 0..=255u8 {
            let mut bad = file.clone();
            bad.push(byte);
            assert!(unframe(&bad).is_err(), "added {byte}");
        }
        let twice = [&file[..], &file[..]].concat();
        assert!(unframe(&twice).is_err(), "a second member is not of our making");
    }

    #[test]
    fn a_body_longer_or_shorter_than_its_metadata_says_is_refused() {
        let mut deflated = Vec::new();
        deflate::deflate(&vec![b'x'; 100_000], &mut deflated);
        for length in [0, 1, 99_999, 100_001] {
            assert!(inflate_exactly(&deflated, length).is_err(), "{length}");
        }
        assert!(inflate_exactly(&deflated, 100_000).is_ok());
    }

    #[test]
    fn a_bomb_is_refused_before_it_is_inflated() {
        let body = vec![b'0'; BODY_MAX + 1];
        assert_eq!(frame(metadata(), &body), Err(FrameError::BodyTooLarge));
        let mut deflated = Vec::new();
        deflate::deflate(&body, &mut deflated);
        let bomb = Metadata {
            body_bytes: body.len() as u64,
            deflate_crc32: crc32(&deflated),
            ..metadata()
        };
        let extra = bomb.encode().unwrap();
        let mut file = FIXED.to_vec();
        file.extend_from_slice(&u16::try_from(extra.len()).unwrap().to_le_bytes());
        file.extend_from_slice(&extra);
        file.extend_from_slice(&deflated);
        file.extend_from_slice(&trailer(&body));
        assert_eq!(unframe(&file).unwrap_err(), FrameProblem::TooLarge);
    }

    /// Feeds `file` to a program and gives back whether it was content, and its output.
    fn pipe(program: &[&str], file: &[u8]) -> (bool, Vec<u8>) {
        let mut child = Command::new(program[0])
            .args(&program[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(file).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.success(), output.stdout)
    }

    #[test]
    fn the_tools_people_have_read_our_files_as_plain_json() {
        let file = frame(metadata(), BODY).unwrap();
        assert!(pipe(&["gzip", "-t"], &file).0);
        assert_eq!(pipe(&["zcat"], &file), (true, BODY.to_vec()));
        let python = "import gzip,json,sys; \
            print(len(json.loads(gzip.decompress(sys.stdin.buffer.read()))))";
        assert_eq!(pipe(&["python3", "-c", python], &file), (true, b"2\n".to_vec()));
        let (fine, json) = pipe(&["sh", "-c", "zcat | jq -c '.[].name'"], &file);
        assert!(fine);
        assert_eq!(json, b"\"device-0\"\n\"device-1\"\n");
        let mut other = Vec::new();
        flate2::read::MultiGzDecoder::new(&file[..]).read_to_end(&mut other).unwrap();
        assert_eq!(other, BODY);
    }

    proptest! {
        #[test]
        fn any_body_comes_back(body in proptest::collection::vec(any::<u8>(), 0..5000)) {
            let file = frame(metadata(), &body).unwrap();
            prop_assert_eq!(&unframe(&file).unwrap().1[..], &body[..]);
        }

        #[test]
        fn no_bytes_are_accepted_that_we_did_not_write(
            at in 0usize..400, put in proptest::collection::vec(any::<u8>(), 1..20)
        ) {
            let file = frame(metadata(), BODY).unwrap();
            let mut bad = file.clone();
            let at = at.min(bad.len());
            let end = (at + put.len()).min(bad.len());
            bad.splice(at..end, put);
            prop_assume!(bad != file);
            prop_assert!(unframe(&bad).is_err());
        }
    }
}
