//! Why an agent gave no data: what happened, with the object it happened at, and what to
//! do about it.

/// Why an agent gave no data.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnmpError {
    /// The host's name has no address.
    #[error("{host} has no address: {why}")]
    Name {
        /// The host.
        host: String,
        /// What the resolver said.
        why: String,
    },
    /// The request could not be sent.
    #[error("the request could not be sent to {to}: {source}")]
    Send {
        /// The agent.
        to: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The socket could not be opened.
    #[error("a UDP socket could not be opened: {0}")]
    Socket(std::io::Error),
    /// The agent does not let this user in, in words that say what to check.
    #[error("{0}")]
    Refused(String),
    /// The agent answered with an error.
    #[error("the agent answered {status}{place}")]
    Status {
        /// As RFC 3416 calls it.
        status: String,
        /// ` at ` and the object, where it names one.
        place: String,
    },
    /// The agent does not have an object.
    #[error("the agent has no {what} ({why})")]
    Missing {
        /// The object and what it is called.
        what: String,
        /// As RFC 3416 calls it.
        why: &'static str,
    },
    /// The answer makes no sense, or is too long.
    #[error("{0}")]
    Answer(String),
}

impl SnmpError {
    /// What to do about it.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            SnmpError::Name { .. } => "check the name, or use addresses in extract.snmp.host",
            SnmpError::Send { .. } => "check the route to the appliance and the local firewall",
            SnmpError::Socket(_) => {
                "the limit of open files, or the address family, may be the reason"
            }
            SnmpError::Refused(_) => "compare extract.snmp.v3 with the users of the agent",
            SnmpError::Status { .. } => {
                "the agent may not show this object to this user or community: check its views"
            }
            SnmpError::Missing { .. } => {
                "snmpwalk shows what the agent has; `missing: skip` leaves out what it lacks"
            }
            SnmpError::Answer(_) => "tried the first appliance only; its agent answers strangely",
        }
    }
}

/// The name of an error status (RFC 3416, section 3).
pub(super) fn status_name(status: i32) -> String {
    const NAMES: [&str; 19] = [
        "noError",
        "tooBig",
        "noSuchName",
        "badValue",
        "readOnly",
        "genErr",
        "noAccess",
        "wrongType",
        "wrongLength",
        "wrongEncoding",
        "wrongValue",
        "noCreation",
        "inconsistentValue",
        "resourceUnavailable",
        "commitFailed",
        "undoFailed",
        "authorizationError",
        "notWritable",
        "inconsistentName",
    ];
    let name = usize::try_from(status).ok().and_then(|status| NAMES.get(status));
    name.map_or_else(|| format!("error {status}"), |name| (*name).to_owned())
}
