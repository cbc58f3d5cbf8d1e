//! Reports: how an agent of version 3 says why it does not answer (RFC 3414, section 5).

use super::error::SnmpError;
use super::oid::Oid;
use super::pdu::Pdu;
use super::usm::User;
use crate::http::printable;

/// Why an agent does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Report {
    UnsupportedSecurityLevels,
    NotInTimeWindows,
    UnknownUserNames,
    UnknownEngineIds,
    WrongDigests,
    DecryptionErrors,
    /// One that RFC 3414 does not know.
    Other,
}

impl Report {
    /// What a report is about; nothing, when it names no object.
    pub fn of(pdu: &Pdu) -> Option<Report> {
        let statistics = Oid::parse("1.3.6.1.6.3.15.1.1").ok()?;
        let binding = pdu.bindings.first()?;
        Some(match binding.oid.below(&statistics) {
            Some([1, 0]) => Report::UnsupportedSecurityLevels,
            Some([2, 0]) => Report::NotInTimeWindows,
            Some([3, 0]) => Report::UnknownUserNames,
            Some([4, 0]) => Report::UnknownEngineIds,
            Some([5, 0]) => Report::WrongDigests,
            Some([6, 0]) => Report::DecryptionErrors,
            _ => Report::Other,
        })
    }

    /// The error, with the key to look at.
    pub fn refusal(self, user: &User) -> SnmpError {
        let name = printable(&user.name, 64);
        SnmpError::Refused(match self {
            Report::UnknownUserNames => format!(
                "the agent knows no user {name}; create it there, or correct extract.snmp.v3.user"
            ),
            Report::WrongDigests => format!(
                "the agent refused the signature of user {name}; correct protocol or password in \
                 extract.snmp.v3.auth"
            ),
            Report::DecryptionErrors => format!(
                "the agent could not decrypt what user {name} sent; correct protocol or password in \
                 extract.snmp.v3.privacy"
            ),
            Report::UnsupportedSecurityLevels => format!(
                "the agent has user {name} for another security level; give or leave out \
                 extract.snmp.v3.auth and privacy as it has them"
            ),
            Report::NotInTimeWindows => {
                "the agent refuses every clock that it is told (notInTimeWindows); restart its SNMP service"
                    .to_owned()
            }
            Report::UnknownEngineIds => {
                "the agent does not know the engine that it says it is (unknownEngineIDs); are there \
                 several behind this address?"
                    .to_owned()
            }
            Report::Other => {
                "the agent refused the request with a report that RFC 3414 does not know".to_owned()
            }
        })
    }
}
