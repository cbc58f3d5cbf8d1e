//! Connections that are driven by whoever asks over them: request, connection and answer
//! are one task, which wakes only when the peer has something to say. The pool of
//! [`super::HttpClient`] has a task for each connection and one more for its return, and
//! opens another while one is on its way back; for a batch every few microseconds that is
//! as much work as sending it. For POSTs to one URL over plain HTTP/1; all else is the pool's.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use http::header::HOST;
use http::response::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Uri};
use http_body_util::Full;
use hyper::client::conn::http1;
use tower_service::Service;

use super::body::{BodyError, read_body};
use super::connect::{Connector, Stream};
use super::error::{ClientError, SendError};
use super::tls::TlsSettings;
use super::{ClientOptions, HEAD_BYTES_MAX, IDLE_TIMEOUT};
use crate::config::HttpVersion;

/// An answer's head, and its body or why there is none.
pub type Answered = (Parts, Result<Bytes, BodyError>);

/// Asks one URL.
#[derive(Debug)]
pub struct HeldClient {
    connector: Connector,
    url: Uri,
    /// What is asked of the server at the other end of a connection.
    path: Uri,
    headers: HeaderMap,
    /// The one used last is at the end.
    idle: Mutex<VecDeque<Idle>>,
    idle_max: usize,
}

#[derive(Debug)]
struct Idle {
    held: Box<Held>,
    since: Instant,
}

/// A connection, both ends of hyper's part in it.
#[derive(Debug)]
struct Held {
    sender: http1::SendRequest<Full<Bytes>>,
    connection: http1::Connection<Stream, Full<Bytes>>,
}

/// Why a request had no answer.
enum Unanswered {
    /// It was not begun: the connection was closed meanwhile.
    NotBegun,
    Failed(SendError),
}

impl HeldClient {
    /// A client that asks `url` with `headers`; none where connections to it may be
    /// anything but plain HTTP/1. Nothing is connected yet.
    ///
    /// # Errors
    /// When the TLS settings are unusable, although they are not needed.
    pub fn new(
        options: &ClientOptions,
        url: &Uri,
        headers: &HeaderMap,
    ) -> Result<Option<HeldClient>, ClientError> {
        let plain = url.scheme() == Some(&http::uri::Scheme::HTTP);
        let (true, Some(host)) = (plain && options.version != HttpVersion::Http2, url.host())
        else {
            return Ok(None);
        };
        let port = url.port_u16().filter(|port| *port != 80);
        let host = port.map_or(host.to_owned(), |port| format!("{host}:{port}"));
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        let (Ok(host), Ok(path)) = (HeaderValue::try_from(host), path.parse()) else {
            return Ok(None);
        };
        let mut headers = headers.clone();
        headers.entry(HOST).or_insert(host);
        let tls = TlsSettings::new(&options.tls, options.version)?;
        Ok(Some(HeldClient {
            connector: Connector::new(options.connect_timeout, tls),
            url: url.clone(),
            path,
            headers,
            idle: Mutex::default(),
            idle_max: options.idle_per_host,
        }))
    }

    /// Posts `body` and reads the answer, whose body is at most `cap` bytes. When this is
    /// dropped before there is an answer, so is the connection. Has no deadline of its own
    /// besides the connect timeout.
    ///
    /// # Errors
    /// When no answer came; a status of 4xx or 5xx is an answer.
    pub async fn post(
        &self,
        body: &Bytes,
        header: (http::HeaderName, HeaderValue),
        cap: usize,
    ) -> Result<Answered, SendError> {
        loop {
            let (mut held, used) = match self.take_idle() {
                Some(held) => (held, true),
                None => (self.connect().await?, false),
            };
            match held.exchange(self.request(body, &header), cap).await {
                Ok(answered) => {
                    self.keep(held).await;
                    return Ok(answered);
                }
                // As often as there are connections; each was closed while nobody used it.
                Err(Unanswered::NotBegun) if used => {}
                Err(Unanswered::NotBegun) => return Err(SendError::closed()),
                Err(Unanswered::Failed(error)) => return Err(error),
            }
        }
    }

    fn request(
        &self,
        body: &Bytes,
        (name, value): &(http::HeaderName, HeaderValue),
    ) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.path.clone();
        request.headers_mut().clone_from(&self.headers);
        request.headers_mut().insert(name, value.clone());
        request
    }

    async fn connect(&self) -> Result<Box<Held>, SendError> {
        let mut connector = self.connector.clone();
        let stream = connector.call(self.url.clone()).await.map_err(SendError::connecting)?;
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD_BYTES_MAX);
        let shaken = builder.handshake(stream).await;
        let (sender, connection) = shaken.map_err(SendError::connecting)?;
        Ok(Box::new(Held { sender, connection }))
    }

    /// The connection used last, if it was not long ago; older ones are closed.
    fn take_idle(&self) -> Option<Box<Held>> {
        let mut idle = self.idle();
        while idle.front().is_some_and(|idle| idle.since.elapsed() > IDLE_TIMEOUT) {
            idle.pop_front();
        }
        idle.pop_back().map(|idle| idle.held)
    }

    /// Keeps a connection that can be used again.
    async fn keep(&self, mut held: Box<Held>) {
        if !held.is_reusable().await {
            return;
        }
        let mut idle = self.idle();
        if idle.len() < self.idle_max {
            idle.push_back(Idle { held, since: Instant::now() });
        }
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// One request and its answer.
    async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
        cap: usize,
    ) -> Result<Answered, Unanswered> {
        let Held { sender, connection } = self;
        // Takes the request at once, so that the connection finds it when it is polled.
        let sent = sender.try_send_request(request);
        let mut talk = pin!(async {
            let answer = sent.await.map_err(|mut error| match error.take_message() {
                Some(_) => Unanswered::NotBegun,
                None => Unanswered::Failed(SendError::from(error.into_error())),
            })?;
            let (head, body) = answer.into_parts();
            Ok((head, read_body(body, cap).await))
        });
        let mut open = true;
        std::future::poll_fn(|context| {
            if open {
                // What ended it is told to the request, or to who reads the body.
                open = Pin::new(&mut *connection).poll(context).is_pending();
            }
            talk.as_mut().poll(context)
        })
        .await
    }

    /// Whether another request may follow, once the connection has noticed that the last
    /// one is over.
    async fn is_reusable(&mut self) -> bool {
        let Held { sender, connection } = self;
        std::future::poll_fn(|context| {
            let open = Pin::new(&mut *connection).poll(context).is_pending();
            Poll::Ready(open && sender.is_ready())
        })
        .await
    }
}

#[cfg(test)]
mod tests;
