//! A JSON answer as rows: the records it holds, each merged behind the source's
//! fields. Everything foreign is checked here once – syntax, depth, strings, numbers
//! – so that no later step and no sink can stumble over a row.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::error::{ExtractError, ExtractorError};
use super::target::Fields;
use crate::batch::Rows;
use crate::http::printable;
use crate::source::fields::all;
use crate::source::json::push_string;

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
    let mut found: &RawValue = serde_json::from_slice(body).map_err(|error| not_json(&error))?;
    check(found.get())?;
    for token in pointer.unwrap_or_default().split('/').skip(1) {
        let token = token.replace("~1", "/").replace("~0", "~");
        found = descend(found, &token).ok_or_else(|| nothing_at(pointer))?;
    }
    let mut rows = Rows::default();
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

/// What `container` holds under a JSON Pointer's token.
fn descend<'a>(container: &'a RawValue, token: &str) -> Option<&'a RawValue> {
    match container.get().as_bytes().first()? {
        b'{' => {
            let fields = all(container.get().as_bytes()).ok()?;
            let (_, value) = fields.into_iter().rev().find(|(name, _)| name == token)?;
            serde_json::from_str(value.0).ok()
        }
        b'[' if token == "0" || !token.starts_with(['0', '+']) => {
            let items: Vec<&RawValue> = serde_json::from_str(container.get()).ok()?;
            items.get(token.parse::<usize>().ok()?).copied()
        }
        _ => None,
    }
}

/// Appends a JSON value without the line breaks that may stand between its tokens.
fn push_one_line(out: &mut Vec<u8>, value: &[u8]) {
    if memchr::memchr2(b'\n', b'\r', value).is_none() {
        out.extend_from_slice(value);
        return;
    }
    let (mut in_string, mut escaped) = (false, false);
    for &byte in value {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            continue;
        } else {
            in_string = byte == b'"';
        }
        out.push(byte);
    }
}

/// Raw values skip what is inside them; this looks: nesting up to 128, strings that
/// are text, numbers within a 64-bit float.
fn check(json: &str) -> Result<(), ExtractError> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    Checked.deserialize(&mut deserializer).map_err(|error| not_json(&error))
}

struct Checked;

impl<'de> DeserializeSeed<'de> for Checked {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Checked)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        while fields.next_key_seed(Checked)?.is_some() {
            fields.next_value_seed(Checked)?;
        }
        Ok(())
    }
}
