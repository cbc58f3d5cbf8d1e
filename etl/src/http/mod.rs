//! HTTP, asked. [`HttpClient`] is hyper with a connection pool and rustls, for whatever needs
//! nothing else; [`HeldClient`] is for the batches of a sink and [`LeanClient`] for the polls
//! of a fleet, both over plain HTTP/1. Which is taken when, and why: `docs/http.md`. All have
//! one connect timeout over name lookup, TCP and TLS together, and errors that say in a few
//! words what went wrong. Redirects are never followed, proxies and cookies are unknown to
//! them, and every body is read under a cap.

mod body;
mod connect;
mod error;
mod fair;
mod held;
mod lean;
mod printable;
mod response;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod tls;
#[cfg(any(feature = "postgres", feature = "sqlserver"))]
mod unverified;
mod whole;

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioTimer};

pub use self::body::{BodyError, read_body};
use self::connect::Connector;
pub use self::error::{ClientError, SendError, SendErrorKind};
pub use self::held::{Answered, HeldClient};
pub use self::lean::{LeanAnswer, LeanClient, LeanError, Stage, Wanted};
pub use self::printable::printable;
#[cfg(any(test, fuzzing))]
pub(crate) use self::response::fuzzing;
use self::tls::TlsSettings;
#[cfg(any(feature = "postgres", feature = "sqlserver"))]
pub(crate) use self::tls::client_tls;
#[cfg(any(feature = "postgres", feature = "sqlserver"))]
pub(crate) use self::unverified::unverified_tls;
pub use self::whole::WholeBody;
use crate::config::{HttpVersion, Tls};

/// How long a connection nobody uses is kept open. Long enough for the next batch
/// or a second sample, short enough that a fleet does not hold a socket per target.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest head of an answer, and the most that is read at once.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// What a client needs to know before its first request.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// The longest that name lookup, TCP connect and TLS handshake may take together.
    pub connect_timeout: Duration,
    /// Which HTTP version to speak.
    pub version: HttpVersion,
    /// Whom to trust.
    pub tls: Tls,
    /// Connections kept open per host while nobody uses them.
    pub idle_per_host: usize,
}

/// The client with a connection pool, for any host, method and version; clones share the
/// pool.
#[derive(Debug, Clone)]
pub struct HttpClient {
    client: Client<Connector, Full<Bytes>>,
}

impl HttpClient {
    /// Builds a client. Nothing is connected yet, and the system's certificates
    /// are only read for the first `https` request, so that plain HTTP works on a
    /// system without any.
    ///
    /// # Errors
    /// When `tls.ca` cannot be read or holds no certificate.
    pub fn new(options: &ClientOptions) -> Result<HttpClient, ClientError> {
        let tls = TlsSettings::new(&options.tls, options.version)?;
        let connector = Connector::new(options.connect_timeout, tls);
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(options.idle_per_host)
            .http1_max_buf_size(HEAD_BYTES_MAX)
            .http2_only(options.version == HttpVersion::Http2)
            .build(connector);
        Ok(HttpClient { client })
    }

    /// Sends a request with an absolute URL and returns the answer's head; its body
    /// is still to be read, with [`read_body`]. Has no deadline of its own besides
    /// the connect timeout: the caller wraps it together with the body.
    ///
    /// # Errors
    /// When no answer came; a status of 4xx or 5xx is an answer.
    pub async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, SendError> {
        self.client.request(request).await.map_err(SendError::from)
    }

    /// Lets the caller see whether `request` has a connection yet, so that a
    /// deadline can tell "connecting" from "waiting for the answer".
    pub fn watch(request: &mut Request<Full<Bytes>>) -> Watch {
        Watch(capture_connection(request))
    }
}

/// The URL as shown to people: no query and no user information, where secrets hide.
#[must_use]
pub fn without_query(url: &Uri) -> String {
    let host = url.host().unwrap_or("");
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{host}{port}{}", url.scheme_str().unwrap_or("http"), url.path())
}

/// Sees whether a request has got its connection.
#[derive(Debug)]
pub struct Watch(CaptureConnection);

impl Watch {
    /// Whether the request has a connection.
    #[must_use]
    pub fn connected(&self) -> bool {
        self.0.connection_metadata().is_some()
    }
}
