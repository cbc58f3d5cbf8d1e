//! A row's place in the order in which a table is read.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// The values of a row's cursor and primary key, in the order of the page, each as the
/// text that a client binds: a text without its quotes, a number digit for digit, `true`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(pub Vec<String>);

impl Key {
    /// Reads the JSON array that a [`super::Chunk`] has for each row; `None` when a value
    /// is NULL, for such a row cannot be found again.
    #[must_use]
    pub fn read(json: &[u8]) -> Option<Key> {
        let values: Vec<&RawValue> = serde_json::from_slice(json).ok()?;
        values.into_iter().map(|value| text_of(value.get())).collect::<Option<_>>().map(Key)
    }
}

/// A JSON value as the text that a client binds; `None` for null.
fn text_of(json: &str) -> Option<String> {
    match json.as_bytes().first() {
        Some(b'"') => match serde_json::from_str(json) {
            Ok(Value::String(text)) => Some(text),
            _ => None,
        },
        Some(b'n') | None => None,
        // Not through a number: its digits are kept as they are.
        Some(_) => Some(json.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::Key;

    #[test]
    fn a_key_keeps_every_digit_and_is_none_where_a_value_is_null() {
        let key = Key::read(br#"["a\"b\u00e9",12345678901234567890.10,true]"#);
        let texts = ["a\"bé", "12345678901234567890.10", "true"].map(str::to_owned);
        assert_eq!(key, Some(Key(texts.to_vec())));
        assert_eq!(Key::read(br#"["a",null]"#), None);
    }
}
