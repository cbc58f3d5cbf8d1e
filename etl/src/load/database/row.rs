//! Finds the fields of a record in its bytes, without building a tree: for each
//! column the bytes of its value. Reads any bytes without panicking; what is no JSON
//! object is said to be none.

use std::borrow::Cow;

use memchr::memchr2;

use super::table::{Loaded, Table};
use crate::config::{ColumnType, Extra};

/// A JSON value as it stands in a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found<'r> {
    /// Not there, or `null`.
    Nothing,
    /// A text, without its quotes, escapes as they are.
    Text(&'r [u8]),
    /// A number.
    Number(&'r [u8]),
    /// `true` or `false`.
    Bool(bool),
    /// An object or a list, its bytes.
    Nested(&'r [u8]),
}

/// Splits `row` into the values of the table's columns.
///
/// # Errors
/// With what is wrong with the record.
pub(super) fn split<'r>(
    row: &'r [u8],
    table: &Table,
    values: &mut Vec<Found<'r>>,
) -> Result<(), String> {
    values.clear();
    values.resize(table.loaded.len(), Found::Nothing);
    let mut at = skip_blanks(row, 0);
    if row.get(at) != Some(&b'{') {
        return Err("the record is not an object".to_owned());
    }
    at = skip_blanks(row, at + 1);
    // Records mostly name their fields in the same order.
    let mut next = 0;
    while row.get(at) == Some(&b'"') {
        let end = string_end(row, at).ok_or_else(broken)?;
        let name = plain_key(&row[at + 1..end - 1])?;
        at = skip_blanks(row, end);
        if row.get(at) != Some(&b':') {
            return Err(broken());
        }
        at = skip_blanks(row, at + 1);
        let (value, end) = value(row, at).ok_or_else(broken)?;
        match place_of(&name, &table.loaded, next) {
            Some(place) => {
                values[place] = value;
                next = place + 1;
                if table.loaded[place].shared {
                    fill_others(place, value, &table.loaded, values);
                }
            }
            None if table.extra == Extra::Reject => {
                let name = crate::http::printable(&name, 60);
                return Err(format!("no column is filled from the field `{name}`"));
            }
            None => {}
        }
        at = skip_blanks(row, end);
        if row.get(at) == Some(&b',') {
            at = skip_blanks(row, at + 1);
        }
    }
    if row.get(at) == Some(&b'}') { Ok(()) } else { Err(broken()) }
}

/// Fills the columns behind `place` that have the same field.
fn fill_others<'r>(place: usize, value: Found<'r>, loaded: &[Loaded], values: &mut [Found<'r>]) {
    for (other, slot) in loaded.iter().zip(values).skip(place + 1) {
        if other.field == loaded[place].field {
            *slot = value;
        }
    }
}

/// The first column that the field `name` fills.
fn place_of(name: &[u8], loaded: &[Loaded], next: usize) -> Option<usize> {
    let is = |column: &Loaded| column.field.as_bytes() == name;
    match loaded.get(next) {
        Some(column) if column.first && is(column) => Some(next),
        _ => loaded.iter().position(is),
    }
}

fn broken() -> String {
    "the record is not valid JSON".to_owned()
}

fn plain_key(raw: &[u8]) -> Result<Cow<'_, [u8]>, String> {
    if !raw.contains(&b'\\') {
        return Ok(Cow::Borrowed(raw));
    }
    text(raw).map(|key| Cow::Owned(key.into_owned().into_bytes()))
}

/// A text without its escapes.
///
/// # Errors
/// When an escape is none, or half of a pair.
pub(super) fn text(raw: &[u8]) -> Result<Cow<'_, str>, String> {
    let invalid = || "a text with an escape that stands for no character".to_owned();
    if !raw.contains(&b'\\') {
        let text = std::str::from_utf8(raw).map_err(|_| "a text that is not UTF-8".to_owned())?;
        return Ok(Cow::Borrowed(text));
    }
    let mut quoted = Vec::with_capacity(raw.len() + 2);
    quoted.push(b'"');
    quoted.extend_from_slice(raw);
    quoted.push(b'"');
    serde_json::from_slice::<String>(&quoted).map(Cow::Owned).map_err(|_| invalid())
}

/// Whether a value may fill a column of this type; the database looks at texts itself.
///
/// # Errors
/// With what was expected and what is there.
pub(super) fn check(value: Found<'_>, column: &Loaded) -> Result<(), String> {
    use ColumnType::{Bigint, Boolean, Double, Integer, Jsonb, Numeric, Text};
    let kind = column.kind;
    let (fits, found) = match value {
        Found::Nothing | Found::Text(_) => (true, ""),
        Found::Number(_) => {
            (matches!(kind, Integer | Bigint | Double | Numeric(_) | Text | Jsonb), "a number")
        }
        Found::Bool(_) => (matches!(kind, Boolean | Text | Jsonb), "true or false"),
        Found::Nested(_) => (matches!(kind, Text | Jsonb), "an object or a list"),
    };
    if fits {
        return Ok(());
    }
    let field = crate::http::printable(column.field.as_bytes(), 60);
    Err(format!("{field}: expected {kind}, found {found}"))
}

/// The value at `at` and the offset just past it.
fn value(row: &[u8], at: usize) -> Option<(Found<'_>, usize)> {
    match row.get(at)? {
        b'"' => {
            let end = string_end(row, at)?;
            Some((Found::Text(&row[at + 1..end - 1]), end))
        }
        b'{' | b'[' => {
            let end = nested_end(row, at)?;
            Some((Found::Nested(&row[at..end]), end))
        }
        _ => {
            let length = row[at..].iter().position(|byte| b",}] \t\r\n".contains(byte))?;
            let word = &row[at..at + length];
            let found = match word {
                b"null" => Found::Nothing,
                b"true" => Found::Bool(true),
                b"false" => Found::Bool(false),
                [b'-' | b'0'..=b'9', rest @ ..] if rest.iter().all(|byte| is_numeric(*byte)) => {
                    Found::Number(word)
                }
                _ => return None,
            };
            Some((found, at + length))
        }
    }
}

fn is_numeric(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-')
}

/// The offset past the closing quote of the text that begins at `at`.
fn string_end(row: &[u8], at: usize) -> Option<usize> {
    let mut from = at + 1;
    loop {
        let found = from + memchr2(b'"', b'\\', row.get(from..)?)?;
        if row[found] == b'"' {
            return Some(found + 1);
        }
        from = found + 2;
    }
}

/// The offset past the bracket that closes the one at `at`.
fn nested_end(row: &[u8], at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut from = at;
    while let Some(byte) = row.get(from) {
        match byte {
            b'"' => {
                from = string_end(row, from)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(from + 1);
                }
            }
            _ => {}
        }
        from += 1;
    }
    None
}

fn skip_blanks(row: &[u8], mut at: usize) -> usize {
    while row.get(at).is_some_and(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')) {
        at += 1;
    }
    at
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use proptest::prelude::*;

    use super::{Found, check, split, text};
    use crate::load::database::table::tests::table;

    const COLUMNS: &str = r#"{"id":{"type":"bigint"},"title":{"type":"text"},"user_id":{"type":"integer","from":"userId"},"same":{"type":"text","from":"title"}}"#;

    #[test]
    fn fields_are_found_in_any_order_and_layout() {
        let table = table(COLUMNS);
        let mut values = Vec::new();
        let row = br#"{"title":"a \"b\"","extra":[1,{"id":9}],"id":7,"userId":null}"#;
        split(row, &table, &mut values).unwrap();
        let title = Found::Text(br#"a \"b\""#);
        assert_eq!(values, [Found::Number(b"7"), title, Found::Nothing, title]);
        let row = b" { \"id\" : 1.5e3 ,\n \"\\u0074itle\" : {\"a\":\"}\"} , \"userId\":true } ";
        split(row, &table, &mut values).unwrap();
        let nested = Found::Nested(br#"{"a":"}"}"#);
        assert_eq!(values, [Found::Number(b"1.5e3"), nested, Found::Bool(true), nested]);
        split(b"{}", &table, &mut values).unwrap();
        assert_eq!(values, [Found::Nothing; 4]);
    }

    #[test]
    fn what_is_no_object_is_said_to_be_none() {
        let table = table(COLUMNS);
        for row in [
            "1",
            "[]",
            "",
            "{",
            "{\"id\"",
            "{\"id\":",
            "{\"id\":1",
            "{\"id\":x}",
            "{\"id\":\"",
            "{1}",
        ] {
            assert!(split(row.as_bytes(), &table, &mut Vec::new()).is_err(), "{row}");
        }
    }

    #[test]
    fn values_that_a_type_cannot_hold_are_named() {
        let table = table(COLUMNS);
        let (id, title) = (&table.loaded[0], &table.loaded[1]);
        assert_eq!(
            check(Found::Bool(true), id).unwrap_err(),
            "id: expected bigint, found true or false"
        );
        assert!(check(Found::Nested(b"{}"), id).is_err());
        assert!(check(Found::Nested(b"{}"), title).is_ok());
        assert!(check(Found::Text(b"x"), id).is_ok(), "the database reads texts");
    }

    #[test]
    fn escapes_become_characters_or_are_refused() {
        assert_eq!(text(br"a\n\u00e9\ud83d\ude00").unwrap(), "a\né😀");
        assert!(text(br"\ud83d").is_err());
        assert!(text(b"\xff").is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let table = table(COLUMNS);
            split(&bytes, &table, &mut Vec::new()).ok();
            let mut row = b"{\"id\":".to_vec();
            row.extend(bytes);
            split(&row, &table, &mut Vec::new()).ok();
        }

        #[test]
        fn what_serde_reads_is_read_alike(id in any::<i64>(), title in "\\PC{0,12}") {
            let table = table(COLUMNS);
            let row = serde_json::json!({ "title": title, "x": [title], "id": id }).to_string();
            let mut values = Vec::new();
            split(row.as_bytes(), &table, &mut values).unwrap();
            let id = id.to_string();
            prop_assert_eq!(values[0], Found::Number(id.as_bytes()));
            let Found::Text(raw) = values[1] else { panic!("{values:?}") };
            prop_assert_eq!(text(raw).unwrap(), title);
        }
    }
}
