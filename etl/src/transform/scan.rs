//! Reads one JSON object field by field as it stands in its bytes: nothing is decoded
//! that nobody asks for, and what is copied is copied as it was written. Everything that
//! is passed over is checked all the same, so that no step makes a record out of what
//! is none.

use std::borrow::Cow;

use rows::json::{CLASSES, ESCAPE};

/// Objects and lists within each other; deeper records are rejected. Also bounds the
/// recursion of all steps.
pub(super) const DEPTH_MAX: u32 = 128;

/// Why bytes are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    /// The byte where it shows.
    pub(super) at: usize,
    pub(super) problem: &'static str,
}

/// One field of an object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field<'a> {
    /// The name as it is written, with its quotes.
    pub(super) key: &'a str,
    /// The value as it is written.
    pub(super) value: &'a str,
}

impl<'a> Field<'a> {
    /// The name itself.
    pub(super) fn name(&self) -> Cow<'a, str> {
        text_of(self.key).unwrap_or(Cow::Borrowed(self.key))
    }
}

/// The text of a JSON string; `None` for another value, and for one with half a
/// surrogate pair, which is no text.
pub(super) fn text_of(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str(raw).ok().map(Cow::Owned)
}

/// Whether a value is an object.
pub(super) fn is_object(raw: &str) -> bool {
    raw.as_bytes().first() == Some(&b'{')
}

/// The record as text, when it is one.
pub(super) fn text(row: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(row)
        .map_err(|error| Fault { at: error.valid_up_to(), problem: "is not UTF-8" })
}

/// Whether bytes are exactly one JSON object.
pub(super) fn check(row: &[u8]) -> Result<&str, Fault> {
    let text = text(row)?;
    let mut fields = Fields::new(text)?;
    while fields.next()?.is_some() {}
    Ok(text)
}

/// The fields of an object, in order; names that occur twice are there twice.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    scanner: Scanner<'a>,
    begun: bool,
}

impl<'a> Fields<'a> {
    pub(super) fn new(text: &'a str) -> Result<Self, Fault> {
        let mut scanner = Scanner { text, at: 0 };
        scanner.space();
        if scanner.peek() != Some(b'{') {
            return Err(scanner.fault("is not a JSON object"));
        }
        scanner.at += 1;
        Ok(Fields { scanner, begun: false })
    }

    /// The next field; `None` at the object's end, behind which there is nothing.
    pub(super) fn next(&mut self) -> Result<Option<Field<'a>>, Fault> {
        let scanner = &mut self.scanner;
        scanner.space();
        match scanner.peek() {
            Some(b'}') => {
                scanner.at += 1;
                scanner.space();
                return match scanner.peek() {
                    None => Ok(None),
                    Some(_) => Err(scanner.fault("has something behind its end")),
                };
            }
            Some(b',') if self.begun => {
                scanner.at += 1;
                scanner.space();
            }
            _ if self.begun => return Err(scanner.fault("lacks a comma or a brace")),
            _ => {}
        }
        self.begun = true;
        let key = scanner.key()?;
        let start = scanner.at;
        scanner.value()?;
        Ok(Some(Field { key, value: scanner.slice(start) }))
    }
}

/// The items of a list whose text has been checked before, as part of its record.
pub(super) fn items(list: &str) -> impl Iterator<Item = &str> {
    let mut scanner = Scanner { text: list, at: 1 };
    std::iter::from_fn(move || {
        scanner.space();
        if scanner.peek() == Some(b',') {
            scanner.at += 1;
            scanner.space();
        }
        if matches!(scanner.peek(), None | Some(b']')) {
            return None;
        }
        let start = scanner.at;
        scanner.value().ok()?;
        Some(scanner.slice(start))
    })
}

#[derive(Debug)]
struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn fault(&self, problem: &'static str) -> Fault {
        Fault { at: self.at, problem }
    }

    /// What was passed since `start`; both ends are beside ASCII characters.
    fn slice(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Passes a name and its colon; gives the name with its quotes.
    fn key(&mut self) -> Result<&'a str, Fault> {
        let start = self.at;
        if self.peek() != Some(b'"') {
            return Err(self.fault("lacks a field's name"));
        }
        self.string()?;
        let key = self.slice(start);
        self.space();
        if self.peek() != Some(b':') {
            return Err(self.fault("lacks a colon"));
        }
        self.at += 1;
        self.space();
        Ok(key)
    }

    /// Passes one value of any kind.
    fn value(&mut self) -> Result<(), Fault> {
        // One bit a level: whether it is an object.
        let (mut depth, mut objects) = (0, 0u128);
        loop {
            match self.peek() {
                Some(open @ (b'{' | b'[')) => {
                    if depth + 1 == DEPTH_MAX {
                        return Err(self.fault("is nested more than 128 levels deep"));
                    }
                    depth += 1;
                    objects = objects << 1 | u128::from(open == b'{');
                    self.at += 1;
                    self.space();
                    match self.peek() {
                        Some(b'}' | b']') => {}
                        _ if open == b'[' => continue,
                        _ => {
                            self.key()?;
                            continue;
                        }
                    }
                }
                Some(b'"') => self.string()?,
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.word("true")?,
                Some(b'f') => self.word("false")?,
                Some(b'n') => self.word("null")?,
                _ => return Err(self.fault("lacks a value")),
            }
            loop {
                if depth == 0 {
                    return Ok(());
                }
                self.space();
                let in_object = objects & 1 == 1;
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        self.space();
                        if in_object {
                            self.key()?;
                        }
                        break;
                    }
                    Some(b'}') if in_object => {}
                    Some(b']') if !in_object => {}
                    _ => return Err(self.fault("lacks a comma or an end")),
                }
                self.at += 1;
                depth -= 1;
                objects >>= 1;
            }
        }
    }

    fn word(&mut self, word: &str) -> Result<(), Fault> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(self.fault("lacks a value"));
        }
        self.at += word.len();
        Ok(())
    }

    fn string(&mut self) -> Result<(), Fault> {
        let bytes = self.text.as_bytes();
        self.at += 1;
        loop {
            while bytes.get(self.at).is_some_and(|byte| CLASSES[usize::from(*byte)] & ESCAPE == 0) {
                self.at += 1;
            }
            match bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => match bytes.get(self.at + 1) {
                    Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
                    Some(b'u') => {
                        let digits = bytes.get(self.at + 2..self.at + 6);
                        if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                            return Err(self.fault("has a broken escape"));
                        }
                        self.at += 6;
                    }
                    _ => return Err(self.fault("has a broken escape")),
                },
                Some(_) => return Err(self.fault("has a control character in a text")),
                None => return Err(self.fault("ends within a text")),
            }
        }
    }

    fn number(&mut self) -> Result<(), Fault> {
        let bytes = self.text.as_bytes();
        self.at += usize::from(self.peek() == Some(b'-'));
        let leading_zero = self.peek() == Some(b'0');
        let whole = digits(&bytes[self.at..]);
        if whole == 0 || (leading_zero && whole > 1) {
            return Err(self.fault("has a broken number"));
        }
        self.at += whole;
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.some_digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.some_digits()?;
        }
        Ok(())
    }

    fn some_digits(&mut self) -> Result<(), Fault> {
        let count = digits(&self.text.as_bytes()[self.at..]);
        self.at += count;
        if count == 0 { Err(self.fault("has a broken number")) } else { Ok(()) }
    }
}

fn digits(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use proptest::prelude::*;
    use serde_json::Value;
    use serde_json::value::RawValue;

    use super::super::testing::record;
    use super::{Fault, Fields, check, items};

    fn fields(row: &str) -> Result<Vec<(String, String)>, Fault> {
        let mut found = Vec::new();
        let mut fields = Fields::new(row)?;
        while let Some(field) = fields.next()? {
            found.push((field.name().into_owned(), field.value.to_owned()));
        }
        Ok(found)
    }

    #[test]
    fn fields_come_as_they_are_written() {
        let row = " {\"a\" : 1.50 ,\"b\\u0061\":[1, {\"x\":null}],\"\":\"q\\\"\\\\\", \"a\":{} } ";
        let found = fields(row).unwrap();
        let found: Vec<_> = found.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let expected =
            [("a", "1.50"), ("ba", "[1, {\"x\":null}]"), ("", "\"q\\\"\\\\\""), ("a", "{}")];
        assert_eq!(found, expected);
        let list: Vec<&str> = items("[ 1 , [2,3],\"],\" ]").collect();
        assert_eq!(list, ["1", "[2,3]", "\"],\""]);
    }

    #[test]
    fn what_is_no_object_is_said_so() {
        for (bad, problem) in [
            ("", "is not a JSON object"),
            ("[]", "is not a JSON object"),
            ("{\"a\":1", "lacks a comma or a brace"),
            ("{\"a\":1,}", "lacks a field's name"),
            ("{,\"a\":1}", "lacks a field's name"),
            ("{} {}", "has something behind its end"),
            ("{\"a\" 1}", "lacks a colon"),
            ("{\"a\":01}", "has a broken number"),
            ("{\"a\":1.}", "has a broken number"),
            ("{\"a\":\"\t\"}", "has a control character in a text"),
            ("{\"a\":\"\\x\"}", "has a broken escape"),
            ("{\"a\":\"", "ends within a text"),
            ("{\"a\":[1}}", "lacks a comma or an end"),
            ("{\"a\":tru}", "lacks a value"),
        ] {
            assert_eq!(check(bad.as_bytes()).unwrap_err().problem, problem, "{bad}");
        }
        assert_eq!(
            check(b"{\"a\":\"\xff\"}").unwrap_err(),
            Fault { at: 6, problem: "is not UTF-8" }
        );
        let deep = |levels: usize| {
            format!("{}0{}", "{\"a\":".repeat(levels), "}".repeat(levels)).into_bytes()
        };
        assert!(check(&deep(128)).is_ok());
        assert_eq!(check(&deep(129)).unwrap_err().problem, "is nested more than 128 levels deep");
    }

    /// As serde_json reads bytes.
    fn is_object(bytes: &[u8]) -> bool {
        serde_json::from_slice::<&RawValue>(bytes)
            .is_ok_and(|value| value.get().trim_start().starts_with('{'))
    }

    proptest! {
        #[test]
        fn the_scanner_sees_what_serde_json_sees(row in record()) {
            let found = fields(&row.to_string()).unwrap();
            let expected: Vec<_> =
                row.as_object().unwrap().iter().map(|(n, v)| (n.clone(), v.clone())).collect();
            let found: Vec<(String, Value)> = found
                .into_iter()
                .map(|(name, value)| (name, serde_json::from_str(&value).unwrap()))
                .collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn any_bytes_are_an_object_here_when_they_are_one_there(
            bytes in proptest::collection::vec(any::<u8>(), 0..60)
        ) {
            prop_assert_eq!(check(&bytes).is_ok(), is_object(&bytes));
        }

        #[test]
        fn any_json_like_text_is_too(
            text in "\\{([\\[\\]{}:, \"\\\\]|\"a\"|\"a\":|[-+.0-9eE]{1,4}|true|null|\\\\u00e9|é){0,14}\\}"
        ) {
            prop_assert_eq!(check(text.as_bytes()).is_ok(), is_object(text.as_bytes()), "{}", text);
        }

        #[test]
        fn a_damaged_record_is_too(row in record(), at in 0usize..400, byte in any::<u8>()) {
            let mut bytes = row.to_string().into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            prop_assert_eq!(check(&bytes).is_ok(), is_object(&bytes));
        }
    }
}
