//! CPU percentages into the indicators record that the ingestion API knows:
//! `{"name":…,"cpu_number":"0","timestamp":…,"indicators":[{"name":"utilization",
//! "value":…},…]}` with utilization = 100 − `pidle`.
//!
//! `name` is the record's `name`, else its `hostname`, else its `ip`; an empty one
//! counts as absent. `cpu_number` is `"0"` when absent. A `timestamp` must be there:
//! a time made up here would be the wrong one after a replay; extraction adds it.

use rows::json::push_string;

use super::error::StepError;
use crate::http::printable;
use crate::source::fields::{Value, pick};

/// 9999-12-31T23:59:59Z; more is milliseconds or nonsense.
const TIMESTAMP_MAX: u64 = 253_402_300_799;

const FIELDS: [&str; 10] = [
    "name",
    "hostname",
    "ip",
    "cpu_number",
    "timestamp",
    "pidle",
    "pnice",
    "puser",
    "psys",
    "pirq",
];
/// Place of the first percentage in [`FIELDS`].
const PERCENTAGES: usize = 5;
const INDICATORS: [&str; 5] = ["utilization", "nice", "user", "system", "irq"];

/// Appends the indicators record of `row` to `out`, which is left as it was on errors.
pub(super) fn apply(row: &[u8], out: &mut Vec<u8>) -> Result<(), StepError> {
    let fields = pick(row, &FIELDS).map_err(|error| {
        StepError::whole(format!(
            "the record is not a JSON object: {}",
            printable(error.to_string().as_bytes(), 100)
        ))
    })?;
    let mut percentages = [0.0; INDICATORS.len()];
    for (at, percentage) in percentages.iter_mut().enumerate() {
        let at = PERCENTAGES + at;
        *percentage = percent(FIELDS[at], fields[at])?;
    }
    percentages[0] = without_noise(100.0 - percentages[0]);
    let timestamp = timestamp(fields[4])?;
    let name = name(&fields)?;
    let cpu_number = match fields[3] {
        None => "0".into(),
        Some(value) => {
            value.text().ok_or_else(|| refuse("cpu_number", value, "is neither text nor number"))?
        }
    };

    out.extend_from_slice(b"{\"name\":");
    push_string(out, &name);
    out.extend_from_slice(b",\"cpu_number\":");
    push_string(out, &cpu_number);
    out.extend_from_slice(b",\"timestamp\":");
    out.extend_from_slice(timestamp.as_bytes());
    out.extend_from_slice(b",\"indicators\":[");
    for (at, (name, value)) in INDICATORS.iter().zip(percentages).enumerate() {
        out.extend_from_slice(if at == 0 { b"{\"name\":\"" } else { b",{\"name\":\"" });
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\",\"value\":");
        push_float(out, value);
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
    Ok(())
}

/// The difference of two decimal fractions shows digits that neither had.
fn without_noise(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// Appends a finite number, always with a decimal point, in the shortest spelling
/// that reads back the same.
fn push_float(out: &mut Vec<u8>, value: f64) {
    // Writing a float to a Vec cannot fail.
    serde_json::to_writer(out, &value).ok();
}

fn percent(field: &'static str, value: Option<Value<'_>>) -> Result<f64, StepError> {
    let Some(value) = value else { return Err(missing(field)) };
    let number =
        value.text().filter(|text| is_decimal(text)).and_then(|text| text.parse::<f64>().ok());
    match number {
        // Adding zero makes a zero of a negative zero.
        Some(number) if (0.0..=100.0).contains(&number) => Ok(number + 0.0),
        Some(number) if number.is_finite() => Err(refuse(field, value, "is not between 0 and 100")),
        _ => Err(refuse(field, value, "is not a number")),
    }
}

/// What `f64::parse` takes, but no `inf`, `nan` or sign in front of a positive number.
fn is_decimal(text: &str) -> bool {
    !text.starts_with('+')
        && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'-' | b'+' | b'e' | b'E'))
}

/// Unix seconds, as a number or as text; the digits are kept.
fn timestamp(value: Option<Value<'_>>) -> Result<std::borrow::Cow<'_, str>, StepError> {
    let Some(value) = value else { return Err(missing("timestamp")) };
    let digits = value.text().filter(|text| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_digit())
            && (text.len() == 1 || !text.starts_with('0'))
            && text.parse().is_ok_and(|seconds: u64| seconds <= TIMESTAMP_MAX)
    });
    digits.ok_or_else(|| refuse("timestamp", value, "is not a time in whole unix seconds"))
}

fn name<'a>(fields: &[Option<Value<'a>>]) -> Result<std::borrow::Cow<'a, str>, StepError> {
    for (field, value) in FIELDS.iter().zip(fields).take(3) {
        let Some(value) = *value else { continue };
        match value.text() {
            Some(name) if name.is_empty() => {}
            Some(name) => return Ok(name),
            None => return Err(refuse(field, value, "is neither text nor number")),
        }
    }
    Err(StepError::of("name", "", "is missing, and so are hostname and ip"))
}

fn missing(field: &str) -> StepError {
    StepError::of(field, "", "is missing")
}

fn refuse(field: &str, value: Value<'_>, reason: &str) -> StepError {
    StepError::of(field, value.0, reason)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use serde_json::{Value, json};

    use super::apply;

    fn transformed(row: &Value) -> Result<String, String> {
        let mut out = b"before".to_vec();
        match apply(row.to_string().as_bytes(), &mut out) {
            Ok(()) => Ok(String::from_utf8(out[6..].to_vec()).unwrap()),
            Err(error) => {
                assert_eq!(out, b"before");
                Err(error.to_string())
            }
        }
    }

    fn row() -> Value {
        json!({
            "ip": "192.168.0.1", "hostname": "device-1", "cpu_number": "0", "pidle": "87.31",
            "pnice": "0.00", "puser": "8.2", "psys": "4.49", "pirq": "0", "timestamp": 1_763_645_000,
        })
    }

    fn with(field: &str, value: Value) -> Value {
        let mut row = row();
        row[field] = value;
        row
    }

    fn without(fields: &[&str]) -> Value {
        let mut row = row();
        for field in fields {
            row.as_object_mut().unwrap().remove(*field);
        }
        row
    }

    #[test]
    fn the_record_is_exactly_the_one_the_earlier_system_sent() {
        assert_eq!(
            transformed(&row()).unwrap(),
            r#"{"name":"device-1","cpu_number":"0","timestamp":1763645000,"indicators":[{"name":"utilization","value":12.69},{"name":"nice","value":0.0},{"name":"user","value":8.2},{"name":"system","value":4.49},{"name":"irq","value":0.0}]}"#
        );
    }

    #[test]
    fn numbers_and_numeric_strings_are_the_same() {
        let mut numbers = row();
        for field in ["pidle", "pnice", "puser", "psys", "pirq"] {
            numbers[field] = row()[field].as_str().unwrap().parse().unwrap();
        }
        numbers["timestamp"] = json!("1763645000");
        numbers["cpu_number"] = json!(0);
        assert_eq!(transformed(&numbers), transformed(&row()));
        for (value, utilization) in
            [("0", 100.0), ("100", 0.0), ("-0", 100.0), ("1e1", 90.0), ("99.9", 0.1)]
        {
            let record: Value =
                serde_json::from_str(&transformed(&with("pidle", json!(value))).unwrap()).unwrap();
            assert_eq!(record["indicators"][0]["value"], json!(utilization), "{value}");
        }
    }

    #[test]
    fn name_and_cpu_number_have_their_fallbacks() {
        let name = |row: &Value| -> Value {
            serde_json::from_str::<Value>(&transformed(row).unwrap()).unwrap()["name"].clone()
        };
        assert_eq!(name(&with("name", json!("a \"b\"\n"))), "a \"b\"\n");
        assert_eq!(name(&with("name", json!(""))), "device-1");
        assert_eq!(name(&without(&["hostname"])), "192.168.0.1");
        assert!(transformed(&without(&["cpu_number"])).unwrap().contains(r#""cpu_number":"0""#));
        assert_eq!(
            transformed(&without(&["hostname", "ip"])).unwrap_err(),
            "name is missing, and so are hostname and ip"
        );
    }

    #[test]
    fn what_is_no_percentage_rejects_the_record_with_field_and_value() {
        for (value, shown) in [
            (json!("NaN"), r#""NaN" is not a number"#),
            (json!("n/a"), r#""n/a" is not a number"#),
            (json!("inf"), r#""inf" is not a number"#),
            (json!(""), r#""" is not a number"#),
            (json!(" 1"), r#"" 1" is not a number"#),
            (json!("1e999"), r#""1e999" is not a number"#),
            (json!("0x10"), r#""0x10" is not a number"#),
            (json!("-0.1"), r#""-0.1" is not between 0 and 100"#),
            (json!(100.001), "100.001 is not between 0 and 100"),
            (json!(null), "null is not a number"),
            (json!(true), "true is not a number"),
            (json!([1]), "[1] is not a number"),
            (json!("\u{1b}[31m"), r#""\u001b[31m" is not a number"#),
        ] {
            for field in ["pidle", "pnice", "puser", "psys", "pirq"] {
                let error = transformed(&with(field, value.clone())).unwrap_err();
                assert_eq!(error, format!("{field} {shown}"));
            }
        }
        assert_eq!(transformed(&without(&["pirq"])).unwrap_err(), "pirq is missing");
        let long = transformed(&with("pidle", json!("x".repeat(10_000)))).unwrap_err();
        assert!(long.len() < 130, "{long}");
    }

    #[test]
    fn a_timestamp_is_whole_unix_seconds_or_the_record_is_rejected() {
        for bad in [
            json!(null),
            json!(""),
            json!("soon"),
            json!(1.5),
            json!(-1),
            json!("007"),
            json!(1_763_645_000_123u64),
            json!({}),
        ] {
            let error = transformed(&with("timestamp", bad)).unwrap_err();
            assert!(error.contains("is not a time in whole unix seconds"), "{error}");
        }
        assert_eq!(transformed(&without(&["timestamp"])).unwrap_err(), "timestamp is missing");
    }

    #[test]
    fn what_is_no_object_is_rejected() {
        for bad in [&b""[..], b"[]", b"{\"pidle\":", b"{} {}", b"nonsense", b"{\"a\":\xff}"] {
            let error = apply(bad, &mut Vec::new()).unwrap_err();
            assert!(error.reason.contains("not a JSON object"), "{error}");
        }
    }
}
