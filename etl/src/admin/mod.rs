//! What a server tells about itself over HTTP: metrics, health, readiness, its
//! pipelines, profiles. Reads only; nobody has to log in, so it listens on loopback
//! unless told otherwise, and profiles are for loopback alone. Orders are taken over a
//! Unix socket that belongs to the server's own user (`control`).

pub mod control;
mod debug;
mod health;
mod metrics;
mod pipelines;
mod routes;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::schedule::Scheduler;
use health::Probes;

/// How long a client may take to send a request's head, and may stay idle before one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// No connection is kept longer, whatever its client does: longer than the longest profile.
const CONNECTION_MAX: Duration = Duration::from_secs(120);
/// Requests' heads are smaller.
const HEAD_BYTES_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 64;
/// Connections at once; more are closed at once.
const CONNECTIONS_MAX: usize = 64;
/// How long to wait when the system has no file handle left for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What requests are answered from.
pub struct Admin {
    scheduler: Arc<Scheduler>,
    probes: Probes,
    /// One at a time looks at everything.
    rendering: std::sync::Mutex<()>,
    stuck_after: Duration,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    /// Somebody at this address.
    Network(SocketAddr),
    /// The user that the server runs as, over its own socket.
    Owner,
}

impl Admin {
    /// Answers about `scheduler`. A run that has not moved for `stuck_after` is stuck.
    #[must_use]
    pub fn new(scheduler: Arc<Scheduler>, stuck_after: Duration) -> Arc<Admin> {
        let probes = Probes::new(scheduler.data_dir().to_owned());
        Arc::new(Admin { scheduler, probes, rendering: std::sync::Mutex::default(), stuck_after })
    }
}

/// Begins to listen on `addr`.
///
/// # Errors
/// When the address is in use or not ours.
pub async fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(addr).await
}

/// Answers requests until the task is aborted.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let Ok(place) = places.clone().try_acquire_owned() else {
                    tracing::warn!(%peer, "too many connections, one is closed");
                    continue;
                };
                let admin = admin.clone();
                tokio::spawn(async move {
                    let _place = place;
                    connection(admin, stream, Caller::Network(peer)).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting failed, trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves one connection until either side ends it or its time is over.
async fn connection<S>(admin: Arc<Admin>, stream: S, caller: Caller)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(|request| routes::answer(admin.clone(), caller, request));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    let served = http.serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_MAX, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "connection ended early"),
        Err(_) => tracing::debug!(?caller, "connection was open too long"),
    }
}
