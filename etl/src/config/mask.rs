//! What an error may show. Secrets are hidden, control characters and
//! direction overrides are escaped, and long names are cut, so that printing a
//! configuration error is always safe.

use serde_json::Value as Json;

use super::origin::Extent;
use super::pipeline::Pipeline;

/// What stands for a hidden value.
pub(crate) const HIDDEN: &str = "***";

/// Key names whose value is hidden even where the schema does not know the key,
/// as in a misspelt section or a file that is not valid YAML.
const SECRET_WORDS: [&str; 11] = [
    "token",
    "tokens",
    "password",
    "passwd",
    "secret",
    "authorization",
    "api_key",
    "api-key",
    "apikey",
    "credential",
    "community",
];

/// The whole configuration with its defaults, fit to be shown: secrets are hidden, and so is
/// what sounds like one, a password in an address, and an address' query.
#[must_use]
pub fn masked(pipeline: &Pipeline) -> Json {
    // Serializing plain data to memory does not fail; secrets come as `(hidden)`.
    let mut shown = serde_json::to_value(pipeline).unwrap_or_default();
    hide(&mut shown);
    shown
}

fn hide(value: &mut Json) {
    match value {
        Json::Object(entries) => {
            for (key, value) in entries {
                match value {
                    Json::String(text) if sounds_secret(key) && !text.is_empty() => {
                        *text = "(hidden)".to_owned();
                    }
                    value => hide(value),
                }
            }
        }
        Json::Array(items) => items.iter_mut().for_each(hide),
        Json::String(text) => {
            let mut ranges = hidden_ranges(text, 0, 0, &[]);
            ranges.sort_unstable();
            for (start, end) in ranges.into_iter().rev() {
                text.replace_range(start..end, HIDDEN);
            }
        }
        _ => {}
    }
}

/// Whether a key's name says that its value is a secret; one slip of the finger is forgiven.
pub(crate) fn sounds_secret(key: &str) -> bool {
    if key.len() > 64 {
        return true; // nobody's key: hide what follows rather than look closer
    }
    let key = key.to_ascii_lowercase();
    let last = key.rsplit(['_', '-']).next().unwrap_or(&key);
    let near = |word: &str| {
        let near = |name: &str| {
            name.len().abs_diff(word.len()) <= 1 && strsim::damerau_levenshtein(name, word) <= 1
        };
        near(&key) || near(last)
    };
    SECRET_WORDS.iter().any(|word| key.ends_with(word) || near(word))
}

/// Whether a written value only refers to variables, so that showing it shows no secret.
pub(crate) fn only_names_a_variable(text: &str) -> bool {
    let inner = text.trim().trim_matches(['"', '\'']);
    let Some(inner) = inner.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) else {
        return false;
    };
    let name = inner.strip_suffix(":-").unwrap_or(inner);
    let name = name.split_once(":?").map_or(name, |(name, _)| name);
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// A name or value for a message: in backquotes, escaped, at most 60 characters.
pub(crate) fn quoted(text: &str) -> String {
    format!("`{}`", clipped(text, 60))
}

/// At most `max` characters of a text, escaped.
pub(crate) fn clipped(text: &str, max: usize) -> String {
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == max {
            out.push('…');
            break;
        }
        push_escaped(&mut out, c);
    }
    out
}

/// Appends a character, escaped where a terminal would act on it or hide it.
pub(crate) fn push_escaped(out: &mut String, c: char) {
    match c {
        '\t' => out.push_str("\\t"),
        _ if c.is_control() || is_invisible(c) => out.extend(c.escape_unicode()),
        _ => out.push(c),
    }
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The byte ranges of a line that must not be shown: `known` secrets, values of
/// keys that sound secret, and passwords in addresses.
pub(crate) fn hidden_ranges(
    line: &str,
    line_start: usize,
    text: usize,
    known: &[Extent],
) -> Vec<(usize, usize)> {
    let mut ranges = Vec::new();
    for extent in known.iter().filter(|extent| extent.text == text) {
        let start = extent.start.max(line_start);
        let end = extent.end.min(line_start + line.len());
        if start < end {
            ranges.push((start - line_start, end - line_start));
        }
    }
    push_values_of_secret_keys(line, &mut ranges);
    push_passwords_in_addresses(line, &mut ranges);
    push_queries_of_addresses(line, &mut ranges);
    ranges
}

fn push_values_of_secret_keys(line: &str, ranges: &mut Vec<(usize, usize)>) {
    for (at, separator) in line.match_indices([':', '=']) {
        let key_end = line[..at].trim_end_matches(['"', '\'', ' ']).len();
        let key_start = line[..key_end]
            .rfind(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-'))
            .map_or(0, |before| before + line[before..].chars().next().map_or(1, char::len_utf8));
        if !sounds_secret(&line[key_start..key_end]) {
            continue;
        }
        let from = at + separator.len();
        let start = from + (line[from..].len() - line[from..].trim_start().len());
        // A value in `${…}` may hold commas and braces; a plain one in a flow mapping may not.
        let written = line[start..].trim_end();
        let in_braces = written.starts_with("${").then(|| written.find('}').map(|end| end + 1));
        let end = match in_braces.flatten() {
            Some(end) if only_names_a_variable(&written[..end]) => continue,
            _ => written.find([',']).unwrap_or(written.len()),
        };
        let value = written[..end].trim_end();
        let harmless = matches!(value, "" | "true" | "false" | "null" | "~")
            || value.starts_with("\"\"")
            || value.starts_with("''");
        let known = ranges.iter().any(|(from, to)| (*from..*to).contains(&start));
        if !harmless && !known {
            ranges.push((start, start + value.len()));
        }
    }
}

fn push_passwords_in_addresses(line: &str, ranges: &mut Vec<(usize, usize)>) {
    for (at, _) in line.match_indices("://") {
        let authority = &line[at + 3..];
        let end = authority.find(['/', ' ', '"', '\'']).unwrap_or(authority.len());
        if let Some(user) = authority[..end].rfind('@') {
            ranges.push((at + 3, at + 3 + user));
        }
    }
}

/// Keys of APIs travel in queries under any name, so a query is hidden as a whole.
fn push_queries_of_addresses(line: &str, ranges: &mut Vec<(usize, usize)>) {
    for (at, _) in line.match_indices("://") {
        let address = &line[at..];
        // Where an address goes wrong it may have blanks: rather too much is hidden.
        let end = address.find(['"', '\'']).or_else(|| address.find(" #"));
        let end = end.unwrap_or(address.len());
        let Some(mark) = address[..end].find('?') else { continue };
        let (start, end) = (at + mark + 1, at + end);
        if start == end || only_names_a_variable(&line[start..end]) {
            continue;
        }
        if ranges.iter().any(|(from, to)| *from <= start && end <= *to) {
            continue;
        }
        ranges.retain(|(from, to)| *to <= start || end <= *from);
        ranges.push((start, end));
    }
}

#[cfg(test)]
mod tests {
    use super::{HIDDEN, hidden_ranges, only_names_a_variable, quoted};

    fn shown(line: &str) -> String {
        let mut shown = line.to_owned();
        let mut ranges = hidden_ranges(line, 0, 0, &[]);
        ranges.sort_unstable();
        for (start, end) in ranges.into_iter().rev() {
            shown.replace_range(start..end, HIDDEN);
        }
        shown
    }

    #[test]
    fn values_of_keys_that_sound_secret_are_hidden() {
        assert_eq!(shown("  tokens: abc def"), "  tokens: ***");
        assert_eq!(shown("{ \"password\": hunter2, x: 1 }"), "{ \"password\": ***, x: 1 }");
        assert_eq!(shown("load.0.http.token=abc"), "load.0.http.token=***");
        assert_eq!(shown("token: ${T:-abc}"), "token: ***");
        assert_eq!(shown("tokne: abc"), "tokne: ***");
        assert_eq!(shown("api_tokn: abc"), "api_tokn: ***");
    }

    #[test]
    fn variables_flags_and_other_keys_stay_readable() {
        for line in [
            "token: ${T}",
            "token: ${T:-}",
            "{ token: ${T}, url: x }",
            "token_file: x",
            "allow_plain_token: true",
            "{ token: \"\", a: b }",
            "timeout: 8s",
            "name: tokens",
            "token:",
            "url: http://a/b@c",
        ] {
            assert_eq!(shown(line), line);
        }
        assert!(!only_names_a_variable("${A}x${B}"));
    }

    #[test]
    fn passwords_in_addresses_are_hidden() {
        assert_eq!(shown("url: http://me:pw@host/x"), "url: http://***@host/x");
    }

    #[test]
    fn queries_of_addresses_are_hidden() {
        assert_eq!(shown("url: \"http://h/x?key=abc&b=c\" # k"), "url: \"http://h/x?***\" # k");
        assert_eq!(shown("{ url: http://h/?token=abc, a: b }"), "{ url: http://h/?***");
        assert_eq!(shown("url: http://me:pw@h/?a=b"), "url: http://***@h/?***");
        assert_eq!(shown("url: http://h/?${QUERY}"), "url: http://h/?${QUERY}");
    }

    #[test]
    fn names_are_escaped_and_cut() {
        assert_eq!(quoted("a\u{1b}[31m"), "`a\\u{1b}[31m`");
        assert_eq!(quoted(&"x".repeat(99)).chars().count(), 63);
    }
}
