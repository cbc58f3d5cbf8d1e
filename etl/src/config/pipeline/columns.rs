//! `columns:` of a database sink: names, types and where each is filled from.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::config::units::UnitError;

/// A table's columns in the order of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Columns(pub Vec<(String, Column)>);

/// One column; written as its type alone where the field has the column's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// The column's type.
    #[serde(rename = "type")]
    pub kind: ColumnType,
    /// The record's field that fills it; none: the one with the column's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Filled by the database instead of from a field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generated: Option<Generated>,
}

/// What the database fills a column with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Generated {
    /// The time of loading.
    Now,
    /// The next number.
    Id,
}

/// A column's type, the same for every database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// Text of any length.
    Text,
    /// A whole number of 32 bits.
    Integer,
    /// A whole number of 64 bits.
    Bigint,
    /// A floating point number of 64 bits.
    Double,
    /// A decimal number, with digits in all and after the point where given.
    Numeric(Option<(u16, u16)>),
    /// True or false.
    Boolean,
    /// A point in time.
    Timestamptz,
    /// A day.
    Date,
    /// Any JSON value.
    Jsonb,
    /// A UUID.
    Uuid,
}

const EXPECTED: &str = "a column type; one of text, integer, bigint, double, numeric, numeric(12,2), boolean, timestamptz, date, jsonb, uuid";

impl FromStr for ColumnType {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let plain = text.trim();
        Ok(match plain {
            "text" => ColumnType::Text,
            "integer" => ColumnType::Integer,
            "bigint" => ColumnType::Bigint,
            "double" => ColumnType::Double,
            "numeric" => ColumnType::Numeric(None),
            "boolean" => ColumnType::Boolean,
            "timestamptz" => ColumnType::Timestamptz,
            "date" => ColumnType::Date,
            "jsonb" => ColumnType::Jsonb,
            "uuid" => ColumnType::Uuid,
            _ => ColumnType::Numeric(Some(
                digits(plain).ok_or_else(|| UnitError::new(text, EXPECTED))?,
            )),
        })
    }
}

/// The numbers of `numeric(12,2)`; PostgreSQL takes up to 1000 digits.
fn digits(text: &str) -> Option<(u16, u16)> {
    let inner = text.strip_prefix("numeric(")?.strip_suffix(')')?;
    let (all, after) = inner.split_once(',').unwrap_or((inner, "0"));
    let (all, after) = (all.trim().parse().ok()?, after.trim().parse().ok()?);
    ((1..=1000).contains(&all) && after <= all).then_some((all, after))
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ColumnType::Text => "text",
            ColumnType::Integer => "integer",
            ColumnType::Bigint => "bigint",
            ColumnType::Double => "double",
            ColumnType::Numeric(None) => "numeric",
            ColumnType::Numeric(Some((all, after))) => return write!(f, "numeric({all},{after})"),
            ColumnType::Boolean => "boolean",
            ColumnType::Timestamptz => "timestamptz",
            ColumnType::Date => "date",
            ColumnType::Jsonb => "jsonb",
            ColumnType::Uuid => "uuid",
        })
    }
}

impl Serialize for ColumnType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ColumnType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for ColumnType {
    fn schema_name() -> Cow<'static, str> {
        "ColumnType".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "The column's type: text, integer, bigint, double, numeric, numeric(12,2), boolean, timestamptz, date, jsonb, uuid.",
            "pattern": r"^(text|integer|bigint|double|boolean|timestamptz|date|jsonb|uuid|numeric(\([0-9]+(, *[0-9]+)?\))?)$",
            "examples": ["text"],
        })
    }
}

impl JsonSchema for Column {
    fn schema_name() -> Cow<'static, str> {
        "Column".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let kind = generator.subschema_for::<ColumnType>();
        let generated = generator.subschema_for::<Option<Generated>>();
        // The first alternative is the one that is checked; `x-alone` says which of
        // its keys a single value stands for.
        json_schema!({
            "description": "A column: its type alone, or with where it is filled from.",
            "anyOf": [
                {
                    "type": "object",
                    "x-alone": "type",
                    "additionalProperties": false,
                    "properties": {
                        "type": kind,
                        "from": {
                            "type": ["string", "null"],
                            "description": "The record's field that fills it (default: the one with the column's name).",
                        },
                        "generated": generated,
                    },
                    "required": ["type"],
                },
                { "type": "string" },
            ],
        })
    }
}

impl Columns {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The column called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Column> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, column)| column)
    }
}

impl Serialize for Columns {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, column)| (name, column)))
    }
}

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Columns;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("columns with their types")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Columns, A::Error> {
                let mut columns = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    columns.push(entry);
                }
                Ok(Columns(columns))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

impl JsonSchema for Columns {
    fn schema_name() -> Cow<'static, str> {
        "Columns".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        BTreeMap::<String, Column>::json_schema(generator)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use super::{ColumnType, Columns};

    #[test]
    fn types_read_back_as_they_are_written() {
        for text in ["text", "bigint", "numeric", "numeric(12,2)", "timestamptz", "uuid"] {
            assert_eq!(text.parse::<ColumnType>().unwrap().to_string(), text);
        }
        assert_eq!("numeric(5)".parse(), Ok(ColumnType::Numeric(Some((5, 0)))));
        for wrong in ["", "varchar", "numeric()", "numeric(0)", "numeric(2,3)", "numeric(9,-1)"] {
            let error = wrong.parse::<ColumnType>().unwrap_err();
            assert!(error.expected().contains("timestamptz"), "{wrong}");
        }
    }

    #[test]
    fn columns_keep_the_order_of_the_file() {
        let text = r#"{"z":{"type":"text"},"a":{"type":"date","from":"day"}}"#;
        let columns: Columns = serde_json::from_str(text).unwrap();
        assert_eq!(columns.0[0].0, "z");
        assert_eq!(serde_json::to_string(&columns).unwrap(), text);
    }
}
