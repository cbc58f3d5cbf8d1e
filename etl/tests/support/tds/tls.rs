//! TLS as TDS 7.4 does it: the handshake travels inside prelogin packets, and what follows
//! goes over the encrypted stream as it is.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ServerConfig, ServerConnection};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::packets::{self, Answer, PRELOGIN};

/// An authority of the test's own, which signs servers' certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Authority(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// Its certificate, as a client is given it.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A server's side of TLS under `name`. TDS 7.4 ends at TLS 1.2: where the handshake ends
    /// and the bare stream begins is only certain there.
    pub fn server(&self, name: &str) -> Arc<ServerConfig> {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        Arc::new(config)
    }
}

/// The connection below TLS: inside packets until the handshake is over.
struct Wrapped {
    stream: TcpStream,
    handshaking: bool,
    arrived: io::Cursor<Vec<u8>>,
    leaving: Vec<u8>,
}

impl Read for Wrapped {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.handshaking {
            return self.stream.read(buffer);
        }
        if self.arrived.position() == self.arrived.get_ref().len() as u64 {
            let Some((PRELOGIN, message)) = packets::read_message(&mut self.stream)? else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            self.arrived = io::Cursor::new(message);
        }
        self.arrived.read(buffer)
    }
}

impl Write for Wrapped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.handshaking {
            return self.stream.write(bytes);
        }
        self.leaving.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.leaving.is_empty() {
            let mut answer = Answer::new(&mut self.stream, PRELOGIN, 4096);
            answer.buffer().append(&mut self.leaving);
            answer.finish()?;
        }
        self.stream.flush()
    }
}

/// A client's connection, bare or under TLS.
pub enum Channel {
    Bare(TcpStream),
    Encrypted(Box<rustls::StreamOwned<ServerConnection, WrappedStream>>),
}

/// Keeps the packets out of sight of everybody else.
pub struct WrappedStream(Wrapped);

impl Read for WrappedStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for WrappedStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Channel {
    /// Does the handshake on a bare connection.
    pub fn encrypt(stream: TcpStream, config: Arc<ServerConfig>) -> io::Result<Channel> {
        let mut connection = ServerConnection::new(config).map_err(io::Error::other)?;
        let (arrived, leaving) = (io::Cursor::default(), Vec::new());
        let mut wrapped = WrappedStream(Wrapped { stream, handshaking: true, arrived, leaving });
        while connection.is_handshaking() {
            connection.complete_io(&mut wrapped)?;
            wrapped.flush()?;
        }
        wrapped.0.handshaking = false;
        Ok(Channel::Encrypted(Box::new(rustls::StreamOwned::new(connection, wrapped))))
    }
}

impl Read for Channel {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Channel::Bare(stream) => stream.read(buffer),
            Channel::Encrypted(stream) => stream.read(buffer),
        }
    }
}

impl Write for Channel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Channel::Bare(stream) => stream.write(bytes),
            Channel::Encrypted(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Channel::Bare(stream) => stream.flush(),
            Channel::Encrypted(stream) => stream.flush(),
        }
    }
}
