//! `etl` alone: what it is, the five commands to start with, and what is here.
//! Looks at file names and a few kilobytes each; nothing is parsed or checked,
//! so that a broken pipeline file never breaks the first screen.

use std::path::{Path, PathBuf};

use crate::manage::find::name_in;
use crate::schedule::pipeline_files;
use crate::telemetry::figures::{bytes, count, counted, one_line};
use crate::telemetry::{Terminal, Tone};

const SHOWN_MAX: usize = 8;
/// Directories with more YAML files than this are not pipelines' homes.
const LOOKED_AT_MAX: usize = 500;

const COMMANDS: [(&str, &str); 5] = [
    ("etl demo", "see it work; needs nothing"),
    ("etl check FILE", "find mistakes; sends nothing"),
    ("etl run FILE", "move the data"),
    ("etl serve DIR", "move it on a schedule"),
    ("etl doctor FILE", "can I reach everything?"),
];

/// What is in the working directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Here {
    /// Pipeline files, `pipeline.yaml` first, then by name.
    pub pipelines: Vec<PipelineHere>,
    /// What waits in the spools of the data directory.
    pub spool: SpoolHere,
}

/// One pipeline file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PipelineHere {
    /// Its path, relative to where one stands.
    pub path: PathBuf,
    /// Its `name`, or the file's where it has none.
    pub name: String,
    /// Its last run, where the history has one.
    pub last_run: Option<LastRun>,
}

/// A pipeline's last run, in words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LastRun {
    /// `today 12:40`.
    pub when: String,
    /// `complete`, `3,600 still spooled`.
    pub result: String,
}

/// What waits in all spools together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpoolHere {
    /// Files, one batch each.
    pub batches: u64,
    /// Records, as far as the files say how many they hold.
    pub records: u64,
    /// Bytes on disk.
    pub bytes: u64,
}

/// Finds pipeline files in `directory`, its `pipelines` and `fixtures/pipelines`; `last_run`
/// is asked with each pipeline's name. What cannot be read is not shown.
#[must_use]
pub fn look(
    directory: &Path,
    spool: SpoolHere,
    last_run: impl Fn(&str) -> Option<LastRun>,
) -> Here {
    let mut pipelines = Vec::new();
    let here = [directory.to_owned(), directory.join("fixtures/pipelines")];
    let kept = pipeline_files(&directory.join("pipelines")).unwrap_or_default();
    for files in here.iter().map(|place| yaml_files(place)).chain([kept]) {
        for path in files {
            let Some(name) = name_in(&path) else { continue };
            let last_run = last_run(&name);
            let path = path.strip_prefix(directory).unwrap_or(&path).to_owned();
            pipelines.push(PipelineHere { path, name, last_run });
        }
    }
    Here { pipelines, spool }
}

/// The first screen; ends with a newline.
#[must_use]
pub fn home(here: &Here, terminal: &Terminal) -> String {
    let version = concat!(env!("CARGO_PKG_VERSION_MAJOR"), ".", env!("CARGO_PKG_VERSION_MINOR"));
    let mut text = format!(
        "{}   collects records from CSV files and fleets; loads them; loses none\n\n",
        terminal.paint(Tone::Strong, &format!("etl {version}")),
    );
    for (command, what) in COMMANDS {
        text.push_str(&format!("  {command:<18}  {what}\n"));
    }
    let mut pipelines = here.pipelines.iter().take(SHOWN_MAX).map(note).collect::<Vec<_>>();
    if here.pipelines.len() > SHOWN_MAX {
        pipelines.push(format!("and {} more", here.pipelines.len() - SHOWN_MAX));
    }
    let gap = match pipelines.len() {
        0 => "no pipeline file   ".to_owned(),
        1 => format!("{}   ", pipelines[0]),
        _ => format!("{}\n      ", pipelines.join("\n      ")),
    };
    text.push_str(&format!(
        "\nhere: {gap}spool: {}   all commands: etl help\n",
        spool_note(here.spool)
    ));
    text
}

fn note(pipeline: &PipelineHere) -> String {
    let path = one_line(&pipeline.path.to_string_lossy());
    match &pipeline.last_run {
        Some(run) => format!("{path} ({}: {})", one_line(&run.when), one_line(&run.result)),
        None => format!("{path} (never run)"),
    }
}

fn spool_note(spool: SpoolHere) -> String {
    match (spool.batches, spool.records) {
        (0, 0) => "empty".to_owned(),
        (batches, 0) => format!("{}, {}", counted(batches, "file"), bytes(spool.bytes)),
        (_, records) => format!("{} records, {}", count(records), bytes(spool.bytes)),
    }
}

/// YAML files of one directory, `pipeline.yaml` first.
fn yaml_files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut files = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "yaml" || end == "yml"))
        .take(LOOKED_AT_MAX)
        .collect::<Vec<_>>();
    files.sort_by_key(|path| (!path.ends_with("pipeline.yaml"), path.clone()));
    files
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot be set up should fail loudly")]
mod tests {
    use std::fs;

    use super::{Here, LastRun, SpoolHere, home, look};
    use crate::telemetry::Terminal;

    const TOP: &str = "\
etl 0.1   collects records from CSV files and fleets; loads them; loses none

  etl demo            see it work; needs nothing
  etl check FILE      find mistakes; sends nothing
  etl run FILE        move the data
  etl serve DIR       move it on a schedule
  etl doctor FILE     can I reach everything?

";

    fn shown(here: &Here) -> String {
        let text = home(here, &Terminal::plain());
        assert!(!text.contains('\x1b'));
        text.strip_prefix(TOP).unwrap_or_else(|| panic!("{text}")).to_owned()
    }

    #[test]
    fn one_pipeline_that_never_ran() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("pipeline.yaml"), "name: appliances\nsource:\n").unwrap();
        fs::write(directory.path().join("compose.yaml"), "services:\n  source: x\n").unwrap();
        fs::create_dir(directory.path().join("odd.yaml")).unwrap();
        let here = look(directory.path(), SpoolHere::default(), |_| None);
        assert_eq!(
            shown(&here),
            "here: pipeline.yaml (never run)   spool: empty   all commands: etl help\n"
        );
    }

    #[test]
    fn several_pipelines_with_their_last_runs() {
        let directory = tempfile::tempdir().unwrap();
        let fixtures = directory.path().join("fixtures/pipelines");
        fs::create_dir_all(&fixtures).unwrap();
        fs::write(fixtures.join("appliances.yaml"), "name: \"appliances\" # ours\nsource: {}\n")
            .unwrap();
        fs::write(directory.path().join("b.yml"), b"\xff\xfe\nsource: {}\n").unwrap();
        fs::write(directory.path().join("pipeline.yaml"), "source: {}\n").unwrap();
        let ran = |name: &str| {
            (name == "appliances").then(|| LastRun {
                when: "today 12:40".to_owned(),
                result: "3,600 still spooled".to_owned(),
            })
        };
        let spool = SpoolHere { batches: 18, records: 3_600, bytes: 316_416 };
        let expected = "\
here: pipeline.yaml (never run)
      b.yml (never run)
      fixtures/pipelines/appliances.yaml (today 12:40: 3,600 still spooled)
      spool: 3,600 records, 309 KiB   all commands: etl help
";
        assert_eq!(shown(&look(directory.path(), spool, ran)), expected);
    }

    #[test]
    fn nothing_here_and_too_much_here() {
        let directory = tempfile::tempdir().unwrap();
        let spool = SpoolHere { batches: 2, records: 0, bytes: 900 };
        let here = look(&directory.path().join("missing"), spool, |_| None);
        assert_eq!(
            shown(&here),
            "here: no pipeline file   spool: 2 files, 900 B   all commands: etl help\n"
        );
        for number in 0..20 {
            let path = directory.path().join(format!("p{number:02}.yaml"));
            fs::write(path, "source: {}\n").unwrap();
        }
        let text = shown(&look(directory.path(), SpoolHere::default(), |_| None));
        assert_eq!(text.lines().count(), 10, "{text}");
        assert!(text.contains("      and 12 more\n      spool: empty"), "{text}");
    }
}
