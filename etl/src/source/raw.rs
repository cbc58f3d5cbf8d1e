//! JSON looked at where it stands, without building a tree: what a pointer leads
//! to, and whether all of it is what every reader takes for the same.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::fields::all;

/// What a JSON Pointer (RFC 6901) leads to.
pub(crate) fn at<'a>(whole: &'a RawValue, pointer: &str) -> Option<&'a RawValue> {
    let mut found = whole;
    for token in pointer.split('/').skip(1) {
        let token = token.replace("~1", "/").replace("~0", "~");
        found = descend(found, &token)?;
    }
    Some(found)
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
pub(crate) fn push_one_line(out: &mut Vec<u8>, value: &[u8]) {
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
pub(crate) fn check(json: &str) -> Result<(), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    Checked.deserialize(&mut deserializer)?;
    deserializer.end()
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
