//! Text into JSON without an intermediate tree: strings escaped, numbers kept in
//! the spelling they came in. Shared by everything that writes rows.

/// The byte is a control character, a quote or a backslash.
pub const ESCAPE: u8 = 1;
/// The byte is part of a character beyond ASCII.
pub(crate) const HIGH: u8 = 2;
/// The byte does not occur in a JSON number.
pub(crate) const NOT_NUMBER: u8 = 4;
/// The byte ends the field; set by the CSV source for its delimiter.
pub(crate) const DELIMITER: u8 = 8;
/// The byte is a sign or an exponent's `e`, which few numbers have.
const SIGN: u8 = 16;

/// What each byte means for its encoding: the union over a text's bytes tells which
/// checks it still needs.
pub const CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut classes = [NOT_NUMBER; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] |= match byte as u8 {
            0..=0x1f | b'"' | b'\\' => ESCAPE,
            0x80..=0xff => HIGH,
            _ => 0,
        };
        match byte as u8 {
            b'0'..=b'9' | b'.' => classes[byte] = 0,
            b'+' | b'-' | b'e' | b'E' => classes[byte] = SIGN,
            _ => {}
        }
        byte += 1;
    }
    classes
}

/// The longest number that is kept as one, in bytes; also keeps a leading-zero
/// mantissa from underflowing.
const NUMBER_LENGTH_MAX: usize = 32;
/// More would not survive a reader that keeps numbers as 64-bit floats.
const SIGNIFICANT_DIGITS_MAX: usize = 17;
/// With the limits above, larger exponents can leave the range of a 64-bit float.
const EXPONENT_MAX: u32 = 270;

/// As [`is_number`], for a text whose bytes have the classes `class`; short decimals,
/// which most numbers are, are told without a call.
#[inline]
pub(crate) fn is_number_of(class: u8, text: &[u8]) -> bool {
    if class & NOT_NUMBER != 0 {
        return false;
    }
    if class & SIGN != 0 || text.len() > SIGNIFICANT_DIGITS_MAX {
        return is_number(text);
    }
    // Only digits and points from here on, too few digits to be too many.
    let whole = text.iter().position(|byte| *byte == b'.').unwrap_or(text.len());
    let leading_zero = whole > 1 && text[0] == b'0';
    let fraction_ok = match text.get(whole + 1..) {
        None => true,
        Some(fraction) => !fraction.is_empty() && !fraction.contains(&b'.'),
    };
    whole > 0 && !leading_zero && fraction_ok
}

/// Whether `text` is spelled as JSON spells numbers and means the same number to
/// every reader: `-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?`, at most 17 significant
/// digits, within the range of a 64-bit float.
pub fn is_number(text: &[u8]) -> bool {
    if text.len() > NUMBER_LENGTH_MAX {
        return false;
    }
    let digits = |at: usize| text[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut at = usize::from(text.first() == Some(&b'-'));
    let whole = digits(at);
    if whole == 0 || (whole > 1 && text[at] == b'0') {
        return false;
    }
    // A number this short needs no count of its digits.
    let mut significant = if text[at] == b'0' { 0 } else { whole };
    at += whole;
    if text.get(at) == Some(&b'.') {
        let fraction = digits(at + 1);
        if fraction == 0 {
            return false;
        }
        let digits = &text[at + 1..at + 1 + fraction];
        significant += match significant {
            0 => digits.iter().skip_while(|digit| **digit == b'0').count(),
            _ => fraction,
        };
        at += 1 + fraction;
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        at += 1;
        at += usize::from(matches!(text.get(at), Some(b'+' | b'-')));
        let count = digits(at);
        let exponent = text[at..at + count].iter().fold(0u32, |value, digit| {
            value.saturating_mul(10).saturating_add(u32::from(digit - b'0'))
        });
        if count == 0 || exponent > EXPONENT_MAX {
            return false;
        }
        at += count;
    }
    at == text.len() && significant <= SIGNIFICANT_DIGITS_MAX
}

/// Appends `text` as a JSON string.
pub fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    push_escaped(out, text.as_bytes());
    out.push(b'"');
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// As [`push_escaped`], into `out` from place `at` on, which has room for six times the
/// text; gives the place behind it.
pub(crate) fn put_escaped(out: &mut [u8], mut at: usize, text: &[u8]) -> usize {
    for &byte in text {
        let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
        let unicode = [b'\\', b'u', b'0', b'0', high, low];
        let (escaped, length) = match byte {
            b'"' | b'\\' => ([b'\\', byte, 0, 0, 0, 0], 2),
            b'\n' => (*b"\\n\0\0\0\0", 2),
            b'\r' => (*b"\\r\0\0\0\0", 2),
            b'\t' => (*b"\\t\0\0\0\0", 2),
            _ if CLASSES[usize::from(byte)] & ESCAPE != 0 => (unicode, 6),
            _ => ([byte, 0, 0, 0, 0, 0], 1),
        };
        out[at..at + length].copy_from_slice(&escaped[..length]);
        at += length;
    }
    at
}

/// Appends bytes that are UTF-8 with what JSON wants escaped.
pub fn push_escaped(out: &mut Vec<u8>, text: &[u8]) {
    let mut written = 0;
    for (at, &byte) in text.iter().enumerate() {
        if CLASSES[usize::from(byte)] & ESCAPE == 0 {
            continue;
        }
        out.extend_from_slice(&text[written..at]);
        written = at + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            }
        }
    }
    out.extend_from_slice(&text[written..]);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use proptest::prelude::*;

    use super::{CLASSES, is_number, is_number_of, push_string, put_escaped};

    #[test]
    fn only_what_every_reader_takes_for_the_same_number_is_one() {
        for yes in [
            "0",
            "-0",
            "7",
            "10",
            "-1.5",
            "0.25",
            "1e5",
            "1E+05",
            "2.5e-3",
            "12345678901234567",
            "0.00000000012345678901234567",
            "1763645000",
            "10000000000000000e270",
            "99.87",
        ] {
            assert!(is_number(yes.as_bytes()), "{yes}");
            let value: serde_json::Value = serde_json::from_str(yes).unwrap();
            assert!(value.as_f64().unwrap().is_finite());
        }
        for no in [
            "",
            "-",
            "+1",
            "01",
            "-01",
            "1.",
            ".5",
            "1e",
            "1e+",
            "e5",
            "0x1",
            "NaN",
            "inf",
            "1 ",
            " 1",
            "1,5",
            "123456789012345678",
            "1.23456789012345678",
            "1e271",
            "1e-999",
            "1e99999",
            "--1",
            "1-",
            "1.5.2",
            "1e5e5",
            "192.168.0.1",
            "00",
            "1e4294967297",
        ] {
            assert!(!is_number(no.as_bytes()), "{no}");
        }
    }

    proptest! {
        #[test]
        fn the_short_way_says_the_same(text in "[-+.eE01579]{0,20}|[0-9]{0,19}[.]?[0-9]{0,4}") {
            let class = text.bytes().fold(0, |class, byte| class | CLASSES[usize::from(byte)]);
            prop_assert_eq!(is_number_of(class, text.as_bytes()), is_number(text.as_bytes()));
        }
    }

    #[test]
    fn strings_come_back_as_they_were() {
        let text: String =
            (0..0x180).filter_map(char::from_u32).chain("€😀\u{2028}".chars()).collect();
        let mut out = Vec::new();
        push_string(&mut out, &text);
        assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        let mut put = vec![0; 6 * text.len() + 1];
        let end = put_escaped(&mut put, 1, text.as_bytes());
        assert_eq!(put[1..end], out[1..out.len() - 1]);
    }
}
