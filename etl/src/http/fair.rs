//! A connection that lets others have their turn. hyper reads on for as long as there
//! is something to read and nothing to give to its caller, so that an endless flood of
//! `100 Continue` would keep a thread of the runtime, and with it the clock that every
//! deadline waits for.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};

/// Reads that find something, one after the other, before others have their turn. An
/// answer of usual size takes fewer.
const READS_MAX: u8 = 4;

/// A connection that pauses now and then while it is being read.
#[derive(Debug)]
pub(super) struct Fair<S> {
    stream: S,
    reads: u8,
}

impl<S> Fair<S> {
    pub(super) fn new(stream: S) -> Fair<S> {
        Fair { stream, reads: 0 }
    }
}

impl<S: Read + Unpin> Read for Fair<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.reads >= READS_MAX {
            self.reads = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.reads = if read.is_ready() { self.reads + 1 } else { 0 };
        read
    }
}

impl<S: Write + Unpin> Write for Fair<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}

impl<S: Connection> Connection for Fair<S> {
    fn connected(&self) -> Connected {
        self.stream.connected()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::task::{Context, Poll, Wake};

    use hyper::rt::{Read, ReadBuf};
    use hyper_util::rt::TokioIo;

    use super::{Fair, READS_MAX};

    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    /// A stream with something to read at any time pauses all the same, and asks to be
    /// called again.
    #[test]
    fn an_endless_stream_pauses_now_and_then() {
        let woken = Arc::new(Woken(AtomicUsize::new(0)));
        let waker = woken.clone().into();
        let mut stream = Fair::new(TokioIo::new(Cursor::new(vec![b'x'; 100_000])));
        let mut pauses = 0;
        for read in 1..=50 {
            let mut bytes = [0; 10];
            let mut buffer = ReadBuf::new(&mut bytes);
            let mut context = Context::from_waker(&waker);
            let polled = Pin::new(&mut stream).poll_read(&mut context, buffer.unfilled());
            let paused = matches!(polled, Poll::Pending);
            assert_eq!(paused, read % (usize::from(READS_MAX) + 1) == 0, "read {read}");
            pauses += usize::from(paused);
            assert_eq!(buffer.filled().len(), if paused { 0 } else { 10 });
        }
        assert_eq!((pauses, woken.0.load(Relaxed)), (10, 10));
    }
}
