//! What a sink answered, decided in exactly one place. The table is the one in
//! `docs/architecture.md`; nothing else in the project looks at a status code to
//! decide whether to try again.

use std::time::{Duration, SystemTime};

use serde_json::Value;

/// What a sink's reply means for the records of one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Every record was accepted.
    Delivered,
    /// All were accepted but these.
    Partial(Vec<FailedRecord>),
    /// Not now: try again, after the stated time when there is one.
    Retry(Failure),
    /// The API refuses us (401, 403, 404, a redirect): keep everything and stop asking.
    Refused(Failure),
    /// The batch is too large (413): split it.
    TooLarge(Failure),
    /// Some record is wrong (400, 422): find it.
    Invalid(Failure),
}

/// One record that a sink did not accept out of a batch that it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedRecord {
    /// Position in the batch.
    pub index: usize,
    /// The sink's reason, made printable.
    pub reason: String,
}

/// Why a batch was not accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failure {
    /// Short text for people: `503 Service Unavailable`, `connection refused`.
    pub reason: String,
    /// The HTTP status, when there was an answer.
    pub status: Option<u16>,
    /// Whether there was no answer in time.
    pub timed_out: bool,
    /// How long the sink asked us to wait.
    pub after: Option<Duration>,
    /// The beginning of the answer's body, made printable.
    pub response: String,
    /// What to change when it is a refusal; none: as [`Sink::remedy`](super::Sink::remedy) says.
    pub remedy: Option<String>,
}

impl Failure {
    /// A failure without an answer, such as a refused connection.
    pub fn without_answer(reason: impl Into<String>) -> Failure {
        Failure { reason: reason.into(), ..Failure::default() }
    }
}

/// The parts of an HTTP reply that decide what it means.
#[derive(Debug, Clone, Copy)]
pub struct Reply<'a> {
    /// The status code.
    pub status: http::StatusCode,
    /// The `Retry-After` header.
    pub retry_after: Option<&'a str>,
    /// The `Content-Type` header.
    pub content_type: Option<&'a str>,
    /// The body, at most as much as is read.
    pub body: &'a [u8],
    /// The body made printable and short.
    pub excerpt: &'a str,
}

/// What the user may choose about answers.
#[derive(Debug, Clone)]
pub struct AnswerRules {
    /// JSON Pointer to the failed records in a 200 or 207 answer.
    pub failed_records: String,
    /// Status codes to retry besides the usual ones.
    pub retry_also: Vec<u16>,
    /// The longest `Retry-After` that is honoured.
    pub retry_after_max: Duration,
}

/// What `reply` means. `now` resolves a `Retry-After` given as a date.
#[must_use]
pub fn classify(reply: &Reply<'_>, rules: &AnswerRules, now: SystemTime) -> Answer {
    let failure = Failure {
        reason: reply.status.to_string(),
        status: Some(reply.status.as_u16()),
        after: reply
            .retry_after
            .and_then(|text| retry_after(text, now))
            .map(|wait| wait.min(rules.retry_after_max)),
        response: reply.excerpt.to_owned(),
        timed_out: false,
        remedy: None,
    };
    if rules.retry_also.contains(&reply.status.as_u16()) {
        return Answer::Retry(failure);
    }
    match reply.status.as_u16() {
        200..=299 => accepted(reply, rules, failure),
        408 | 409 | 425 | 429 => Answer::Retry(failure),
        413 => Answer::TooLarge(failure),
        400 | 422 => Answer::Invalid(failure),
        // 501 and the rest of 4xx say that no such request will ever be accepted
        // here: a matter of configuration, so the data is kept and nobody is asked again.
        300..=399 | 400..=499 | 501 => Answer::Refused(failure),
        _ => Answer::Retry(failure),
    }
}

/// A 2xx is success only when its body does not say otherwise.
fn accepted(reply: &Reply<'_>, rules: &AnswerRules, mut failure: Failure) -> Answer {
    let body = reply.body.trim_ascii();
    if body.is_empty() {
        return Answer::Delivered;
    }
    let media = reply.content_type.unwrap_or("").to_ascii_lowercase();
    if media.starts_with("text/html") {
        failure.reason = format!("{} with a web page instead of an answer", failure.reason);
        return Answer::Retry(failure);
    }
    if !media.contains("json") && !body.starts_with(b"{") && !body.starts_with(b"[") {
        return Answer::Delivered;
    }
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        failure.reason = format!("{} with a body that is not JSON", failure.reason);
        return Answer::Retry(failure);
    };
    match value.pointer(&rules.failed_records) {
        Some(Value::Array(items)) if !items.is_empty() => match failed_records(items) {
            Some(failed) => Answer::Partial(failed),
            None => {
                failure.reason =
                    format!("{} with failed records that carry no index", failure.reason);
                Answer::Retry(failure)
            }
        },
        _ if says_errors(&value) => {
            failure.reason = format!("{} with a body that reports errors", failure.reason);
            Answer::Retry(failure)
        }
        _ => Answer::Delivered,
    }
}

fn says_errors(value: &Value) -> bool {
    match value.get("errors").or_else(|| value.get("error")) {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::Number(count)) => count.as_f64() != Some(0.0),
        Some(Value::String(text)) => !text.is_empty(),
        Some(_) => true,
    }
}

fn failed_records(items: &[Value]) -> Option<Vec<FailedRecord>> {
    let mut failed = Vec::with_capacity(items.len());
    for item in items {
        let index = item.as_u64().or_else(|| item.get("index").and_then(Value::as_u64))?;
        let reason = match item.get("error").or_else(|| item.get("reason")) {
            Some(Value::String(text)) => crate::http::printable(text.as_bytes(), 300),
            Some(other) => crate::http::printable(other.to_string().as_bytes(), 300),
            None => "listed as failed by the API".to_owned(),
        };
        failed.push(FailedRecord { index: usize::try_from(index).ok()?, reason });
    }
    failed.sort_by_key(|record| record.index);
    failed.dedup_by_key(|record| record.index);
    Some(failed)
}

/// The wait that a `Retry-After` header asks for: seconds or an HTTP date
/// (RFC 9110, 10.2.3). A date in the past means now.
#[must_use]
pub fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // Longer than a number can say is as long as one can say.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{Answer, AnswerRules, FailedRecord, Reply, classify, retry_after};

    fn answer(status: u16, body: &str) -> Answer {
        answer_with(status, body, None, None)
    }

    fn answer_with(
        status: u16,
        body: &str,
        content_type: Option<&str>,
        retry_after: Option<&str>,
    ) -> Answer {
        let rules = AnswerRules {
            failed_records: "/failed".to_owned(),
            retry_also: vec![418],
            retry_after_max: Duration::from_secs(60),
        };
        let reply = Reply {
            status: http::StatusCode::from_u16(status).unwrap(),
            retry_after,
            content_type,
            body: body.as_bytes(),
            excerpt: "",
        };
        classify(&reply, &rules, SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn every_status_has_its_row_in_the_table() {
        for status in [200, 201, 202, 204, 207] {
            assert_eq!(answer(status, ""), Answer::Delivered, "{status}");
        }
        for status in [408, 409, 425, 429, 500, 502, 503, 504, 599, 418] {
            assert!(matches!(answer(status, ""), Answer::Retry(_)), "{status}");
        }
        for status in [301, 302, 303, 307, 308, 401, 403, 404, 405, 410, 501] {
            assert!(matches!(answer(status, ""), Answer::Refused(_)), "{status}");
        }
        assert!(matches!(answer(413, ""), Answer::TooLarge(_)));
        assert!(matches!(answer(400, ""), Answer::Invalid(_)));
        assert!(matches!(answer(422, ""), Answer::Invalid(_)));
    }

    #[test]
    fn the_body_of_a_2xx_is_looked_at() {
        assert_eq!(answer(200, r#"{"accepted":200}"#), Answer::Delivered);
        assert_eq!(answer(200, "OK"), Answer::Delivered);
        assert_eq!(answer(200, r#"{"errors":false,"failed":[]}"#), Answer::Delivered);
        assert!(matches!(answer(200, r#"{"errors":true}"#), Answer::Retry(_)));
        assert!(matches!(answer(200, r#"{"error":"no disk"}"#), Answer::Retry(_)));
        assert!(matches!(answer(200, r#"{"accepted":"#), Answer::Retry(_)));
        assert!(matches!(
            answer_with(200, "<html>please log in", Some("text/html; charset=utf-8"), None),
            Answer::Retry(_)
        ));
        assert_eq!(
            answer(207, r#"{"failed":[{"index":3,"error":"bad\u001b[31m"},1,3]}"#),
            Answer::Partial(vec![
                FailedRecord { index: 1, reason: "listed as failed by the API".to_owned() },
                FailedRecord { index: 3, reason: crate::http::printable(b"bad\x1b[31m", 300) },
            ])
        );
        assert!(matches!(answer(200, r#"{"failed":["x"]}"#), Answer::Retry(_)));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_capped() {
        let now = httpdate::parse_http_date("Fri, 20 Nov 2026 12:00:00 GMT").unwrap();
        assert_eq!(retry_after("7", now), Some(Duration::from_secs(7)));
        assert_eq!(
            retry_after("Fri, 20 Nov 2026 12:01:00 GMT", now),
            Some(Duration::from_secs(60))
        );
        assert_eq!(retry_after("Fri, 20 Nov 2020 12:01:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("soon", now), None);
        assert_eq!(retry_after("+5", now), None);
        for endless in ["99999999999", "99999999999999999999999"] {
            assert!(retry_after(endless, now) > Some(Duration::from_secs(u64::from(u32::MAX))));
        }
        let Answer::Retry(failure) = answer_with(503, "", None, Some("86400")) else {
            panic!("a 503 is retried");
        };
        assert_eq!(failure.after, Some(Duration::from_secs(60)));
    }
}
