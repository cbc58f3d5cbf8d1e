//! CSV rows as JSON objects. The header is checked before the first row; after
//! that a bad row is rejected by itself, with its file, line and reason.

use std::collections::HashMap;
use std::sync::Arc;

use rows::json::push_string;
use rows::{Encoder, Refused};

use super::columns::{check_names, delimiter, header};
use super::error::SourceError;
use super::input::Input;
use super::position::{Beginning, Behind, Position};
use super::records::{Broken, Found, Limits, RAW_MAX, Records};
use crate::config::CsvSource;
use crate::http::printable;

/// The rows of one CSV file. Blocking: for an OS thread of its own.
#[derive(Debug)]
pub struct CsvRows {
    pub(super) records: Records,
    config: CsvSource,
    pub(super) maker: Arc<RowMaker>,
    /// The first row is still to be compared with the columns' names.
    pub(super) check_first: bool,
    /// The line on which the last row began.
    line: u64,
}

/// Makes rows of fields; shared by all that encode rows of the file.
#[derive(Debug)]
pub(super) struct RowMaker {
    pub(super) file_name: String,
    columns: Vec<String>,
    pub(super) encoder: Encoder,
}

/// What came next.
#[derive(Debug)]
pub enum Next {
    /// A row; its JSON object has been appended.
    Row,
    /// A row that cannot be one; nothing was appended.
    Rejected(Rejection),
    /// The end of the file.
    End,
}

/// A row that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// File and line, as in `appliances.csv:4711`.
    pub place: String,
    /// Why, as in `3 fields, expected 2`.
    pub reason: String,
    /// `{"line":4711,"raw":"…"}`: the row as it was, at most 64 KiB of it. What is
    /// not UTF-8 shows as U+FFFD in `raw` and is whole in `raw_hex`; `bytes` tells
    /// the row's length where not all of it is kept.
    pub record: Vec<u8>,
}

impl CsvRows {
    /// Opens a file and settles its columns. Gzip is recognized by its first bytes, a
    /// byte order mark is removed, and names of columns are trimmed of blanks.
    ///
    /// # Errors
    /// When there is no such regular file, when it is empty, or when its header and
    /// the configured columns do not go together; the text says what to do.
    pub fn open(config: &CsvSource) -> Result<CsvRows, SourceError> {
        CsvRows::open_with(config, Limits::default())
    }

    pub(super) fn open_with(config: &CsvSource, limits: Limits) -> Result<CsvRows, SourceError> {
        let delimiter = delimiter(config.delimiter)?;
        if !config.header && config.columns.is_empty() {
            let problem = "names the columns of a file without a header; set it, or header: true";
            return Err(SourceError::Config { key: "columns", problem: problem.to_owned() });
        }
        check_names(&config.columns)
            .map_err(|problem| SourceError::Config { key: "columns", problem })?;
        let path = config.path.clone();
        let file_name = match path.file_name() {
            Some(name) => name.to_string_lossy().into_owned(),
            None => path.display().to_string(),
        };
        let mut records = Records::new(path.clone(), Input::open(&path)?, delimiter, limits);
        records.strip_mark()?;
        let columns =
            if config.header { header(&mut records, config)? } else { config.columns.clone() };
        let encoder = Encoder::new(&columns, delimiter, config.numbers);
        let check_first = !config.header;
        Ok(CsvRows {
            records,
            config: config.clone(),
            maker: Arc::new(RowMaker { file_name, columns, encoder }),
            check_first,
            line: 0,
        })
    }

    /// The columns' names, in the file's order.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        &self.maker.columns
    }

    /// Appends the next row to `out` as one JSON object without a newline.
    ///
    /// # Errors
    /// When the file cannot be read any further; rows before that are good.
    pub fn next_row(&mut self, out: &mut Vec<u8>) -> Result<Next, SourceError> {
        let framed = match self.records.next()? {
            Found::Record(framed) => framed,
            Found::Broken(broken) => {
                self.check_first = false;
                return Ok(Next::Rejected(self.maker.broken(broken)));
            }
            Found::End if self.check_first => {
                return Err(SourceError::Empty {
                    path: self.config.path.clone(),
                    expected: "one row",
                });
            }
            Found::End => return Ok(Next::End),
        };
        self.line = framed.line;
        let start = out.len();
        let encoder = &self.maker.encoder;
        let encoded = if framed.quoted && self.records.field_count() != self.columns().len() {
            Err(Refused::Count(self.records.field_count()))
        } else if framed.quoted {
            encoder.encode_fields(self.records.fields(), out)
        } else {
            let (padded, length) = self.records.raw_padded(&framed);
            encoder.encode_line(padded, length, out)
        };
        if self.check_first {
            self.check_first = false;
            self.refuse_header(&out[start..], framed.line)?;
        }
        if let Err(refused) = encoded {
            out.truncate(start);
            let raw = self.records.raw(&framed);
            return Ok(Next::Rejected(self.maker.rejection(framed.line, raw, refused)));
        }
        Ok(Next::Row)
    }

    /// The line on which the last row began, from 1; 0 before the first.
    #[must_use]
    pub fn line(&self) -> u64 {
        self.line
    }

    /// The place behind the last row.
    #[must_use]
    pub fn position(&mut self) -> Position {
        self.records.position()
    }

    /// The place before the last row; to be asked before [`CsvRows::position`].
    #[must_use]
    pub fn position_before(&mut self) -> Option<Position> {
        self.records.position_before()
    }

    /// Goes on at `position`, if everything before it is as it was; to be called
    /// before the first row. Reads and hashes all that is before it. After anything
    /// but [`Beginning::Same`] the file must be opened again.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn resume_at(&mut self, position: &Position) -> Result<Beginning, SourceError> {
        self.check_first = false;
        match self.records.advance(position) {
            // Of a gzip file: what is cut off or changed cannot be decoded.
            Err(SourceError::Read { source, .. }) if is_damage(&source) => Ok(Beginning::Changed),
            result => result,
        }
    }

    /// What stands behind the position that was resumed at.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn behind(&mut self) -> Result<Behind, SourceError> {
        self.records.behind()
    }

    /// Bytes of the file read so far, compressed ones for gzip; reading is a little
    /// ahead of the rows.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.records.bytes_read()
    }

    /// Size of the file when it was opened.
    #[must_use]
    pub fn bytes_total(&self) -> Option<u64> {
        Some(self.records.bytes_total())
    }

    /// A first row that repeats the columns' names is a header, not data.
    fn refuse_header(&self, row: &[u8], line: u64) -> Result<(), SourceError> {
        let Ok(row) = serde_json::from_slice::<HashMap<String, serde_json::Value>>(row) else {
            return Ok(());
        };
        let same = |name: &String| {
            row.get(name)
                .and_then(serde_json::Value::as_str)
                .is_some_and(|field| field.trim().eq_ignore_ascii_case(name))
        };
        if self.columns().iter().all(same) {
            let problem = "the first row is a header, not data; set header: true".to_owned();
            return Err(SourceError::Header { path: self.config.path.clone(), line, problem });
        }
        Ok(())
    }
}

impl RowMaker {
    /// What is said of the row `raw` on `line`, which is no record.
    pub(super) fn rejection(&self, line: u64, raw: &[u8], refused: Refused) -> Rejection {
        Rejection {
            place: format!("{}:{line}", self.file_name),
            reason: self.reason(refused),
            record: rejected_record(line, raw),
        }
    }

    fn reason(&self, refused: Refused) -> String {
        match refused {
            Refused::Count(count) => {
                format!("{}, expected {}", fields(count), self.columns.len())
            }
            Refused::NotUtf8 { column, at, byte } => {
                let name = printable(self.columns[column].as_bytes(), 100);
                format!("{name} is not UTF-8 (byte {} is 0x{byte:02x})", at + 1)
            }
        }
    }

    fn broken(&self, broken: Broken) -> Rejection {
        Rejection {
            place: format!("{}:{}", self.file_name, broken.line),
            reason: broken.reason,
            record: rejected_record(broken.line, &broken.raw),
        }
    }
}

fn is_damage(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof)
}

/// `1 field`, `2 fields`.
pub(super) fn fields(count: usize) -> String {
    if count == 1 { "1 field".to_owned() } else { format!("{count} fields") }
}

/// `{"line":…,"raw":"…"}`, see [`Rejection::record`].
fn rejected_record(line: u64, raw: &[u8]) -> Vec<u8> {
    let kept = &raw[..raw.len().min(RAW_MAX)];
    let mut record = format!("{{\"line\":{line},\"raw\":").into_bytes();
    push_string(&mut record, &String::from_utf8_lossy(kept));
    if std::str::from_utf8(kept).is_err() {
        record.extend_from_slice(b",\"raw_hex\":\"");
        for byte in kept {
            record.extend_from_slice(format!("{byte:02x}").as_bytes());
        }
        record.push(b'"');
    }
    if kept.len() < raw.len() {
        record.extend_from_slice(format!(",\"bytes\":{}", raw.len()).as_bytes());
    }
    record.push(b'}');
    record
}
