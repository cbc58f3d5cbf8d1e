//! Compression at the fastest level, for spool files and request bodies. Compressors are
//! kept: a fresh one asks for its memory and clears it, whatever the batch's size.

use flate2::Crc;
use rows::Deflater;

use crate::reuse::Kept;

/// A gzip header without anything: deflate, no time, fastest, no system.
const GZIP: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];

static KEPT: Kept<Deflater> = Kept::new(16, 0, |_| 0);

/// Appends `body`, compressed as raw deflate; the same bytes whenever and wherever it is
/// called.
pub(crate) fn deflate(body: &[u8], out: &mut Vec<u8>) {
    let mut deflater = KEPT.take().unwrap_or_default();
    out.reserve(body.len() / 4 + 128);
    deflater.deflate(body, out);
    KEPT.keep(deflater);
}

/// `body` as one gzip member without a name.
#[must_use]
pub fn gzip(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(GZIP.len() + body.len() / 4 + 128);
    out.extend_from_slice(&GZIP);
    deflate(body, &mut out);
    out.extend_from_slice(&trailer(body));
    out
}

/// What ends a gzip member: checksum and length.
pub(crate) fn trailer(body: &[u8]) -> [u8; 8] {
    let mut crc = Crc::new();
    crc.update(body);
    let length_mod_2_32 = (body.len() as u64 & u64::from(u32::MAX)) as u32;
    let mut trailer = [0; 8];
    trailer[..4].copy_from_slice(&crc.sum().to_le_bytes());
    trailer[4..].copy_from_slice(&length_mod_2_32.to_le_bytes());
    trailer
}

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;

#[cfg(test)]
mod tests;
