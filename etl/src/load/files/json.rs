//! JSON files: an indented array or one record per line. Values stay as they are written,
//! digit for digit; only what stands between them changes.

use std::io::{self, Write};

use super::encode::{Draft, Encoded, Encoder, Unfit};
use super::name::file_name;
use super::partition::Partition;
use crate::batch::Payload;
use crate::config::{Compression, FileFormat};

/// Makes JSON files of batches.
#[derive(Debug)]
pub(in crate::load) struct JsonFiles {
    pub prefix: String,
    pub partition: Partition,
    pub format: FileFormat,
    pub compression: Compression,
}

impl Encoder for JsonFiles {
    fn encode(&self, payload: &Payload) -> Result<Encoded, Unfit> {
        let spread = self.partition.spread(payload).map_err(Unfit::Refused)?;
        let rows: Vec<&[u8]> = payload.rows().collect();
        let name = file_name(&self.prefix, payload, &spread.failed, self.extension());
        let mut encoded = Encoded { drafts: Vec::new(), failed: spread.failed };
        for (directories, indices) in spread.groups {
            let text = self.text(indices.iter().map(|index| rows[*index]));
            let bytes = compress(text, self.compression).map_err(Unfit::broken)?.into();
            encoded.drafts.push(Draft { directories, name: name.clone(), bytes });
        }
        Ok(encoded)
    }
}

impl JsonFiles {
    fn extension(&self) -> &'static str {
        match (self.format, self.compression) {
            (FileFormat::Json, Compression::None) => "json",
            (FileFormat::Json, Compression::Gzip) => "json.gz",
            (FileFormat::Json, Compression::Zstd) => "json.zst",
            (FileFormat::Ndjson, Compression::None) => "ndjson",
            (FileFormat::Ndjson, Compression::Gzip) => "ndjson.gz",
            (FileFormat::Ndjson, Compression::Zstd) => "ndjson.zst",
        }
    }

    fn text<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut text = Vec::new();
        match self.format {
            FileFormat::Json => {
                for row in rows {
                    text.extend_from_slice(if text.is_empty() { b"[\n  " } else { b",\n  " });
                    indent(row, &mut text);
                }
                text.extend_from_slice(b"\n]\n");
            }
            FileFormat::Ndjson => {
                for row in rows {
                    // Line breaks within a record of another program's making are blanks.
                    let line =
                        row.iter().map(|byte| if b"\r\n".contains(byte) { b' ' } else { *byte });
                    text.extend(line);
                    text.push(b'\n');
                }
            }
        }
        text
    }
}

/// Writes the JSON value `row` indented by two, as an item of an array.
fn indent(row: &[u8], out: &mut Vec<u8>) {
    let mut depth = 1;
    let mut bytes = row.iter().copied().filter_outside_strings();
    let mut next = bytes.next();
    while let Some((byte, in_string)) = next {
        next = bytes.next();
        match byte {
            _ if in_string => out.push(byte),
            b'{' | b'[' => {
                out.push(byte);
                if matches!(next, Some((b'}' | b']', false))) {
                    out.extend(next.map(|(byte, _)| byte));
                    next = bytes.next();
                } else {
                    depth += 1;
                    break_line(out, depth);
                }
            }
            b'}' | b']' => {
                depth -= 1;
                break_line(out, depth);
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                break_line(out, depth);
            }
            b':' => out.extend_from_slice(b": "),
            _ => out.push(byte),
        }
    }
}

fn break_line(out: &mut Vec<u8>, depth: usize) {
    out.push(b'\n');
    out.extend(std::iter::repeat_n(b' ', 2 * depth));
}

/// The bytes of a JSON value without blanks between its tokens, each with whether it
/// belongs to a string.
trait OutsideStrings: Iterator<Item = u8> + Sized {
    fn filter_outside_strings(self) -> impl Iterator<Item = (u8, bool)> {
        let (mut in_string, mut escaped) = (false, false);
        self.filter_map(move |byte| {
            if in_string {
                let ends = byte == b'"' && !escaped;
                escaped = byte == b'\\' && !escaped;
                in_string = !ends;
                return Some((byte, true));
            }
            in_string = byte == b'"';
            (!byte.is_ascii_whitespace()).then_some((byte, in_string))
        })
    }
}

impl<I: Iterator<Item = u8>> OutsideStrings for I {}

fn compress(text: Vec<u8>, compression: Compression) -> io::Result<Vec<u8>> {
    match compression {
        Compression::None => Ok(text),
        Compression::Gzip => {
            let buffer = Vec::with_capacity(text.len() / 4);
            let mut gzip = flate2::write::GzEncoder::new(buffer, flate2::Compression::default());
            gzip.write_all(&text)?;
            gzip.finish()
        }
        Compression::Zstd => {
            let mut zstd = zstd::Encoder::new(Vec::with_capacity(text.len() / 4), 3)?;
            // So that a file that was damaged later is noticed, as gzip's is.
            zstd.include_checksum(true)?;
            zstd.write_all(&text)?;
            zstd.finish()
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::indent;

    fn indented(row: &str) -> String {
        let mut out = Vec::new();
        indent(row.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn records_are_indented_and_their_values_stay_as_written() {
        let row = r#"{"a":1.50,"b":[], "c" : {"d":"x, {\"y\"} [\\","e":[1,{}]},"f":12345678901234567890123}"#;
        assert_eq!(
            indented(row),
            r#"{
    "a": 1.50,
    "b": [],
    "c": {
      "d": "x, {\"y\"} [\\",
      "e": [
        1,
        {}
      ]
    },
    "f": 12345678901234567890123
  }"#
        );
        assert_eq!(indented("\"a b\""), "\"a b\"");
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[ -~\n\"\\\\é{}\\[\\],:]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec(("[a-z\"\\\\:,]{0,3}", inner), 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

        #[test]
        fn indenting_changes_no_value(value in json()) {
            let text = indented(&value.to_string());
            prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        }
    }
}
