//! Why a shard could not be read, and whether it is worth another try.

use crate::http::printable;

/// The most that is kept of a database's message.
const MESSAGE_BYTES_MAX: usize = 600;

/// Why a shard could not be read. The text is safe to print.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}{}", .remedy.as_ref().map(|remedy| format!("; {remedy}")).unwrap_or_default())]
pub struct SqlError {
    /// What kind of trouble it is.
    pub trouble: Trouble,
    /// What happened.
    pub text: String,
    /// What to do.
    pub remedy: Option<String>,
}

/// What kind of trouble it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// No connection, a broken one, a server that is starting, stopping, or has too many
    /// connections, a deadlock, a timeout: worth another try.
    Connection,
    /// User or password refused, no such database, no such table, no right: a person
    /// must change something.
    Refused,
    /// The statement or what it reads.
    Query,
    /// The run is to end.
    Stopped,
}

impl SqlError {
    /// An error with a database's own words, which are escaped and cut here.
    #[must_use]
    pub fn new(trouble: Trouble, text: impl AsRef<str>) -> SqlError {
        let text = printable(text.as_ref().as_bytes(), MESSAGE_BYTES_MAX);
        SqlError { trouble, text, remedy: None }
    }

    /// With what to do.
    #[must_use]
    pub fn remedy(self, remedy: impl Into<String>) -> SqlError {
        SqlError { remedy: Some(remedy.into()), ..self }
    }

    /// The run is to end: nothing is wrong.
    #[must_use]
    pub fn stopped() -> SqlError {
        SqlError::new(Trouble::Stopped, "the run is to end")
    }

    /// Nothing came within `limit`.
    #[must_use]
    pub fn timed_out(what: &str, limit: std::time::Duration) -> SqlError {
        let limit = humantime::format_duration(limit);
        SqlError::new(Trouble::Connection, format!("{what}: no answer within {limit}"))
    }
}
