//! Reads an answer's body under a cap; what a peer sends is never trusted to end.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use super::error::{SendErrorKind, stream_kind};

/// Why a body could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The body is longer than the cap, or announces that it will be.
    #[error("body larger than {}", size_text(*cap))]
    TooLarge {
        /// The cap in bytes.
        cap: usize,
    },
    /// The connection ended before the body did.
    #[error("{}", broken_text(.kind))]
    Broken {
        /// What happened to the connection.
        kind: SendErrorKind,
        /// What was met.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl BodyError {
    /// What `error`, met while reading a body, comes to.
    #[must_use]
    pub fn broken(source: hyper::Error) -> BodyError {
        BodyError::Broken { kind: stream_kind(&source), source: source.into() }
    }
}

/// `4 MiB` rather than `4.0 MiB`.
fn size_text(bytes: usize) -> String {
    bytesize::ByteSize(bytes as u64).display().iec().to_string().replace(".0 ", " ")
}

fn broken_text(kind: &SendErrorKind) -> String {
    match kind {
        SendErrorKind::Closed => "answer cut short".to_owned(),
        SendErrorKind::Reset => "connection reset within the answer".to_owned(),
        SendErrorKind::NotHttp => "answer garbled, not HTTP any more".to_owned(),
        other => format!("answer not read to its end: {other}"),
    }
}

/// Reads a body of at most `cap` bytes. One that announces more is refused before
/// anything is read; on any error the connection is dropped, not reused.
///
/// # Errors
/// When the body is larger than `cap` or the connection ends before it.
pub async fn read_body(mut body: Incoming, cap: usize) -> Result<Bytes, BodyError> {
    let too_large = BodyError::TooLarge { cap };
    if body.size_hint().lower() > cap as u64 {
        return Err(too_large);
    }
    // Most answers are one frame, which is then the body, uncopied; `joined` stays
    // empty until there is a second one, and then holds everything.
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(BodyError::broken)?;
        let Ok(data) = frame.into_data() else { continue };
        if first.len().max(joined.len()) + data.len() > cap {
            return Err(too_large);
        }
        if first.is_empty() {
            first = data;
            continue;
        }
        if joined.is_empty() {
            joined.extend_from_slice(&first);
        }
        joined.extend_from_slice(&data);
    }
    Ok(if joined.is_empty() { first } else { joined.freeze() })
}
