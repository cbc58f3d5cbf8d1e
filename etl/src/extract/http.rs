//! One GET per target: attempts with short waits between them, only 200 is success,
//! redirects are named and not followed, the body is read under a cap.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, AUTHORIZATION, HeaderValue, LOCATION, USER_AGENT};
use hyper::{Request, Response, StatusCode, Uri};

use super::error::{ExtractError, ExtractorError};
use super::progress::{Phase, Progress};
use super::target::Fields;
use super::template::UrlTemplate;
use crate::config::{Extract, HttpExtract, HttpFormat, HttpVersion};
use crate::http::{ClientOptions, HttpClient, printable, read_body};

const AGENT: &str = concat!("etl/", env!("CARGO_PKG_VERSION"));
/// The longest wait before the second attempt; doubles up to [`WAIT_MAX`]. Short,
/// because all attempts share the target's deadline.
const WAIT: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(2);
/// Connections kept per host; many targets may be behind one gateway.
const IDLE_PER_HOST_MAX: usize = 1024;

/// GETs of one URL template.
#[derive(Debug)]
pub(super) struct HttpGet {
    client: HttpClient,
    template: UrlTemplate,
    accept: HeaderValue,
    authorization: Option<HeaderValue>,
    body_max: usize,
    attempts: u32,
}

impl HttpGet {
    pub(super) fn new(http: &HttpExtract, config: &Extract) -> Result<Self, ExtractorError> {
        let client = HttpClient::new(&ClientOptions {
            connect_timeout: http.connect_timeout.0,
            version: HttpVersion::Auto,
            tls: http.tls.clone(),
            idle_per_host: config.workers().min(IDLE_PER_HOST_MAX),
        })?;
        let token =
            http.token.as_ref().map(|token| token.expose()).filter(|token| !token.is_empty());
        let authorization = match token {
            None => None,
            Some(token) => {
                let mut value = HeaderValue::try_from(format!("Bearer {token}"))
                    .map_err(|_| ExtractorError::Token)?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        Ok(HttpGet {
            client,
            template: UrlTemplate::parse(&http.url)?,
            accept: HeaderValue::from_static(match http.format {
                HttpFormat::Json => "application/json",
                HttpFormat::NodeExporter => "text/plain;version=0.0.4",
            }),
            authorization,
            body_max: usize::try_from(http.max_body.0).unwrap_or(usize::MAX),
            attempts: config.attempts.max(1),
        })
    }

    /// The columns the URL needs.
    pub(super) fn columns(&self) -> impl Iterator<Item = &str> {
        self.template.columns()
    }

    /// The URL for a row.
    pub(super) fn url(&self, fields: &Fields<'_>) -> Result<Uri, ExtractError> {
        Ok(self.template.url(fields)?)
    }

    /// The body of a 200, after as many attempts as it takes and are allowed.
    pub(super) async fn body(&self, url: &Uri, progress: &Progress) -> Result<Bytes, ExtractError> {
        let mut attempt = 1;
        loop {
            match self.once(url, progress).await {
                Err(error) if attempt < self.attempts && error.is_passing() => {
                    progress.failed(&error);
                    tracing::debug!(host = url.host(), %error, attempt, "extraction failed, retrying");
                }
                ended => return ended,
            }
            let longest = WAIT.saturating_mul(1 << (attempt - 1).min(10)).min(WAIT_MAX);
            // Full jitter: targets that failed together do not come back together.
            tokio::time::sleep(longest.mul_f64(fastrand::f64())).await;
            attempt += 1;
        }
    }

    async fn once(&self, url: &Uri, progress: &Progress) -> Result<Bytes, ExtractError> {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = url.clone();
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        headers.insert(ACCEPT, self.accept.clone());
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        progress.enter(Phase::Requesting(HttpClient::watch(&mut request)));
        let answer = self.client.send(request).await?;
        if answer.status() != StatusCode::OK {
            return Err(status_error(&answer));
        }
        progress.enter(Phase::Reading);
        Ok(read_body(answer.into_body(), self.body_max).await?)
    }
}

fn status_error<B>(answer: &Response<B>) -> ExtractError {
    let detail = match answer.headers().get(LOCATION) {
        Some(location) if answer.status().is_redirection() => format!(
            " to {} (redirects are not followed; set the final URL)",
            printable(location.as_bytes(), 200)
        ),
        _ => String::new(),
    };
    ExtractError::Status { status: answer.status(), detail }
}
