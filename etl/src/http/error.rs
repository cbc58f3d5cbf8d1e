//! Why no answer came, in a few lower-case words for people and as a kind for the
//! code that decides whether to try again.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

use rustls::{CertificateError, Error as TlsError};

use super::connect::{ConnectTimedOut, LookupFailed};
use super::printable;
use super::tls::TlsUnavailable;

/// The most of a foreign error text that is shown.
const TEXT_MAX: usize = 200;

/// Why a client could not be built.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The file of `tls.ca` is of no use.
    #[error("tls.ca: cannot use {path}: {reason}; give a PEM file with the authorities to trust", path = .path.display())]
    Ca {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The TLS library refused its settings.
    #[error("TLS cannot be set up: {0}")]
    Rustls(#[source] TlsError),
}

/// Why no answer came.
#[derive(Debug)]
pub struct SendError {
    kind: SendErrorKind,
    connecting: bool,
    source: Box<dyn Error + Send + Sync>,
}

/// What happened, as far as it can be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendErrorKind {
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    /// No way to that host or network.
    #[error("host unreachable")]
    Unreachable,
    /// The name does not exist.
    #[error("name not found")]
    Dns,
    /// The name server did not help.
    #[error("name lookup failed, the name server does not answer")]
    DnsUnavailable,
    /// Connecting took longer than the connect timeout.
    #[error("timed out connecting")]
    ConnectTimeout,
    /// TLS was not agreed upon; the text says why, as in `certificate expired`.
    #[error("{0}")]
    Tls(String),
    /// The peer reset the connection.
    #[error("connection reset")]
    Reset,
    /// The peer closed the connection before its answer was complete.
    #[error("connection closed without an answer")]
    Closed,
    /// What came back is not HTTP.
    #[error("the answer is not HTTP")]
    NotHttp,
    /// This process has no file descriptor left.
    #[error("too many open files here; raise the limit (ulimit -n) or lower the number in flight")]
    TooManyFiles,
    /// This machine has no local port left.
    #[error("no local port left on this machine")]
    NoLocalPort,
    /// Anything else, with the library's text.
    #[error("{0}")]
    Other(String),
}

impl SendErrorKind {
    /// What an error of the system comes to.
    pub(super) fn of_io(error: &io::Error) -> SendErrorKind {
        io_kind(error).unwrap_or_else(|| SendErrorKind::Other(deepest_text(error)))
    }
}

impl SendError {
    pub(super) fn new(
        kind: SendErrorKind,
        connecting: bool,
        source: Box<dyn Error + Send + Sync>,
    ) -> SendError {
        SendError { kind, connecting, source }
    }

    /// There was no connection; why not is in `source`.
    pub(super) fn connecting(source: impl Into<Box<dyn Error + Send + Sync>>) -> SendError {
        let source = source.into();
        SendError { kind: stream_kind(&*source), connecting: true, source }
    }

    /// A new connection was closed before it was asked anything.
    pub(super) fn closed() -> SendError {
        let source = io::Error::from(io::ErrorKind::UnexpectedEof).into();
        SendError { kind: SendErrorKind::Closed, connecting: false, source }
    }

    /// What happened.
    #[must_use]
    pub fn kind(&self) -> &SendErrorKind {
        &self.kind
    }

    /// Whether it happened before there was a connection, so that the peer has
    /// certainly seen nothing of the request.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        self.connecting
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl Error for SendError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}

impl From<hyper_util::client::legacy::Error> for SendError {
    fn from(error: hyper_util::client::legacy::Error) -> Self {
        let connecting = error.is_connect();
        let kind = match deepest_kind(&error) {
            Some(SendErrorKind::Closed) if connecting => {
                SendErrorKind::Tls("connection closed during the handshake".to_owned())
            }
            Some(kind) => kind,
            None => SendErrorKind::Other(deepest_text(&error)),
        };
        SendError { kind, connecting, source: error.into() }
    }
}

impl From<hyper::Error> for SendError {
    fn from(error: hyper::Error) -> Self {
        SendError { kind: stream_kind(&error), connecting: false, source: error.into() }
    }
}

/// An error and its causes, outermost first. `io::Error` hides the error it wraps
/// from `source()`, which is where TLS errors are.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), cause_of)
}

fn cause_of<'a>(error: &&'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    let error: &'a (dyn Error + 'static) = *error;
    match error.downcast_ref::<io::Error>() {
        Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
        None => error.source(),
    }
}

/// The innermost cause that says something.
fn deepest_kind(error: &(dyn Error + 'static)) -> Option<SendErrorKind> {
    causes(error).filter_map(kind_of).last()
}

/// The kind of a failure to read or write once there is an answer; shared with the body.
pub(super) fn stream_kind(error: &(dyn Error + 'static)) -> SendErrorKind {
    deepest_kind(error).unwrap_or_else(|| SendErrorKind::Other(deepest_text(error)))
}

fn deepest_text(error: &(dyn Error + 'static)) -> String {
    let text = causes(error).last().map(ToString::to_string).unwrap_or_default();
    printable(text.as_bytes(), TEXT_MAX)
}

fn kind_of(cause: &(dyn Error + 'static)) -> Option<SendErrorKind> {
    if cause.is::<ConnectTimedOut>() {
        return Some(SendErrorKind::ConnectTimeout);
    }
    if let Some(LookupFailed(error)) = cause.downcast_ref() {
        // getaddrinfo's EAI_AGAIN has no kind of its own.
        let temporary = error.to_string().contains("emporary failure");
        return Some(if temporary { SendErrorKind::DnsUnavailable } else { SendErrorKind::Dns });
    }
    if let Some(TlsUnavailable(text)) = cause.downcast_ref() {
        return Some(SendErrorKind::Tls(text.clone()));
    }
    if let Some(error) = cause.downcast_ref::<TlsError>() {
        return Some(SendErrorKind::Tls(tls_text(error)));
    }
    if let Some(error) = cause.downcast_ref::<hyper::Error>() {
        return match () {
            () if error.is_incomplete_message() || error.is_closed() => Some(SendErrorKind::Closed),
            () if error.is_parse() => Some(SendErrorKind::NotHttp),
            () => None,
        };
    }
    cause.downcast_ref::<io::Error>().and_then(io_kind)
}

fn io_kind(error: &io::Error) -> Option<SendErrorKind> {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    if matches!(error.raw_os_error(), Some(ENFILE | EMFILE)) {
        return Some(SendErrorKind::TooManyFiles);
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Some(SendErrorKind::Refused),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => Some(SendErrorKind::Reset),
        io::ErrorKind::UnexpectedEof => Some(SendErrorKind::Closed),
        io::ErrorKind::TimedOut => Some(SendErrorKind::ConnectTimeout),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            Some(SendErrorKind::Unreachable)
        }
        io::ErrorKind::AddrNotAvailable => Some(SendErrorKind::NoLocalPort),
        _ => None,
    }
}

fn tls_text(error: &TlsError) -> String {
    use CertificateError as Certificate;
    match error {
        TlsError::InvalidCertificate(Certificate::Expired | Certificate::ExpiredContext { .. }) => {
            "certificate expired".to_owned()
        }
        TlsError::InvalidCertificate(
            Certificate::NotValidYet | Certificate::NotValidYetContext { .. },
        ) => "certificate not valid yet (is this machine's clock right?)".to_owned(),
        TlsError::InvalidCertificate(Certificate::UnknownIssuer) => {
            "certificate not trusted, unknown authority".to_owned()
        }
        TlsError::InvalidCertificate(Certificate::BadSignature) => {
            "certificate not trusted, its signature is not the authority's".to_owned()
        }
        TlsError::InvalidCertificate(Certificate::NotValidForName) => {
            "certificate is for another name".to_owned()
        }
        TlsError::InvalidCertificate(Certificate::NotValidForNameContext { presented, .. }) => {
            let names = printable(presented.join(", ").as_bytes(), TEXT_MAX);
            format!("certificate is for another name ({names})")
        }
        TlsError::InvalidCertificate(other) => {
            format!(
                "certificate not accepted: {}",
                printable(other.to_string().as_bytes(), TEXT_MAX)
            )
        }
        TlsError::InvalidMessage(_) => "the server does not speak TLS".to_owned(),
        TlsError::AlertReceived(alert) => format!("the server refused TLS: {alert:?}"),
        other => format!("TLS failed: {}", printable(other.to_string().as_bytes(), TEXT_MAX)),
    }
}
