//! Configuration errors and the report that shows all of them in one pass.

use std::fmt;

use super::frame::{Style, push_frame};
use super::mask::clipped;
use super::origin::{Extent, Position, Texts};

/// Errors printed; the rest is counted.
const SHOWN_MAX: usize = 50;
/// Errors kept; a file that is wrong everywhere must not fill the memory.
pub(crate) const KEPT_MAX: usize = 1000;

/// Where an error points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// Nowhere in particular.
    Nowhere,
    /// A whole text, such as a file that lacks a key.
    Whole(usize),
    /// A range in a text.
    At(Extent),
}

/// One configuration error: what is wrong, where, and what would be right.
/// Never holds the value of a variable or of a secret.
#[derive(Debug, Clone)]
pub struct Diagnostic {
    /// What is wrong.
    pub message: String,
    /// The key it is about, as `--set` would name it: `load.0.batch`.
    pub key: Option<String>,
    /// What stands beside the caret: what would be right, in a few words.
    pub label: String,
    /// What to do, where it takes a sentence.
    pub help: Option<String>,
    pub(crate) place: Place,
    /// The section whose keys `etl schema` would list, such as `load.batch`.
    pub(crate) section: Option<String>,
}

impl Diagnostic {
    pub(crate) fn new(place: Place, message: impl Into<String>) -> Self {
        Diagnostic {
            message: message.into(),
            key: None,
            label: String::new(),
            help: None,
            place,
            section: None,
        }
    }

    pub(crate) fn at(extent: Extent, message: impl Into<String>) -> Self {
        Diagnostic::new(Place::At(extent), message)
    }

    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    pub(crate) fn section(mut self, section: impl Into<String>) -> Self {
        self.section = Some(section.into());
        self
    }
}

/// Every error of one configuration, with the texts they point into.
/// Its `Debug` is its text, so that no literal secret of a file is printed.
pub struct Report {
    texts: Texts,
    errors: Vec<Diagnostic>,
    dropped: usize,
    secrets: Vec<Extent>,
}

impl Report {
    pub(crate) fn new(texts: Texts, mut errors: Vec<Diagnostic>, secrets: Vec<Extent>) -> Self {
        errors.sort_by_key(|error| error.place);
        let dropped = errors.len().saturating_sub(KEPT_MAX);
        errors.truncate(KEPT_MAX);
        Report { texts, errors, dropped, secrets }
    }

    pub(crate) fn single(error: Diagnostic) -> Self {
        Report::new(Texts::default(), vec![error], Vec::new())
    }

    /// The errors in the order of the file; at most 1,000 are kept.
    #[must_use]
    pub fn errors(&self) -> &[Diagnostic] {
        &self.errors
    }

    /// How many errors there are, kept or not.
    #[must_use]
    pub fn error_count(&self) -> usize {
        self.errors.len() + self.dropped
    }

    /// Line and column of an error in the pipeline's file; none for `--set` and whole-file errors.
    #[must_use]
    pub fn position(&self, error: &Diagnostic) -> Option<Position> {
        match error.place {
            Place::At(extent) if extent.text == 0 => {
                self.texts.get(0).map(|text| text.position(extent.start))
            }
            _ => None,
        }
    }

    /// The whole report: errors, then `all keys here …` and `nothing was read or sent`.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let mut out = self.render_errors(color);
        out.push_str("nothing was read or sent\n");
        out
    }

    /// The report without its last line, for when several files are checked at once.
    #[must_use]
    pub fn render_errors(&self, color: bool) -> String {
        let style = Style { color };
        let mut out = String::new();
        for (index, error) in self.errors.iter().take(SHOWN_MAX).enumerate() {
            if index > 0 {
                out.push('\n');
            }
            self.push_error(&mut out, error, style);
        }
        let count = self.error_count();
        if count > SHOWN_MAX {
            out.push_str(&format!("\n{count} errors; the first {SHOWN_MAX} are shown\n"));
        } else if count > 1 {
            out.push_str(&format!("\n{count} errors\n"));
        }
        match self.section() {
            Some(section) if section.is_empty() => out.push_str("all keys: etl schema\n"),
            Some(section) => out.push_str(&format!("all keys here: etl schema {section}\n")),
            None => {}
        }
        out
    }

    fn push_error(&self, out: &mut String, error: &Diagnostic, style: Style) {
        let message = clipped(&error.message, 400);
        out.push_str(&format!("{} {message}\n", style.error("error:")));
        let mut label = error.label.as_str();
        match error.place {
            Place::At(extent) => {
                if let Some(text) = self.texts.get(extent.text) {
                    push_frame(out, text, extent, label, &self.secrets, style);
                    label = "";
                }
            }
            Place::Whole(text) => {
                let name = self.texts.get(text).map_or("", |text| text.name.as_str());
                out.push_str(&format!("  {} {name}\n", style.gutter("-->")));
            }
            Place::Nowhere => {}
        }
        for line in [label, error.help.as_deref().unwrap_or_default()] {
            if !line.is_empty() {
                out.push_str(&format!("   {} {}\n", style.gutter("="), style.help(line)));
            }
        }
    }

    /// The deepest section that holds every error that has one.
    fn section(&self) -> Option<String> {
        let mut sections = self.errors.iter().filter_map(|error| error.section.as_deref());
        let mut common: Vec<&str> = sections.next()?.split('.').collect();
        for section in sections {
            let same = common.iter().zip(section.split('.')).take_while(|(a, b)| **a == *b).count();
            common.truncate(same);
        }
        Some(common.join("."))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(false).trim_end())
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Report({self})")
    }
}

impl std::error::Error for Report {}
