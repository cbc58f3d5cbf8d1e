//! Values of databases as JSON, each digit and character as it was.
//!
//! Numbers stay numbers where every reader takes them for the same number, else they
//! become texts; times are ISO 8601, with `Z` or an offset only where the database knows
//! a zone; bytes are base64.

use rows::json::{is_number, push_escaped, push_string};

/// `null`.
#[inline]
pub fn push_null(out: &mut Vec<u8>) {
    out.extend_from_slice(b"null");
}

/// `true` or `false`.
#[inline]
pub fn push_bool(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

/// A whole number.
#[inline]
pub fn push_integer(out: &mut Vec<u8>, value: impl Into<i128>) {
    out.extend_from_slice(value.into().to_string().as_bytes());
}

/// A text.
#[inline]
pub fn push_text(out: &mut Vec<u8>, value: &str) {
    push_string(out, value);
}

/// The digits of an exact decimal, such as `-12.50`: a number with these digits where it
/// has at most 17 that count, else a text.
#[inline]
pub fn push_decimal(out: &mut Vec<u8>, digits: &str) {
    match is_number(digits.as_bytes()) {
        true => out.extend_from_slice(digits.as_bytes()),
        false => push_string(out, digits),
    }
}

/// A binary floating-point number in the shortest form that is read as the same one;
/// what JSON has no number for is a text: `NaN`, `Infinity`, `-Infinity`.
#[inline]
pub fn push_double(out: &mut Vec<u8>, value: f64) {
    match value {
        _ if value.is_finite() => match serde_json::to_writer(&mut *out, &value) {
            Ok(()) => {}
            Err(_) => push_null(out),
        },
        _ if value.is_nan() => out.extend_from_slice(b"\"NaN\""),
        _ if value > 0.0 => out.extend_from_slice(b"\"Infinity\""),
        _ => out.extend_from_slice(b"\"-Infinity\""),
    }
}

/// A 32-bit floating-point number, as [`push_double`]: `0.1` and not `0.10000000149011612`.
#[inline]
pub fn push_single(out: &mut Vec<u8>, value: f32) {
    match value.is_finite() {
        true => match serde_json::to_writer(&mut *out, &value) {
            Ok(()) => {}
            Err(_) => push_null(out),
        },
        false => push_double(out, value.into()),
    }
}

/// Bytes as base64.
pub fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    push_base64(out, bytes);
    out.push(b'"');
}

/// A UUID from its 16 bytes in the order in which they are written: lower case, with hyphens.
pub fn push_uuid(out: &mut Vec<u8>, bytes: &[u8; 16]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
    out.push(b'"');
}

/// Text that JSON needs no escape for is put between quotes as it is, other text escaped.
#[inline]
pub fn push_quoted(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    push_escaped(out, text);
    out.push(b'"');
}

/// Appends bytes as base64 with padding.
pub(crate) fn push_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.reserve(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let of = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = (of(0) << 16) | (of(1) << 8) | of(2);
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place)) as usize & 63];
            out.push(if place > group.len() { b'=' } else { digit });
        }
    }
}

/// The bytes of base64, as a key has them, in hexadecimal; what is no base64 is left out.
#[must_use]
pub fn hex_of(base64: &str) -> String {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let (mut hex, mut bits, mut count) = (String::new(), 0u32, 0);
    for digit in base64.bytes().filter_map(digit) {
        bits = (bits << 6) | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            hex += &format!("{:02x}", (bits >> count) & 0xff);
        }
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::{
        hex_of, push_bytes, push_decimal, push_double, push_integer, push_single, push_text,
        push_uuid,
    };

    fn json(push: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        push(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn numbers_keep_their_digits_and_are_texts_where_a_reader_could_lose_some() {
        assert_eq!(json(|out| push_decimal(out, "-12.50")), "-12.50");
        assert_eq!(
            json(|out| push_decimal(out, "99999999999999999.99")),
            "\"99999999999999999.99\""
        );
        assert_eq!(json(|out| push_decimal(out, "NaN")), "\"NaN\"");
        assert_eq!(json(|out| push_integer(out, i64::MIN)), "-9223372036854775808");
        assert_eq!(json(|out| push_integer(out, u64::MAX)), "18446744073709551615");
        assert_eq!(json(|out| push_double(out, 0.1)), "0.1");
        assert_eq!(json(|out| push_single(out, 0.1)), "0.1");
        assert_eq!(json(|out| push_double(out, f64::NEG_INFINITY)), "\"-Infinity\"");
    }

    #[test]
    fn texts_bytes_and_uuids() {
        assert_eq!(json(|out| push_text(out, "a\"\n😀\u{1}")), "\"a\\\"\\n😀\\u0001\"");
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v")] {
            assert_eq!(json(|out| push_bytes(out, bytes.as_bytes())), format!("\"{text}\""));
            let hex: String = bytes.bytes().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex_of(text), hex);
        }
        let bytes = [0, 17, 34, 51, 68, 85, 102, 119, 136, 153, 170, 187, 204, 221, 238, 255];
        let text = "\"00112233-4455-6677-8899-aabbccddeeff\"";
        assert_eq!(json(|out| push_uuid(out, &bytes)), text);
    }
}
