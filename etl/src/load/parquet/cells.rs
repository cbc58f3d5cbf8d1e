//! Values as their columns hold them, exactly or not at all. Pure.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::learn::{Places, is_typed, list};
use crate::config::{ParquetColumn, ParquetType};
use crate::http::printable;
use crate::load::files::record::{Fields, instant, text};
use crate::load::files::time::Day;

/// The largest whole number up to which a float64 holds every one.
const FLOAT_WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// One value of a column.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell<'a> {
    Null,
    Boolean(bool),
    /// A whole number, microseconds or days.
    Int(i64),
    Float(f64),
    Text(Cow<'a, str>),
    /// The digits of a decimal without its point.
    Decimal(i128),
    List(Vec<Cell<'a>>),
    Struct(Vec<Cell<'a>>),
}

/// A record's cells, one per column, or why it does not fit, with its field: `a.b[1]: …`.
pub(super) fn row<'a>(
    columns: &[ParquetColumn],
    fields: &Fields<'a>,
) -> Result<Vec<Cell<'a>>, String> {
    object(columns, fields).map_err(|reason| reason[1..].to_owned())
}

/// As [`row`], with a point before the reason.
fn object<'a>(columns: &[ParquetColumn], fields: &Fields<'a>) -> Result<Vec<Cell<'a>>, String> {
    let mut cells = vec![Cell::Null; columns.len()];
    let places = Places::new(columns);
    for (hint, (name, value)) in fields.0.iter().enumerate() {
        match places.find(name, hint) {
            Some(index) => {
                cells[index] = cell(&columns[index].kind, value)
                    .map_err(|reason| format!("{}{reason}", step(name)))?;
            }
            None if is_typed(value) => {
                return Err(format!(
                    "{}: no room for another column; keep an object as text with `schema: {{ \
                     NAME: json }}`",
                    step(name)
                ));
            }
            None => {}
        }
    }
    Ok(cells)
}

/// A field on the way to what is wrong.
fn step(name: &str) -> String {
    format!(".{}", printable(name.as_bytes(), 60))
}

fn cell<'a>(kind: &ParquetType, value: &'a RawValue) -> Result<Cell<'a>, String> {
    let raw = value.get();
    if raw == "null" {
        return Ok(Cell::Null);
    }
    let cell = match kind {
        ParquetType::Boolean => raw.parse().ok().map(Cell::Boolean),
        ParquetType::Int64 => whole(raw).map(Cell::Int),
        ParquetType::Float64 => float(raw).map(Cell::Float),
        ParquetType::String => text(value).map(Cell::Text),
        ParquetType::Json => Some(Cell::Text(Cow::Borrowed(raw))),
        ParquetType::Timestamp => instant(value).map(Cell::Int),
        ParquetType::Date => text(value).and_then(|text| Day::parse(&text)?.days()).map(Cell::Int),
        ParquetType::Decimal { precision, scale } => {
            let digits = text(value).unwrap_or(Cow::Borrowed(raw));
            decimal(&digits, *precision, *scale).map(Cell::Decimal)
        }
        ParquetType::List(items) if raw.starts_with('[') => {
            let item = |(at, item)| cell(items, item).map_err(|reason| format!("[{at}]{reason}"));
            return list(value)
                .into_iter()
                .enumerate()
                .map(item)
                .collect::<Result<_, _>>()
                .map(Cell::List);
        }
        ParquetType::Struct(columns) => match Fields::of(raw.as_bytes()) {
            Some(fields) => return object(columns, &fields).map(Cell::Struct),
            None => None,
        },
        ParquetType::List(_) => None,
    };
    cell.ok_or_else(|| {
        let shown = printable(raw.as_bytes(), 60);
        format!(": {shown} is not what the column holds, {kind}")
    })
}

/// A whole number; `2.0` and `2e3` are ones too.
fn whole(raw: &str) -> Option<i64> {
    raw.parse().ok().or_else(|| {
        let number = raw.parse::<f64>().ok().filter(|_| starts_number(raw))?;
        // Within these bounds the cast is exact.
        (number.fract() == 0.0 && number.abs() <= FLOAT_WHOLE_MAX).then_some(number as i64)
    })
}

/// A number as a float64, unless that loses digits of a whole one.
fn float(raw: &str) -> Option<f64> {
    let number = raw.parse::<f64>().ok().filter(|n| n.is_finite() && starts_number(raw))?;
    let is_whole = raw.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    let exact = !is_whole || raw.parse::<i128>().is_ok_and(|whole| number as i128 == whole);
    exact.then_some(number)
}

/// Rust reads `inf` and `nan` as numbers, JSON has neither.
fn starts_number(raw: &str) -> bool {
    raw.starts_with(|c: char| c.is_ascii_digit() || c == '-')
}

/// The digits of a number with `scale` of them after the point; `None` where some would be
/// lost or they are more than `precision`.
fn decimal(text: &str, precision: u8, scale: u8) -> Option<i128> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, digits) = match mantissa.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, mantissa),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = || whole.bytes().chain(fraction.bytes());
    if whole.is_empty() || !all().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // The value is these digits times ten to the power of `shift`, once scaled.
    let fraction_digits = i32::try_from(fraction.len()).ok()?;
    let shift = exponent.checked_sub(fraction_digits)?.checked_add(i32::from(scale))?;
    let mut kept: Vec<u8> = all().skip_while(|byte| *byte == b'0').collect();
    if kept.is_empty() {
        return Some(0);
    }
    if shift < 0 {
        let dropped = kept.len().checked_sub(usize::try_from(-shift).ok()?)?;
        if kept.split_off(dropped).iter().any(|byte| *byte != b'0') {
            return None;
        }
    } else if shift <= 38 {
        kept.extend(std::iter::repeat_n(b'0', usize::try_from(shift).ok()?));
    } else {
        return None;
    }
    if kept.len() > usize::from(precision) {
        return None;
    }
    let number = kept.iter().fold(0_i128, |sum, byte| sum * 10 + i128::from(byte - b'0'));
    Some(if negative { -number } else { number })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use super::{Cell, decimal, row};
    use crate::config::{ParquetColumn, ParquetTypeText};
    use crate::load::files::record::Fields;

    fn one(kind: &str, value: &str) -> Result<Cell<'static>, String> {
        let kind = kind.parse::<ParquetTypeText>().unwrap().0;
        let record: &'static str = Box::leak(format!("{{\"a\":{value}}}").into_boxed_str());
        let columns = [ParquetColumn { name: "a".to_owned(), kind }];
        row(&columns, &Fields::of(record.as_bytes()).unwrap()).map(|mut cells| cells.remove(0))
    }

    #[test]
    fn values_are_held_exactly() {
        for (kind, value, cell) in [
            ("int64", "-9223372036854775808", Cell::Int(i64::MIN)),
            ("int64", "2.0", Cell::Int(2)),
            ("int64", "null", Cell::Null),
            ("float64", "9007199254740992", Cell::Float(9_007_199_254_740_992.0)),
            ("float64", "0.1", Cell::Float(0.1)),
            ("boolean", "true", Cell::Boolean(true)),
            ("string", r#""a\nb""#, Cell::Text("a\nb".into())),
            ("json", r#"{"x": 1.50}"#, Cell::Text(r#"{"x": 1.50}"#.into())),
            ("timestamp", r#""1970-01-01T01:00:00.5+01:00""#, Cell::Int(500_000)),
            ("timestamp", "1795263930", Cell::Int(1_795_263_930_000_000)),
            ("timestamp", "1795263930.000001", Cell::Int(1_795_263_930_000_001)),
            ("date", r#""1970-01-02""#, Cell::Int(1)),
            ("decimal(18,4)", "12.5", Cell::Decimal(125_000)),
            ("decimal(4,2)", r#""-99.99""#, Cell::Decimal(-9999)),
            ("list(int64)", "[1,null]", Cell::List(vec![Cell::Int(1), Cell::Null])),
        ] {
            assert_eq!(one(kind, value), Ok(cell), "{kind} {value}");
        }
    }

    #[test]
    fn what_would_lose_digits_is_refused_with_field_and_value() {
        for (kind, value) in [
            ("int64", "1.5"),
            ("int64", "9223372036854775808"),
            ("int64", "\"1\""),
            ("float64", "9007199254740993"),
            ("float64", "1e999"),
            ("boolean", "1"),
            ("string", "1"),
            ("timestamp", "\"yesterday\""),
            ("timestamp", "true"),
            ("date", "\"2026-11-21T00:00:00Z\""),
            ("decimal(4,2)", "1.234"),
            ("decimal(4,2)", "100"),
            ("decimal(4,2)", "\"\""),
            ("list(int64)", "{}"),
        ] {
            let refused = one(kind, value).unwrap_err();
            assert!(refused.starts_with("a: ") && refused.contains(kind), "{refused}");
        }
        assert!(one("list(int64)", "[1,2.5]").unwrap_err().starts_with("a[1]: 2.5"));
    }

    #[test]
    fn decimals_take_every_spelling_of_a_number() {
        assert_eq!(decimal("1.5e2", 9, 1), Some(1500));
        assert_eq!(decimal("1500e-3", 9, 1), Some(15));
        assert_eq!(decimal("1500e-4", 9, 1), None);
        assert_eq!(decimal("-0.00", 9, 1), Some(0));
        assert_eq!(decimal("0001.10", 2, 1), Some(11));
        assert_eq!(decimal(&"9".repeat(38), 38, 0), Some(10_i128.pow(38) - 1));
        for wrong in ["", "-", ".5", "1.2.3", "1e", "0x1", "1e2147483647", "1e-2147483648", " 1"] {
            assert_eq!(decimal(wrong, 38, 2), None, "{wrong}");
        }
    }
}
