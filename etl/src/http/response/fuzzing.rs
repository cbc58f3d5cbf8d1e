//! What must hold of an answer that is read as it arrives, for any bytes.

use super::{Reader, Trouble};

const CAP: usize = 100;

/// An answer, and in how large pieces it arrives: they make no difference, and its body is
/// under the cap.
pub(crate) fn answer(data: &[u8]) {
    let Some((size, bytes)) = data.split_first() else { return };
    let whole = read(bytes, bytes.len());
    assert_eq!(read(bytes, usize::from(*size)), whole, "in pieces of {size}");
    if let Ok(Some((_, body))) = whole {
        assert!(body.len() <= CAP, "{} bytes", body.len());
    }
}

/// Status and body, once they are complete.
fn read(bytes: &[u8], size: usize) -> Result<Option<(u16, Vec<u8>)>, Trouble> {
    let mut reader = Reader::default();
    let mut complete = false;
    for piece in bytes.chunks(size.max(1)) {
        if reader.push(piece, CAP)? {
            complete = true;
            break;
        }
    }
    complete |= reader.ended();
    let status = reader.head().map(|head| head.status.as_u16());
    Ok(status.filter(|_| complete).map(|status| (status, reader.into_body().to_vec())))
}
