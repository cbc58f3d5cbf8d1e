//! A JSON answer as rows: the records it holds, each merged behind the source's
//! fields. Everything foreign is checked here once – syntax, depth, strings, numbers
//! – so that no later step and no sink can stumble over a row.

use std::collections::HashSet;

use serde_json::value::RawValue;

use super::error::{ExtractError, ExtractorError};
use super::target::Fields;
use crate::batch::Rows;
use crate::http::printable;
use crate::source::fields::all;
use crate::source::raw::{at, check, push_one_line};
use rows::json::push_string;

const TIMESTAMP: &str = "timestamp";

/// A JSON Pointer (RFC 6901) is empty or begins with `/`.
pub(super) fn check_pointer(pointer: Option<&str>) -> Result<(), ExtractorError> {
    match pointer {
        Some(pointer) if !pointer.is_empty() && !pointer.starts_with('/') => {
            Err(ExtractorError::Pointer(pointer.to_owned()))
        }
        _ => Ok(()),
    }
}

/// The rows of an answer: of the object or the array of objects at `pointer`.
pub(super) fn rows(
    source: &Fields<'_>,
    body: &[u8],
    pointer: Option<&str>,
    now: u64,
) -> Result<Rows, ExtractError> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let whole: &RawValue = serde_json::from_slice(body).map_err(|error| not_json(&error))?;
    check(whole.get()).map_err(|error| not_json(&error))?;
    let found = at(whole, pointer.unwrap_or_default()).ok_or_else(|| nothing_at(pointer))?;
    let mut rows = Rows::few();
    match found.get().as_bytes().first() {
        Some(b'{') => push_merged(source, found.get().as_bytes(), now, &mut rows)?,
        Some(b'[') => {
            let records: Vec<&RawValue> =
                serde_json::from_str(found.get()).map_err(|error| not_json(&error))?;
            for (at, record) in records.iter().enumerate() {
                if !record.get().starts_with('{') {
                    let text = format!("record {} of the answer is not a JSON object", at + 1);
                    return Err(ExtractError::Answer(text));
                }
                push_merged(source, record.get().as_bytes(), now, &mut rows)?;
            }
        }
        _ => {
            let text = "the answer is neither a JSON object nor an array of them";
            return Err(ExtractError::Answer(text.to_owned()));
        }
    }
    Ok(rows)
}

/// Appends one row: the source's fields that the answer does not have, the answer's
/// fields, and `timestamp` if there is none yet.
pub(super) fn push_merged(
    source: &Fields<'_>,
    answer: &[u8],
    now: u64,
    rows: &mut Rows,
) -> Result<(), ExtractError> {
    let answer = all(answer).map_err(|error| not_json(&error))?;
    // Each name once, with the last value, as most readers take it; the answer's first.
    let mut seen: HashSet<&str> = HashSet::with_capacity(answer.len() + source.len());
    let kept_answer: Vec<_> = answer.iter().rev().filter(|(name, _)| seen.insert(name)).collect();
    let kept_source: Vec<_> = source.iter().rev().filter(|(name, _)| seen.insert(name)).collect();
    let in_order = kept_source.into_iter().rev().chain(kept_answer.into_iter().rev());
    rows.push_with(|out| {
        let mut separator = b'{';
        for (name, value) in in_order {
            out.push(separator);
            separator = b',';
            push_string(out, name);
            out.push(b':');
            push_one_line(out, value.0.as_bytes());
        }
        if !seen.contains(TIMESTAMP) {
            out.push(separator);
            out.extend_from_slice(format!("\"{TIMESTAMP}\":{now}").as_bytes());
        }
        out.push(b'}');
    });
    Ok(())
}

fn not_json(error: &serde_json::Error) -> ExtractError {
    ExtractError::Answer(format!("not JSON: {}", printable(error.to_string().as_bytes(), 100)))
}

fn nothing_at(pointer: Option<&str>) -> ExtractError {
    let pointer = printable(pointer.unwrap_or_default().as_bytes(), 100);
    ExtractError::Answer(format!("the answer has nothing at {pointer}"))
}
