//! Where records come from. A source's row leaves this room as one JSON object,
//! encoded straight from the source's bytes; a row that cannot be one is a
//! [`Rejection`] and never stops the rows around it.

mod ahead;
mod columns;
mod csv;
mod error;
pub(crate) mod fields;
mod input;
mod piece;
mod position;
pub(crate) mod raw;
mod records;
pub mod rest;
pub mod sql;
#[cfg(test)]
mod tests;

pub use rows::Measure;

pub use self::csv::{CsvRows, Next, Rejection};
pub use self::error::SourceError;
pub use self::piece::{Cut, Piece, PieceEncoder};
pub use self::position::{Beginning, Behind, Ending, Position};
