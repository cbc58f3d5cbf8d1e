//! Reads a request's body: bounded in size and time, decompressed if need be.

use std::io::Read;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use flate2::bufread::MultiGzDecoder;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_ENCODING, HeaderMap};

/// How long a client may take to send a body.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// How much larger than the limit on the wire a body may become when decompressed.
const EXPANSION_MAX: usize = 8;
/// How much of a body that is too large is read and thrown away, as a multiple of the
/// limit, so that the client gets to read the answer instead of a reset.
const DISCARD_MAX: usize = 4;
/// Largest zstd window, 2^25 bytes.
const ZSTD_WINDOW_LOG_MAX: u32 = 25;

/// Why there is no body to look at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("body larger than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("body not received within 60 s")]
    Timeout,
    #[error("body broke off: {0}")]
    BrokeOff(#[from] hyper::Error),
    #[error("content encoding `{0}` is not known; use gzip, zstd or none")]
    UnknownEncoding(String),
    #[error("not valid {encoding}: {source}")]
    Undecodable { encoding: &'static str, source: std::io::Error },
}

/// The body as sent, at most `limit` bytes.
pub(crate) async fn read(body: Incoming, limit: usize) -> Result<Bytes, BodyError> {
    match tokio::time::timeout(READ_TIMEOUT, collect(body, limit)).await {
        Ok(result) => result,
        Err(_) => Err(BodyError::Timeout),
    }
}

async fn collect(mut body: Incoming, limit: usize) -> Result<Bytes, BodyError> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit {
        discard(body, limit).await?;
        return Err(BodyError::TooLarge { limit });
    }
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        if first.len() + whole.len() + data.len() > limit {
            discard(body, limit).await?;
            return Err(BodyError::TooLarge { limit });
        }
        if first.is_empty() && whole.is_empty() {
            // Most bodies are one frame, which needs no copy.
            first = data;
            continue;
        }
        if whole.is_empty() {
            whole.reserve(announced.max(first.len() + data.len()));
            whole.extend_from_slice(&std::mem::take(&mut first));
        }
        whole.extend_from_slice(&data);
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

async fn discard(mut body: Incoming, limit: usize) -> Result<(), BodyError> {
    let mut left = limit.saturating_mul(DISCARD_MAX);
    while let Some(frame) = body.frame().await {
        let length = frame?.data_ref().map_or(0, Bytes::len);
        left = left.saturating_sub(length);
        if left == 0 {
            break;
        }
    }
    Ok(())
}

/// The body without its content encoding, at most 8 times `limit` bytes.
pub(crate) fn decode(headers: &HeaderMap, body: Bytes, limit: usize) -> Result<Bytes, BodyError> {
    let Some(encoding) = headers.get(CONTENT_ENCODING) else {
        return Ok(body);
    };
    let limit = limit.saturating_mul(EXPANSION_MAX);
    match encoding.as_bytes() {
        b"identity" => Ok(body),
        b"gzip" | b"x-gzip" => decode_with("gzip", MultiGzDecoder::new(&body[..]), limit),
        b"zstd" => {
            let wrong = |source| BodyError::Undecodable { encoding: "zstd", source };
            let mut decoder = zstd::Decoder::with_buffer(&body[..]).map_err(wrong)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(wrong)?;
            decode_with("zstd", decoder, limit)
        }
        other => Err(BodyError::UnknownEncoding(String::from_utf8_lossy(other).into_owned())),
    }
}

fn decode_with(
    encoding: &'static str,
    decoder: impl Read,
    limit: usize,
) -> Result<Bytes, BodyError> {
    let mut plain = Vec::new();
    decoder
        .take(limit as u64 + 1)
        .read_to_end(&mut plain)
        .map_err(|source| BodyError::Undecodable { encoding, source })?;
    if plain.len() > limit {
        return Err(BodyError::TooLarge { limit });
    }
    Ok(plain.into())
}
