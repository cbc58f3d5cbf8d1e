//! One GET per target: attempts with short waits between them, only 200 is success,
//! redirects are named and not followed, the body is read under a cap.

use std::time::Duration;

use http_body_util::Full;
use hyper::header::{HeaderValue, LOCATION};
use hyper::{Request, StatusCode, Uri};

use super::error::{ExtractError, ExtractorError};
use super::progress::{Phase, Progress};
use super::target::Fields;
use super::template::UrlTemplate;
use crate::config::{Extract, HttpExtract, HttpFormat, HttpVersion};
use crate::http::{
    ClientOptions, HttpClient, LeanClient, Stage, Wanted, WholeBody, printable, read_body,
};

const AGENT: &str = concat!("etl/", env!("CARGO_PKG_VERSION"));
/// The longest wait before the second attempt; doubles up to [`WAIT_MAX`]. Short,
/// because all attempts share the target's deadline.
const WAIT: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(2);
const USER_AGENT: &str = "user-agent";
const ACCEPT: &str = "accept";
const AUTHORIZATION: &str = "authorization";
/// How long a connection nobody uses is kept open, unless told otherwise: long enough for a
/// second sample, short enough that one pass does not hold a socket per target.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections kept per host, or of plain HTTP in all; many targets may be behind one gateway.
const IDLE_PER_HOST_MAX: usize = 1024;

/// GETs of one URL template.
#[derive(Debug)]
pub(super) struct HttpGet {
    client: Client,
    template: UrlTemplate,
    headers: Vec<(&'static str, HeaderValue)>,
    body_max: usize,
    attempts: u32,
}

/// What a scheme needs: without TLS, a poll that waits need not cost much.
#[derive(Debug)]
enum Client {
    Plain(LeanClient),
    Tls(HttpClient),
}

impl HttpGet {
    pub(super) fn new(http: &HttpExtract, config: &Extract) -> Result<Self, ExtractorError> {
        let template = UrlTemplate::parse(&http.url).map_err(ExtractorError::Url)?;
        let idle_per_host = config.workers().min(IDLE_PER_HOST_MAX);
        // Built for plain HTTP too: what it refuses is wrong there as well.
        let tls = HttpClient::new(&ClientOptions {
            connect_timeout: http.connect_timeout.0,
            version: HttpVersion::Auto,
            tls: http.tls.clone(),
            // Polled for good, these would be a socket per target.
            idle_per_host: if config.every.is_some() { 0 } else { idle_per_host },
        })?;
        let plain = || LeanClient::new(http.connect_timeout.0, IDLE_TIMEOUT, idle_per_host);
        let client = match http.url.starts_with("https:") {
            true => Client::Tls(tls),
            false => Client::Plain(plain()),
        };
        let token =
            http.token.as_ref().map(|token| token.expose()).filter(|token| !token.is_empty());
        let mut headers = vec![
            (USER_AGENT, HeaderValue::from_static(AGENT)),
            (
                ACCEPT,
                HeaderValue::from_static(match http.format {
                    HttpFormat::Json => "application/json",
                    HttpFormat::NodeExporter => "text/plain;version=0.0.4",
                }),
            ),
        ];
        if let Some(token) = token {
            let mut value = HeaderValue::try_from(format!("Bearer {token}"))
                .map_err(|_| ExtractorError::Token)?;
            value.set_sensitive(true);
            headers.push((AUTHORIZATION, value));
        }
        Ok(HttpGet {
            client,
            template,
            headers,
            body_max: usize::try_from(http.max_body.0).unwrap_or(usize::MAX),
            attempts: config.attempts.max(1),
        })
    }

    /// What the URL is made of.
    pub(super) fn template(&self) -> &UrlTemplate {
        &self.template
    }

    /// Keeps up to `most` connections that nobody uses for so long.
    pub(super) fn keep_connections(&self, idle: Duration, most: usize) {
        if let Client::Plain(client) = &self.client {
            client.keep(idle, most);
        }
    }

    /// The URL for a row.
    pub(super) fn url(&self, fields: &Fields<'_>) -> Result<Uri, ExtractError> {
        Ok(self.template.url(fields)?)
    }

    /// The body of a 200, after as many attempts as it takes and are allowed.
    pub(super) async fn body(
        &self,
        url: &Uri,
        progress: &Progress,
    ) -> Result<WholeBody, ExtractError> {
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

    async fn once(&self, url: &Uri, progress: &Progress) -> Result<WholeBody, ExtractError> {
        match &self.client {
            Client::Plain(client) => self.once_plain(client, url, progress).await,
            // Apart, so that a plain poll that waits is no larger for it.
            Client::Tls(client) => Box::pin(self.once_tls(client, url, progress)).await,
        }
    }

    async fn once_plain(
        &self,
        client: &LeanClient,
        url: &Uri,
        progress: &Progress,
    ) -> Result<WholeBody, ExtractError> {
        let stage = |stage: Stage| {
            progress.enter(match stage {
                Stage::Connecting => Phase::Connecting,
                Stage::Waiting => Phase::Answering,
                Stage::Reading => Phase::Reading,
            });
        };
        let wanted = Wanted { url, headers: &self.headers, cap: self.body_max, stage: &stage };
        let answer = client.get(&wanted).await?;
        if answer.status != StatusCode::OK {
            return Err(status_error(answer.status, answer.location.as_deref()));
        }
        Ok(answer.body)
    }

    async fn once_tls(
        &self,
        client: &HttpClient,
        url: &Uri,
        progress: &Progress,
    ) -> Result<WholeBody, ExtractError> {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = url.clone();
        for (name, value) in &self.headers {
            request.headers_mut().insert(*name, value.clone());
        }
        progress.enter(Phase::Requesting(HttpClient::watch(&mut request)));
        let answer = client.send(request).await?;
        if answer.status() != StatusCode::OK {
            let location = answer.headers().get(LOCATION).map(HeaderValue::as_bytes);
            return Err(status_error(answer.status(), location));
        }
        progress.enter(Phase::Reading);
        Ok(read_body(answer.into_body(), self.body_max).await?.into())
    }
}

fn status_error(status: StatusCode, location: Option<&[u8]>) -> ExtractError {
    let detail = match location {
        Some(location) if status.is_redirection() => format!(
            " to {} (redirects are not followed; set the final URL)",
            printable(location, 200)
        ),
        _ => String::new(),
    };
    ExtractError::Status { status, detail }
}
