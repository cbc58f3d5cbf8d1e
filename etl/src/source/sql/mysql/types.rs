//! MySQL's types: what their values are, how they are selected, and how a value becomes
//! a literal again.

use mysql_async::Value;
use mysql_async::consts::{ColumnFlags, ColumnType};

use crate::http::printable;
use crate::source::raw::push_one_line;
use crate::source::sql::sentence::Dialect;
use crate::source::sql::values::{
    hex_of, push_bool, push_bytes, push_decimal, push_double, push_integer, push_null, push_quoted,
    push_single,
};
use crate::source::sql::{Column, Kind};

/// The character set of bytes.
const BINARY: u16 = 63;
/// The most of a bad value that a message shows.
const SHOWN_MAX: usize = 60;

pub(super) const DIALECT: Dialect = Dialect {
    name: quoted,
    literal,
    select,
    // It is understood, but read through the whole index.
    compares_rows: false,
};

/// What a column of a result is.
pub(super) fn column(column: &mysql_async::Column) -> Column {
    let (of, bytes) = (column.column_type(), column.character_set() == BINARY);
    let (kind, declared) = kind(of, bytes, column.column_length());
    Column {
        name: column.name_str().into_owned(),
        kind,
        declared: declared.to_owned(),
        nullable: !column.flags().contains(ColumnFlags::NOT_NULL_FLAG),
    }
}

fn kind(of: ColumnType, bytes: bool, length: u32) -> (Kind, &'static str) {
    match of {
        ColumnType::MYSQL_TYPE_TINY
        | ColumnType::MYSQL_TYPE_SHORT
        | ColumnType::MYSQL_TYPE_INT24
        | ColumnType::MYSQL_TYPE_LONG
        | ColumnType::MYSQL_TYPE_LONGLONG
        | ColumnType::MYSQL_TYPE_YEAR => (Kind::Integer, "integer"),
        ColumnType::MYSQL_TYPE_DECIMAL | ColumnType::MYSQL_TYPE_NEWDECIMAL => {
            (Kind::Decimal, "decimal")
        }
        ColumnType::MYSQL_TYPE_FLOAT => (Kind::Float, "float"),
        ColumnType::MYSQL_TYPE_DOUBLE => (Kind::Float, "double"),
        ColumnType::MYSQL_TYPE_BIT if length == 1 => (Kind::Bool, "bit(1)"),
        ColumnType::MYSQL_TYPE_BIT => (Kind::Integer, "bit"),
        ColumnType::MYSQL_TYPE_DATE | ColumnType::MYSQL_TYPE_NEWDATE => (Kind::Date, "date"),
        ColumnType::MYSQL_TYPE_TIME | ColumnType::MYSQL_TYPE_TIME2 => (Kind::Time, "time"),
        ColumnType::MYSQL_TYPE_DATETIME | ColumnType::MYSQL_TYPE_DATETIME2 => {
            (Kind::DateTime, "datetime")
        }
        ColumnType::MYSQL_TYPE_TIMESTAMP | ColumnType::MYSQL_TYPE_TIMESTAMP2 => {
            (Kind::Instant, "timestamp")
        }
        ColumnType::MYSQL_TYPE_JSON => (Kind::Json, "json"),
        ColumnType::MYSQL_TYPE_ENUM | ColumnType::MYSQL_TYPE_SET => (Kind::Text, "text"),
        ColumnType::MYSQL_TYPE_VARCHAR
        | ColumnType::MYSQL_TYPE_VAR_STRING
        | ColumnType::MYSQL_TYPE_STRING
        | ColumnType::MYSQL_TYPE_TINY_BLOB
        | ColumnType::MYSQL_TYPE_MEDIUM_BLOB
        | ColumnType::MYSQL_TYPE_LONG_BLOB
        | ColumnType::MYSQL_TYPE_BLOB => match bytes {
            true => (Kind::Bytes, "binary"),
            false => (Kind::Text, "text"),
        },
        ColumnType::MYSQL_TYPE_GEOMETRY => (Kind::Unsupported, "geometry"),
        _ => (Kind::Unsupported, "unknown"),
    }
}

/// Writes a value as the server wrote it.
pub(super) fn push(
    column: &Column,
    value: Option<&Value>,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    let bytes = match value {
        None | Some(Value::NULL) => {
            push_null(out);
            return Ok(());
        }
        Some(Value::Bytes(bytes)) => bytes.as_slice(),
        Some(_) => {
            push_null(out);
            return Err("did not come as a text".to_owned());
        }
    };
    match column.kind {
        Kind::Bytes => push_bytes(out, bytes),
        Kind::Bool => push_bool(out, bytes.last().is_some_and(|byte| *byte != 0)),
        Kind::Integer if column.declared == "bit" => {
            push_integer(out, bytes.iter().fold(0u64, |all, byte| (all << 8) | u64::from(*byte)));
        }
        _ => return push_text_of(column, bytes, out),
    }
    Ok(())
}

fn push_text_of(column: &Column, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        push_null(out);
        return Err("is not UTF-8".to_owned());
    };
    match column.kind {
        Kind::Integer => out.extend_from_slice(bytes),
        Kind::Decimal => push_decimal(out, text),
        Kind::Float => return push_float(column, text, out),
        Kind::Json => push_one_line(out, bytes),
        Kind::DateTime => push_quoted(out, text.replacen(' ', "T", 1).as_bytes()),
        Kind::Instant => {
            push_quoted(out, format!("{}Z", text.replacen(' ', "T", 1)).as_bytes());
        }
        _ => push_quoted(out, bytes),
    }
    Ok(())
}

fn push_float(column: &Column, text: &str, out: &mut Vec<u8>) -> Result<(), String> {
    let Ok(value) = text.parse::<f64>() else {
        push_null(out);
        return Err(format!("is no number: {}", printable(text.as_bytes(), SHOWN_MAX)));
    };
    match column.declared.as_str() {
        // It was selected as the double that is the same number.
        #[allow(clippy::cast_possible_truncation, reason = "it came from 32 bits")]
        "float" => push_single(out, value as f32),
        _ => push_double(out, value),
    }
    Ok(())
}

fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A text as a literal; backslashes are themselves by the connection's `sql_mode`.
pub(super) fn literal_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn select(column: &Column) -> String {
    let name = quoted(&column.name);
    match column.declared.as_str() {
        // Written by itself it has six digits.
        "float" => format!("{name} + 0E0"),
        _ => name,
    }
}

fn literal(column: &Column, text: &str) -> String {
    let digits = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    match column.kind {
        Kind::Integer | Kind::Decimal if text.bytes().all(digits) => text.to_owned(),
        Kind::Bool => if text == "true" { "b'1'" } else { "b'0'" }.to_owned(),
        Kind::Bytes => format!("X'{}'", hex_of(text)),
        Kind::Instant => literal_text(&text.trim_end_matches('Z').replacen('T', " ", 1)),
        Kind::DateTime => literal_text(&text.replacen('T', " ", 1)),
        _ => literal_text(text),
    }
}

#[cfg(test)]
mod tests {
    use mysql_async::Value;
    use mysql_async::consts::ColumnType;

    use super::{kind, literal, push, select};
    use crate::source::sql::{Column, Kind};

    fn column(of: ColumnType, bytes: bool, length: u32) -> Column {
        let (kind, declared) = kind(of, bytes, length);
        Column { name: "a`b".to_owned(), kind, declared: declared.to_owned(), nullable: true }
    }

    #[test]
    fn every_value_comes_out_as_the_server_wrote_it() {
        use ColumnType::{
            MYSQL_TYPE_BIT, MYSQL_TYPE_BLOB, MYSQL_TYPE_DATETIME, MYSQL_TYPE_FLOAT,
            MYSQL_TYPE_NEWDECIMAL, MYSQL_TYPE_TIMESTAMP,
        };
        for (of, bytes, length, value, json) in [
            (MYSQL_TYPE_NEWDECIMAL, false, 10, &b"12.50"[..], "12.50"),
            (MYSQL_TYPE_BIT, true, 1, b"\x01", "true"),
            (MYSQL_TYPE_BIT, true, 9, b"\x01\x00", "256"),
            (MYSQL_TYPE_BLOB, true, 9, b"\x00\xff", "\"AP8=\""),
            (MYSQL_TYPE_BLOB, false, 9, "é\"".as_bytes(), "\"é\\\"\""),
            (MYSQL_TYPE_FLOAT, false, 9, b"0.10000000149011612", "0.1"),
            (MYSQL_TYPE_DATETIME, false, 9, b"2026-11-21 10:00:00.5", "\"2026-11-21T10:00:00.5\""),
            (MYSQL_TYPE_TIMESTAMP, false, 9, b"2026-11-21 10:00:00", "\"2026-11-21T10:00:00Z\""),
        ] {
            let mut out = Vec::new();
            let written =
                push(&column(of, bytes, length), Some(&Value::Bytes(value.to_vec())), &mut out);
            assert_eq!((written, String::from_utf8_lossy(&out).as_ref()), (Ok(()), json));
        }
        let text = column(MYSQL_TYPE_BLOB, false, 9);
        let bad = push(&text, Some(&Value::Bytes(vec![0xff])), &mut Vec::new());
        assert_eq!(bad, Err("is not UTF-8".to_owned()));
        assert_eq!(column(ColumnType::MYSQL_TYPE_GEOMETRY, true, 9).kind, Kind::Unsupported);
    }

    #[test]
    fn literals_and_names_have_no_way_out_of_their_quotes() {
        let text = column(ColumnType::MYSQL_TYPE_VARCHAR, false, 9);
        assert_eq!(literal(&text, "a'b\\"), "'a''b\\'");
        let number = column(ColumnType::MYSQL_TYPE_LONG, false, 9);
        assert_eq!(
            (literal(&number, "-7"), literal(&number, "7 OR 1")),
            ("-7".into(), "'7 OR 1'".into())
        );
        let time = column(ColumnType::MYSQL_TYPE_TIMESTAMP, false, 9);
        assert_eq!(literal(&time, "2026-11-21T10:00:00Z"), "'2026-11-21 10:00:00'");
        assert_eq!(select(&text), "`a``b`");
        assert_eq!(select(&column(ColumnType::MYSQL_TYPE_FLOAT, false, 9)), "`a``b` + 0E0");
    }
}
