//! Lines of `COPY … TO STDOUT` into JSON values.

use memchr::memchr;
use rows::json::is_number;

use crate::http::printable;
use crate::source::raw::push_one_line;
use crate::source::sql::values::{
    push_base64, push_bool, push_decimal, push_double, push_null, push_quoted, push_single,
};
use crate::source::sql::{Column, Kind, RowWriter};

/// The most of a bad value that a message shows.
const SHOWN_MAX: usize = 60;

/// Reads lines with these columns.
pub(super) struct Decoder<'a> {
    columns: &'a [Column],
    unescaped: Vec<u8>,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(columns: &'a [Column]) -> Decoder<'a> {
        Decoder { columns, unescaped: Vec::new() }
    }

    /// Writes the values of one line. A value that is not what its column's type says is
    /// written as null, and the row refused.
    pub(super) fn write(&mut self, line: &[u8], rows: &mut RowWriter) {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let is_text = std::str::from_utf8(line).is_ok();
        let mut rest = Some(line);
        for column in self.columns {
            let field = match rest {
                None => {
                    rows.refuse(format!("the row has no value for `{}`", column.name));
                    push_null(rows.value());
                    continue;
                }
                Some(bytes) => match memchr(b'\t', bytes) {
                    Some(end) => {
                        rest = Some(&bytes[end + 1..]);
                        &bytes[..end]
                    }
                    None => {
                        rest = None;
                        bytes
                    }
                },
            };
            if field == b"\\N" {
                push_null(rows.value());
                continue;
            }
            let field = match memchr(b'\\', field) {
                None => field,
                Some(first) => {
                    unescape(field, first, &mut self.unescaped);
                    &self.unescaped
                }
            };
            if !is_text && std::str::from_utf8(field).is_err() {
                rows.refuse(format!("`{}` is not UTF-8", column.name));
                push_null(rows.value());
            } else if let Err(why) = push(column, field, rows.value()) {
                rows.refuse(format!("`{}` {why}", column.name));
            }
        }
    }
}

/// One value in its column's form.
fn push(column: &Column, field: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    let text = || String::from_utf8_lossy(field);
    match column.kind {
        Kind::Bool => push_bool(out, field == b"t"),
        Kind::Integer => out.extend_from_slice(field),
        Kind::Decimal => push_decimal(out, &text()),
        Kind::Float => return push_float(column, &text(), out),
        Kind::Bytes => return push_hex(field, out),
        Kind::DateTime | Kind::Instant => push_time(field, out),
        Kind::Json => push_one_line(out, field),
        _ => push_quoted(out, field),
    }
    Ok(())
}

fn push_float(column: &Column, text: &str, out: &mut Vec<u8>) -> Result<(), String> {
    if is_number(text.as_bytes()) {
        out.extend_from_slice(text.as_bytes());
        return Ok(());
    }
    // Rust reads `Infinity` and `NaN` as PostgreSQL writes them.
    let read = match column.declared.as_str() {
        "float4" => text.parse().map(|value| push_single(out, value)),
        _ => text.parse().map(|value| push_double(out, value)),
    };
    read.map_err(|_| {
        push_null(out);
        format!("is no number: {}", printable(text.as_bytes(), SHOWN_MAX))
    })
}

/// `\x00ff` as base64.
fn push_hex(field: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? * 16 + digit(*low)?),
        _ => None,
    };
    let bytes = field.strip_prefix(b"\\x");
    let bytes = bytes.and_then(|hex| hex.chunks(2).map(byte).collect::<Option<Vec<u8>>>());
    match bytes {
        Some(bytes) => {
            out.push(b'"');
            push_base64(out, &bytes);
            out.push(b'"');
            Ok(())
        }
        None => {
            push_null(out);
            Err(format!("is no bytea: {}", printable(field, SHOWN_MAX)))
        }
    }
}

/// `2026-11-21 10:00:00.5+00` as `2026-11-21T10:00:00.5Z`. Times before our era and
/// `infinity` have no such form and stay as they are.
fn push_time(field: &[u8], out: &mut Vec<u8>) {
    let blank = memchr(b' ', field);
    let (Some(at), false) = (blank, field.ends_with(b" BC")) else {
        return push_quoted(out, field);
    };
    let (date, time) = (&field[..at], &field[at + 1..]);
    let (time, zone): (_, &[u8]) = match time.strip_suffix(b"+00") {
        Some(time) => (time, b"Z"),
        None => (time, b""),
    };
    out.push(b'"');
    for part in [date, b"T", time, zone, b"\""] {
        out.extend_from_slice(part);
    }
}

/// Undoes the escapes of COPY, of which the first is at `first`.
fn unescape(field: &[u8], first: usize, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&field[..first]);
    let mut rest = &field[first..];
    while let [b'\\', escaped, behind @ ..] = rest {
        out.push(match escaped {
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 0x0b,
            other => *other,
        });
        let plain = memchr(b'\\', behind).unwrap_or(behind.len());
        out.extend_from_slice(&behind[..plain]);
        rest = &behind[plain..];
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use tokio::sync::mpsc::channel;

    use super::Decoder;
    use crate::source::sql::{Column, Kind, RowWriter, Shape};

    /// The values that a line has in columns of these kinds and types, and why it is refused.
    async fn read(line: &[u8], columns: &[(Kind, &str)]) -> (String, Option<String>) {
        let column = |(kind, declared): &(Kind, &str)| Column {
            name: "c".to_owned(),
            kind: *kind,
            declared: (*declared).to_owned(),
            nullable: true,
        };
        let columns: Vec<Column> = columns.iter().map(column).collect();
        let names: Vec<&str> = columns.iter().map(|_| "c").collect();
        let (sender, mut chunks) = channel(1);
        let mut rows = RowWriter::new(Shape::new(&names, &[], vec![]), sender);
        Decoder::new(&columns).write(line, &mut rows);
        rows.end_row().await.unwrap();
        rows.flush().await.unwrap();
        let chunk = chunks.recv().await.unwrap();
        let entry = chunk.entries().next().unwrap();
        let row = String::from_utf8(entry.row.to_vec()).unwrap().replace("\"c\":", "");
        (row.trim_matches(['{', '}']).to_owned(), entry.refused.map(str::to_owned))
    }

    #[tokio::test]
    async fn every_kind_of_value_comes_out_as_it_is() {
        for (text, kind, declared, expected) in [
            ("\\N", Kind::Integer, "int4", "null"),
            ("-7", Kind::Integer, "int4", "-7"),
            ("t", Kind::Bool, "bool", "true"),
            ("12.50", Kind::Decimal, "numeric", "12.50"),
            ("0.12345678901234567890", Kind::Decimal, "numeric", "\"0.12345678901234567890\""),
            ("NaN", Kind::Decimal, "numeric", "\"NaN\""),
            ("0.1", Kind::Float, "float4", "0.1"),
            ("1e+300", Kind::Float, "float8", "1e+300"),
            ("-Infinity", Kind::Float, "float8", "\"-Infinity\""),
            ("a\\tb\\\\n\\nc\"é😀", Kind::Text, "text", "\"a\\tb\\\\n\\nc\\\"é😀\""),
            ("\\\\x00ff10", Kind::Bytes, "bytea", "\"AP8Q\""),
            ("2026-11-21", Kind::Date, "date", "\"2026-11-21\""),
            ("2026-11-21 10:00:00", Kind::DateTime, "timestamp", "\"2026-11-21T10:00:00\""),
            (
                "2026-11-21 10:00:00.25+00",
                Kind::Instant,
                "timestamptz",
                "\"2026-11-21T10:00:00.25Z\"",
            ),
            (
                "0044-03-15 10:00:00+00 BC",
                Kind::Instant,
                "timestamptz",
                "\"0044-03-15 10:00:00+00 BC\"",
            ),
            ("infinity", Kind::Instant, "timestamptz", "\"infinity\""),
            ("{\"a\": \\n[1.10]}", Kind::Json, "json", "\"a\":[1.10]"),
        ] {
            let read = read(format!("{text}\n").as_bytes(), &[(kind, declared)]).await;
            assert_eq!(read, (expected.to_owned(), None), "{text}");
        }
        let two = read(b"1\t\\N\n", &[(Kind::Integer, "int4"), (Kind::Text, "text")]).await;
        assert_eq!(two.0, "1,null");
    }

    #[tokio::test]
    async fn a_value_that_cannot_be_is_refused_with_its_row() {
        for (text, kind, declared, why) in [
            (&b"\xff\n"[..], Kind::Text, "text", "`c` is not UTF-8"),
            (b"abc\n", Kind::Float, "float8", "`c` is no number: abc"),
            (b"zz\n", Kind::Bytes, "bytea", "`c` is no bytea: zz"),
        ] {
            let read = read(text, &[(kind, declared)]).await;
            assert_eq!(read, ("null".to_owned(), Some(why.to_owned())));
        }
        let short = read(b"1\n", &[(Kind::Integer, "int4"), (Kind::Text, "text")]).await;
        assert_eq!(short.1.unwrap(), "the row has no value for `c`");
    }
}
