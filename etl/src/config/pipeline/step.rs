//! `transform:`, the steps applied to each record. What each one does, with an example,
//! is in `docs/transforms.md`.

use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One transform step. Fields are named by paths: `user.name` is the field `name` in the
/// object `user`; a dot that belongs to a name is written `\.`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// CPU percentages (`pidle`, `pnice`, `puser`, `psys`, `pirq`) into the indicators record.
    CpuIndicators,
    /// Only these fields stay: [id, user.name].
    Keep(Vec<String>),
    /// These fields go: [password, user.phone].
    Drop(Vec<String>),
    /// Fields under other names: { title: subject, user.name: user_name }.
    Rename(Named<String>),
    /// White space around texts goes: `all`, or a list of fields.
    Trim(Trim),
    /// A record without one of these fields is rejected, also where it is null or an empty text.
    Require(Vec<String>),
    /// Values as another type: { amount: number, id: integer, active: boolean, note: text }.
    Cast(Named<Cast>),
    /// Times as UTC in ISO 8601: a field, a list of fields, or { created: { from: epoch_ms } }.
    Timestamp(Timestamp),
    /// Fields that every record gets: { loaded_at: now, run: run_id, country: { value: DE } }.
    Add(Named<Added>),
    /// Several fields as one text.
    Concat(Concat),
    /// Nested objects as fields of the record: { user: { id: 1 } } becomes { user_id: 1 }.
    Flatten(Flatten),
    /// Of records with the same key only the first of a run stays: a field, or { by: [a, b] }.
    Dedupe(Dedupe),
    /// Values that must not be seen: { email: hash, phone: redact }.
    Mask(Named<Mask>),
    /// A jq program, for what no other step does; `empty` drops the record.
    Jq(String),
}

impl Step {
    /// The step's name, as a pipeline file spells it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Step::CpuIndicators => "cpu_indicators",
            Step::Keep(_) => "keep",
            Step::Drop(_) => "drop",
            Step::Rename(_) => "rename",
            Step::Trim(_) => "trim",
            Step::Require(_) => "require",
            Step::Cast(_) => "cast",
            Step::Timestamp(_) => "timestamp",
            Step::Add(_) => "add",
            Step::Concat(_) => "concat",
            Step::Flatten(_) => "flatten",
            Step::Dedupe(_) => "dedupe",
            Step::Mask(_) => "mask",
            Step::Jq(_) => "jq",
        }
    }
}

/// Which texts `trim` is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Trim {
    /// Every text of the record, however deep.
    All(All),
    /// The texts in these fields.
    Fields(Vec<String>),
}

/// The word `all`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum All {
    /// Everything.
    All,
}

/// What `cast` makes of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cast {
    /// A number, digit for digit as it was written.
    Number,
    /// A number without a fraction.
    Integer,
    /// `true` or `false`; reads true, yes, on, t, y, 1 and their opposites.
    Boolean,
    /// A text.
    Text,
}

/// Which fields `timestamp` is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Timestamp {
    /// One field, in any form that is recognised.
    Field(String),
    /// Several such fields.
    Fields(Vec<String>),
    /// Fields with the form they come in.
    Settings(Named<TimestampFrom>),
}

/// How times of a field are written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimestampFrom {
    /// `auto`, `rfc3339`, `rfc2822`, `epoch`, `epoch_ms`, or a pattern such as `%d/%m/%Y %H:%M` (default: auto).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The zone of times that name none: Europe/Berlin, +02:00 (default: UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

/// What `add` puts into a field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Added {
    /// When the run began, in UTC.
    Now,
    /// The run's identity.
    RunId,
    /// The pipeline's name.
    Source,
    /// A constant: a text, a number, true, false, null, a list, or keys and values.
    Value(Constant),
}

/// Any value, as YAML reads it: `7` is a number, `"7"` a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Constant(pub serde_json::Value);

impl JsonSchema for Constant {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Constant".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "Any value" })
    }
}

/// Several fields as one text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Concat {
    /// The field that gets the text.
    pub into: String,
    /// The fields, in order; missing ones, nulls and empty texts are passed over.
    pub from: Vec<String>,
    /// What stands between them (default: nothing).
    #[serde(default)]
    pub with: String,
}

/// Nested objects as fields of the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Flatten {
    /// What joins the names (default: `_`).
    #[serde(default = "underscore")]
    pub separator: String,
}

/// What makes two records the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Dedupe {
    /// One field.
    Field(String),
    /// Several fields together.
    Fields(Vec<String>),
    /// Fields, and how much is remembered.
    Settings(DedupeSettings),
}

/// Fields that make two records the same, and how many records are remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DedupeSettings {
    /// The fields.
    pub by: Vec<String>,
    /// Keys remembered, about 60 bytes each; beyond it the oldest is forgotten (default: 1000000).
    #[serde(default = "remembered")]
    #[schemars(range(min = 1, max = 100_000_000))]
    pub remember: usize,
}

impl Dedupe {
    /// The fields that make the key.
    #[must_use]
    pub fn fields(&self) -> &[String] {
        match self {
            Dedupe::Field(field) => std::slice::from_ref(field),
            Dedupe::Fields(fields) => fields,
            Dedupe::Settings(settings) => &settings.by,
        }
    }

    /// How many keys are remembered.
    #[must_use]
    pub fn remember(&self) -> usize {
        match self {
            Dedupe::Field(_) | Dedupe::Fields(_) => remembered(),
            Dedupe::Settings(settings) => settings.remember,
        }
    }
}

/// What `mask` makes of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mask {
    /// Its BLAKE3 digest: equal values stay equal. What can be guessed can be found out.
    Hash,
    /// Three asterisks, whatever it was.
    Redact,
}

/// Settings by field, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named<T>(pub Vec<(String, T)>);

impl<T: Serialize> Serialize for Named<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Named<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("fields and their settings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Named<T>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Named(entries))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Named<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Named{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "additionalProperties": generator.subschema_for::<T>(),
        })
    }
}

fn underscore() -> String {
    "_".to_owned()
}
fn remembered() -> usize {
    1_000_000
}
