//! TLS for connections to PostgreSQL: rustls with ring, as for HTTP. What is checked
//! of the server's certificate depends on `sslmode` and `tls.ca`.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Socket;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::client::TlsStream as Encrypted;

use crate::config::{SslMode, Tls};

/// Encrypts connections.
#[derive(Debug, Clone)]
pub(crate) struct Encryption(Arc<ClientConfig>);

impl Encryption {
    pub(crate) fn new(mode: SslMode, tls: &Tls) -> Result<Encryption, String> {
        let config = match mode {
            SslMode::Prefer | SslMode::Require if tls.ca.is_none() => {
                crate::http::unverified_tls(rustls::DEFAULT_VERSIONS)?
            }
            // Nothing will be encrypted, so nothing needs to be trusted.
            SslMode::Disable => crate::http::unverified_tls(rustls::DEFAULT_VERSIONS)?,
            _ => crate::http::client_tls(tls, rustls::DEFAULT_VERSIONS)?,
        };
        Ok(Encryption(Arc::new(config)))
    }
}

/// Encrypts one connection to a host.
pub(crate) struct ToHost {
    config: Arc<ClientConfig>,
    host: ServerName<'static>,
}

impl MakeTlsConnect<Socket> for Encryption {
    type Stream = Stream;
    type TlsConnect = ToHost;
    type Error = rustls_pki_types::InvalidDnsNameError;

    fn make_tls_connect(&mut self, host: &str) -> Result<ToHost, Self::Error> {
        // A socket has no name, and nothing is encrypted on it.
        let host = if host.is_empty() { "localhost" } else { host };
        let host = ServerName::try_from(host)?.to_owned();
        Ok(ToHost { config: self.0.clone(), host })
    }
}

impl TlsConnect<Socket> for ToHost {
    type Stream = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        let connector = tokio_rustls::TlsConnector::from(self.config);
        Box::pin(async move {
            let encrypted = connector.connect(self.host, socket).await?;
            Ok(Stream(Box::new(encrypted)))
        })
    }
}

/// An encrypted connection.
pub(crate) struct Stream(Box<Encrypted<Socket>>);

impl TlsStream for Stream {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(context)
    }
}
