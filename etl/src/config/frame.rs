//! The code frame under an error: the line before, the line itself, a caret.

use super::mask::{HIDDEN, hidden_ranges, push_escaped};
use super::origin::{Extent, Kind, Text};

/// The widest source line shown; longer ones are cut around the caret.
const WIDTH_MAX: usize = 100;

/// A line longer than this is named, not shown: hiding secrets needs a look at all of it.
const LINE_BYTES_MAX: usize = 4096;

/// How text is emphasised; colour only repeats what the words say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    /// Whether to use ANSI colours.
    pub color: bool,
}

impl Style {
    fn paint(self, code: &str, text: &str) -> String {
        if self.color && !text.is_empty() {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    /// What is wrong: bold red.
    pub fn error(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// Gutter and arrow: blue.
    pub fn gutter(self, text: &str) -> String {
        self.paint("34", text)
    }

    /// What to do: cyan.
    pub fn help(self, text: &str) -> String {
        self.paint("36", text)
    }
}

/// Appends the arrow line and, where the text may be shown, the frame.
pub(crate) fn push_frame(
    out: &mut String,
    text: &Text,
    extent: Extent,
    label: &str,
    known_secrets: &[Extent],
    style: Style,
) {
    let position = text.position(extent.start);
    let place = match text.kind {
        Kind::File => format!("{}:{}:{}", text.name, position.line, position.column),
        Kind::Option => format!("from {}", text.name),
        Kind::Environment => format!("{}:{}", text.name, position.line),
    };
    out.push_str(&format!("  {} {place}\n", style.gutter("-->")));
    if text.kind == Kind::Environment {
        if !label.is_empty() {
            out.push_str(&format!("   {} {}\n", style.gutter("="), style.help(label)));
        }
        return;
    }
    let numbered = text.kind == Kind::File;
    let width = position.line.to_string().len().max(2);
    let number = |line: usize| if numbered { format!("{line:>width$}") } else { " ".repeat(width) };

    let shown = ShownLine::new(text, position.line, extent, known_secrets);
    let (before, _) = text.line(position.line - 1);
    if numbered && !before.trim().is_empty() {
        let start = text.line(position.line - 1).1;
        let nowhere = Extent { text: extent.text, start, end: start };
        let line = ShownLine::new(text, position.line - 1, nowhere, known_secrets);
        push_line(out, style, &number(position.line - 1), &line.content);
    }
    push_line(out, style, &number(position.line), &shown.content);
    let caret = format!("{}{}", " ".repeat(shown.caret), style.error(&"^".repeat(shown.carets)));
    let label = if label.is_empty() { String::new() } else { format!(" {}", style.help(label)) };
    push_line(out, style, &" ".repeat(width), &format!("{caret}{label}"));
}

fn push_line(out: &mut String, style: Style, number: &str, content: &str) {
    let line = format!("{} {content}", style.gutter(&format!("{number} |")));
    out.push_str(line.trim_end());
    out.push('\n');
}

/// A source line as it is printed, and where the caret goes.
struct ShownLine {
    content: String,
    caret: usize,
    carets: usize,
}

impl ShownLine {
    fn new(text: &Text, number: usize, extent: Extent, known_secrets: &[Extent]) -> Self {
        let (line, line_start) = text.line(number);
        if line.len() > LINE_BYTES_MAX {
            let content = format!("(a line of {} KiB, not shown)", line.len().div_ceil(1024));
            return ShownLine { content, caret: 0, carets: 1 };
        }
        let mut hidden = vec![false; line.len()];
        for (start, end) in hidden_ranges(line, line_start, extent.text, known_secrets) {
            hidden[start..end].fill(true);
        }
        let from = extent.start.saturating_sub(line_start).min(line.len());
        let to = extent.end.saturating_sub(line_start).clamp(from, line.len());
        let to = from + line.get(from..to).map_or(0, |marked| marked.trim_end().len());

        let mut cells: Vec<String> = Vec::new();
        let (mut caret, mut caret_end) = (None, 0);
        let mut in_hidden = false;
        for (at, c) in line.char_indices() {
            let mut cell = String::new();
            if !hidden[at] {
                push_escaped(&mut cell, c);
            } else if !in_hidden {
                cell.push_str(HIDDEN);
            }
            in_hidden = hidden[at];
            if at >= from && caret.is_none() {
                caret = Some(cells.len());
            }
            cells.push(cell);
            if at < to {
                caret_end = cells.len();
            }
        }
        let caret = caret.unwrap_or(cells.len());
        clip(&cells, caret, caret_end.max(caret))
    }
}

/// Cuts a line to [`WIDTH_MAX`] so that the caret stays visible.
fn clip(cells: &[String], caret: usize, caret_end: usize) -> ShownLine {
    let width = |cells: &[String]| cells.iter().map(|cell| cell.chars().count()).sum::<usize>();
    let mut first = 0;
    if width(cells) > WIDTH_MAX {
        while first < caret && width(&cells[first..caret]) > WIDTH_MAX / 2 {
            first += (caret - first).div_ceil(2);
        }
    }
    let mut content = String::from(if first > 0 { "…" } else { "" });
    let lead = content.chars().count();
    let mut last = first;
    let mut used = 0;
    while last < cells.len() && used + cells[last].chars().count() <= WIDTH_MAX {
        used += cells[last].chars().count();
        content.push_str(&cells[last]);
        last += 1;
    }
    if last < cells.len() {
        content.push('…');
    }
    let shown_end = caret_end.clamp(caret, last.max(caret));
    ShownLine {
        content,
        caret: lead + width(&cells[first..caret]),
        carets: width(&cells[caret..shown_end]).max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::super::origin::{Extent, Kind, Text};
    use super::{Style, push_frame};

    fn frame(content: &str, start: usize, end: usize, secrets: &[Extent]) -> String {
        let text = Text::new(Kind::File, "p.yaml", content);
        let mut out = String::new();
        let extent = Extent { text: 0, start, end };
        push_frame(&mut out, &text, extent, "here", secrets, Style { color: false });
        out
    }

    #[test]
    fn the_caret_stands_under_the_text() {
        assert_eq!(
            frame("a: 1\nbad: 2\n", 5, 8, &[]),
            "  --> p.yaml:2:1\n 1 | a: 1\n 2 | bad: 2\n   | ^^^ here\n"
        );
    }

    #[test]
    fn a_hidden_value_moves_the_caret_with_it() {
        let secret = Extent { text: 0, start: 3, end: 12 };
        assert_eq!(
            frame("t: sssssssss x\n", 13, 14, &[secret]),
            "  --> p.yaml:1:14\n 1 | t: *** x\n   |        ^ here\n"
        );
    }

    #[test]
    fn long_lines_are_cut_around_the_caret_and_controls_escaped() {
        let long = format!("{}\tbad\u{7}{}", "x".repeat(2000), "y".repeat(2000));
        let shown = frame(&long, 2001, 2004, &[]);
        assert!(shown.lines().all(|line| line.chars().count() < 120), "{shown}");
        assert!(shown.contains("\\tbad\\u{7}"), "{shown}");
        let caret = shown.lines().last().unwrap_or_default().find('^');
        let bad = shown.lines().nth(1).unwrap_or_default();
        let bad = bad.find("bad").map(|at| bad[..at].chars().count());
        assert_eq!(caret, bad, "{shown}");
        let longer = frame(&"x".repeat(1 << 20), 9, 10, &[]);
        assert!(longer.contains("(a line of 1024 KiB, not shown)"), "{longer}");
    }

    #[test]
    fn an_end_of_file_gets_a_caret_too() {
        assert!(frame("a: [", 4, 4, &[]).ends_with("   |     ^ here\n"));
        assert!(frame("", 0, 0, &[]).ends_with("   | ^ here\n"));
    }
}
