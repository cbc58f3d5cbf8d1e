//! A server for tests that answers with prepared bytes, so that it can do what no
//! decent HTTP library would: hang, lie about lengths, stop half-way.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What to do with one request.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// Write these bytes, keep the connection.
    Answer(Vec<u8>),
    /// Write these bytes, close the connection.
    AnswerAndClose(Vec<u8>),
    /// Never answer.
    Hang,
    /// Wait, then write these bytes.
    Late(Duration, Vec<u8>),
}

impl Act {
    pub(crate) fn ok(body: &str) -> Act {
        Act::status("200 OK", body)
    }

    pub(crate) fn status(status: &str, body: &str) -> Act {
        Act::Answer(
            format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
                .into_bytes(),
        )
    }
}

/// A server on a free port of this machine; ends with the runtime of its test.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// Requests so far.
    pub(crate) requests: Arc<AtomicUsize>,
    /// Connections so far.
    pub(crate) connections: Arc<AtomicUsize>,
}

impl Server {
    /// Plain HTTP; `act` gets each request's number from 0 and its head.
    pub(crate) async fn start(act: impl Fn(usize, &str) -> Act + Send + Sync + 'static) -> Server {
        Server::start_with(None, act).await
    }

    pub(crate) async fn start_with(
        tls: Option<TlsAcceptor>,
        act: impl Fn(usize, &str) -> Act + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, connections) =
            (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let server =
            Server { address, requests: requests.clone(), connections: connections.clone() };
        let act = Arc::new(act);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.fetch_add(1, SeqCst);
                let (tls, act, requests) = (tls.clone(), act.clone(), requests.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, &*act, &requests).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &*act, &requests).await;
                            }
                        }
                    }
                });
            }
        });
        server
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn seen(&self) -> usize {
        self.requests.load(SeqCst)
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    act: &(impl Fn(usize, &str) -> Act + Send + Sync),
    requests: &AtomicUsize,
) {
    let mut head = Vec::new();
    while let Ok(byte) = stream.read_u8().await {
        head.push(byte);
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        let number = requests.fetch_add(1, SeqCst);
        let (bytes, close) = match act(number, &String::from_utf8_lossy(&head)) {
            Act::Answer(bytes) => (bytes, false),
            Act::AnswerAndClose(bytes) => (bytes, true),
            Act::Hang => return std::future::pending().await,
            Act::Late(delay, bytes) => {
                tokio::time::sleep(delay).await;
                (bytes, false)
            }
        };
        if stream.write_all(&bytes).await.is_err() || close {
            stream.shutdown().await.ok();
            return;
        }
        head.clear();
    }
}

/// A certificate authority of one test.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Authority { issuer }
    }

    /// The authority's own certificate, for `tls.ca`.
    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A server side with a certificate for `name`, expired if wanted.
    pub(crate) fn acceptor(&self, name: &str, expired: bool) -> TlsAcceptor {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        if expired {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}
