//! What the terminal can show, decided once at start. Colour only repeats what
//! a word already says, so that a pipe, `NO_COLOR` and `TERM=dumb` lose nothing.

use std::io::IsTerminal;

const WIDTH_WITHOUT_TERMINAL: usize = 80;

/// What one output stream can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terminal {
    /// Colour codes may be written.
    pub color: bool,
    /// Lines may be redrawn in place.
    pub interactive: bool,
    /// Columns; 80 where there is no terminal.
    pub width: usize,
}

/// The colours there are; each has one meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Nothing to say about it.
    Plain,
    /// A zero, a path: there, but not what to look at.
    Dim,
    /// Worth finding at a glance.
    Strong,
    /// All well.
    Good,
    /// Safe, but not as it should be.
    Warn,
    /// Needs somebody.
    Bad,
}

impl Terminal {
    /// What stderr can show: progress, logs, errors.
    #[must_use]
    pub fn stderr() -> Terminal {
        Terminal::of_stream(
            std::io::stderr().is_terminal(),
            rustix::termios::tcgetwinsize(std::io::stderr()),
        )
    }

    /// What stdout can show: results.
    #[must_use]
    pub fn stdout() -> Terminal {
        Terminal::of_stream(
            std::io::stdout().is_terminal(),
            rustix::termios::tcgetwinsize(std::io::stdout()),
        )
    }

    /// A stream that shows plain lines only: a pipe, a file, a test.
    #[must_use]
    pub fn plain() -> Terminal {
        Terminal { color: false, interactive: false, width: WIDTH_WITHOUT_TERMINAL }
    }

    /// The decision itself. `term` and `no_color` are the environment's `TERM`
    /// and `NO_COLOR`; an empty `NO_COLOR` counts as unset (no-color.org).
    #[must_use]
    pub fn decide(
        is_terminal: bool,
        term: Option<&str>,
        no_color: Option<&str>,
        width: Option<u16>,
    ) -> Terminal {
        let moves = is_terminal && term != Some("dumb");
        Terminal {
            color: moves && no_color.is_none_or(str::is_empty),
            interactive: moves,
            width: match width {
                Some(columns) if columns > 0 => usize::from(columns),
                _ => WIDTH_WITHOUT_TERMINAL,
            },
        }
    }

    /// `text` in `tone`, or as it is where colours may not be written.
    #[must_use]
    pub fn paint(&self, tone: Tone, text: &str) -> String {
        match tone.code() {
            Some(code) if self.color && !text.is_empty() => format!("\x1b[{code}m{text}\x1b[0m"),
            _ => text.to_owned(),
        }
    }

    fn of_stream(
        is_terminal: bool,
        size: rustix::io::Result<rustix::termios::Winsize>,
    ) -> Terminal {
        let variable =
            |name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        let (term, no_color) = (variable("TERM"), variable("NO_COLOR"));
        let width = size.ok().map(|size| size.ws_col);
        Terminal::decide(is_terminal, term.as_deref(), no_color.as_deref(), width)
    }
}

impl Tone {
    fn code(self) -> Option<&'static str> {
        match self {
            Tone::Plain => None,
            Tone::Dim => Some("2"),
            Tone::Strong => Some("1"),
            Tone::Good => Some("32"),
            Tone::Warn => Some("33"),
            Tone::Bad => Some("1;31"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Terminal, Tone};

    #[test]
    fn pipes_dumb_terminals_and_no_color_are_obeyed() {
        let full = Terminal::decide(true, Some("xterm-256color"), None, Some(120));
        assert_eq!(full, Terminal { color: true, interactive: true, width: 120 });
        assert_eq!(Terminal::decide(true, None, Some(""), Some(0)).width, 80);
        assert!(Terminal::decide(true, None, Some(""), None).color);

        let plain = Terminal::decide(true, Some("xterm"), Some("1"), Some(90));
        assert!(plain.interactive && !plain.color);
        assert_eq!(Terminal::decide(true, Some("dumb"), None, None), Terminal::plain());
        assert_eq!(Terminal::decide(false, Some("xterm"), None, None), Terminal::plain());
    }

    #[test]
    fn paint_repeats_the_word_and_adds_nothing_without_colour() {
        let colored = Terminal { color: true, interactive: true, width: 80 };
        assert_eq!(colored.paint(Tone::Good, "ok"), "\x1b[32mok\x1b[0m");
        assert_eq!(colored.paint(Tone::Plain, "ok"), "ok");
        assert_eq!(Terminal::plain().paint(Tone::Bad, "FAIL"), "FAIL");
    }
}
