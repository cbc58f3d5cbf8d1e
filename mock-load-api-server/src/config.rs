//! What the server is started with, and why it may refuse to start.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use crate::faults::Faults;

/// What the server is started with.
///
/// The default, meant for use inside a test: a free port on the loopback interface, no
/// fault, no delay.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where to listen; port 0 takes a free one, see [`Server::addr`](crate::Server::addr).
    pub listen: SocketAddr,
    /// Keep every record's bytes and every batch's key, for
    /// [`Server::records`](crate::Server::records) and
    /// [`Server::ledger_rows`](crate::Server::ledger_rows). Off, the ledger keeps 16 bytes
    /// for each distinct record and about 64 for each key.
    pub keep_records: bool,
    /// The settings that may change while the server runs.
    pub faults: Faults,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            keep_records: false,
            faults: Faults::default(),
        }
    }
}

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Another process listens there.
    #[error(
        "{addr} is in use by another process; stop it (`ss -ltnp 'sport = :{port}'` names it) \
         or choose another port: --listen {ip}:0 takes a free one", port = addr.port(), ip = addr.ip()
    )]
    InUse {
        /// The address asked for.
        addr: SocketAddr,
    },
    /// The address can't be listened on.
    #[error("cannot listen on {addr}")]
    Listen {
        /// The address asked for.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The settings contradict themselves.
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

/// Why settings were refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// No setting has this name.
    #[error("unknown setting `{key}`; known are {known}")]
    Unknown {
        /// The name given.
        key: String,
        /// All names there are.
        known: String,
    },
    /// A setting's value is wrong.
    #[error("`{key}`: {why}")]
    Invalid {
        /// The setting.
        key: String,
        /// What is wrong with its value.
        why: String,
    },
    /// One request can have one fault only.
    #[error("fail, reset, hang, lose_reply, truncate and lie add up to {sum}, more than 1")]
    RatesAboveOne {
        /// What they add up to.
        sum: f64,
    },
    /// The settings are no JSON object.
    #[error("the settings must be one JSON object: {why}")]
    NotAnObject {
        /// What is wrong.
        why: String,
    },
}

impl SettingsError {
    pub(crate) fn invalid(key: &str, why: String) -> Self {
        Self::Invalid { key: key.to_owned(), why }
    }
}
