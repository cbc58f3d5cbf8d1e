//! Answers: JSON, text, and one that ends before its end.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use crate::faults::Faults;

/// No answer: the connection is cut off on purpose.
#[derive(Debug, thiserror::Error)]
#[error("connection cut off on purpose")]
pub(crate) struct Dropped;

/// An answer, or none.
pub(crate) type Answer = Result<Response<ReplyBody>, Dropped>;

/// A whole body, or the first part of one.
pub(crate) struct ReplyBody {
    data: Bytes,
    /// Bytes that are announced and never sent.
    missing: u64,
    paused: bool,
}

impl ReplyBody {
    fn whole(data: Bytes) -> Self {
        Self { data, missing: 0, paused: false }
    }

    /// Cuts the second half off.
    pub(crate) fn truncate(&mut self) {
        let rest = self.data.split_off(self.data.len() / 2);
        self.missing += rest.len() as u64;
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Dropped;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Dropped>>> {
        if !self.data.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.data)))));
        }
        if self.missing == 0 {
            return Poll::Ready(None);
        }
        if !self.paused {
            // Lets hyper write the first part before it learns that there is no second.
            self.paused = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(Dropped)))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_empty() && self.missing == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.data.len() as u64 + self.missing)
    }
}

/// `body` as JSON.
pub(crate) fn json(status: StatusCode, body: &Value) -> Response<ReplyBody> {
    with_type(status, "application/json", body.to_string())
}

/// `{"error": WHY}`.
pub(crate) fn error(status: StatusCode, why: impl Into<String>) -> Response<ReplyBody> {
    json(status, &json!({ "error": why.into() }))
}

/// `body` with its media type.
pub(crate) fn with_type(
    status: StatusCode,
    media_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::whole(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// 405, naming the methods there are.
pub(crate) fn wrong_method(allowed: &'static str) -> Response<ReplyBody> {
    let response = error(StatusCode::METHOD_NOT_ALLOWED, format!("use {allowed}"));
    with_header(response, hyper::header::ALLOW, allowed.to_owned())
}

/// `response` with one more header; a value that can't be one is left out.
pub(crate) fn with_header(
    mut response: Response<ReplyBody>,
    name: HeaderName,
    value: String,
) -> Response<ReplyBody> {
    if let Ok(value) = HeaderValue::try_from(value) {
        response.headers_mut().insert(name, value);
    }
    response
}

/// A failure on purpose, with `Retry-After` if there is one to send.
pub(crate) fn failure(status: StatusCode, faults: &Faults) -> Response<ReplyBody> {
    let mut response = error(status, "failing on purpose");
    if status.is_redirection() {
        response = with_header(response, hyper::header::LOCATION, "/health".to_owned());
    }
    let waits = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    match faults.retry_after {
        Some(wait) if waits => {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            let value = if faults.retry_after_date {
                let at = std::time::SystemTime::now() + std::time::Duration::from_secs(seconds);
                httpdate::fmt_http_date(at)
            } else {
                seconds.to_string()
            };
            with_header(response, RETRY_AFTER, value)
        }
        _ => response,
    }
}
