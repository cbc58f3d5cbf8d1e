//! Compression at the fastest level, for spool files and request bodies. Compressors are
//! kept: a fresh one asks for 300 KiB and clears them, whatever the batch's size.

use std::sync::{Mutex, PoisonError};

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

const LEVEL: Compression = Compression::new(1);
/// Compressors that are kept.
const KEPT_MAX: usize = 16;
/// A gzip header without anything: deflate, no time, fastest, no system.
const GZIP: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];

static KEPT: Mutex<Vec<Compress>> = Mutex::new(Vec::new());

/// The compressor failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the compressor failed")]
pub struct Failed;

/// Appends `body`, compressed as raw deflate; the same bytes whenever it is called.
pub(crate) fn deflate(body: &[u8], out: &mut Vec<u8>) -> Result<(), Failed> {
    let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let mut compress = kept.unwrap_or_else(|| Compress::new(LEVEL, false));
    out.reserve(body.len() / 3 + 128);
    loop {
        let consumed = usize::try_from(compress.total_in()).map_err(|_| Failed)?;
        let rest = body.get(consumed..).ok_or(Failed)?;
        match compress.compress_vec(rest, out, FlushCompress::Finish).map_err(|_| Failed)? {
            Status::StreamEnd => break,
            Status::Ok | Status::BufError if out.len() == out.capacity() => {
                out.reserve(out.capacity());
            }
            Status::Ok | Status::BufError => return Err(Failed),
        }
    }
    compress.reset();
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.len() < KEPT_MAX {
        kept.push(compress);
    }
    Ok(())
}

/// `body` as one gzip member without a name.
///
/// # Errors
/// When the compressor fails, which it does for want of memory alone.
pub fn gzip(body: &[u8]) -> Result<Vec<u8>, Failed> {
    let mut out = GZIP.to_vec();
    deflate(body, &mut out)?;
    out.extend_from_slice(&trailer(body));
    Ok(out)
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use std::io::Read;

    use super::{Compress, LEVEL, deflate, gzip};

    #[test]
    fn a_compressor_that_was_used_gives_the_same_bytes_as_a_fresh_one() {
        let mut bodies: Vec<Vec<u8>> = vec![Vec::new(), b"x".to_vec(), vec![7; 300_000]];
        for seed in 0..40_u64 {
            let mut random = fastrand::Rng::with_seed(seed);
            let letters = 2 + random.usize(..60);
            let length = random.usize(..90_000);
            bodies.push((0..length).map(|_| b'0' + random.usize(..letters) as u8).collect());
        }
        for body in bodies.iter().chain(bodies.iter().rev()) {
            let mut fresh = Vec::with_capacity(body.len() + 1000);
            let mut compress = Compress::new(LEVEL, false);
            compress.compress_vec(body, &mut fresh, flate2::FlushCompress::Finish).unwrap();
            let mut used = b"before".to_vec();
            deflate(body, &mut used).unwrap();
            assert!(used[6..] == fresh, "{} bytes", body.len());
            let mut read = Vec::new();
            let member = gzip(body).unwrap();
            flate2::read::GzDecoder::new(&*member).read_to_end(&mut read).unwrap();
            assert!(read == *body);
        }
    }
}
