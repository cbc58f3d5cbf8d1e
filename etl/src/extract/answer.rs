//! A JSON answer as rows: the records it holds, each merged behind the source's
//! fields. Everything foreign is checked here once – syntax, depth, strings, numbers
//! – so that no later step and no sink can stumble over a row.

use std::borrow::Cow;
use std::collections::HashSet;
use std::io::Write;

use rows::json::push_string;
use serde_json::value::RawValue;

use super::error::{ExtractError, ExtractorError};
use super::target::Fields;
use crate::batch::Rows;
use crate::http::printable;
use crate::source::fields::{Value, all};
use crate::source::raw::{at, check, push_one_line};

/// Every row says when it was polled.
pub(super) const TIMESTAMP: &str = "timestamp";

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
    let mut names = Names::new();
    let kept_answer = names.last_of_each(&answer);
    let kept_source = names.last_of_each(source);
    rows.push_with(|out| {
        push_fields(out, kept_source.into_iter().chain(kept_answer));
        if names.insert(TIMESTAMP) {
            separate(out);
            // Writing to memory cannot fail.
            write!(out, "\"{TIMESTAMP}\":{now}").ok();
        }
        out.push(b'}');
    });
    Ok(())
}

/// A field as it stands in its row.
pub(super) type Field<'a> = (Cow<'a, str>, Value<'a>);

/// The fields of a source that stand before those of an answer, whose names are `names`.
pub(super) fn before_answer<'f, 'a>(
    source: &'f Fields<'a>,
    names: impl Iterator<Item = &'f str>,
) -> Vec<&'f Field<'a>> {
    let mut seen = Names::new();
    for name in names {
        seen.insert(name);
    }
    seen.last_of_each(source)
}

/// Begins an object with these fields.
pub(super) fn push_fields<'f, 'a: 'f>(
    out: &mut Vec<u8>,
    fields: impl IntoIterator<Item = &'f Field<'a>>,
) {
    out.push(b'{');
    for (name, value) in fields {
        separate(out);
        push_string(out, name);
        out.push(b':');
        push_one_line(out, value.0.as_bytes());
    }
}

/// A comma, but before the first field.
pub(super) fn separate(out: &mut Vec<u8>) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
}

/// Names that have been there; the first few, which are mostly all, cost no hash.
#[derive(Debug)]
struct Names<'a> {
    few: Vec<&'a str>,
    many: HashSet<&'a str>,
}

impl<'f> Names<'f> {
    const FEW: usize = 16;

    fn new() -> Names<'f> {
        Names { few: Vec::with_capacity(Self::FEW), many: HashSet::new() }
    }

    /// Whether it was not there.
    fn insert(&mut self, name: &'f str) -> bool {
        if self.few.contains(&name) {
            return false;
        }
        if self.few.len() < Self::FEW {
            self.few.push(name);
            return true;
        }
        self.many.insert(name)
    }

    /// The fields of names that were not there, in order: each name once, with the last
    /// value, as most readers take it.
    fn last_of_each<'a>(&mut self, fields: &'f [Field<'a>]) -> Vec<&'f Field<'a>> {
        let mut kept = Vec::with_capacity(fields.len());
        kept.extend(fields.iter().rev().filter(|(name, _)| self.insert(name)));
        kept.reverse();
        kept
    }
}

fn not_json(error: &serde_json::Error) -> ExtractError {
    ExtractError::Answer(format!("not JSON: {}", printable(error.to_string().as_bytes(), 100)))
}

fn nothing_at(pointer: Option<&str>) -> ExtractError {
    let pointer = printable(pointer.unwrap_or_default().as_bytes(), 100);
    ExtractError::Answer(format!("the answer has nothing at {pointer}"))
}
