//! `cast`: values as another type. Digits are moved, never calculated with: a number of
//! thirty digits comes out with the same thirty. A null stays null and an empty text
//! becomes one, since an empty field is how a table says "nothing"; a field that is
//! missing stays so.

use std::borrow::Cow;

use rows::json::push_string;

use super::error::StepError;
use super::path::{Node, Path};
use super::record::{Fate, edit};
use super::scan::{text, text_of};
use crate::config::Cast as To;

/// Fields and their types.
#[derive(Debug)]
pub(super) struct Cast {
    fields: Vec<(Path, To)>,
    tree: Node,
}

impl Cast {
    pub(super) fn new(fields: Vec<(Path, To)>) -> Self {
        let tree = Node::of_sources(fields.iter().map(|(path, _)| path));
        Cast { fields, tree }
    }

    pub(super) fn apply(&self, row: &[u8], out: &mut Vec<u8>) -> Result<(), StepError> {
        Ok(edit(text(row)?, &self.tree, out, &mut |number, value, out| {
            let (path, to) = &self.fields[number];
            cast(*to, value, out).map_err(|reason| StepError::of(path.as_str(), value, reason))
        })?)
    }
}

/// Appends `value` as the type, or says why it cannot be.
fn cast(to: To, value: &str, out: &mut Vec<u8>) -> Result<Fate, &'static str> {
    if value == "null" {
        return Ok(Fate::Same);
    }
    if to == To::Text {
        return match value.as_bytes().first() {
            Some(b'"') => Ok(Fate::Same),
            Some(b'{' | b'[') => Err("is neither a text, a number, true nor false"),
            _ => {
                push_string(out, value);
                Ok(Fate::Changed)
            }
        };
    }
    let written = match value.as_bytes().first() {
        Some(b'"') => text_of(value).ok_or("is no valid text")?,
        _ => Cow::Borrowed(value),
    };
    if written.is_empty() {
        out.extend_from_slice(b"null");
        return Ok(Fate::Changed);
    }
    let new = match to {
        To::Number => Cow::Owned(number(&written).ok_or("is not a number")?),
        To::Integer => Cow::Owned(integer(&written).ok_or("is not a whole number")?),
        To::Boolean => Cow::Borrowed(boolean(&written).ok_or("is neither true nor false")?),
        To::Text => written,
    };
    if new == value {
        return Ok(Fate::Same);
    }
    out.extend_from_slice(new.as_bytes());
    Ok(Fate::Changed)
}

/// A decimal as JSON spells it: no `+` in front, no leading zeros.
fn number(written: &str) -> Option<String> {
    let (sign, digits) = match written.as_bytes().first()? {
        b'-' => ("-", &written[1..]),
        b'+' => ("", &written[1..]),
        _ => ("", written),
    };
    let is_digit = |c: char| c.is_ascii_digit();
    let whole = digits.split(|c| !is_digit(c)).next().unwrap_or_default();
    let mut rest = &digits[whole.len()..];
    let mut out = format!("{sign}{}", without_leading_zeros(whole)?);
    if let Some(after) = rest.strip_prefix('.') {
        let fraction = after.split(|c| !is_digit(c)).next().filter(|part| !part.is_empty())?;
        out.push('.');
        out.push_str(fraction);
        rest = &after[fraction.len()..];
    }
    if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        out.push_str(rest);
        rest = "";
    }
    rest.is_empty().then_some(out)
}

/// A whole number; a fraction of zeros goes, since it says nothing.
fn integer(written: &str) -> Option<String> {
    let mut number = number(written)?;
    if number.contains(['e', 'E']) {
        return None;
    }
    if let Some((whole, fraction)) = number.split_once('.') {
        if fraction.bytes().any(|digit| digit != b'0') {
            return None;
        }
        number.truncate(whole.len());
    }
    Some(number)
}

fn without_leading_zeros(digits: &str) -> Option<&str> {
    let trimmed = digits.trim_start_matches('0');
    match (digits.is_empty(), trimmed.is_empty()) {
        (true, _) => None,
        (false, true) => Some("0"),
        (false, false) => Some(trimmed),
    }
}

fn boolean(written: &str) -> Option<&'static str> {
    match written.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "on" | "1" => Some("true"),
        "false" | "f" | "no" | "n" | "off" | "0" => Some("false"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Cast, To};
    use crate::transform::path::Path;

    fn cast(to: To, value: &str) -> Result<String, String> {
        let fields = Path::parse("v").map(|path| vec![(path, to)]).unwrap_or_default();
        let mut out = Vec::new();
        let row = format!("{{\"v\":{value}}}");
        Cast::new(fields).apply(row.as_bytes(), &mut out).map_err(|error| error.to_string())?;
        let out = String::from_utf8_lossy(&out);
        Ok(out.trim_start_matches("{\"v\":").trim_end_matches('}').to_owned())
    }

    #[test]
    fn numbers_keep_their_digits() {
        for (from, to) in [
            ("1.50", "1.50"),
            ("\"1.50\"", "1.50"),
            ("\"123456789012345678901234567890.10\"", "123456789012345678901234567890.10"),
            ("\"+007\"", "7"),
            ("\"-00.5\"", "-0.5"),
            ("\"1e5\"", "1e5"),
            ("\"\"", "null"),
            ("null", "null"),
        ] {
            assert_eq!(cast(To::Number, from).as_deref(), Ok(to), "{from}");
        }
        for bad in
            ["\"n/a\"", "\"1,5\"", "\".5\"", "\"5.\"", "\"1e\"", "\" 1\"", "\"-\"", "\"+-1\""]
        {
            let error = format!("v {bad} is not a number");
            assert_eq!(cast(To::Number, bad), Err(error));
        }
        for bad in ["true", "[1]", "{\"a\":1}", "\"\\u00e9\""] {
            assert!(cast(To::Number, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn whole_numbers_have_no_fraction_that_says_something() {
        for (from, to) in [("\"5\"", "5"), ("5.00", "5"), ("\"-0012\"", "-12"), ("0", "0")] {
            assert_eq!(cast(To::Integer, from).as_deref(), Ok(to));
        }
        for bad in ["5.5", "1e3", "\"five\"", "false"] {
            assert!(cast(To::Integer, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn truths_and_texts() {
        for (from, to) in
            [("\"YES\"", "true"), ("0", "false"), ("true", "true"), ("\"off\"", "false")]
        {
            assert_eq!(cast(To::Boolean, from).as_deref(), Ok(to));
        }
        assert!(cast(To::Boolean, "2").is_err());
        for (from, to) in
            [("1.10", "\"1.10\""), ("true", "\"true\""), ("\"x\"", "\"x\""), ("null", "null")]
        {
            assert_eq!(cast(To::Text, from).as_deref(), Ok(to));
        }
        assert!(cast(To::Text, "[1]").is_err());
    }
}
