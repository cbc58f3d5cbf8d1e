//! A record's fields as they are written, without building a tree: numbers keep every digit.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::time;

/// The fields of a JSON object, in their order. Of a name that comes twice, the last holds.
#[derive(Debug, Default)]
pub(in crate::load) struct Fields<'a>(pub Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// The fields of `record`; `None` when it is no object.
    pub fn of(record: &'a [u8]) -> Option<Fields<'a>> {
        serde_json::from_slice(record).ok()
    }

    /// The value of `name`; `null` is none.
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        let value = self.0.iter().rev().find(|(field, _)| field == name).map(|(_, value)| *value);
        value.filter(|value| value.get() != "null")
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(Name(name)) = map.next_key()? {
            fields.push((name, map.next_value()?));
        }
        Ok(Fields(fields))
    }
}

/// Borrowed where the name has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// The text of a JSON string; `None` for any other value.
pub(in crate::load) fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Name<'_>>(value.get()).ok().map(|Name(text)| text)
}

/// Microseconds since 1970 of a time in RFC 3339, or of a number of Unix seconds or, where
/// it is too large for those, milliseconds.
pub(in crate::load) fn instant(value: &RawValue) -> Option<i64> {
    /// Seconds in the year 5138, milliseconds in 1973.
    const SECONDS_MAX: f64 = 1e11;
    if let Some(text) = text(value) {
        return time::parse(&text);
    }
    let number = value.get().parse::<f64>().ok()?;
    let (per_second, most) = if number.abs() < SECONDS_MAX { (1e6, 1e11) } else { (1e3, 1e14) };
    // Rounded, because 0.000001 is not exactly a millionth in binary.
    (number.abs() < most).then_some((number * per_second).round() as i64)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use super::{Fields, text};

    #[test]
    fn fields_are_found_and_the_last_of_a_name_holds() {
        let fields = Fields::of(br#"{"a":1.50,"b\u0022":"x\ny","a":2.50,"n":null}"#).unwrap();
        assert_eq!(fields.get("a").unwrap().get(), "2.50");
        assert_eq!(text(fields.get("b\"").unwrap()).unwrap(), "x\ny");
        assert!(fields.get("n").is_none() && fields.get("z").is_none());
        assert!(text(fields.get("a").unwrap()).is_none());
        assert!(Fields::of(b"[1]").is_none());
    }
}
