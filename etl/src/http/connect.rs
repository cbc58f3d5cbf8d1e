//! Opens connections: name lookup, TCP and, for `https`, TLS, all under one
//! connect timeout, each failing with its own error type.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper_rustls::MaybeHttpsStream;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::{GaiAddrs, GaiResolver, Name};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tower_service::Service;

use super::fair::Fair;
use super::tls::TlsSettings;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub(super) type Stream = Fair<MaybeHttpsStream<TokioIo<TcpStream>>>;
type BoxFuture<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// Name lookups at once: each holds a thread of tokio's blocking pool, and a dead
/// name server must not fill that pool.
pub(super) const LOOKUPS_MAX: usize = 32;

/// Probes on an idle connection, so that a peer that vanished is noticed.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// The name could not be looked up.
#[derive(Debug, thiserror::Error)]
#[error("name lookup failed")]
pub(super) struct LookupFailed(#[source] pub(super) io::Error);

/// The connect timeout passed.
#[derive(Debug, thiserror::Error)]
#[error("timed out connecting")]
pub(super) struct ConnectTimedOut;

/// Opens connections for the pool; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    http: HttpConnector<Lookup>,
    tls: Arc<TlsSettings>,
    timeout: Duration,
}

impl Connector {
    pub(super) fn new(timeout: Duration, tls: TlsSettings) -> Self {
        let lookup =
            Lookup { resolver: GaiResolver::new(), slots: Arc::new(Semaphore::new(LOOKUPS_MAX)) };
        let mut http = HttpConnector::new_with_resolver(lookup);
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_keepalive(Some(KEEPALIVE));
        // Shared between a name's addresses, so that one dead address leaves time for the next.
        http.set_connect_timeout(Some(timeout));
        Connector { http, tls: Arc::new(tls), timeout }
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = BoxError;
    type Future = BoxFuture<Stream, BoxError>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Connector { mut http, tls, timeout } = self.clone();
        Box::pin(async move {
            let connecting = async move {
                if uri.scheme_str() == Some("https") {
                    tls.connector(http)?.call(uri).await
                } else {
                    Ok(MaybeHttpsStream::Http(http.call(uri).await?))
                }
            };
            match tokio::time::timeout(timeout, connecting).await {
                Ok(connected) => connected.map(Fair::new),
                Err(_) => Err(ConnectTimedOut.into()),
            }
        })
    }
}

/// The system's name lookup, a bounded number at once.
#[derive(Debug, Clone)]
pub(super) struct Lookup {
    resolver: GaiResolver,
    slots: Arc<Semaphore>,
}

impl Service<Name> for Lookup {
    type Response = GaiAddrs;
    type Error = LookupFailed;
    type Future = BoxFuture<GaiAddrs, LookupFailed>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), LookupFailed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let Lookup { mut resolver, slots } = self.clone();
        Box::pin(async move {
            let slot = slots.acquire_owned().await;
            let _slot = slot.map_err(|closed| LookupFailed(io::Error::other(closed)))?;
            resolver.call(name).await.map_err(LookupFailed)
        })
    }
}
