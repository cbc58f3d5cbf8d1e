//! An answer's body as a reader: waits for each part, decompresses it, and bounds
//! both what comes in and the memory that decompressing takes.

use std::fmt;
use std::io::{self, Read};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::error::Trouble;
use super::wait::Waits;
use crate::http::{BodyError, printable};

/// Windows that a zstd body may ask for, as RFC 9659 bounds them for HTTP: 8 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// What brotli decompresses into at once.
const BROTLI_BUFFER: usize = 16 * 1024;

/// What clients say they can read.
pub(super) const ACCEPTED: &str = "gzip, zstd, br";

/// Until when parts of a body are waited for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Patience {
    /// The whole body has this long.
    Until(Instant),
    /// Each part has.
    Each(Duration),
}

/// A body as it comes in.
pub(super) struct BodyReader {
    body: Incoming,
    part: Bytes,
    waits: Waits,
    patience: Patience,
    /// Bytes that may still come.
    left: u64,
    cap: u64,
}

/// A [`Trouble`] on its way through readers that only know `io::Error`.
#[derive(Debug)]
struct Carried(Trouble);

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl std::error::Error for Carried {}

impl BodyReader {
    /// Reads at most `cap` bytes as they are sent.
    pub(super) fn new(body: Incoming, waits: Waits, patience: Patience, cap: u64) -> BodyReader {
        BodyReader { body, part: Bytes::new(), waits, patience, left: cap, cap }
    }

    fn next_part(&mut self) -> Result<Option<Bytes>, Trouble> {
        let deadline = match self.patience {
            Patience::Until(deadline) => deadline,
            Patience::Each(span) => Instant::now() + span,
        };
        let late = || "the answer's body did not come in time".to_owned();
        loop {
            let frame = match self.waits.before(deadline, self.body.frame(), late)? {
                None => return Ok(None),
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
                    return Err(Trouble::retry(BodyError::broken(error).to_string()));
                }
            };
            let Ok(data) = frame.into_data() else { continue };
            self.left =
                self.left.checked_sub(data.len() as u64).ok_or_else(|| too_large(self.cap))?;
            if !data.is_empty() {
                return Ok(Some(data));
            }
        }
    }
}

impl Read for BodyReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.part.is_empty() {
            match self.next_part() {
                Ok(None) => return Ok(0),
                Ok(Some(part)) => self.part = part,
                Err(trouble) => return Err(io::Error::other(Carried(trouble))),
            }
        }
        let count = out.len().min(self.part.len());
        self.part.copy_to_slice(&mut out[..count]);
        Ok(count)
    }
}

/// The body without its content encoding.
pub(super) fn decoded(
    headers: &HeaderMap,
    body: BodyReader,
) -> Result<Box<dyn Read + Send>, Trouble> {
    let encoding = headers.get(CONTENT_ENCODING).map_or(&b""[..], |value| value.as_bytes());
    let encoding = encoding.trim_ascii().to_ascii_lowercase();
    Ok(match &encoding[..] {
        b"" | b"identity" => Box::new(body),
        b"gzip" | b"x-gzip" => Box::new(flate2::read::MultiGzDecoder::new(body)),
        b"zstd" => {
            let mut zstd =
                zstd::stream::read::Decoder::new(body).map_err(|error| trouble(&error))?;
            zstd.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|error| trouble(&error))?;
            Box::new(zstd)
        }
        b"br" => Box::new(brotli_decompressor::Decompressor::new(body, BROTLI_BUFFER)),
        other => {
            let other = printable(other, 60);
            return Err(Trouble::Final(format!(
                "is sent as content-encoding {other}, and {ACCEPTED} was asked for"
            )));
        }
    })
}

/// What went wrong while reading a decoded body.
pub(super) fn trouble(error: &io::Error) -> Trouble {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Carried>()) {
        Some(Carried(trouble)) => trouble.clone(),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            Trouble::retry("the answer is cut short: its compressed body does not come to an end")
        }
        None => {
            let why = printable(error.to_string().as_bytes(), 200);
            Trouble::retry(format!("the answer cannot be decompressed: {why}"))
        }
    }
}

/// Reads a whole body of at most `cap` bytes, decompressed.
pub(super) fn read_whole(reader: Box<dyn Read + Send>, cap: u64) -> Result<Vec<u8>, Trouble> {
    let mut body = Vec::new();
    reader.take(cap.saturating_add(1)).read_to_end(&mut body).map_err(|error| trouble(&error))?;
    if body.len() as u64 > cap {
        return Err(too_large(cap));
    }
    Ok(body)
}

fn too_large(cap: u64) -> Trouble {
    let size = crate::telemetry::figures::bytes(cap);
    Trouble::Final(format!(
        "is larger than source.rest.max_body ({size}); ask for smaller pages, or raise it"
    ))
}
