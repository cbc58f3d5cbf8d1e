//! Rows of CSV, many at once: where they end ([`Cutter`]), and each as one JSON object
//! ([`Bulk`], [`Encoder`]), straight from their bytes; and batches of them compressed
//! ([`Deflater`]).
//!
//! A crate of its own, because it is compiled for speed in a binary whose other rooms are
//! compiled for size, and because the only `unsafe` of the fast path is in it: `masks.rs`.

mod bulk;
mod cut;
mod deflate;
mod encode;
mod index;
pub mod json;
mod masks;
mod quoted;

pub use self::bulk::{Bulk, Made, PADDING};
pub use self::cut::{Cutter, Measure, Scan};
pub use self::deflate::Deflater;
pub use self::encode::{Encoder, Refused};
pub use self::quoted::{FIELDS_MAX, Quoted};
