//! Into which directories the records of a batch go. Pure: the same batch is always
//! spread in the same way. What a record says becomes part of a directory's name in
//! Hive's escapes, so it can neither name another directory nor be too long for one.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::record::{Fields, instant, text};
use super::time::Day;
use crate::batch::{Payload, run_began};
use crate::http::printable;
use crate::load::answer::FailedRecord;

/// Where Hive puts records without a value.
const NO_VALUE: &str = "__HIVE_DEFAULT_PARTITION__";
/// One file each; more say that the field is no partition.
const PARTITIONS_MAX: usize = 1000;
/// Of a directory's name; file systems take 255 bytes.
const NAME_BYTES_MAX: usize = 240;

/// How records are spread over directories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::load) enum Partition {
    /// All in one directory.
    None,
    /// `year=/month=/day=` of this field, else of the run's begin.
    Day(Option<String>),
    /// `date=` of this field, else of the record's `date`, else of the run's begin.
    Date(Option<String>),
    /// `NAME=VALUE` of the field of that name.
    Field(String),
}

/// The records of a batch by directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::load) struct Spread {
    /// Directories from the outermost, with the positions of their records, ascending.
    pub groups: BTreeMap<Vec<String>, Vec<usize>>,
    /// Records that have no place.
    pub failed: Vec<FailedRecord>,
}

impl Partition {
    /// What a sink's settings say: `day`, `date`, or a field's name.
    pub fn new(partition: Option<&str>, by: Option<String>) -> Partition {
        match partition {
            None => Partition::None,
            Some("day") => Partition::Day(by),
            Some("date") => Partition::Date(by),
            Some(field) => Partition::Field(field.to_owned()),
        }
    }

    /// The field that the directories' names hold, so that the files need not.
    #[cfg(feature = "parquet")]
    pub fn left_out(&self) -> Option<&str> {
        match self {
            Partition::Date(None) => Some("date"),
            Partition::Field(name) => Some(name),
            _ => None,
        }
    }

    /// Spreads the records of `payload`.
    ///
    /// # Errors
    /// When there would be more directories than anybody wants, with what to do.
    pub fn spread(&self, payload: &Payload) -> Result<Spread, String> {
        let run_day = run_began(&payload.run_id)
            .map(|began| Day::from_days(i64::try_from(began / 86_400).unwrap_or(0)));
        let mut spread = Spread::default();
        if matches!(self, Partition::None | Partition::Day(None)) {
            let directories = match self {
                Partition::None => Vec::new(),
                _ => day_directories(run_day),
            };
            spread.groups.insert(directories, (0..payload.records()).collect());
            return Ok(spread);
        }
        for (index, row) in payload.rows().enumerate() {
            match self.directories(row, run_day) {
                Ok(directories) => spread.groups.entry(directories).or_default().push(index),
                Err(reason) => spread.failed.push(FailedRecord { index, reason }),
            }
            if spread.groups.len() > PARTITIONS_MAX {
                return Err(format!(
                    "the partition would make more than {PARTITIONS_MAX} directories out of one \
                     batch; partition by a field with fewer values"
                ));
            }
        }
        Ok(spread)
    }

    fn directories(&self, row: &[u8], run_day: Option<Day>) -> Result<Vec<String>, String> {
        let fields = Fields::of(row).ok_or("the record is not an object")?;
        let value = |name: &str| fields.get(name);
        match self {
            Partition::None => Ok(Vec::new()),
            Partition::Day(by) => {
                let by = by.as_deref().unwrap_or_default();
                let day = value(by).map_or(Ok(None), |value| day_of(by, value).map(Some))?;
                Ok(day_directories(day))
            }
            Partition::Date(Some(by)) => {
                let day = value(by).map_or(Ok(None), |value| day_of(by, value).map(Some))?;
                Ok(vec![date_directory(day)])
            }
            Partition::Date(None) => {
                let day = match value("date") {
                    None => run_day,
                    Some(value) => {
                        let day = text(value).and_then(|text| Day::parse(&text));
                        Some(day.ok_or_else(|| {
                            format!(
                                "date: {} is not a day such as 2026-11-21; for a time use \
                                 partition_by",
                                shown(value)
                            )
                        })?)
                    }
                };
                Ok(vec![date_directory(day)])
            }
            Partition::Field(name) => {
                let value = value(name).map_or(Ok(String::new()), |value| plain(name, value))?;
                let value = if value.is_empty() { NO_VALUE.to_owned() } else { escape(&value) };
                let directory = format!("{}={value}", escape(name));
                if directory.len() > NAME_BYTES_MAX {
                    return Err(format!("{name}: too long for a directory's name"));
                }
                Ok(vec![directory])
            }
        }
    }
}

fn day_directories(day: Option<Day>) -> Vec<String> {
    match day {
        None => ["year", "month", "day"].map(|name| format!("{name}={NO_VALUE}")).to_vec(),
        Some(Day { year, month, day }) => {
            vec![format!("year={year:04}"), format!("month={month:02}"), format!("day={day:02}")]
        }
    }
}

fn date_directory(day: Option<Day>) -> String {
    day.map_or_else(|| format!("date={NO_VALUE}"), |day| format!("date={day}"))
}

/// The day of a time: RFC 3339, or Unix seconds or milliseconds.
fn day_of(name: &str, value: &RawValue) -> Result<Day, String> {
    instant(value).map(Day::of_micros).ok_or_else(|| {
        format!("{name}: {} is not a time such as 2026-11-21T12:25:30Z", shown(value))
    })
}

/// A scalar's text.
fn plain(name: &str, value: &RawValue) -> Result<String, String> {
    match text(value) {
        Some(text) => Ok(text.into_owned()),
        None if value.get().starts_with(['{', '[']) => {
            Err(format!("{name}: a list or an object cannot name a directory"))
        }
        None => Ok(value.get().to_owned()),
    }
}

fn shown(value: &RawValue) -> String {
    printable(value.get().as_bytes(), 60)
}

/// As Hive and Spark escape partition names and values.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_control() || "\"#%'*/:=?\\{}[]^".contains(c) {
            escaped.push_str(&format!("%{:02X}", u32::from(c)));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use std::sync::Arc;

    use super::{Partition, Spread};
    use crate::batch::{BatchKey, Payload};

    fn spread(partition: &Partition, run: &str, rows: &str) -> Result<Spread, String> {
        let body = bytes::Bytes::from(rows.to_owned());
        let key = BatchKey::of_foreign_body(&body);
        partition.spread(&Payload::from_array(body, key, 0..9, Arc::from(run)).unwrap())
    }

    fn directories(partition: &Partition, rows: &str) -> Vec<String> {
        // The run began at 2026-11-21T12:25:30Z.
        let spread = spread(partition, "9f3a61c06b018dba", rows).unwrap();
        assert!(spread.failed.is_empty(), "{spread:?}");
        spread.groups.into_keys().map(|steps| steps.join("/")).collect()
    }

    #[test]
    fn days_come_from_the_run_or_from_a_field() {
        let row =
            r#"[{"at":"2026-11-21T01:30:00+02:00"},{"at":1795263930},{"at":1795263930000},{}]"#;
        assert_eq!(directories(&Partition::None, row), [""]);
        assert_eq!(directories(&Partition::Day(None), row), ["year=2026/month=11/day=21"]);
        assert_eq!(directories(&Partition::Date(None), row), ["date=2026-11-21"]);
        let by = || Some("at".to_owned());
        assert_eq!(
            directories(&Partition::Date(by()), row),
            ["date=2026-11-20", "date=2026-11-21", "date=__HIVE_DEFAULT_PARTITION__"]
        );
        assert_eq!(
            directories(&Partition::Day(by()), "[{\"at\":\"2024-02-29\"}]"),
            ["year=2024/month=02/day=29"]
        );
        assert_eq!(
            directories(&Partition::Date(None), "[{\"date\":\"2024-02-29\"}]"),
            ["date=2024-02-29"]
        );
        let undated = spread(&Partition::Date(None), "", "[{}]").unwrap();
        assert_eq!(undated.groups.into_keys().next().unwrap(), ["date=__HIVE_DEFAULT_PARTITION__"]);
    }

    #[test]
    fn hostile_values_stay_in_their_directory() {
        let field = Partition::Field("c/d".to_owned());
        let rows =
            r#"[{"c/d":"../../etc"},{"c/d":".."},{"c/d":"a\u0000b\n"},{"c/d":""},{"c/d":7}]"#;
        assert_eq!(
            directories(&field, rows),
            [
                "c%2Fd=..",
                "c%2Fd=..%2F..%2Fetc",
                "c%2Fd=7",
                "c%2Fd=__HIVE_DEFAULT_PARTITION__",
                "c%2Fd=a%00b%0A",
            ]
        );
        let long = format!("[{{\"c/d\":\"{}\"}},{{\"c/d\":[1]}},4]", "x".repeat(300));
        let failed = spread(&field, "", &long).unwrap().failed;
        assert_eq!(failed.iter().map(|record| record.index).collect::<Vec<_>>(), [0, 1, 2]);
        let bad = spread(&Partition::Date(None), "", r#"[{"date":"2026-11-21T00:00:00Z"}]"#);
        assert!(bad.unwrap().failed[0].reason.contains("partition_by"));
        let many: Vec<String> = (0..1001).map(|n| format!("{{\"c/d\":{n}}}")).collect();
        assert!(spread(&field, "", &format!("[{}]", many.join(","))).is_err());
    }
}
