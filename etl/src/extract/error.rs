//! Why a target gave no rows, short and for people; and why an extractor could not
//! be built.

use crate::config::Span;
use crate::http::{BodyError, ClientError, LeanError, SendError, SendErrorKind};

use super::snmp::SnmpError;
use super::target::TargetError;

/// Why a target gave no rows.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExtractError {
    /// The simulated extraction failed, as configured.
    #[error("simulated failure")]
    Simulated,
    /// The target itself is not usable.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The URL cannot be made from the source row.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The deadline passed.
    #[error("timed out after {after} ({phase}{})", .before.as_ref().map(|before| format!("; before that: {before}")).unwrap_or_default())]
    Timeout {
        /// The deadline.
        after: Span,
        /// What was going on.
        phase: &'static str,
        /// How the attempt before had failed.
        before: Option<String>,
    },
    /// No answer came.
    #[error(transparent)]
    Send(#[from] SendError),
    /// An answer other than 200.
    #[error("answered {status}{detail}")]
    Status {
        /// The status.
        status: hyper::StatusCode,
        /// Where a redirect would have led.
        detail: String,
    },
    /// The answer could not be read to its end.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// An SNMP agent gave no data.
    #[error(transparent)]
    Snmp(#[from] SnmpError),
    /// The answer is not what the format says; the text says how.
    #[error("{0}")]
    Answer(String),
}

impl From<LeanError> for ExtractError {
    fn from(error: LeanError) -> Self {
        match error {
            LeanError::Send(error) => error.into(),
            LeanError::Body(error) => error.into(),
        }
    }
}

impl ExtractError {
    /// What to do about it, where that is known.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            ExtractError::Snmp(error) => Some(error.remedy()),
            _ => None,
        }
    }

    /// Whether the target let us wait until a deadline.
    pub fn is_timeout(&self) -> bool {
        match self {
            ExtractError::Timeout { .. } => true,
            ExtractError::Send(error) => *error.kind() == SendErrorKind::ConnectTimeout,
            _ => false,
        }
    }

    /// Whether another attempt may well succeed.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            ExtractError::Send(error) => !matches!(
                error.kind(),
                SendErrorKind::Tls(_) | SendErrorKind::Dns | SendErrorKind::NotHttp
            ),
            ExtractError::Body(BodyError::Broken { .. }) => true,
            ExtractError::Status { status, .. } => {
                matches!(status.as_u16(), 408 | 425 | 429)
                    || (status.is_server_error() && status.as_u16() != 501)
            }
            _ => false,
        }
    }
}

/// Why a row's fields do not give a URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// The row has no such field.
    #[error("the source has no column {column}, which the address needs")]
    Missing {
        /// The column.
        column: String,
    },
    /// The field cannot stand where the URL has it.
    #[error("{column} {value} {problem}")]
    Value {
        /// The column.
        column: String,
        /// The value as JSON, escaped and capped.
        value: String,
        /// What is wrong, as in `is not a host name or address`.
        problem: &'static str,
    },
    /// The parts do not make a URL.
    #[error("not a URL: {0}")]
    Whole(String),
}

/// Why an extractor could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExtractorError {
    /// Not exactly one kind of extraction.
    #[error("extract: give exactly one of simulated, http, snmp")]
    OneKind,
    /// The URL template is of no use.
    #[error("extract.http.url: {0}")]
    Url(String),
    /// The settings of `snmp` are of no use; the text begins with the key below it.
    #[error("extract.snmp{0}")]
    Snmp(String),
    /// The JSON Pointer is none.
    #[error(
        "extract.http.records: {0:?} is not a JSON Pointer; it begins with /, as in /data/items"
    )]
    Pointer(String),
    /// The token cannot be sent.
    #[error("extract.http.token: it has characters that cannot be sent in a header")]
    Token,
    /// The two samples do not fit into the deadline.
    #[error(
        "extract.{kind}.sample_interval: {interval} leaves no time for an answer within extract.timeout ({timeout})"
    )]
    SampleInterval {
        /// The kind of extraction.
        kind: &'static str,
        /// Time between the samples.
        interval: Span,
        /// The deadline.
        timeout: Span,
    },
    /// The delays are the wrong way round.
    #[error("extract.simulated: delay_max ({max}) is shorter than delay ({min})")]
    Delays {
        /// The shortest.
        min: Span,
        /// The longest.
        max: Span,
    },
    /// The HTTP client could not be built.
    #[error("extract.http.{0}")]
    Client(#[from] ClientError),
}
