//! `POST /load`: reads a batch, decides its fault, checks every record, and enters it in the
//! ledger.

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, WWW_AUTHENTICATE,
};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::json;
use std::time::Duration;

use crate::app::App;
use crate::body::{self, BodyError};
use crate::faults::{self, Fault, Faults};
use crate::hash::{fingerprint, fingerprint_of_all};
use crate::ledger::{Batch, Entry};
use crate::records;
use crate::reply::{self, Answer, Dropped, ReplyBody};

/// The end of a request that is never answered.
const HANG: Duration = Duration::from_secs(300);
/// A guess that saves growing a list several times for each batch.
const RECORD_BYTES_USUAL: usize = 128;
static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The longest `Idempotency-Key`.
const KEY_BYTES_MAX: usize = 256;

/// Answers one request to `/load`, and counts it and its answer.
pub(crate) async fn answer(app: &App, request: Request<Incoming>) -> Answer {
    app.ledger.count_request();
    let faults = app.faults();
    let answer = decide(app, &faults, request).await;
    if !faults.delay.is_zero() {
        tokio::time::sleep(faults.delay).await;
    }
    if let Ok(response) = &answer {
        app.ledger.count_answer(response.status().as_u16());
    }
    answer
}

async fn decide(app: &App, faults: &Faults, request: Request<Incoming>) -> Answer {
    if request.method() != Method::POST {
        return Ok(reply::wrong_method("POST"));
    }
    let (head, incoming) = request.into_parts();
    // The body is read even if the head is refused: a client that is still sending would
    // see a reset instead of the answer.
    let read = body::read(incoming, faults.max_body).await;
    if let Err(refused) = authorize(faults, &head.headers).and_then(|()| check_type(&head.headers))
    {
        return Ok(*refused);
    }
    let body = match read {
        Ok(body) => body,
        Err(BodyError::BrokeOff(_)) => return Err(Dropped),
        Err(error) => return Ok(refuse_body(&error)),
    };
    let key = match idempotency_key(&head.headers) {
        Ok(key) => key,
        Err(refused) => return Ok(*refused),
    };
    let fault = draw(app, faults, key.map(|(_, key)| key));
    if fault != Fault::None {
        tracing::debug!(?fault, key = key.map(|(name, _)| name), "fault");
    }
    let store = || {
        let body = match body::decode(&head.headers, body, faults.max_body) {
            Ok(body) => body,
            Err(error) => return refuse_body(&error),
        };
        store(app, faults, key, &body)
    };
    match fault {
        Fault::None => Ok(store()),
        Fault::Status(status) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
            Ok(reply::failure(status, faults))
        }
        Fault::Reset => Err(Dropped),
        Fault::Hang => {
            tokio::time::sleep(HANG).await;
            Err(Dropped)
        }
        Fault::LoseReply => {
            drop(store());
            Err(Dropped)
        }
        Fault::Truncate => {
            let mut response = store();
            response.body_mut().truncate();
            Ok(response)
        }
        Fault::Lie => Ok(reply::json(StatusCode::OK, &json!({ "errors": true }))),
    }
}

fn draw(app: &App, faults: &Faults, key: Option<u128>) -> Fault {
    let draw = match key {
        Some(key) => faults::draw_for_key(faults.seed, key, app.ledger.next_attempt(key)),
        None => faults::draw_for_ordinal(faults.seed, app.ledger.next_keyless()),
    };
    faults.decide(draw)
}

/// The answer to a request that is not taken further.
type Refusal = Response<ReplyBody>;

fn authorize(faults: &Faults, headers: &HeaderMap) -> Result<(), Box<Refusal>> {
    let Some(token) = &faults.token else {
        return Ok(());
    };
    let offered = headers.get(AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
    let matches = offered.split_at_checked(7).is_some_and(|(scheme, rest)| {
        scheme.eq_ignore_ascii_case(b"bearer ") && token.matches(rest)
    });
    if matches {
        return Ok(());
    }
    let response = reply::error(StatusCode::UNAUTHORIZED, "the bearer token is missing or wrong");
    Err(Box::new(reply::with_header(response, WWW_AUTHENTICATE, "Bearer".to_owned())))
}

fn check_type(headers: &HeaderMap) -> Result<(), Box<Refusal>> {
    let Some(media_type) = headers.get(CONTENT_TYPE) else {
        return Ok(());
    };
    let essence = media_type.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    if essence.trim_ascii().eq_ignore_ascii_case(b"application/json") {
        return Ok(());
    }
    let why = "the content type must be application/json";
    Err(Box::new(reply::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, why)))
}

/// The request's key and its fingerprint.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<(&str, u128)>, Box<Refusal>> {
    let Some(key) = headers.get(&IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    match key.to_str() {
        Ok(key) if (1..=KEY_BYTES_MAX).contains(&key.len()) => {
            Ok(Some((key, fingerprint(key.as_bytes()))))
        }
        _ => {
            let why = "Idempotency-Key must be 1 to 256 visible ASCII characters";
            Err(Box::new(reply::error(StatusCode::BAD_REQUEST, why)))
        }
    }
}

fn refuse_body(error: &BodyError) -> Refusal {
    let status = match error {
        BodyError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        BodyError::Timeout => StatusCode::REQUEST_TIMEOUT,
        BodyError::BrokeOff(_) | BodyError::Undecodable { .. } => StatusCode::BAD_REQUEST,
        BodyError::UnknownEncoding(_) => {
            let response = reply::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, error.to_string());
            return reply::with_header(response, ACCEPT_ENCODING, "gzip, zstd".to_owned());
        }
    };
    tracing::info!(%error, status = status.as_u16(), "body refused");
    reply::error(status, error.to_string())
}

/// Checks every record and enters the batch in the ledger.
fn store(app: &App, faults: &Faults, key: Option<(&str, u128)>, body: &Bytes) -> Refusal {
    let mut checked = Checked {
        fingerprints: Vec::with_capacity(body.len() / RECORD_BYTES_USUAL),
        ..Checked::default()
    };
    let keep = app.ledger.keeps_records();
    let poison = faults.poison.as_deref().map(str::as_bytes);
    let scanned = records::scan(body, |record| {
        let index = checked.seen;
        checked.seen += 1;
        checked.record_bytes += record.len();
        checked.fingerprints.push(fingerprint(record));
        if poison.is_some_and(|poison| contains(record, poison)) {
            checked.poisoned.push(index);
        } else if keep {
            checked.kept.push(body.slice_ref(record));
        }
    });
    if let Err(error) = scanned {
        tracing::info!(%error, "batch refused");
        return reply::error(StatusCode::BAD_REQUEST, error.to_string());
    }
    if let Some(limit) = faults.max_records.filter(|limit| checked.seen > *limit) {
        let why = format!("{} records are more than {limit}", checked.seen);
        return reply::error(StatusCode::PAYLOAD_TOO_LARGE, why);
    }
    if let Some(index) = checked.poisoned.first()
        && !faults.partial
    {
        let body = json!({ "error": "a record is not acceptable", "index": index });
        return reply::json(StatusCode::UNPROCESSABLE_ENTITY, &body);
    }
    let body_fingerprint = checked.body_fingerprint(body);
    checked.drop_poisoned();
    let accepted = checked.fingerprints.len();
    if accepted > 0 {
        let batch = Batch {
            key,
            body,
            body_fingerprint,
            records: &checked.fingerprints,
            kept: checked.kept,
        };
        let entry = app.ledger.enter(batch);
        let name = key.map(|(name, _)| name);
        if entry == Entry::Conflict {
            tracing::warn!(key = name, "key used for another body");
            let why = "this Idempotency-Key was used for another body";
            return reply::error(StatusCode::UNPROCESSABLE_ENTITY, why);
        }
        tracing::debug!(key = name, records = accepted, ?entry, "batch entered");
    }
    confirm(faults, accepted, &checked.poisoned)
}

/// What was found in a batch.
#[derive(Default)]
struct Checked {
    seen: usize,
    record_bytes: usize,
    fingerprints: Vec<u128>,
    kept: Vec<Bytes>,
    poisoned: Vec<usize>,
}

impl Checked {
    /// Equal for equal bodies only.
    fn body_fingerprint(&self, body: &[u8]) -> u128 {
        let brackets_and_commas = self.seen + 1;
        if self.record_bytes + brackets_and_commas == body.len() {
            // Nothing between the records but what has to be there: they are the body.
            return fingerprint_of_all(&self.fingerprints);
        }
        fingerprint(body)
    }

    /// Leaves the fingerprints of the accepted records.
    fn drop_poisoned(&mut self) {
        for index in self.poisoned.iter().rev() {
            self.fingerprints.remove(*index);
        }
    }
}

fn confirm(faults: &Faults, accepted: usize, refused: &[usize]) -> Refusal {
    if refused.is_empty() {
        let body = format!("{{\"accepted\":{accepted}}}");
        return reply::with_type(StatusCode::OK, "application/json", body);
    }
    let failed: Vec<_> = refused
        .iter()
        .map(|index| json!({ "index": index, "error": "the record is not acceptable" }))
        .collect();
    let status = StatusCode::from_u16(faults.partial_status).unwrap_or(StatusCode::MULTI_STATUS);
    reply::json(status, &json!({ "accepted": accepted, "errors": true, "failed": failed }))
}

fn contains(record: &[u8], text: &[u8]) -> bool {
    record.windows(text.len()).any(|window| window == text)
}
