//! A place between two records of a source file, with what it takes to find it
//! again and to know that nothing before it has changed.

use serde::{Deserialize, Serialize};

/// Where a record begins. Bytes are those of the uncompressed stream, so that gzip
/// files have places too; a byte order mark and the header count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Bytes of the stream before it.
    pub bytes: u64,
    /// The line it is on, from 1.
    pub line: u64,
    /// The byte before is a `\r`: a `\n` that follows belongs to it.
    pub after_cr: bool,
    /// BLAKE3 of all bytes before it, hexadecimal.
    pub fingerprint: String,
    /// How the record before it ended.
    pub ending: Ending,
}

/// How the record before a position ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// With its line.
    #[default]
    Line,
    /// With the file; only a line end may be added to it.
    File,
    /// A quote that was still open when the file ended decided how rows were cut:
    /// with anything added they would be other rows.
    OpenQuote,
}

/// Whether a file still begins as it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// It does; reading goes on at the position.
    Same,
    /// It is shorter than the position.
    Shorter,
    /// Other bytes.
    Changed,
}

/// What stands behind a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    /// Nothing: the end of the file.
    Nothing,
    /// More records, or what may become some.
    More,
    /// Bytes that change the record before the position.
    Other,
}
