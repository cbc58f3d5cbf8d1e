//! Which address each sink's spool was filled for, and which file configured the
//! pipeline: noted by every run in `state/sinks.json`, so that `etl spool replay
//! NAME` finds the file and does not send one place's records to another.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::kinds::target;
use crate::config::{Load, Loaded};
use crate::history::replace;

/// What the last run noted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Targets {
    /// The pipeline's file, absolute.
    pub file: Option<PathBuf>,
    /// Each sink's target without query: `POST https://host/path`.
    pub sinks: BTreeMap<String, String>,
}

/// A sink whose target is not the one its spool was filled for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The sink's name.
    pub sink: String,
    /// The target noted.
    pub was: String,
    /// The target configured.
    pub is: String,
}

impl Targets {
    /// What was noted for `pipeline`; nothing when there is no note, or none of our making.
    #[must_use]
    pub fn read(data_dir: &Path, pipeline: &str) -> Targets {
        let text = std::fs::read(path(data_dir, pipeline)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// The sinks of `loads` whose target differs from the one noted.
    #[must_use]
    pub fn moved<'a>(&self, loads: impl Iterator<Item = &'a Load>) -> Vec<Moved> {
        let moved = loads.filter_map(|load| {
            let (was, is) = (self.sinks.get(load.sink_name())?, target(load)?);
            (*was != is).then(|| Moved { sink: load.sink_name().to_owned(), was: was.clone(), is })
        });
        moved.collect()
    }

    /// The note with the targets of `loads` and, when it is there, `file`. Sinks that
    /// are configured no more keep theirs: their spools may hold something.
    #[must_use]
    pub fn with<'a>(&self, loads: impl Iterator<Item = &'a Load>, file: &Path) -> Targets {
        let mut targets = self.clone();
        if let Ok(file) = file.canonicalize() {
            targets.file = Some(file);
        }
        for load in loads {
            if let Some(target) = target(load) {
                targets.sinks.insert(load.sink_name().to_owned(), target);
            }
        }
        targets
    }

    /// Writes the note, whole or not at all.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn write(&self, data_dir: &Path, pipeline: &str) -> io::Result<()> {
        replace(&path(data_dir, pipeline), &serde_json::to_vec(self)?)
    }
}

/// Notes where each spool is sent to, for `etl spool replay`. A run goes on when an
/// address has changed: addresses move, and its file is what the user has just
/// written; it says so, because what waits goes to the new one too.
pub fn note(loaded: &Loaded, data_dir: &Path) {
    let pipeline = &loaded.pipeline;
    let loads = || pipeline.raw.iter().chain(&pipeline.load);
    let known = Targets::read(data_dir, &pipeline.name);
    for moved in known.moved(loads()) {
        let (sink, was, is) = (moved.sink, moved.was, moved.is);
        tracing::warn!(
            sink,
            was,
            is,
            "the sink has moved, what waits in its spool goes to the new address"
        );
    }
    let now = known.with(loads(), &loaded.path);
    if now != known
        && let Err(error) = now.write(data_dir, &pipeline.name)
    {
        tracing::warn!(%error, "could not note the sinks' addresses");
    }
}

fn path(data_dir: &Path, pipeline: &str) -> PathBuf {
    data_dir.join(pipeline).join("state").join("sinks.json")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use super::{Moved, Targets};
    use crate::config::{Environment, Load, from_str};

    fn load(url: &str) -> Vec<Load> {
        let text = format!(
            "name: p\nsource: {{ csv: {{ path: a.csv }} }}\nload: [{{ http: {{ url: '{url}' }} }}]\n"
        );
        from_str("p.yaml", &text, &[], &Environment::empty()).unwrap().pipeline.load
    }

    #[test]
    fn a_note_is_read_back_without_queries_and_tells_what_moved() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(Targets::read(data.path(), "p"), Targets::default());
        let file = data.path().join("p.yaml");
        std::fs::write(&file, "").unwrap();
        let here = load("https://api.example.net/load?key=secret");
        let noted = Targets::default().with(here.iter(), &file);
        noted.write(data.path(), "p").unwrap();
        let text = std::fs::read_to_string(data.path().join("p/state/sinks.json")).unwrap();
        assert!(!text.contains("secret"), "{text}");
        let back = Targets::read(data.path(), "p");
        assert_eq!(back.file, Some(file.canonicalize().unwrap()));
        assert!(back.moved(load("https://api.example.net/load?key=other").iter()).is_empty());
        assert!(Targets::default().moved(here.iter()).is_empty());
        let moved = Moved {
            sink: "http".to_owned(),
            was: "POST https://api.example.net/load".to_owned(),
            is: "POST https://other.example.net/load".to_owned(),
        };
        assert_eq!(back.moved(load("https://other.example.net/load").iter()), [moved]);

        std::fs::write(data.path().join("p/state/sinks.json"), "{\"sinks\":").unwrap();
        assert_eq!(Targets::read(data.path(), "p"), Targets::default());
    }
}
