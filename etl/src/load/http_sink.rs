//! The HTTP sink: one POST per batch, with its idempotency key, and an answer.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue,
    RETRY_AFTER, USER_AGENT,
};
use http::response::Parts;
use http::{Method, Request, Uri};
use http_body_util::Full;

use super::answer::{Answer, AnswerRules, Failure, Reply, classify};
use super::sink::{Delivering, Probe, Probing, Reach, Sink};
use crate::batch::Payload;
use crate::config::{Compression, Load, Secret};
use crate::deflate;
use crate::http::{
    Answered, BodyError, ClientError, ClientOptions, HeldClient, HttpClient, SendError, printable,
    read_body, without_query,
};

/// The most that is read of an answer's body.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The most of an answer's body that is kept for messages and dead letters.
const EXCERPT_BYTES_MAX: usize = 4 * 1024;
/// The longest `Retry-After` that is honoured, whatever the API says.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Posts batches to one URL.
#[derive(Debug)]
pub struct HttpSink {
    client: HttpClient,
    /// For plain HTTP/1; other batches go by `client`.
    held: Option<HeldClient>,
    url: Uri,
    headers: HeaderMap,
    compression: Compression,
    timeout: Duration,
    rules: AnswerRules,
    target: String,
    has_token: bool,
}

/// Why an HTTP sink could not be built.
#[derive(Debug, thiserror::Error)]
pub enum HttpSinkError {
    /// The configured URL does not parse.
    #[error("{url}: not a URL: {source}")]
    Url {
        /// As configured.
        url: String,
        /// What is wrong with it.
        source: http::uri::InvalidUri,
    },
    /// A header's name or value cannot be sent.
    #[error(
        "header `{0}` cannot be sent: its name or value has characters that HTTP does not allow"
    )]
    Header(String),
    /// The token's file could not be read.
    #[error("token_file {path}: {source}")]
    TokenFile {
        /// As configured.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The client could not be set up.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl HttpSink {
    /// Builds the sink of `load`, whose kind is `http`.
    ///
    /// # Errors
    /// When the URL, a header, the token's file or the TLS settings are unusable.
    pub fn new(load: &Load, http: &crate::config::HttpLoad) -> Result<HttpSink, HttpSinkError> {
        let url: Uri = http
            .url
            .parse()
            .map_err(|source| HttpSinkError::Url { url: http.url.clone(), source })?;
        let options = ClientOptions {
            connect_timeout: http.connect_timeout.0,
            version: http.version,
            tls: http.tls.clone(),
            idle_per_host: load.in_flight_max(),
        };
        let token = token(http)?;
        let headers = headers(http, token.as_ref())?;
        Ok(HttpSink {
            client: HttpClient::new(&options)?,
            held: HeldClient::new(&options, &url, &headers)?,
            target: format!("POST {}", without_query(&url)),
            url,
            headers,
            compression: http.compression,
            timeout: load.timeout().0,
            rules: AnswerRules {
                failed_records: http.failed_records.clone(),
                retry_also: load.retry.also.clone(),
                retry_after_max: RETRY_AFTER_MAX,
            },
            has_token: token.is_some(),
        })
    }

    /// Asks the API to accept an empty batch, with everything a real one has but
    /// records and a key: name, connection, TLS and token are tried, nothing is sent.
    async fn ask(&self) -> Probe {
        let mut request = Request::new(Full::new(Bytes::from_static(b"[]")));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.clone();
        request.headers_mut().clone_from(&self.headers);
        request.headers_mut().remove(CONTENT_ENCODING);
        let response = match tokio::time::timeout(self.timeout, self.client.send(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return self.unreachable(&error.to_string()),
            Err(_) => {
                let waited = humantime::format_duration(self.timeout);
                return self.unreachable(&format!("no answer within {waited}"));
            }
        };
        let date = response.headers().get(DATE).and_then(|date| date.to_str().ok());
        let clock = date.and_then(|date| httpdate::parse_http_date(date).ok());
        Probe { clock, ..self.judge(response.status()) }
    }

    /// An empty batch may be refused as such (400, 422); that still shows that a
    /// real one would get through.
    fn judge(&self, status: http::StatusCode) -> Probe {
        let tls = self.url.scheme() == Some(&http::uri::Scheme::HTTPS);
        let reached = if tls { "name ok, connect ok, TLS ok" } else { "name ok, connect ok" };
        let text = format!("{reached}, answered {status}");
        match status.as_u16() {
            200..=299 | 400 | 422 => Probe::ready(text),
            number @ (401 | 403 | 404 | 405 | 300..=399) => {
                Probe::new(Reach::Refused, text, self.remedy(Some(number)))
            }
            _ => Probe::new(
                Reach::NotNow,
                text,
                "reachable, but not taking data now; a run would spool",
            ),
        }
    }

    fn unreachable(&self, why: &str) -> Probe {
        let remedy = "start the API or correct http.url; a run would keep everything in the spool";
        Probe::new(Reach::Unreachable, format!("{}: {why}", self.target), remedy)
    }

    /// Posts `body` under `key` and says what came back: one attempt.
    async fn post(&self, payload: &Payload) -> Answer {
        match tokio::time::timeout(self.timeout, self.exchange(payload)).await {
            Ok(answer) => answer,
            Err(_) => {
                let waited = humantime::format_duration(self.timeout);
                let reason = format!("no answer within {waited}");
                Answer::Retry(Failure { timed_out: true, ..Failure::without_answer(reason) })
            }
        }
    }

    async fn exchange(&self, payload: &Payload) -> Answer {
        let prepared = compress(&payload.body, self.compression)
            .map_err(|error| format!("could not compress the batch: {error}"))
            .and_then(|body| {
                let key = HeaderValue::try_from(payload.key.to_string());
                Ok((body, key.map_err(|error| error.to_string())?))
            });
        let (body, key) = match prepared {
            Ok(prepared) => prepared,
            Err(reason) => return Answer::Retry(Failure::without_answer(reason)),
        };
        let answered = match &self.held {
            Some(held) => held.post(&body, (IDEMPOTENCY_KEY, key), ANSWER_BYTES_MAX).await,
            None => self.send(body, key).await,
        };
        match answered {
            Ok((head, body)) => self.read(&head, body),
            Err(error) => Answer::Retry(Failure::without_answer(error.to_string())),
        }
    }

    async fn send(&self, body: Bytes, key: HeaderValue) -> Result<Answered, SendError> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.clone();
        request.headers_mut().clone_from(&self.headers);
        request.headers_mut().insert(IDEMPOTENCY_KEY, key);
        let (head, body) = self.client.send(request).await?.into_parts();
        Ok((head, read_body(body, ANSWER_BYTES_MAX).await))
    }

    fn read(&self, head: &Parts, body: Result<Bytes, BodyError>) -> Answer {
        let text =
            |name| head.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let body = match body {
            Ok(body) => body,
            // The status of a failure counts although its text is cut off; a
            // success that breaks off may not have been one.
            Err(_) if !head.status.is_success() => Bytes::new(),
            Err(error) => {
                let mut failure = Failure::without_answer(format!("{}, {error}", head.status));
                failure.status = Some(head.status.as_u16());
                return Answer::Retry(failure);
            }
        };
        let reply = Reply {
            status: head.status,
            retry_after: text(RETRY_AFTER),
            content_type: text(CONTENT_TYPE),
            body: &body,
            excerpt: &printable(&body, EXCERPT_BYTES_MAX),
        };
        classify(&reply, &self.rules, SystemTime::now())
    }
}

impl Sink for HttpSink {
    fn deliver<'a>(&'a self, payload: &'a Payload) -> Delivering<'a> {
        Box::pin(self.post(payload))
    }

    fn probe(&self) -> Probing<'_> {
        Box::pin(self.ask())
    }

    fn target(&self) -> &str {
        &self.target
    }

    fn remedy(&self, status: Option<u16>) -> String {
        match status {
            Some(401 | 403) if self.has_token => {
                "the token was refused: set a new one (http.token or http.token_file)".to_owned()
            }
            Some(401 | 403) => {
                "the API wants a token: set http.token, as in token: ${LOAD_API_TOKEN}".to_owned()
            }
            Some(300..=399) => {
                "the API redirects; batches are not sent after a redirect: set http.url to the \
                 address it names"
                    .to_owned()
            }
            _ => "the API does not know this address or method: check http.url".to_owned(),
        }
    }
}

fn token(http: &crate::config::HttpLoad) -> Result<Option<Secret>, HttpSinkError> {
    if let Some(path) = &http.token_file {
        let text = std::fs::read_to_string(path)
            .map_err(|source| HttpSinkError::TokenFile { path: path.clone(), source })?;
        return Ok(Some(Secret::new(text.trim())));
    }
    Ok(http.token.clone().filter(|token| !token.expose().is_empty()))
}

fn headers(
    http: &crate::config::HttpLoad,
    token: Option<&Secret>,
) -> Result<HeaderMap, HttpSinkError> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers
        .insert(USER_AGENT, HeaderValue::from_static(concat!("etl/", env!("CARGO_PKG_VERSION"))));
    match http.compression {
        Compression::None => {}
        Compression::Gzip => {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Compression::Zstd => {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("zstd"));
        }
    }
    for (name, value) in &http.headers {
        let error = || HttpSinkError::Header(name.clone());
        let header = HeaderName::try_from(name.as_str()).map_err(|_| error())?;
        let mut value = HeaderValue::try_from(value.expose()).map_err(|_| error())?;
        value.set_sensitive(true);
        headers.insert(header, value);
    }
    if let Some(token) = token {
        let bearer = format!("Bearer {}", token.expose());
        let mut value = HeaderValue::try_from(bearer)
            .map_err(|_| HttpSinkError::Header("authorization".to_owned()))?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(headers)
}

/// The request body. Compressing the same bytes gives the same bytes, so a retry
/// is identical.
fn compress(body: &Bytes, compression: Compression) -> std::io::Result<Bytes> {
    match compression {
        Compression::None => Ok(body.clone()),
        Compression::Gzip => Ok(Bytes::from(deflate::gzip(body))),
        Compression::Zstd => zstd::bulk::compress(body, 1).map(Bytes::from),
    }
}

/// What is asked at `url`, for messages: without query and user information.
pub(super) fn target(url: &str) -> Option<String> {
    url.parse().ok().map(|url: Uri| format!("POST {}", without_query(&url)))
}
