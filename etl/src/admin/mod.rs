//! What a server tells about itself over HTTP: metrics, health, readiness, its
//! pipelines, profiles. Reads only; nobody has to log in, so it listens on loopback
//! unless told otherwise, and profiles are for loopback alone.

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
use tokio::net::{TcpListener, TcpStream};
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
struct Admin {
    scheduler: Arc<Scheduler>,
    probes: Probes,
    /// One at a time looks at everything.
    rendering: std::sync::Mutex<()>,
    stuck_after: Duration,
}

/// Begins to listen on `addr`.
///
/// # Errors
/// When the address is in use or not ours.
pub async fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(addr).await
}

/// Answers requests until the task is aborted. A run that has not moved for
/// `stuck_after` is stuck.
pub async fn serve(listener: TcpListener, scheduler: Arc<Scheduler>, stuck_after: Duration) {
    let probes = Probes::new(scheduler.data_dir().to_owned());
    let rendering = std::sync::Mutex::default();
    let admin = Arc::new(Admin { scheduler, probes, rendering, stuck_after });
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
                    connection(admin, stream, peer).await;
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
async fn connection(admin: Arc<Admin>, stream: TcpStream, peer: SocketAddr) {
    let service = service_fn(|request| routes::answer(admin.clone(), peer, request));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    let served = http.serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_MAX, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "connection ended early"),
        Err(_) => tracing::debug!(%peer, "connection was open too long"),
    }
}
