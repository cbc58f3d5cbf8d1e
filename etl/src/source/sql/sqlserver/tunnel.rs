//! The connection below the protocol's crate: TLS, whose handshake TDS 7 carries inside
//! prelogin packets, and the answer to the crate's own prelogin.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::io::{AsyncRead, AsyncWrite};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead as TokioRead, AsyncWrite as TokioWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::prelogin::{HEADER_BYTES, PRELOGIN, content_bytes, packets};

/// A connection to SQL Server on which the crate may begin.
#[derive(Debug)]
pub(super) struct Tunnel {
    stream: Stream,
    /// What the crate writes first, its prelogin, is swallowed: what was seen of its header,
    /// and what is left of it.
    header: Vec<u8>,
    prelogin_left: Option<usize>,
    /// What it reads first.
    answer: io::Cursor<Vec<u8>>,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Encrypted(Box<TlsStream<Handshake>>),
}

impl Tunnel {
    /// A connection on which prelogins were exchanged; `answer` is for the crate.
    pub(super) fn plain(stream: TcpStream, answer: Vec<u8>) -> Tunnel {
        Tunnel::over(Stream::Plain(stream), answer)
    }

    /// The same under TLS.
    pub(super) async fn encrypted(
        stream: TcpStream,
        answer: Vec<u8>,
        config: Arc<ClientConfig>,
        host: ServerName<'static>,
    ) -> io::Result<Tunnel> {
        let handshake = Handshake {
            stream,
            over: false,
            header: Vec::new(),
            content_left: 0,
            written: Vec::new(),
            leaving: Vec::new(),
            sent: 0,
        };
        let connector = tokio_rustls::TlsConnector::from(config);
        let mut encrypted = connector.connect(host, handshake).await?;
        encrypted.get_mut().0.over = true;
        Ok(Tunnel::over(Stream::Encrypted(Box::new(encrypted)), answer))
    }

    fn over(stream: Stream, answer: Vec<u8>) -> Tunnel {
        let answer = io::Cursor::new(answer);
        Tunnel { stream, header: Vec::new(), prelogin_left: None, answer }
    }

    /// How many of `bytes` belong to the crate's prelogin, all of which are swallowed.
    fn swallow(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let missing = HEADER_BYTES - self.header.len();
        let of_header = missing.min(bytes.len());
        self.header.extend_from_slice(&bytes[..of_header]);
        let Ok(header) = <[u8; HEADER_BYTES]>::try_from(self.header.as_slice()) else {
            return Ok(of_header);
        };
        let left = match self.prelogin_left {
            Some(left) => left,
            None => content_bytes(&header)?,
        };
        let content = left.min(bytes.len() - of_header);
        self.prelogin_left = Some(left - content);
        Ok(of_header + content)
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let from_answer = io::Read::read(&mut self.answer, buffer)?;
        if from_answer > 0 {
            return Poll::Ready(Ok(from_answer));
        }
        let mut buffer = ReadBuf::new(buffer);
        ready!(match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, &mut buffer),
            Stream::Encrypted(stream) => Pin::new(stream).poll_read(context, &mut buffer),
        })?;
        Poll::Ready(Ok(buffer.filled().len()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.prelogin_left != Some(0) {
            return Poll::Ready(self.swallow(bytes));
        }
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Encrypted(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Encrypted(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Encrypted(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// The connection below TLS: what goes over it is inside packets until the handshake is over.
#[derive(Debug)]
struct Handshake {
    stream: TcpStream,
    over: bool,
    /// Of a packet that is being read: its header, and how much of its content is to come.
    header: Vec<u8>,
    content_left: usize,
    /// Written since the last flush, without headers.
    written: Vec<u8>,
    /// Packets on their way, and how much of them is sent.
    leaving: Vec<u8>,
    sent: usize,
}

impl Handshake {
    /// Reads a header, if the content of the packet before is at its end.
    fn poll_header(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.content_left == 0 {
            let mut missing = [0; HEADER_BYTES];
            let mut buffer = ReadBuf::new(&mut missing[self.header.len()..]);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            self.header.extend_from_slice(buffer.filled());
            if let Ok(header) = <[u8; HEADER_BYTES]>::try_from(self.header.as_slice()) {
                self.content_left = content_bytes(&header)?;
                self.header.clear();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl TokioRead for Handshake {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.over {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        ready!(self.poll_header(context))?;
        let mut bytes = [0; 4096];
        let most = self.content_left.min(buffer.remaining()).min(bytes.len());
        let mut part = ReadBuf::new(&mut bytes[..most]);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut part))?;
        buffer.put_slice(part.filled());
        self.content_left -= part.filled().len();
        Poll::Ready(Ok(()))
    }
}

impl TokioWrite for Handshake {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.over {
            return Pin::new(&mut self.stream).poll_write(context, bytes);
        }
        self.written.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while !this.leaving.is_empty() || !this.written.is_empty() {
            if this.leaving.is_empty() {
                this.leaving = packets(PRELOGIN, &this.written);
                this.written.clear();
            }
            while this.sent < this.leaving.len() {
                let rest = &this.leaving[this.sent..];
                this.sent += ready!(Pin::new(&mut this.stream).poll_write(context, rest))?;
            }
            this.leaving.clear();
            this.sent = 0;
        }
        Pin::new(&mut this.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
