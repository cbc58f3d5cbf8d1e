//! What must hold of the compressor for any bytes.
#![allow(clippy::expect_used, reason = "only fuzzers and tests build this")]

use std::io::Read;

use super::gzip;

/// Any body comes back from what it was made, and is hardly longer there: by the header and
/// the trailer, and for each block of 64 KiB by what says that it is as it was.
pub(crate) fn body(data: &[u8]) {
    let member = gzip(data);
    let mut read = Vec::with_capacity(data.len());
    let mut decoder = flate2::bufread::GzDecoder::new(&*member);
    decoder.read_to_end(&mut read).expect("it inflates, and its checksum is right");
    assert!(read == data, "another body came back");
    assert!(decoder.into_inner().is_empty(), "something follows the member");
    let blocks = data.len() / usize::from(u16::MAX) + 1;
    assert!(member.len() <= data.len() + 20 + 6 * blocks, "longer than the body");
    assert!(gzip(data) == member, "other bytes for the same body");
}
