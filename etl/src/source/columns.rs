//! What a file's columns are called, settled before its first row.

use std::collections::HashMap;

use rows::FIELDS_MAX;

use super::csv::fields;
use super::error::SourceError;
use super::records::{Broken, Found, Records};
use crate::config::CsvSource;
use crate::http::printable;

/// The delimiter as the byte that CSV wants.
pub(super) fn delimiter(delimiter: char) -> Result<u8, SourceError> {
    match u8::try_from(delimiter) {
        Ok(byte) if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r' | 0) => Ok(byte),
        _ => Err(SourceError::Config {
            key: "delimiter",
            problem: format!(
                "{delimiter:?} cannot be one; use an ASCII character such as , ; or \\t"
            ),
        }),
    }
}

/// The columns from the header row, renamed by the configuration where it names any.
pub(super) fn header(
    records: &mut Records,
    config: &CsvSource,
) -> Result<Vec<String>, SourceError> {
    let path = || config.path.clone();
    let framed = match records.next()? {
        Found::Record(framed) => framed,
        Found::Broken(Broken { line, reason, .. }) => {
            let problem = format!("the header cannot be read: {reason}");
            return Err(SourceError::Header { path: path(), line, problem });
        }
        Found::End => return Err(SourceError::Empty { path: path(), expected: "a header row" }),
    };
    let refuse =
        |problem: String| Err(SourceError::Header { path: path(), line: framed.line, problem });
    let names = if framed.quoted {
        records.fields().map(<[u8]>::to_vec).collect::<Vec<_>>()
    } else {
        let delimiter = config.delimiter as u32;
        records
            .raw(&framed)
            .split(|byte| u32::from(*byte) == delimiter)
            .map(<[u8]>::to_vec)
            .collect()
    };
    if names.len() > FIELDS_MAX || records.field_count() > FIELDS_MAX {
        return refuse(format!("the header has more than {FIELDS_MAX} columns"));
    }
    if !config.columns.is_empty() {
        if names.len() != config.columns.len() {
            return refuse(format!(
                "the header has {}, source.csv.columns names {}; name every column",
                fields(names.len()),
                config.columns.len()
            ));
        }
        return Ok(config.columns.clone());
    }
    let mut columns = Vec::with_capacity(names.len());
    for name in names {
        match String::from_utf8(name) {
            Ok(name) => columns.push(name.trim().to_owned()),
            Err(error) => {
                let name = printable(error.as_bytes(), 100);
                return refuse(format!("column {name} is not UTF-8; save the file as UTF-8"));
            }
        }
    }
    match check_names(&columns) {
        Ok(()) => Ok(columns),
        Err(problem) => refuse(format!("{problem}; rename it, or give source.csv.columns")),
    }
}

/// Every column needs a name of its own.
pub(super) fn check_names(names: &[String]) -> Result<(), String> {
    let mut seen = HashMap::with_capacity(names.len());
    for (at, name) in names.iter().enumerate() {
        if name.is_empty() {
            return Err(format!("column {} has no name", at + 1));
        }
        if let Some(before) = seen.insert(name, at) {
            let name = printable(name.as_bytes(), 100);
            return Err(format!("columns {} and {} are both called {name}", before + 1, at + 1));
        }
    }
    Ok(())
}
