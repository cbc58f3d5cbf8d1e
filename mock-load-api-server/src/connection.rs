//! One client connection: HTTP/1.1 or HTTP/2 by its first bytes, and the means to cut it off
//! with a reset instead of an orderly end.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::app::App;
use crate::routes;

/// How long a client may take to send a request's head, and to stay idle between requests:
/// longer than the 90 s after which hyper's client lets go of an idle connection itself.
const HEAD_TIMEOUT: Duration = Duration::from_secs(120);
/// HTTP/2 flow control windows, so that batches of a few MiB need no round trip.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// The protocol settings that all connections share. Header count and size keep hyper's
/// caps: 100 headers and about 400 KiB over HTTP/1, 16 KiB over HTTP/2; more is 431.
pub(crate) fn http() -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    http.http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    http
}

/// What a connection's requests tell the connection.
#[derive(Default)]
pub(crate) struct Link {
    reset: AtomicBool,
    control: AtomicBool,
}

impl Link {
    /// The connection is to end with a reset.
    pub(crate) fn reset(&self) {
        self.reset.store(true, Relaxed);
    }

    /// Whether the latest request was for a control path, which works while the server is
    /// down: nobody could end the outage otherwise.
    pub(crate) fn set_control(&self, control: bool) {
        self.control.store(control, Relaxed);
    }
}

/// Serves one connection until either side ends it or the server goes down.
pub(crate) async fn serve(
    app: Arc<App>,
    stream: TcpStream,
    http: Arc<auto::Builder<TokioExecutor>>,
) {
    if !matches!(tokio::time::timeout(HEAD_TIMEOUT, stream.readable()).await, Ok(Ok(()))) {
        return;
    }
    let link = Arc::new(Link::default());
    let mut down = app.watch_down();
    let socket = TokioIo::new(Socket { stream, link: Arc::clone(&link) });
    let service =
        service_fn(|request| routes::answer(Arc::clone(&app), Arc::clone(&link), request));
    let mut connection = pin!(http.serve_connection(socket, service));
    loop {
        tokio::select! {
            biased;
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(error, "connection ended early");
                }
                return;
            }
            changed = down.changed() => {
                let is_down = *down.borrow_and_update();
                if changed.is_err() || (is_down && !link.control.load(Relaxed)) {
                    link.reset();
                    return;
                }
            }
        }
    }
}

/// A socket that, where its link says so, is closed with a reset.
struct Socket {
    stream: TcpStream,
    link: Arc<Link>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.link.reset.load(Relaxed)
            && let Err(error) = self.stream.set_zero_linger()
        {
            tracing::warn!(%error, "connection closed without a reset");
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
