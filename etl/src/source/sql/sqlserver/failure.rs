//! What an error of SQL Server means: whether it is worth another try, and what to do.

use tiberius::error::Error;

use crate::source::sql::error::{SqlError, Trouble};

/// Errors that pass by themselves: deadlock, lock timeout, a server that is starting, stopping,
/// moving or short of memory, too many sessions, and those that Azure calls transient.
const PASSING: [u32; 26] = [
    233, 596, 701, 921, 922, 1205, 1222, 3960, 4221, 6005, 8645, 8651, 10_928, 10_929, 10_936,
    17_142, 17_197, 40_143, 40_197, 40_501, 40_540, 40_613, 41_302, 49_918, 49_919, 49_920,
];
/// Errors that a person must do something about: login, database, table, column, right.
const REFUSING: [u32; 20] = [
    207, 208, 229, 230, 262, 297, 300, 911, 916, 4060, 4062, 4064, 18_452, 18_456, 18_461, 18_470,
    18_486, 18_487, 18_488, 40_615,
];

/// Text that is not Unicode, as tiberius says it.
const BROKEN_TEXT: &str = "invalid UTF-16";

pub(super) fn failed(error: Error) -> SqlError {
    match error {
        Error::Server(token) => {
            let (number, message) = (token.code(), token.message());
            let said = format!("SQL Server says {number}: {message}");
            match number {
                18_456 => SqlError::new(Trouble::Refused, said).remedy("check user and password"),
                4060 => SqlError::new(Trouble::Refused, said).remedy("check the database's name"),
                number if PASSING.contains(&number) => SqlError::new(Trouble::Connection, said),
                number if REFUSING.contains(&number) => SqlError::new(Trouble::Refused, said),
                _ => SqlError::new(Trouble::Query, said),
            }
        }
        Error::Io { message, .. } => {
            SqlError::new(Trouble::Connection, format!("the connection broke: {message}"))
        }
        error => SqlError::new(Trouble::Query, format!("an answer cannot be read: {error}")),
    }
}

/// Whether the error is text that is not Unicode, such as half a surrogate pair.
pub(super) fn is_broken_text(error: &Error) -> bool {
    matches!(error, Error::Utf16)
        || matches!(error, Error::Protocol(text) if text.contains(BROKEN_TEXT))
}
