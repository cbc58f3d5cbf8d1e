//! SQLite's types. A column's declared type says what is meant, a value's own what is
//! there: a value is written as what it is, and never made into something else.

use std::time::Duration;

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use crate::config::CursorClock;
use crate::source::sql::sentence::{Dialect, double_quoted, single_quoted};
use crate::source::sql::values::{
    hex_of, push_bool, push_bytes, push_double, push_integer, push_null, push_text,
};
use crate::source::sql::{Column, Kind};

pub(super) const DIALECT: Dialect = Dialect {
    name: double_quoted,
    literal,
    select: |column| double_quoted(&column.name),
    compares_rows: true,
};

/// What a column is by its declared type, by the words that SQLite itself looks for.
pub(super) fn column(name: &str, declared: Option<&str>) -> Column {
    let declared = declared.unwrap_or_default().to_owned();
    let upper = declared.to_uppercase();
    let has = |words: &[&str]| words.iter().any(|word| upper.contains(word));
    let kind = match () {
        () if has(&["BOOL"]) => Kind::Bool,
        () if has(&["DATETIME", "TIMESTAMP"]) => Kind::DateTime,
        () if has(&["DATE"]) => Kind::Date,
        () if has(&["INT"]) => Kind::Integer,
        () if has(&["DEC", "NUM", "MONEY"]) => Kind::Decimal,
        () if has(&["REAL", "FLOA", "DOUB"]) => Kind::Float,
        () if has(&["BLOB"]) => Kind::Bytes,
        () if has(&["UUID"]) => Kind::Uuid,
        () if has(&["TIME"]) => Kind::Time,
        () => Kind::Text,
    };
    Column { name: name.to_owned(), kind, declared, nullable: true }
}

/// A value out of a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
    /// Meant as text, in an encoding that nobody can know.
    NotText,
    Blob(Vec<u8>),
}

impl From<ValueRef<'_>> for Cell {
    fn from(value: ValueRef<'_>) -> Cell {
        match value {
            ValueRef::Null => Cell::Null,
            ValueRef::Integer(number) => Cell::Integer(number),
            ValueRef::Real(number) => Cell::Real(number),
            ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => Cell::Text(text.to_owned()),
                Err(_) => Cell::NotText,
            },
            ValueRef::Blob(bytes) => Cell::Blob(bytes.to_vec()),
        }
    }
}

impl Cell {
    /// About how many bytes it takes.
    pub(super) fn size(&self) -> usize {
        let own = match self {
            Cell::Text(text) => text.len(),
            Cell::Blob(bytes) => bytes.len(),
            _ => 0,
        };
        own + size_of::<Cell>()
    }
}

/// Writes a value as what it is.
pub(super) fn push(column: &Column, cell: &Cell, out: &mut Vec<u8>) -> Result<(), String> {
    match cell {
        Cell::Null => push_null(out),
        Cell::Integer(number @ (0 | 1)) if column.kind == Kind::Bool => {
            push_bool(out, *number == 1)
        }
        Cell::Integer(number) => push_integer(out, *number),
        Cell::Real(number) => push_double(out, *number),
        Cell::Text(text) => push_text(out, text),
        Cell::Blob(bytes) => push_bytes(out, bytes),
        Cell::NotText => {
            push_null(out);
            return Err("is not UTF-8".to_owned());
        }
    }
    Ok(())
}

fn literal(column: &Column, text: &str) -> String {
    let number = text.parse::<i64>().is_ok() || text.parse::<f64>().is_ok_and(f64::is_finite);
    match (column.kind, text) {
        (Kind::Bool, "true") => "1".to_owned(),
        (Kind::Bool, "false") => "0".to_owned(),
        (Kind::Bytes, _) => format!("X'{}'", hex_of(text)),
        // What is kept as a number is compared as one, and so is what looks like one in a
        // column that would make a number of it.
        (Kind::Integer | Kind::Decimal | Kind::Bool | Kind::DateTime | Kind::Date, _) if number => {
            text.to_owned()
        }
        _ => single_quoted(text),
    }
}

/// The clock in the form of `last`, the highest value that the column has: seconds or
/// milliseconds, or a text with `T` or a blank.
pub(super) fn clock(last: Option<&Cell>, clock: CursorClock, back: Duration) -> String {
    let seconds = format!("-{:.3} seconds", back.as_secs_f64());
    match last {
        Some(Cell::Integer(last)) => {
            let unix = format!("strftime('%s', 'now', '{seconds}')");
            match *last > 100_000_000_000 {
                true => format!("SELECT CAST({unix} * 1000 AS TEXT)"),
                false => format!("SELECT {unix}"),
            }
        }
        last => {
            let between = match last {
                Some(Cell::Text(text)) if text.as_bytes().get(10) == Some(&b'T') => 'T',
                _ => ' ',
            };
            let time = |zone: &str| {
                format!("strftime('%Y-%m-%d{between}%H:%M:%f', 'now', '{seconds}'{zone})")
            };
            let (utc, local) = (time(""), time(", 'localtime'"));
            match clock {
                CursorClock::Utc => format!("SELECT {utc}"),
                CursorClock::Local => format!("SELECT {local}"),
                CursorClock::Earlier => format!("SELECT min({utc}, {local})"),
            }
        }
    }
}

/// The columns of each index of a table, in their order, also of its row number.
pub(super) fn indexes(connection: &Connection, table: &str) -> rusqlite::Result<Vec<Vec<String>>> {
    let list = |sql: &str, of: &str| -> rusqlite::Result<Vec<String>> {
        let mut statement = connection.prepare(sql)?;
        let names = statement.query_map([of], |row| row.get::<_, Option<String>>(0))?;
        names.map(|name| Ok(name?.unwrap_or_default())).collect()
    };
    let mut found = Vec::new();
    for index in list("SELECT name FROM pragma_index_list(?) WHERE NOT partial", table)? {
        found.push(list("SELECT name FROM pragma_index_info(?) ORDER BY seqno", &index)?);
    }
    let row_number =
        "SELECT name FROM pragma_table_info(?) WHERE pk = 1 AND upper(type) = 'INTEGER'";
    found.push(list(row_number, table)?);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::{Cell, column, literal, push};
    use crate::source::sql::Kind;

    #[test]
    fn a_value_is_written_as_what_it_is() {
        for (declared, value, json) in [
            ("BOOLEAN", Cell::Integer(1), "true"),
            ("BOOLEAN", Cell::Integer(2), "2"),
            ("INTEGER", Cell::Integer(i64::MIN), "-9223372036854775808"),
            ("DECIMAL(10,2)", Cell::Text("1.10".to_owned()), "\"1.10\""),
            ("REAL", Cell::Real(0.1), "0.1"),
            ("BLOB", Cell::Blob(vec![0, 255]), "\"AP8=\""),
            ("", Cell::Text("é".to_owned()), "\"é\""),
            ("TEXT", Cell::Null, "null"),
        ] {
            let mut out = Vec::new();
            assert_eq!(push(&column("c", Some(declared)), &value, &mut out), Ok(()));
            assert_eq!(String::from_utf8_lossy(&out), json, "{declared} {value:?}");
        }
        assert!(push(&column("c", None), &Cell::NotText, &mut Vec::new()).is_err());
        assert_eq!(column("c", Some("datetime")).kind, Kind::DateTime);
        assert_eq!(column("c", Some("VARCHAR(20)")).kind, Kind::Text);
    }

    #[test]
    fn a_literal_is_a_number_only_where_the_column_keeps_numbers() {
        assert_eq!(literal(&column("c", Some("INTEGER")), "7"), "7");
        assert_eq!(literal(&column("c", Some("TEXT")), "7"), "'7'");
        assert_eq!(literal(&column("c", Some("INTEGER")), "a'b"), "'a''b'");
        assert_eq!(literal(&column("c", Some("BOOLEAN")), "true"), "1");
        assert_eq!(literal(&column("c", Some("BLOB")), "AP8="), "X'00ff'");
    }
}
