//! The environment a pipeline is read with: the process's variables and `.env`
//! files, gathered once. Nothing below the configuration reads variables.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::diagnostic::{Diagnostic, Place, Report};
use super::document::{BYTES_MAX, read_bounded};
use super::origin::{Extent, Kind, Text, Texts};

/// Names the file with the variables, where a service manager keeps it elsewhere.
const FILE_VARIABLE: &str = "ETL_ENV_FILE";

/// Variables by name. Its `Debug` shows their number, never a value.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    files: Vec<PathBuf>,
}

impl Environment {
    /// No variables at all.
    #[must_use]
    pub fn empty() -> Self {
        Environment::default()
    }

    /// These variables and no others.
    pub fn from_pairs<K: Into<String>, V: Into<String>>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let variables = pairs.into_iter().map(|(name, value)| (name.into(), value.into()));
        Environment { variables: variables.collect(), files: Vec::new() }
    }

    /// The process's variables; where they are silent, `.env` beside the
    /// pipeline's file, then `.env` in the working directory, or in the place of
    /// both the file that `ETL_ENV_FILE` names.
    ///
    /// # Errors
    /// A `.env` file that cannot be read or is malformed, naming its line.
    pub fn for_pipeline(pipeline: &Path) -> Result<Self, Report> {
        let mut environment = Environment::default();
        let process = std::env::vars_os();
        environment.variables.extend(process.filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        }));
        let mut files = env_files(pipeline);
        if let [named] = files.as_slice()
            && !named.exists()
        {
            let message = format!("{FILE_VARIABLE}: there is no file {}", named.display());
            return Err(Report::single(Diagnostic::new(Place::Nowhere, message)));
        }
        files.dedup_by_key(|file| file.canonicalize().ok());
        for file in &files {
            environment.add_file(file)?;
        }
        Ok(environment)
    }

    /// Adds what a `.env` file says about variables that are not set yet; no file, no change.
    ///
    /// # Errors
    /// A file that cannot be read or is malformed, naming its line.
    pub fn add_file(&mut self, path: &Path) -> Result<(), Report> {
        let content = match read_bounded(path) {
            Ok(content) => content,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                let message = format!("cannot read {}: {error}", path.display());
                let help = "make it readable, or remove it";
                return Err(Report::single(Diagnostic::new(Place::Nowhere, message).help(help)));
            }
        };
        let name = path.display().to_string();
        let size_fits = content.len() <= BYTES_MAX;
        let Some(content) = String::from_utf8(content).ok().filter(|_| size_fits) else {
            let message = format!("{name} is not UTF-8 text of at most {} KiB", BYTES_MAX >> 10);
            return Err(Report::single(Diagnostic::new(Place::Nowhere, message)));
        };
        for (name, value) in parse_env(&name, &content)? {
            self.variables.entry(name).or_insert(value);
        }
        self.files.push(path.to_owned());
        Ok(())
    }

    /// A variable's value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// All names that are set, for suggestions.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.variables.keys().map(String::as_str)
    }

    /// The `.env` files that were read.
    #[must_use]
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }
}

/// The files that a pipeline's variables come from, whether or not they are there: beside it
/// and in the working directory, or the one that the process was told.
pub(crate) fn env_files(pipeline: &Path) -> Vec<PathBuf> {
    let told = std::env::var_os(FILE_VARIABLE).filter(|told| !told.is_empty());
    match told {
        Some(told) => vec![PathBuf::from(told)],
        None => vec![pipeline.parent().unwrap_or(Path::new("")).join(".env"), ".env".into()],
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Environment({} variables, files {:?})", self.variables.len(), self.files)
    }
}

fn parse_env(name: &str, content: &str) -> Result<Vec<(String, String)>, Report> {
    let mut pairs = Vec::new();
    for item in dotenvy::from_read_iter(content.as_bytes()) {
        match item {
            Ok(pair) => pairs.push(pair),
            Err(dotenvy::Error::LineParse(line, _)) => {
                let first = line.lines().next().unwrap_or_default();
                let start = content.find(first).unwrap_or(0);
                let mut texts = Texts::default();
                let text = texts.add(Text::new(Kind::Environment, name, content));
                let extent = Extent { text, start, end: start + first.len() };
                let error = Diagnostic::at(extent, "a line of the .env file cannot be read")
                    .label("write NAME=value; quote a value that holds spaces, # or quotes");
                return Err(Report::new(texts, vec![error], Vec::new()));
            }
            Err(error) => {
                let message = format!("cannot read {name}: {error}");
                return Err(Report::single(Diagnostic::new(Place::Nowhere, message)));
            }
        }
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    use super::Environment;

    #[test]
    fn a_file_fills_in_what_is_not_set() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(".env");
        std::fs::write(&path, "# a comment\nexport A=from-file\nB='two words'\n").unwrap();
        let mut environment = Environment::from_pairs([("A", "set")]);
        environment.add_file(&path).unwrap();
        environment.add_file(&directory.path().join("none")).unwrap();
        assert_eq!(environment.get("A"), Some("set"));
        assert_eq!(environment.get("B"), Some("two words"));
        assert_eq!(environment.files(), [path]);
        assert!(!format!("{environment:?}").contains("two words"));
    }

    #[test]
    fn a_malformed_line_is_named_and_not_shown() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(".env");
        std::fs::write(&path, "A=1\nTOKEN canary-93\n").unwrap();
        let report = Environment::empty().add_file(&path).unwrap_err();
        let shown = report.render(false);
        assert!(shown.contains(".env:2\n"), "{shown}");
        assert!(shown.contains("write NAME=value"), "{shown}");
        assert!(!shown.contains("canary-93"), "{shown}");
    }
}
