//! The sinks that write files: JSON and Parquet, to a directory or to S3.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::http::{Compression, Tls};
use crate::config::units::UnitError;

/// Write each batch as a JSON file, whole and never overwritten.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileLoad {
    /// A directory, relative to the pipeline's file, or `s3://bucket/prefix` (default:
    /// DATA/PIPELINE/processed, under `raw:` DATA/PIPELINE/raw).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What file names begin with (default: the pipeline's name).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// How records are laid out (default: json).
    #[serde(default)]
    pub format: FileFormat,
    /// How files are compressed (default: none).
    #[serde(default)]
    pub compression: Compression,
    /// Directories: `day` is `year=2026/month=11/day=21`, `date` is `date=2026-11-21`, any
    /// other name is the field whose values make them. Absent, all files are in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// With `partition: day` or `date`, the field with the time that decides (default: when
    /// the run began; for `date` first the record's field `date`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_by: Option<String>,
    /// Settings of an `s3://` path; credentials come from the environment.
    #[serde(default)]
    pub s3: S3Settings,
}

/// How the records of a file are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileFormat {
    /// One JSON array, indented for people.
    #[default]
    Json,
    /// One record per line.
    Ndjson,
}

/// Write each batch as a Parquet file, whole and never overwritten.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParquetLoad {
    /// A directory, relative to the pipeline's file, or `s3://bucket/prefix` (default:
    /// DATA/PIPELINE/processed, under `raw:` DATA/PIPELINE/raw).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What file names begin with (default: the pipeline's name).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// How column chunks are compressed (default: snappy).
    #[serde(default)]
    pub compression: ParquetCompression,
    /// Columns with their types: boolean, int64, float64, string, decimal(18,4), timestamp,
    /// date, json, list(TYPE). Columns that are not named here get the type of their first value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub schema: BTreeMap<String, ParquetTypeText>,
    /// Directories: `date` is `date=2026-11-21`, `day` is `year=2026/month=11/day=21`, any
    /// other name is the field whose values make them. Absent, all files are in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// With `partition: date` or `day`, the field with the time that decides (default: when
    /// the run began; for `date` first the record's field `date`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_by: Option<String>,
    /// The most rows in a row group (default: 100000).
    #[serde(default = "row_group")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub row_group: usize,
    /// Settings of an `s3://` path; credentials come from the environment.
    #[serde(default)]
    pub s3: S3Settings,
}

/// How a Parquet file's column chunks are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ParquetCompression {
    /// As they are.
    None,
    /// Snappy, which every reader knows.
    #[default]
    Snappy,
    /// Zstandard, level 1: smaller.
    Zstd,
}

/// Where an `s3://` path is. Credentials come from `AWS_ACCESS_KEY_ID` and its companions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct S3Settings {
    /// The address of an S3-compatible store (default: AWS_ENDPOINT_URL, else AWS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The region (default: AWS_REGION, else us-east-1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Lets records travel over plain HTTP to other hosts than this one (default: false).
    #[serde(default)]
    pub allow_http: bool,
    /// TLS settings.
    #[serde(default)]
    pub tls: Tls,
}

/// The type of a column, as the kept schema writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParquetType {
    /// `true` or `false`.
    Boolean,
    /// Whole numbers of 64 bits.
    Int64,
    /// Other numbers.
    Float64,
    /// Text.
    String,
    /// Exact numbers with so many digits, so many of them after the point.
    Decimal {
        /// All digits, at most 38.
        precision: u8,
        /// Digits after the point.
        scale: u8,
    },
    /// An instant in UTC, microseconds.
    Timestamp,
    /// A day.
    Date,
    /// Any value, kept as JSON text.
    Json,
    /// A list of values of one type.
    List(Box<ParquetType>),
    /// An object with known fields.
    Struct(Vec<ParquetColumn>),
}

/// One named column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParquetColumn {
    /// Its name, as the records have it.
    pub name: String,
    /// What its values are.
    #[serde(rename = "type")]
    pub kind: ParquetType,
}

/// A column's type as a pipeline writes it: `decimal(18,4)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParquetTypeText(pub ParquetType);

const COLUMN_EXPECTED: &str = "a column type; boolean, int64, float64, string, \
                               decimal(18,4), timestamp, date, json or list(TYPE)";

impl FromStr for ParquetTypeText {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let error = || UnitError::new(text, COLUMN_EXPECTED);
        let text = text.trim();
        let inside = |name: &str| text.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')');
        let kind = match text {
            "boolean" => ParquetType::Boolean,
            "int64" => ParquetType::Int64,
            "float64" => ParquetType::Float64,
            "string" => ParquetType::String,
            "timestamp" => ParquetType::Timestamp,
            "date" => ParquetType::Date,
            "json" => ParquetType::Json,
            _ => match (inside("list"), inside("decimal")) {
                (Some(items), _) => {
                    ParquetType::List(Box::new(items.parse::<ParquetTypeText>()?.0))
                }
                (_, Some(digits)) => decimal(digits).ok_or_else(error)?,
                _ => return Err(error()),
            },
        };
        Ok(ParquetTypeText(kind))
    }
}

fn decimal(digits: &str) -> Option<ParquetType> {
    let (precision, scale) = digits.split_once(',')?;
    let (precision, scale) = (precision.trim().parse().ok()?, scale.trim().parse().ok()?);
    let fits = (1..=38).contains(&precision) && scale <= precision;
    fits.then_some(ParquetType::Decimal { precision, scale })
}

impl fmt::Display for ParquetType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParquetType::Boolean => f.write_str("boolean"),
            ParquetType::Int64 => f.write_str("int64"),
            ParquetType::Float64 => f.write_str("float64"),
            ParquetType::String => f.write_str("string"),
            ParquetType::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            ParquetType::Timestamp => f.write_str("timestamp"),
            ParquetType::Date => f.write_str("date"),
            ParquetType::Json => f.write_str("json"),
            ParquetType::List(items) => write!(f, "list({items})"),
            ParquetType::Struct(_) => f.write_str("struct"),
        }
    }
}

impl<'de> Deserialize<'de> for ParquetTypeText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for ParquetTypeText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl JsonSchema for ParquetTypeText {
    fn schema_name() -> Cow<'static, str> {
        "ParquetType".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A column's type",
            "pattern": r"^\s*(list\()*(boolean|int64|float64|string|timestamp|date|json|decimal\(\s*[0-9]+\s*,\s*[0-9]+\s*\))\)*\s*$",
            "examples": ["decimal(18,4)"],
        })
    }
}

impl FileLoad {
    /// Whether the files go to an object store.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        is_remote(self.path.as_deref())
    }
}

impl ParquetLoad {
    /// Whether the files go to an object store.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        is_remote(self.path.as_deref())
    }
}

fn is_remote(path: Option<&str>) -> bool {
    path.is_some_and(|path| path.contains("://"))
}

fn row_group() -> usize {
    100_000
}

#[cfg(test)]
mod tests {
    use super::{ParquetType, ParquetTypeText};

    #[test]
    fn column_types_are_read_and_written_back() {
        for text in ["int64", "decimal(18,4)", "list(string)", "list(list(decimal(38,0)))"] {
            assert_eq!(
                text.parse::<ParquetTypeText>().map(|kind| kind.0.to_string()).as_deref(),
                Ok(text)
            );
        }
        let kind = "decimal( 10 , 2 )".parse();
        assert_eq!(kind, Ok(ParquetTypeText(ParquetType::Decimal { precision: 10, scale: 2 })));
        for wrong in ["int", "decimal", "decimal(39,0)", "decimal(3,4)", "list()", "list(int64", ""]
        {
            assert!(wrong.parse::<ParquetTypeText>().is_err(), "{wrong}");
        }
    }
}
