//! Records as the text format of PostgreSQL's `COPY`: one line per row, tabs between
//! columns, `\N` for NULL. A pure function of the records and the table, so that the
//! same batch gives the same rows and the same rejects whenever it is sent.

use bytes::Bytes;

use super::row::{Found, check, split, text};
use super::table::{Loaded, Table};
use crate::batch::Payload;
use crate::config::{ColumnType, Layout, WriteMode};
use crate::load::answer::FailedRecord;

/// A batch made ready for `COPY`.
#[derive(Debug)]
pub(super) struct Encoded {
    /// The lines.
    pub(super) lines: Bytes,
    /// Records that no database would take, with the reason.
    pub(super) failed: Vec<FailedRecord>,
    /// The partitions that the records are in, each once, in order; `None` is NULL.
    pub(super) partitions: Vec<Option<String>>,
}

/// Encodes the records of `payload`.
pub(super) fn encode(payload: &Payload, table: &Table) -> Encoded {
    let mut lines = Vec::with_capacity(payload.body.len());
    let mut failed = Vec::new();
    let mut partitions: Vec<Option<String>> = Vec::new();
    let mut values = Vec::with_capacity(table.loaded.len());
    for (index, record) in payload.rows().enumerate() {
        let start = lines.len();
        let line = match table.layout {
            Layout::Raw => {
                escape(record, &mut lines);
                lines.push(b'\n');
                Ok(())
            }
            Layout::Columns => line(record, table, index, &mut values, &mut lines),
        };
        if let Err(reason) = line {
            lines.truncate(start);
            failed.push(FailedRecord { index, reason });
        } else if let Some(at) = table.partition {
            let partition = partition(values[at], &table.loaded[at], table);
            // Neighbours mostly share theirs.
            if partitions.last() != Some(&partition) {
                partitions.push(partition);
            }
        }
    }
    partitions.sort_unstable();
    partitions.dedup();
    Encoded { lines: lines.into(), failed, partitions }
}

fn line<'r>(
    record: &'r [u8],
    table: &Table,
    index: usize,
    values: &mut Vec<Found<'r>>,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    split(record, table, values)?;
    if table.mode == WriteMode::Upsert {
        // The place in the batch decides which of two records with one key is the last.
        out.extend_from_slice(index.to_string().as_bytes());
        out.push(b'\t');
    }
    for (value, column) in values.iter().zip(&table.loaded) {
        check(*value, column)?;
        push(*value, column, table.empty_as_null, out)?;
        out.push(b'\t');
    }
    // There is at least one column: its tab ends the line.
    if let Some(last) = out.last_mut() {
        *last = b'\n';
    }
    Ok(())
}

fn push(
    value: Found<'_>,
    column: &Loaded,
    empty_as_null: bool,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    match value {
        Found::Nothing => out.extend_from_slice(b"\\N"),
        Found::Text(raw) if column.kind == ColumnType::Jsonb => {
            out.push(b'"');
            escape(raw, out);
            out.push(b'"');
        }
        Found::Text([]) if is_null_when_empty(column, empty_as_null) => {
            out.extend_from_slice(b"\\N");
        }
        Found::Text(raw) if is_plain(raw) => out.extend_from_slice(raw),
        Found::Text(raw) => {
            let named = |why: String| {
                format!("{}: {why}", crate::http::printable(column.field.as_bytes(), 60))
            };
            let text = text(raw).map_err(named)?;
            if text.contains('\0') {
                return Err(named(
                    "a text with NUL (\\u0000), which the database cannot hold".to_owned(),
                ));
            }
            escape(text.as_bytes(), out);
        }
        Found::Number(raw) => out.extend_from_slice(raw),
        Found::Bool(true) => out.extend_from_slice(b"true"),
        Found::Bool(false) => out.extend_from_slice(b"false"),
        Found::Nested(raw) => escape(raw, out),
    }
    Ok(())
}

fn is_null_when_empty(column: &Loaded, empty_as_null: bool) -> bool {
    empty_as_null && column.kind != ColumnType::Text
}

/// Whether a text stands in a line as it is.
fn is_plain(raw: &[u8]) -> bool {
    !raw.iter().any(|byte| *byte < 0x20 || *byte == b'\\')
}

/// Appends bytes so that `COPY` reads them back as they are.
fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    if is_plain(bytes) {
        return out.extend_from_slice(bytes);
    }
    for byte in bytes {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            other => out.push(*other),
        }
    }
}

/// The partition of a record whose line could be made.
fn partition(value: Found<'_>, column: &Loaded, table: &Table) -> Option<String> {
    match value {
        Found::Nothing => None,
        Found::Text([]) if is_null_when_empty(column, table.empty_as_null) => None,
        Found::Text(raw) => text(raw).ok().map(std::borrow::Cow::into_owned),
        Found::Number(raw) | Found::Nested(raw) => Some(String::from_utf8_lossy(raw).into_owned()),
        Found::Bool(yes) => Some(yes.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::{Encoded, encode};
    use crate::batch::{KeyContext, Payload, Rows};
    use crate::load::database::table::{Table, tests::with};

    fn encoded(table: &Table, records: &[&str]) -> Encoded {
        let mut rows = Rows::default();
        records.iter().for_each(|record| rows.push(record.as_bytes()));
        let keys = KeyContext::new("p", "s", "r");
        let payload = Payload::seal(&mut rows, 0..1, Arc::from("r"), |r, b| keys.key(r, b));
        encode(&payload, table)
    }

    #[test]
    fn values_are_written_as_copy_reads_them() {
        let table = with(json!({ "columns": {
            "n": { "type": "bigint" }, "t": { "type": "text" }, "j": { "type": "jsonb" }, "b": { "type": "boolean" },
        }}));
        let lines = encoded(
            &table,
            &[
                r#"{"n":1,"t":"a\tb\\c\u00e9\n","j":"x\"\\","b":true}"#,
                r#"{"n":"","t":"","j":{"k":"\n"},"b":null}"#,
                r#"{"t":{"a":"\\"},"j":null}"#,
            ],
        );
        let expected = concat!(
            "1\ta\\tb\\\\cé\\n\t\"x\\\\\"\\\\\\\\\"\ttrue\n",
            "\\N\t\t{\"k\":\"\\\\n\"}\t\\N\n",
            "\\N\t{\"a\":\"\\\\\\\\\"}\t\\N\t\\N\n",
        );
        assert_eq!(String::from_utf8_lossy(&lines.lines), expected);
        assert!(lines.failed.is_empty(), "{lines:?}");
    }

    #[test]
    fn records_that_no_database_takes_are_left_out_and_named() {
        let table = with(
            json!({ "columns": { "n": { "type": "bigint" }, "t": { "type": "text" } }, "extra": "reject" }),
        );
        let lines = encoded(
            &table,
            &[
                r#"{"n":1,"t":"a\u0000"}"#,
                r#"{"n":2}"#,
                r#"{"n":[],"t":"x"}"#,
                r#"{"n":3,"m":1}"#,
                r#"{"t":"\ud800"}"#,
                "7",
            ],
        );
        assert_eq!(&lines.lines[..], b"2\t\\N\n");
        let failed: Vec<usize> = lines.failed.iter().map(|record| record.index).collect();
        assert_eq!(failed, [0, 2, 3, 4, 5]);
        assert!(lines.failed[0].reason.contains("t: a text with NUL"), "{lines:?}");
        assert!(lines.failed[2].reason.contains("`m`"), "{lines:?}");
    }

    #[test]
    fn partitions_are_listed_once_and_raw_rows_stay_whole() {
        let table = with(
            json!({ "columns": { "d": { "type": "date" } }, "mode": "replace", "partition": "d" }),
        );
        let lines = encoded(
            &table,
            &[r#"{"d":"2026-02-01"}"#, r#"{"d":"2026-01-01"}"#, r#"{"d":"2026-02-01"}"#, "{}"],
        );
        let day = |text: &str| Some(text.to_owned());
        assert_eq!(lines.partitions, [None, day("2026-01-01"), day("2026-02-01")]);
        let raw = encoded(&with(json!({ "layout": "raw" })), &[r#"{"a":"\n"}"#, "7"]);
        assert_eq!(&raw.lines[..], b"{\"a\":\"\\\\n\"}\n7\n");
    }
}
