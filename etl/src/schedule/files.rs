//! Which files a command line means, and whether one of them has changed.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::env_files;

/// A larger file is no pipeline; how large it is tells enough of its content.
const BYTES_MAX: u64 = 1 << 20;

/// Files as given; directories as their pipelines, sorted by name.
///
/// # Errors
/// When a directory cannot be read or holds no pipeline, in words.
pub fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let found = pipeline_files(path)
            .map_err(|error| format!("cannot read directory {}: {error}", path.display()))?;
        if found.is_empty() {
            return Err(format!("no *.yaml, *.yml or */pipeline.yaml in {}", path.display()));
        }
        files.extend(found);
    }
    Ok(files)
}

/// The files that are there now, each with what its content is known by. A directory
/// that has become empty has none.
///
/// # Errors
/// When a directory cannot be read: nothing is known then, least of all that its files
/// are gone.
pub fn watched(paths: &[PathBuf], known: &Seen) -> io::Result<Seen> {
    let mut seen = Seen::default();
    for path in paths {
        let directory = match std::fs::metadata(path) {
            Ok(about) => about.is_dir(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let files = if directory { pipeline_files(path)? } else { vec![path.clone()] };
        for file in files {
            if let Some(look) = Look::at(&file, known.0.get(&file)) {
                seen.0.insert(file, look);
            }
        }
    }
    Ok(seen)
}

/// The pipelines of a directory: its `*.yaml` and `*.yml`, and the `pipeline.yaml` of each
/// directory in it, sorted.
///
/// # Errors
/// When the directory cannot be read.
pub fn pipeline_files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let is_yaml = |path: &PathBuf| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        matches!(extension, Some("yaml" | "yml")) && path.is_file()
    };
    let entries = std::fs::read_dir(directory)?.collect::<io::Result<Vec<_>>>()?;
    let in_it = |path: PathBuf| if path.is_dir() { path.join("pipeline.yaml") } else { path };
    let mut found: Vec<PathBuf> =
        entries.into_iter().map(|entry| in_it(entry.path())).filter(is_yaml).collect();
    found.sort();
    Ok(found)
}

/// Files with what their content is known by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen(pub(super) BTreeMap<PathBuf, Look>);

/// What a file's content is known by: of the file itself and of the `.env` beside it and
/// in the working directory, from which its variables come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Look {
    parts: [Option<Part>; 3],
}

impl Look {
    fn at(file: &Path, before: Option<&Look>) -> Option<Look> {
        let part = |path: &Path, number: usize| {
            Part::at(path, before.and_then(|look| look.parts[number].as_ref()))
        };
        let itself = part(file, 0)?;
        let variables = env_files(file);
        let variables = |number: usize| variables.get(number).map(PathBuf::as_path);
        let beside = variables(0).and_then(|path| part(path, 1));
        let here = variables(1).and_then(|path| part(path, 2));
        Some(Look { parts: [Some(itself), beside, here] })
    }

    /// Whether the content is the same, however often it was written.
    pub(super) fn same_content(&self, other: &Look) -> bool {
        let hashes =
            |look: &Look| look.parts.each_ref().map(|part| part.as_ref().map(|it| it.hash));
        hashes(self) == hashes(other)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    /// Which file, how long, and when it was written, in nanoseconds too.
    stamp: (u64, u64, i64, i64),
    hash: [u8; 32],
}

impl Part {
    /// Reads the file only where it may have changed.
    fn at(path: &Path, before: Option<&Part>) -> Option<Part> {
        let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        let about = match std::fs::metadata(path) {
            Ok(about) if about.is_file() => about,
            Ok(_) => return None,
            Err(error) if gone(&error) => return None,
            Err(error) => return Some(Part::unreadable(&error)),
        };
        let stamp = (about.ino(), about.len(), about.mtime(), about.mtime_nsec());
        if let Some(before) = before.filter(|part| part.stamp == stamp) {
            return Some(before.clone());
        }
        if about.len() > BYTES_MAX {
            let hash = blake3::hash(&about.len().to_le_bytes());
            return Some(Part { stamp, hash: *hash.as_bytes() });
        }
        match std::fs::read(path) {
            Ok(content) => Some(Part { stamp, hash: *blake3::hash(&content).as_bytes() }),
            Err(error) if gone(&error) => None,
            Err(error) => Some(Part::unreadable(&error)),
        }
    }

    /// A file that is there and tells nothing; loading it says why.
    fn unreadable(error: &io::Error) -> Part {
        let hash = blake3::hash(error.to_string().as_bytes());
        Part { stamp: (0, 0, 0, 0), hash: *hash.as_bytes() }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use std::fs;

    use super::{Seen, watched};

    #[test]
    fn content_counts_and_not_how_often_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (directory.path().join("one.yaml"), directory.path().join("two.yml"));
        let paths = [directory.path().to_owned(), directory.path().join("missing.yaml")];
        let look = |known: &Seen| watched(&paths, known).unwrap();
        assert_eq!(look(&Seen::default()), Seen::default());
        fs::write(&one, "name: one").unwrap();
        fs::write(&two, "name: two").unwrap();
        fs::write(directory.path().join("notes.txt"), "no pipeline").unwrap();
        let first = look(&Seen::default());
        assert_eq!(first.0.keys().collect::<Vec<_>>(), [&one, &two]);
        assert_eq!(look(&first), first);

        fs::remove_file(&one).unwrap();
        fs::write(&one, "name: one").unwrap();
        let again = look(&first);
        assert!(again.0[&one].same_content(&first.0[&one]));
        fs::write(&one, "name: eno").unwrap();
        let changed = look(&again);
        assert!(!changed.0[&one].same_content(&first.0[&one]));
        // A variable's value is part of what a pipeline says.
        fs::write(directory.path().join(".env"), "URL=http://127.0.0.1:1").unwrap();
        let with_env = look(&changed);
        assert!(!with_env.0[&two].same_content(&first.0[&two]));
        fs::remove_file(&two).unwrap();
        assert_eq!(look(&with_env).0.len(), 1);
        // A directory with a pipeline in it is one; others are not looked into.
        for name in ["three/pipeline.yaml", "four/other.yaml"] {
            fs::create_dir(directory.path().join(name).parent().unwrap()).unwrap();
            fs::write(directory.path().join(name), "name: three").unwrap();
        }
        let files = look(&with_env).0.into_keys().collect::<Vec<_>>();
        assert_eq!(files, [one, directory.path().join("three/pipeline.yaml")]);
    }
}
