//! Values that may be anything: read as YAML reads them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rows::json::is_number;
use serde_json::{Map, Value as Json};

use super::super::tree::{Filled, Key, Node, Scalar, Value};
use super::{At, Walk, names};

impl Walk<'_> {
    /// A constant as JSON. A value from a variable is a text, whatever it looks like.
    pub(super) fn constant(&mut self, node: &Node, at: &At) -> Json {
        match &node.value {
            Value::Scalar(scalar) => {
                self.out.origins.insert(at.dotted.clone(), (node.extent, names(scalar)));
                if scalar.filled == Filled::Missing {
                    self.out.tainted.insert(at.dotted.clone());
                }
                plain(scalar)
            }
            Value::Sequence(items) => {
                let entry = |(index, item): (usize, &Node)| {
                    self.constant(item, &at.entry(index, item.start_extent()))
                };
                Json::Array(items.iter().enumerate().map(entry).collect())
            }
            Value::Mapping(entries) => {
                let mut out = Map::new();
                let mut firsts: HashMap<&str, &Key> = HashMap::new();
                for (key, value) in entries {
                    match firsts.entry(key.name.as_str()) {
                        Entry::Occupied(first) => self.duplicate(key, first.get(), at),
                        Entry::Vacant(slot) => {
                            slot.insert(key);
                        }
                    }
                    let inner = at.key(&key.name, key.extent);
                    let value = self.constant(value, &inner);
                    out.insert(key.name.clone(), value);
                }
                Json::Object(out)
            }
        }
    }
}

/// What a scalar without quotes means; numbers that not every reader takes for the same
/// one stay texts.
fn plain(scalar: &Scalar) -> Json {
    let text = scalar.text.as_str();
    if !scalar.plain || scalar.filled != Filled::AsWritten {
        return Json::from(text);
    }
    match text {
        _ if scalar.is_null() => Json::Null,
        "true" | "True" | "TRUE" => Json::Bool(true),
        "false" | "False" | "FALSE" => Json::Bool(false),
        _ if is_number(text.as_bytes()) => {
            serde_json::from_str(text).unwrap_or_else(|_| Json::from(text))
        }
        _ => Json::from(text),
    }
}
