//! What a database's error means for a batch, decided in exactly one place, as
//! `answer` does for HTTP. The codes are PostgreSQL's (its appendix A); SQLite's few
//! are put beside them.

use crate::load::answer::{Answer, Failure};

/// Where in a batch's transaction an error came up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Connecting, making tables, noting the key: no record has to do with it.
    Before,
    /// Loading the records: one of them may be the reason.
    Records,
}

/// What follows from an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// Not now.
    Retry,
    /// Not in time; for `concurrency: adaptive` a sign of overload.
    TimedOut,
    /// A record is wrong.
    Invalid,
    /// A matter of configuration; with what to do.
    Refused(&'static str),
}

/// What an error with this SQLSTATE means.
pub(super) fn classify(code: &str, failure: Failure, stage: Stage) -> Answer {
    match meaning(code) {
        Meaning::Retry => Answer::Retry(failure),
        Meaning::TimedOut => Answer::Retry(Failure { timed_out: true, ..failure }),
        Meaning::Invalid if stage == Stage::Records => Answer::Invalid(failure),
        Meaning::Invalid => {
            refused(failure, "the ledger table or the settings are not as etl makes them")
        }
        Meaning::Refused(remedy) => refused(failure, remedy),
    }
}

/// What an error of SQLite means.
#[cfg(feature = "sqlite")]
pub(super) fn classify_sqlite(error: &rusqlite::Error, stage: Stage) -> Answer {
    use rusqlite::ErrorCode;

    let reason = crate::http::printable(format!("SQLite: {error}").as_bytes(), 1000);
    let failure = Failure::without_answer(reason);
    let remedy = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            return Answer::Retry(Failure { timed_out: true, ..failure });
        }
        Some(
            ErrorCode::DiskFull
            | ErrorCode::OutOfMemory
            | ErrorCode::SystemIoFailure
            | ErrorCode::SchemaChanged
            | ErrorCode::OperationInterrupted
            | ErrorCode::OperationAborted
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::InternalMalfunction,
        ) => return Answer::Retry(failure),
        Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig)
            if stage == Stage::Records =>
        {
            return Answer::Invalid(failure);
        }
        Some(ErrorCode::CannotOpen) => {
            "the file cannot be opened: make it, set `create: true`, or correct its path"
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            "give this user the right to write the file and its directory"
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            "the file is damaged or no SQLite database: restore it, or name another"
        }
        _ => {
            "the table or its columns are not there: make them, set `create: true`, or correct the settings"
        }
    };
    refused(failure, remedy)
}

fn refused(failure: Failure, remedy: &str) -> Answer {
    Answer::Refused(Failure { remedy: Some(remedy.to_owned()), ..failure })
}

fn meaning(code: &str) -> Meaning {
    match code {
        "42501" => Meaning::Refused(
            "this user may not: GRANT it INSERT on the table (upsert and replace: SELECT, UPDATE, DELETE too), and CREATE on the schema or make the ledger table for it",
        ),
        "42P01" => Meaning::Refused(
            "the table is not there: make it, set `create: true`, or correct `table`",
        ),
        "42703" => Meaning::Refused("the table has no such column: add it, or correct `columns`"),
        "42P10" => {
            Meaning::Refused("`upsert` needs a unique index on the columns of `key`: make one")
        }
        "3D000" => {
            Meaning::Refused("there is no such database: make it, or correct `database` or the URL")
        }
        "3F000" => Meaning::Refused("there is no such schema: make it, or correct `table`"),
        "57P04" => {
            Meaning::Refused("the database was dropped: make it anew, or correct `database`")
        }
        // Lock, statement and idle timeouts.
        "55P03" | "57014" | "25P03" | "57P05" => Meaning::TimedOut,
        // An index entry or a row that is too large for the database.
        "54000" => Meaning::Invalid,
        _ => by_class(code.get(..2).unwrap_or_default()),
    }
}

fn by_class(class: &str) -> Meaning {
    match class {
        // Data, constraints, views with check option, what triggers raise.
        "22" | "23" | "44" | "P0" => Meaning::Invalid,
        "28" => Meaning::Refused(
            "the user or password was refused: correct them, or pg_hba.conf of the server",
        ),
        "42" | "21" | "0A" | "54" | "0L" | "0P" => {
            Meaning::Refused("the table or the settings do not fit: see the database's message")
        }
        // Connections (08), transaction state such as read-only after a failover (25),
        // deadlocks and serialization (40), disk, memory, connections (53), objects in
        // use (55), restarts (57), I/O (58), internal errors: another time it may work.
        _ => Meaning::Retry,
    }
}

#[cfg(test)]
mod tests {
    use super::{Stage, classify};
    use crate::load::answer::{Answer, Failure};

    fn answer(code: &str) -> Answer {
        classify(code, Failure::without_answer("x"), Stage::Records)
    }

    #[test]
    fn every_code_has_its_row_in_the_table() {
        for code in [
            "08000", "08006", "57P01", "57P02", "57P03", "40001", "40P01", "53100", "53200",
            "53300", "25006", "55006", "58030", "XX000", "99999", "",
        ] {
            assert!(
                matches!(answer(code), Answer::Retry(Failure { timed_out: false, .. })),
                "{code}"
            );
        }
        for code in ["55P03", "57014"] {
            assert!(
                matches!(answer(code), Answer::Retry(Failure { timed_out: true, .. })),
                "{code}"
            );
        }
        for code in
            ["22P02", "22003", "22021", "23502", "23505", "23514", "44000", "P0001", "54000"]
        {
            assert!(matches!(answer(code), Answer::Invalid(_)), "{code}");
        }
        for code in
            ["42P01", "42703", "42501", "42804", "28P01", "28000", "3D000", "3F000", "57P04"]
        {
            let refused = answer(code);
            let Answer::Refused(failure) = refused else { panic!("{code}: {refused:?}") };
            assert!(failure.remedy.is_some_and(|text| text.len() > 20), "{code}");
        }
    }

    #[test]
    fn no_record_is_blamed_for_what_came_before_it() {
        let before = classify("23514", Failure::without_answer("x"), Stage::Before);
        assert!(matches!(before, Answer::Refused(_)), "{before:?}");
    }
}
