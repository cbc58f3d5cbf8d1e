//! Makes foreign bytes fit for a terminal and a log line.

/// `bytes` as text of at most `max` bytes without control characters: those, bytes
/// that are not UTF-8 and characters that reorder or hide text are written as
/// escapes, and what is left out shows as `…`.
#[must_use]
pub fn printable(bytes: &[u8], max: usize) -> String {
    const ELLIPSIS: &str = "…";
    let mut text = String::with_capacity(bytes.len().min(max));
    let mut piece = String::new();
    // Where to cut so that the ellipsis fits and no escape is split.
    let mut cut = 0;
    for chunk in bytes.utf8_chunks() {
        let valid = chunk.valid().chars().map(Ok);
        for item in valid.chain(chunk.invalid().iter().copied().map(Err)) {
            piece.clear();
            escape(&mut piece, item);
            if text.len() + piece.len() > max {
                text.truncate(cut);
                if cut + ELLIPSIS.len() <= max {
                    text.push_str(ELLIPSIS);
                }
                return text;
            }
            text.push_str(&piece);
            if text.len() + ELLIPSIS.len() <= max {
                cut = text.len();
            }
        }
    }
    text
}

fn escape(piece: &mut String, item: Result<char, u8>) {
    match item {
        Ok('\n') => piece.push_str("\\n"),
        Ok('\r') => piece.push_str("\\r"),
        Ok('\t') => piece.push_str("\\t"),
        Ok(c) if c.is_ascii_control() => piece.push_str(&format!("\\x{:02x}", c as u32)),
        Ok(c) if c.is_control() || misleads(c) => piece.push_str(&format!("\\u{{{:x}}}", c as u32)),
        Ok(c) => piece.push(c),
        Err(byte) => piece.push_str(&format!("\\x{byte:02x}")),
    }
}

/// Characters that change the direction of what follows, break lines or are invisible.
fn misleads(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn nothing_foreign_reaches_the_terminal_as_it_is() {
        assert_eq!(printable("naïve – ok".as_bytes(), 100), "naïve – ok");
        assert_eq!(printable(b"\x1b[31mred\x07\r\n", 100), "\\x1b[31mred\\x07\\r\\n");
        assert_eq!(printable(b"a\xff\xc3b", 100), "a\\xff\\xc3b");
        assert_eq!(printable("\u{202e}evil\u{9b}".as_bytes(), 100), "\\u{202e}evil\\u{9b}");
    }

    #[test]
    fn the_cap_holds_and_never_cuts_an_escape_or_a_character() {
        assert_eq!(printable(b"abcdef", 6), "abcdef");
        assert_eq!(printable(b"abcdefg", 6), "abc…");
        assert_eq!(printable(b"ab\x01\x02\x03", 8), "ab…");
        for max in 0..40 {
            let text = printable("äöü\x1b\u{202e}€ und mehr Text".as_bytes(), max);
            assert!(text.len() <= max, "{text:?} is longer than {max}");
        }
    }
}
