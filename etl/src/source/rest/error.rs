//! Why a page did not come, and why an API cannot be asked at all.

use std::time::Duration;

use crate::http::ClientError;

/// Why reading ended before its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestError {
    /// The run should end.
    #[error("stopped")]
    Stopped,
    /// A page did not come, or is not what it should be.
    #[error("{target}, page {page}: {problem}")]
    Page {
        /// What was asked, without query: `GET https://api.example.net/posts`.
        target: String,
        /// Which page of the run, from 1.
        page: u64,
        /// What is wrong, and what to do.
        problem: String,
    },
}

/// Why a REST source cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum RestSetupError {
    /// The address is none.
    #[error("source.rest.url is not an address")]
    Url,
    /// A header cannot be sent.
    #[error(
        "source.rest: header `{0}` cannot be sent: its name or value has characters that HTTP does not allow"
    )]
    Header(String),
    /// The client could not be built.
    #[error("source.rest.{0}")]
    Client(#[from] ClientError),
}

/// What happened to one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The run should end.
    Stopped,
    /// Another attempt may well succeed, after the time that the API asks for.
    Retry { why: String, after: Option<Duration> },
    /// No other attempt will.
    Final(String),
}

impl Trouble {
    pub(super) fn retry(why: impl Into<String>) -> Trouble {
        Trouble::Retry { why: why.into(), after: None }
    }
}
