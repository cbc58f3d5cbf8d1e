//! Where configuration text came from: the pipeline's file, each `--set` option
//! and the `.env` files. An [`Extent`] is a byte range in one of these texts;
//! every key and value of the tree carries one, so that every error has a place.

use super::mask::clipped;

/// A byte range in one of the [`Texts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Extent {
    /// Index of the text.
    pub text: usize,
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

/// Line and column of an error, both counted from 1; columns are characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// What kind of text it is; decides how an error shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The pipeline's file: shown with line numbers.
    File,
    /// One `--set` option: shown without a line number.
    Option,
    /// A `.env` file: named, never shown, because its lines are secrets.
    Environment,
}

/// One text with its line starts.
pub(crate) struct Text {
    pub name: String,
    pub kind: Kind,
    content: String,
    line_starts: Vec<usize>,
}

impl Text {
    /// Indexes the lines of a text.
    pub fn new(kind: Kind, name: impl Into<String>, content: impl Into<String>) -> Self {
        let content = content.into();
        let mut line_starts = vec![0];
        for (at, byte) in content.bytes().enumerate() {
            if byte == b'\n' {
                line_starts.push(at + 1);
            }
        }
        Text { name: clipped(&name.into(), 300), kind, content, line_starts }
    }

    /// Line and column of a byte offset; an offset past the end counts as the end.
    pub fn position(&self, offset: usize) -> Position {
        let offset = floor_boundary(&self.content, offset);
        let line = self.line_starts.partition_point(|start| *start <= offset).max(1);
        let start = self.line_starts[line - 1];
        Position { line, column: self.content[start..offset].chars().count() + 1 }
    }

    /// A line (from 1) without its line break, and the offset of its first byte.
    pub fn line(&self, line: usize) -> (&str, usize) {
        let Some(start) = line.checked_sub(1).and_then(|index| self.line_starts.get(index)) else {
            return ("", self.content.len());
        };
        let end = self.line_starts.get(line).copied().unwrap_or(self.content.len());
        (self.content[*start..end].trim_end_matches(['\n', '\r']), *start)
    }
}

/// All texts of one load; the first is the pipeline's file.
#[derive(Default)]
pub(crate) struct Texts(Vec<Text>);

impl Texts {
    /// Adds a text and returns its index.
    pub fn add(&mut self, text: Text) -> usize {
        self.0.push(text);
        self.0.len() - 1
    }

    /// What stands in a range; empty where there is no such range.
    pub fn slice(&self, extent: Extent) -> &str {
        let text = self.0.get(extent.text);
        text.and_then(|text| text.content.get(extent.start..extent.end)).unwrap_or_default()
    }

    /// The text with this index.
    pub fn get(&self, index: usize) -> Option<&Text> {
        self.0.get(index)
    }
}

fn floor_boundary(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

#[cfg(test)]
mod tests {
    use super::{Kind, Position, Text};

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        let text = Text::new(Kind::File, "p.yaml", "a: é1\r\nbb\n");
        assert_eq!(text.position(0), Position { line: 1, column: 1 });
        assert_eq!(text.position(5), Position { line: 1, column: 5 });
        assert_eq!(text.position(8), Position { line: 2, column: 1 });
        assert_eq!(text.position(999), Position { line: 3, column: 1 });
        assert_eq!(text.line(1).0, "a: é1");
        assert_eq!(text.line(9).0, "");
        assert_eq!(text.line(0).0, "");
        assert_eq!(Text::new(Kind::File, "", "").position(0), Position { line: 1, column: 1 });
    }
}
