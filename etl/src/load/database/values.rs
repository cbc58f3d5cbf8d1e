//! Records as values for SQLite, which itself would take any value into any column:
//! what the column's type does not allow is refused here, with PostgreSQL's meaning.

use rusqlite::types::Value;

use super::row::{Found, check, text};
use super::table::Loaded;
use crate::config::ColumnType;
use crate::http::printable;

/// The value for `column`.
///
/// # Errors
/// With the field and what is wrong with it.
pub(super) fn value(
    found: Found<'_>,
    column: &Loaded,
    empty_as_null: bool,
) -> Result<Value, String> {
    check(found, column)?;
    let field = || printable(column.field.as_bytes(), 60);
    let plain = match found {
        Found::Nothing => return Ok(Value::Null),
        Found::Text([])
            if empty_as_null && !matches!(column.kind, ColumnType::Text | ColumnType::Jsonb) =>
        {
            return Ok(Value::Null);
        }
        Found::Text(raw) if column.kind == ColumnType::Jsonb => {
            format!("\"{}\"", String::from_utf8_lossy(raw))
        }
        Found::Text(raw) => text(raw).map_err(|why| format!("{}: {why}", field()))?.into_owned(),
        Found::Number(raw) | Found::Nested(raw) => String::from_utf8_lossy(raw).into_owned(),
        Found::Bool(yes) => yes.to_string(),
    };
    if plain.contains('\0') {
        let why = "a text with NUL (\\u0000), which the database cannot hold";
        return Err(format!("{}: {why}", field()));
    }
    let shown = printable(plain.as_bytes(), 100);
    typed(plain, column.kind)
        .ok_or_else(|| format!("{}: invalid input for type {}: \"{shown}\"", field(), column.kind))
}

fn typed(plain: String, kind: ColumnType) -> Option<Value> {
    let word = plain.trim();
    Some(match kind {
        ColumnType::Integer => Value::Integer(word.parse::<i32>().ok()?.into()),
        ColumnType::Bigint => Value::Integer(word.parse().ok()?),
        ColumnType::Double => Value::Real(word.parse::<f64>().ok().filter(|n| n.is_finite())?),
        // Left as text: the column's affinity makes a number of it where none of its
        // digits would be lost.
        ColumnType::Numeric(_) => {
            word.parse::<f64>().ok().filter(|n| n.is_finite())?;
            Value::Text(word.to_owned())
        }
        ColumnType::Boolean => match word.to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "on" | "1" => Value::Integer(1),
            "false" | "f" | "no" | "n" | "off" | "0" => Value::Integer(0),
            _ => return None,
        },
        ColumnType::Date if is_date(word) => Value::Text(word.to_owned()),
        ColumnType::Timestamptz if is_timestamp(word) => Value::Text(word.to_owned()),
        ColumnType::Uuid if is_uuid(word) => Value::Text(word.to_ascii_lowercase()),
        ColumnType::Date | ColumnType::Timestamptz | ColumnType::Uuid => return None,
        ColumnType::Text | ColumnType::Jsonb => Value::Text(plain),
    })
}

/// `YYYY-MM-DD`, a day that there is.
fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return false;
    }
    let number = |range: std::ops::Range<usize>| {
        let digits = &bytes[range];
        let all = digits.iter().all(u8::is_ascii_digit);
        all.then(|| digits.iter().fold(0_u32, |sum, digit| sum * 10 + u32::from(digit - b'0')))
    };
    let (Some(year), Some(month), Some(day)) = (number(0..4), number(5..7), number(8..10)) else {
        return false;
    };
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let days = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return false,
    };
    (1..=days).contains(&day)
}

/// A date, then a time of day, perhaps with a fraction and a zone.
fn is_timestamp(text: &str) -> bool {
    let Some((date, time)) = text.split_at_checked(10) else { return false };
    let Some(time) = time.strip_prefix(['T', ' ']) else { return time.is_empty() && is_date(date) };
    let (clock, zone) = match time.find(['Z', 'z', '+', '-']) {
        Some(at) => time.split_at(at),
        None => (time, ""),
    };
    let mut parts = clock.trim_end().split(':');
    let in_range = |part: Option<&str>, max: f64| {
        part.is_some_and(|part| {
            part.len() >= 2
                && part.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
                && part.parse::<f64>().is_ok_and(|number| number <= max)
        })
    };
    let hours_and_minutes = in_range(parts.next(), 24.0) && in_range(parts.next(), 59.0);
    let seconds = parts.next();
    let zone_ok = matches!(zone, "" | "Z" | "z")
        || (zone.len() <= 6 && zone[1..].bytes().all(|byte| byte.is_ascii_digit() || byte == b':'));
    let seconds_ok = seconds.is_none() || in_range(seconds, 60.0);
    is_date(date) && hours_and_minutes && seconds_ok && parts.next().is_none() && zone_ok
}

fn is_uuid(text: &str) -> bool {
    let dashes = [8, 13, 18, 23];
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match dashes.contains(&at) {
            true => byte == b'-',
            false => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use rusqlite::types::Value;

    use super::value;
    use crate::config::ColumnType;
    use crate::load::database::row::Found;
    use crate::load::database::table::Loaded;

    fn of(kind: ColumnType, found: Found<'_>) -> Result<Value, String> {
        let name = "c".to_owned();
        let column = Loaded { column: name.clone(), field: name, kind, first: true, shared: false };
        value(found, &column, true)
    }

    fn text(kind: ColumnType, text: &str) -> Result<Value, String> {
        of(kind, Found::Text(text.as_bytes()))
    }

    #[test]
    fn values_become_what_the_column_holds() {
        assert_eq!(of(ColumnType::Bigint, Found::Number(b"-7")), Ok(Value::Integer(-7)));
        assert_eq!(text(ColumnType::Integer, " 7 "), Ok(Value::Integer(7)));
        assert_eq!(text(ColumnType::Integer, ""), Ok(Value::Null));
        assert_eq!(text(ColumnType::Text, ""), Ok(Value::Text(String::new())));
        assert_eq!(of(ColumnType::Boolean, Found::Bool(true)), Ok(Value::Integer(1)));
        assert_eq!(text(ColumnType::Jsonb, r"a\n"), Ok(Value::Text(r#""a\n""#.to_owned())));
        assert_eq!(of(ColumnType::Jsonb, Found::Nested(b"[1]")), Ok(Value::Text("[1]".to_owned())));
        for at in [
            "2026-11-21T12:00:00Z",
            "2026-11-21 12:00:00.5+01:00",
            "2026-11-21",
            "2026-11-21 12:00",
        ] {
            assert_eq!(text(ColumnType::Timestamptz, at), Ok(Value::Text(at.to_owned())), "{at}");
        }
    }

    #[test]
    fn what_a_type_does_not_allow_is_refused() {
        for (kind, wrong) in [
            (ColumnType::Integer, "abc"),
            (ColumnType::Integer, "2147483648"),
            (ColumnType::Bigint, "1.5"),
            (ColumnType::Double, "NaN"),
            (ColumnType::Numeric(None), "1,5"),
            (ColumnType::Boolean, "maybe"),
            (ColumnType::Date, "2026-02-29"),
            (ColumnType::Date, "21.11.2026"),
            (ColumnType::Timestamptz, "2026-11-21T25:00:00Z"),
            (ColumnType::Timestamptz, "noon"),
            (ColumnType::Uuid, "123"),
            (ColumnType::Text, r"a\u0000"),
        ] {
            let error = text(kind, wrong).err();
            assert!(
                error.as_deref().is_some_and(|why| why.starts_with("c: ")),
                "{wrong}: {error:?}"
            );
        }
        assert!(of(ColumnType::Date, Found::Number(b"20260101")).is_err());
    }
}
