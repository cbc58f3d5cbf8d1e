//! Pipelines by their name or their file.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::config::{self, Loaded, Report, nearest};
use crate::http::printable;
use crate::schedule::pipeline_files;

/// Where pipelines are kept unless told otherwise.
pub const DIRECTORY: &str = "pipelines";
/// `name:` and `source:` stand near the top.
const READ_MAX: u64 = 64 * 1024;

/// A pipeline's file and what it says.
#[derive(Debug)]
pub struct Found {
    /// What it is called; where the file is wrong, what it seems to be called.
    pub name: String,
    /// The file.
    pub file: PathBuf,
    /// What it says, or all that is wrong with it.
    pub loaded: Result<Box<Loaded>, Box<Report>>,
}

/// Why there is no such pipeline.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// No pipeline has this name.
    #[error("there is no pipeline `{name}` in {directory}/; {hint}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// Where it was looked for.
        directory: PathBuf,
        /// What else to do.
        hint: String,
    },
    /// Several have it.
    #[error("{0} and {1} both name their pipeline so; give the file instead of the name")]
    Twice(PathBuf, PathBuf),
    /// The directory cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Found {
    /// Reads the pipeline's file.
    #[must_use]
    pub fn at(file: &Path) -> Found {
        let loaded = config::load(file, &[], None).map(Box::new).map_err(Box::new);
        let name = match &loaded {
            Ok(loaded) => loaded.pipeline.name.clone(),
            Err(_) => name_in(file).unwrap_or_else(|| name_of(file)),
        };
        Found { name, file: file.to_owned(), loaded }
    }

    /// What is wrong with the file, on one line.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let report = self.loaded.as_ref().err()?;
        let errors = report.errors();
        let first = errors.first().map_or("cannot be read", |error| error.message.as_str());
        let more = match errors.len() {
            0 | 1 => String::new(),
            number => format!(" (and {} more)", number - 1),
        };
        Some(format!("{first}{more}"))
    }
}

/// All pipelines of `directory`, by name; none when there is no such directory.
///
/// # Errors
/// When the directory is there and cannot be read.
pub fn all(directory: &Path) -> Result<Vec<Found>, FindError> {
    let files = match pipeline_files(directory) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(source) => return Err(FindError::Read { path: directory.to_owned(), source }),
    };
    let mut found: Vec<Found> = files.iter().map(|file| Found::at(file)).collect();
    found.sort_by(|one, two| one.name.cmp(&two.name));
    Ok(found)
}

/// The pipeline that `what` means: a file, a directory with a `pipeline.yaml`, or the name
/// of a pipeline in `directory`.
///
/// # Errors
/// When there is none, or several.
pub fn find(directory: &Path, what: &str) -> Result<Found, FindError> {
    let path = Path::new(what);
    if what.contains('/') || what.ends_with(".yaml") || what.ends_with(".yml") {
        let file = if path.is_dir() { path.join("pipeline.yaml") } else { path.to_owned() };
        return Ok(Found::at(&file));
    }
    let mut all = all(directory)?;
    let names: Vec<String> = all.iter().map(|found| found.name.clone()).collect();
    let mut same = names.iter().enumerate().filter(|(_, name)| *name == what).map(|(at, _)| at);
    match (same.next(), same.next()) {
        (Some(one), None) => Ok(all.swap_remove(one)),
        (Some(one), Some(two)) => {
            Err(FindError::Twice(all[one].file.clone(), all[two].file.clone()))
        }
        (None, _) => Err(FindError::Unknown {
            name: printable(what.as_bytes(), 100),
            directory: directory.to_owned(),
            hint: hint(what, &names),
        }),
    }
}

fn hint(what: &str, names: &[String]) -> String {
    if names.is_empty() {
        return "make one with: etl generate --name NAME, or give a file".to_owned();
    }
    match nearest(what, names.iter().map(String::as_str)).first() {
        Some(name) => format!("did you mean `{name}`?"),
        None => "which ones there are says: etl list".to_owned(),
    }
}

/// The name that a pipeline's file gives itself, found without understanding the file; none
/// when it is no pipeline: it has no `source:` at its top level.
#[must_use]
pub fn name_in(path: &Path) -> Option<String> {
    let mut head = Vec::new();
    // Not a directory or a pipe that merely is called `.yaml`.
    std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
    File::open(path).ok()?.take(READ_MAX).read_to_end(&mut head).ok()?;
    let head = String::from_utf8_lossy(&head);
    head.lines().find(|line| line.starts_with("source:"))?;
    let named = head.lines().find_map(|line| line.strip_prefix("name:"));
    let named =
        named.map(|name| name.split(" #").next().unwrap_or("").trim().trim_matches(['"', '\'']));
    match named {
        Some(name) if !name.is_empty() => Some(name.to_owned()),
        _ => Some(name_of(path)),
    }
}

/// What a file without a name is called: as it is, or as its directory.
fn name_of(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let parent = file.parent().and_then(Path::file_name);
    match parent {
        Some(parent) if stem == "pipeline" => parent.to_string_lossy().into_owned(),
        _ => stem,
    }
}
