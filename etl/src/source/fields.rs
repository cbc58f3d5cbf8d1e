//! A row's fields as they stand in its JSON: the few that are wanted, or all of
//! them, without building a tree.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The raw values of the fields called `names`, in the same order; of a field that
/// occurs twice the last counts, as in most readers.
pub(crate) fn pick<'de, const N: usize>(
    row: &'de [u8],
    names: &[&str; N],
) -> Result<[Option<Value<'de>>; N], serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(row);
    let picked = deserializer.deserialize_map(Pick(names))?;
    deserializer.end()?;
    Ok(picked)
}

/// All fields in order; names that occur twice are there twice.
pub(crate) fn all(row: &[u8]) -> Result<Vec<(Cow<'_, str>, Value<'_>)>, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(row);
    let fields = deserializer.deserialize_map(All)?;
    deserializer.end()?;
    Ok(fields)
}

/// A field's value as it stands in the row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Value<'a>(pub(crate) &'a str);

impl<'a> Value<'a> {
    /// The text of a string or the digits of a number; `None` for anything else.
    pub(crate) fn text(self) -> Option<Cow<'a, str>> {
        match self.0.as_bytes().first() {
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => Some(Cow::Borrowed(self.0)),
            _ => None,
        }
    }

    /// The text of a string.
    fn string(self) -> Option<Cow<'a, str>> {
        if self.0.contains('\\') {
            // Fails for half a surrogate pair.
            return serde_json::from_str(self.0).ok().map(Cow::Owned);
        }
        self.0.strip_prefix('"')?.strip_suffix('"').map(Cow::Borrowed)
    }
}

struct Pick<'n, const N: usize>(&'n [&'n str; N]);

impl<'de, const N: usize> Visitor<'de> for Pick<'_, N> {
    type Value = [Option<Value<'de>>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = [None; N];
        while let Some(at) = map.next_key_seed(Name(self.0))? {
            match at {
                Some(at) => values[at] = Some(Value(map.next_value::<&RawValue>()?.get())),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(values)
    }
}

/// Reads a key as its place among the wanted names.
struct Name<'n>(&'n [&'n str]);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|wanted| *wanted == name))
    }
}

struct All;

impl<'de> Visitor<'de> for All {
    type Value = Vec<(Cow<'de, str>, Value<'de>)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::with_capacity(8);
        while let Some(BorrowedName(name)) = map.next_key()? {
            fields.push((name, Value(map.next_value::<&RawValue>()?.get())));
        }
        Ok(fields)
    }
}

#[derive(serde::Deserialize)]
#[serde(transparent)]
struct BorrowedName<'a>(#[serde(borrow)] Cow<'a, str>);
