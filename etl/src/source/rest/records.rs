//! The records of a page: one object, or the objects of an array.

use serde_json::value::RawValue;

use super::high::High;
use crate::http::printable;
use crate::source::raw::{at, check, push_one_line};

/// The records of a page, as they stand in it.
#[derive(Debug)]
pub struct Records<'a> {
    /// The whole page.
    pub root: &'a RawValue,
    /// Its records, good or bad.
    pub found: Vec<&'a RawValue>,
}

/// What one of them is.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// An object, on one line.
    Record,
    /// None, and why not.
    Bad(String),
}

/// The page as JSON.
pub(super) fn whole(body: &[u8]) -> Result<&RawValue, String> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    serde_json::from_slice(body).map_err(|error| {
        let why = printable(error.to_string().as_bytes(), 100);
        let begins = printable(&body[..body.len().min(60)], 60);
        match body.trim_ascii().is_empty() {
            true => "is empty, and not JSON".to_owned(),
            false if error.is_eof() => format!("is cut short: {why}"),
            false => format!("is not JSON ({why}); it begins with {begins}"),
        }
    })
}

impl<'a> Records<'a> {
    /// Finds them at `pointer`.
    ///
    /// # Errors
    /// When the page is not JSON or there is no object and no array at `pointer`.
    pub fn of(body: &'a [u8], pointer: &str) -> Result<Records<'a>, String> {
        if body.is_empty() {
            let nothing = serde_json::from_str("[]").map_err(|error| error.to_string())?;
            return Ok(Records { root: nothing, found: Vec::new() });
        }
        let root = whole(body)?;
        let shown = || match pointer {
            "" => String::new(),
            pointer => format!(" at {}", printable(pointer.as_bytes(), 100)),
        };
        let Some(value) = at(root, pointer) else {
            return Err(format!(
                "has nothing{}; check source.rest.records{}",
                shown(),
                names(root)
            ));
        };
        let found = match value.get().as_bytes().first() {
            Some(b'{') => vec![value],
            Some(b'[') => serde_json::from_str(value.get()).map_err(|error| error.to_string())?,
            _ => {
                let kind = printable(value.get().as_bytes(), 40);
                return Err(format!(
                    "has {kind}{} instead of an object or an array of them; check \
                     source.rest.records",
                    shown()
                ));
            }
        };
        Ok(Records { root, found })
    }
}

/// What there is at the top of a page, to choose from.
fn names(root: &RawValue) -> String {
    let fields = crate::source::fields::all(root.get().as_bytes()).unwrap_or_default();
    let names: Vec<String> = fields
        .iter()
        .take(8)
        .map(|(name, _)| format!("/{}", printable(name.as_bytes(), 30)))
        .collect();
    if names.is_empty() { String::new() } else { format!("; it has {}", names.join(", ")) }
}

impl Found {
    /// Looks at one record and appends it to `out` when it is one.
    pub fn look(json: &str, out: &mut Vec<u8>) -> Found {
        let json = json.trim();
        if !json.starts_with('{') {
            return Found::Bad("is not a JSON object".to_owned());
        }
        match check(json) {
            Ok(()) => {
                push_one_line(out, json.as_bytes());
                Found::Record
            }
            Err(error) => {
                Found::Bad(format!("is not JSON: {}", printable(error.to_string().as_bytes(), 100)))
            }
        }
    }
}

/// The incremental value of a record.
pub(super) fn high(record: &str, field: &str) -> Option<High> {
    let record: &RawValue = serde_json::from_str(record).ok()?;
    High::of(at(record, field)?.get())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use super::{Found, Records, high};

    fn records(body: &str, pointer: &str) -> Result<Vec<String>, String> {
        let records = Records::of(body.as_bytes(), pointer)?;
        Ok(records.found.iter().map(|record| record.get().to_owned()).collect())
    }

    #[test]
    fn one_object_or_the_items_of_an_array() {
        assert_eq!(records(r#" [ {"a":1}, 2 ] "#, "").unwrap(), [r#"{"a":1}"#, "2"]);
        assert_eq!(records(r#"{"a":1}"#, "").unwrap(), [r#"{"a":1}"#]);
        assert_eq!(records(r#"{"a/b":{"c":[{}]}}"#, "/a~1b/c").unwrap(), ["{}"]);
        assert_eq!(records("", "/x").unwrap(), [""; 0]);
        for (body, pointer, why) in [
            (
                r#"{"items":[],"info":1}"#,
                "/results",
                "has nothing at /results; check source.rest.records; it has /items, /info",
            ),
            (r#"{"a":3}"#, "/a", "has 3 at /a instead"),
            ("null", "", "has null instead"),
            (r#"[{"a":1},{"a""#, "", "is cut short"),
            ("<html>\u{1b}[31m", "", "it begins with <html>\\x1b[31m"),
            ("  ", "", "is empty"),
            ("[1] [2]", "", "is not JSON"),
        ] {
            let found = records(body, pointer).unwrap_err();
            assert!(found.contains(why), "{body}: {found}");
        }
    }

    #[test]
    fn a_bad_record_is_found_and_a_good_one_is_one_line() {
        let look = |json: &str| {
            let mut out = Vec::new();
            let found = Found::look(json, &mut out);
            (found, String::from_utf8(out).unwrap())
        };
        assert_eq!(look("{\"a\":\n \"x\\n y\"}"), (Found::Record, r#"{"a":"x\n y"}"#.to_owned()));
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(200), "]".repeat(200));
        for bad in ["3", "null", "[]", r#"{"a":1e999}"#, r#"{"a":"\ud800"}"#, "{} {}", &deep] {
            let (found, out) = look(bad);
            assert!(matches!(found, Found::Bad(_)) && out.is_empty(), "{bad}");
        }
    }

    #[test]
    fn the_incremental_value_is_found_in_depth() {
        assert_eq!(high(r#"{"a":{"b":7}}"#, "/a/b").unwrap().text(), "7");
        assert!(high(r#"{"a":{"b":null}}"#, "/a/b").is_none());
        assert!(high(r#"{"a":1}"#, "/b").is_none());
    }
}
