//! Which request gets which answer.

use std::convert::Infallible;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use http::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING, VARY,
};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::{Value as Json, json};

use super::{Admin, Caller, control, debug, health, metrics, pipelines};

/// An answer's whole body is in memory: all of them are small.
pub(super) type Answer = Response<Full<Bytes>>;

const PATHS: [&str; 9] = [
    "/metrics",
    "/health",
    "/healthz",
    "/ready",
    "/readyz",
    "/pipelines",
    "/pipelines/NAME/targets",
    "/debug/pprof/profile",
    "/debug/pprof/flamegraph",
];

/// Answers one request.
pub(super) async fn answer(
    admin: Arc<Admin>,
    caller: Caller,
    request: Request<Incoming>,
) -> Result<Answer, Infallible> {
    let path = request.uri().path().to_owned();
    if caller == Caller::Owner && path.starts_with(control::PREFIX) {
        return Ok(control::answer(admin, request.method().clone(), path).await);
    }
    let targets_of = pipelines::targets_of(&path).map(str::to_owned);
    if !PATHS.contains(&path.as_str()) && targets_of.is_none() {
        return Ok(json(StatusCode::NOT_FOUND, &json!({"error": "no such path", "paths": PATHS})));
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let error = json!({"error": "only GET and HEAD are answered"});
        let mut answer = json(StatusCode::METHOD_NOT_ALLOWED, &error);
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Ok(closing(answer));
    }
    if has_body(&request) {
        let error = json!({"error": "a request here has no body"});
        return Ok(closing(json(StatusCode::PAYLOAD_TOO_LARGE, &error)));
    }
    if let Some(rest) = path.strip_prefix("/debug/pprof/") {
        return Ok(debug::answer(rest, caller, &request).await);
    }
    let open_metrics = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let open_metrics = open_metrics.is_some_and(|it| it.contains("application/openmetrics-text"));
    if path.starts_with("/health") {
        admin.probes.look(&admin.scheduler).await;
    }
    let query = request.uri().query().unwrap_or_default().to_owned();
    // What is behind the answers may have to be looked for on the disk.
    let answered = tokio::task::spawn_blocking(move || {
        if let Some(name) = targets_of {
            return pipelines::targets(&admin.scheduler, &name, &query);
        }
        let _alone = admin.rendering.lock().unwrap_or_else(PoisonError::into_inner);
        match path.as_str() {
            "/metrics" => metrics_page(&admin, open_metrics),
            "/pipelines" => json(StatusCode::OK, &pipelines::all(&admin.scheduler)),
            "/health" | "/healthz" => health::health(&admin),
            _ => health::ready(&admin),
        }
    });
    Ok(answered.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a request could not be answered");
        json(StatusCode::INTERNAL_SERVER_ERROR, &json!({"error": "a bug; see the log"}))
    }))
}

fn metrics_page(admin: &Admin, open_metrics: bool) -> Answer {
    let (page, kind) = match open_metrics {
        true => (
            metrics::open_metrics(&admin.scheduler),
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ),
        false => (metrics::text(&admin.scheduler), "text/plain; version=0.0.4; charset=utf-8"),
    };
    let mut answer = bytes(StatusCode::OK, kind, page.into());
    answer.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    answer
}

fn has_body(request: &Request<Incoming>) -> bool {
    let length = request.headers().get(CONTENT_LENGTH);
    request.headers().contains_key(TRANSFER_ENCODING)
        || length.is_some_and(|length| length.as_bytes() != b"0")
}

/// An answer after which the connection is closed: what else comes on it is not read.
fn closing(mut answer: Answer) -> Answer {
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// A JSON answer.
pub(super) fn json(status: StatusCode, body: &Json) -> Answer {
    bytes(status, "application/json", format!("{body}\n").into())
}

/// An answer of a kind of content.
pub(super) fn bytes(status: StatusCode, kind: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
