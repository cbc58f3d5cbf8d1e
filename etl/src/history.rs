//! Run history: one JSON line per finished run, kept beside the pipeline's state.
//! Nothing depends on it but people and dashboards; a line that cannot be read
//! is passed over.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Lines kept; older ones are dropped when there are twice as many.
const RUNS_KEPT: usize = 1000;

/// One finished run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunRecord {
    /// The pipeline's name.
    pub pipeline: String,
    /// The run's whole identity.
    pub run_id: String,
    /// When it began, Unix seconds.
    pub began: u64,
    /// How long it took.
    pub seconds: f64,
    /// `complete`, `spooled`, `rejected`, `incomplete`, `stopped`, `bug`.
    pub result: String,
    /// The exit code.
    pub exit: u8,
    /// Records read.
    pub extracted: u64,
    /// Records that the sinks acknowledged; over all sinks, like the next two.
    pub delivered: u64,
    /// Records of the run in the spool when it ended.
    pub spooled: u64,
    /// Records in the dead letters.
    pub dead_lettered: u64,
    /// Records refused before any sink.
    pub rejected: u64,
    /// Records dropped on request.
    pub filtered: u64,
    /// Records delivered from the spool.
    pub replayed: u64,
}

/// Where the history of `pipeline` is kept.
#[must_use]
pub fn path(data_dir: &Path, pipeline: &str) -> PathBuf {
    data_dir.join(pipeline).join("state").join("runs.jsonl")
}

/// Adds a run to the history.
///
/// # Errors
/// When the file cannot be written.
pub fn append(data_dir: &Path, record: &RunRecord) -> io::Result<()> {
    let path = path(data_dir, &record.pipeline);
    if let Some(directory) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let runs = read(data_dir, &record.pipeline)?;
    if runs.len() >= 2 * RUNS_KEPT {
        prune(&path, &runs[runs.len() - RUNS_KEPT..])?;
    }
    let mut line = serde_json::to_vec(record)?;
    line.push(b'\n');
    OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?.write_all(&line)
}

/// The runs of `pipeline`, oldest first; none when there is no history.
///
/// # Errors
/// When the file is there and cannot be read.
pub fn read(data_dir: &Path, pipeline: &str) -> io::Result<Vec<RunRecord>> {
    match std::fs::read_to_string(path(data_dir, pipeline)) {
        Ok(text) => Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Rewrites the history with `runs` only, whole or not at all.
fn prune(path: &Path, runs: &[RunRecord]) -> io::Result<()> {
    let mut text = Vec::new();
    for run in runs {
        serde_json::to_writer(&mut text, run)?;
        text.push(b'\n');
    }
    let temp = path.with_extension("jsonl.tmp");
    let mut file =
        OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&temp)?;
    file.write_all(&text)?;
    file.sync_all()?;
    std::fs::rename(&temp, path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use super::{RUNS_KEPT, RunRecord, append, path, read};

    #[test]
    fn runs_are_kept_in_order_damaged_lines_passed_over_and_old_ones_dropped() {
        let data = tempfile::tempdir().unwrap();
        assert!(read(data.path(), "p").unwrap().is_empty());
        let run = |n: u64| RunRecord { pipeline: "p".to_owned(), began: n, ..RunRecord::default() };
        append(data.path(), &run(0)).unwrap();
        std::fs::write(path(data.path(), "p"), b"{\"began\":7}\n{\"bega").unwrap();
        assert_eq!(read(data.path(), "p").unwrap().len(), 1);
        std::fs::remove_file(path(data.path(), "p")).unwrap();
        for n in 0..=2 * RUNS_KEPT as u64 {
            append(data.path(), &run(n)).unwrap();
        }
        let runs = read(data.path(), "p").unwrap();
        assert_eq!(runs.len(), RUNS_KEPT + 1);
        assert_eq!(runs.last().unwrap().began, 2 * RUNS_KEPT as u64);
    }
}
