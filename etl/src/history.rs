//! Run history: one JSON line per finished run, kept beside the pipeline's state.
//! Nothing depends on it but people and dashboards; a line that cannot be read
//! is passed over. What is written is durable; what is too old is taken out.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

/// How long runs are remembered unless told otherwise.
pub const KEEP: Duration = Duration::from_secs(90 * 24 * 3600);
/// The history is never larger than this, however young its runs are.
const BYTES_MAX: u64 = 16 << 20;
/// The longest line that is looked at.
const LINE_MAX: u64 = 64 << 10;
/// Old runs are taken out together, once the oldest is over its time by this part of it.
const SLACK: u32 = 16;

/// One finished run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunRecord {
    /// The pipeline's name.
    pub pipeline: String,
    /// The run's whole identity; empty for a run that could not begin.
    pub run_id: String,
    /// When it began, Unix seconds.
    pub began: u64,
    /// How long it took.
    pub seconds: f64,
    /// `complete`, `spooled`, `rejected`, `incomplete`, `stopped`, `bug`, or `failed`
    /// when it could not begin.
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
    /// What went wrong, the first of each kind.
    pub errors: Vec<String>,
    /// What each sink got of it.
    pub sinks: BTreeMap<String, SinkRecord>,
}

/// What one sink got in a run. What a sink holds of a pipeline is, over all runs,
/// `delivered` and `replayed_earlier` together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SinkRecord {
    /// Records of the run that it acknowledged.
    pub delivered: u64,
    /// Records of the run in its spool when the run ended.
    pub spooled: u64,
    /// Records of the run in its dead letters.
    pub dead_lettered: u64,
    /// Records of earlier runs that it acknowledged out of the spool.
    pub replayed_earlier: u64,
}

/// Where the history of `pipeline` is kept.
#[must_use]
pub fn path(data_dir: &Path, pipeline: &str) -> PathBuf {
    data_dir.join(pipeline).join("state").join("runs.jsonl")
}

/// Adds a run to the history, durably, and takes out what is older than `keep`.
///
/// # Errors
/// When the file cannot be written.
pub fn append(data_dir: &Path, record: &RunRecord, keep: Duration) -> io::Result<()> {
    let path = path(data_dir, &record.pipeline);
    make_parent(&path)?;
    let _alone = lock(&path)?;
    let mut file =
        OpenOptions::new().read(true).create(true).append(true).mode(0o600).open(&path)?;
    let mut line = Vec::new();
    if ends_within_a_line(&mut file)? {
        line.push(b'\n');
    }
    serde_json::to_writer(&mut line, record)?;
    line.push(b'\n');
    file.write_all(&line)?;
    file.sync_data()?;
    prune(&path, &mut file, record.began, keep)
}

/// The runs of `pipeline`, oldest first; none when there is no history.
///
/// # Errors
/// When the file is there and cannot be read.
pub fn read(data_dir: &Path, pipeline: &str) -> io::Result<Vec<RunRecord>> {
    match File::open(path(data_dir, pipeline)) {
        Ok(file) => Ok(records(file)?.into_iter().map(|(run, _)| run).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Runs with their lines.
fn records(file: File) -> io::Result<Vec<(RunRecord, Vec<u8>)>> {
    let mut runs = Vec::new();
    for line in BufReader::new(file).split(b'\n') {
        let line = line?;
        if let Ok(run) = serde_json::from_slice(&line) {
            runs.push((run, line));
        }
    }
    Ok(runs)
}

/// Rewrites the history when its oldest run is well over its time, or when it is too
/// large, whole or not at all.
fn prune(path: &Path, file: &mut File, now: u64, keep: Duration) -> io::Result<()> {
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(0))?;
    let mut first = Vec::new();
    BufReader::new(&mut *file).take(LINE_MAX).read_until(b'\n', &mut first)?;
    let oldest = serde_json::from_slice::<RunRecord>(&first).map_or(0, |run| run.began);
    let since = now.saturating_sub(keep.as_secs());
    let over = since.saturating_sub((keep / SLACK).as_secs());
    if oldest >= over && size <= BYTES_MAX {
        return Ok(());
    }
    let mut kept = records(File::open(path)?)?;
    kept.retain(|(run, _)| run.began >= since);
    // Room for many more, so that this is not done at every run.
    let mut bytes: u64 = kept.iter().map(|(_, line)| line.len() as u64 + 1).sum();
    let mut text = Vec::new();
    for (_, line) in &kept {
        if bytes > BYTES_MAX / 2 && size > BYTES_MAX {
            bytes -= line.len() as u64 + 1;
            continue;
        }
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    replace(path, &text)
}

fn ends_within_a_line(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

/// Held while the history is written: a run that was refused its spool is noted by
/// another process than the one that has it.
fn lock(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.create(true).truncate(false).write(true).mode(0o600);
    let file = options.open(path.with_extension("lock"))?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
    Ok(file)
}

fn make_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(directory) => std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory),
        None => Ok(()),
    }
}

/// Puts `content` in the place of the file at `path`, whole or not at all, durably.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    make_parent(path)?;
    let mut temp = path.as_os_str().to_owned();
    temp.push(".tmp");
    let mut options = OpenOptions::new();
    let mut file = options.create(true).write(true).truncate(true).mode(0o600).open(&temp)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&temp, path)?;
    sync_directory(path)
}

/// Makes durable that the file at `path` is there, or gone.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use std::time::Duration;

    use super::{BYTES_MAX, KEEP, RunRecord, append, path, read};

    fn run(began: u64) -> RunRecord {
        RunRecord { pipeline: "p".to_owned(), began, ..RunRecord::default() }
    }

    fn begins(data: &std::path::Path) -> Vec<u64> {
        read(data, "p").unwrap().iter().map(|run| run.began).collect()
    }

    #[test]
    fn runs_are_kept_in_order_and_damaged_lines_passed_over() {
        let data = tempfile::tempdir().unwrap();
        assert!(read(data.path(), "p").unwrap().is_empty());
        append(data.path(), &run(0), KEEP).unwrap();
        std::fs::write(path(data.path(), "p"), b"{\"began\":7}\n\xff\n{\"bega").unwrap();
        assert_eq!(begins(data.path()), [7]);
        // A line that was cut short takes no other with it.
        append(data.path(), &run(8), KEEP).unwrap();
        append(data.path(), &run(9), KEEP).unwrap();
        assert_eq!(begins(data.path()), [7, 8, 9]);
    }

    #[test]
    fn runs_that_are_too_old_are_taken_out() {
        let (data, hour) = (tempfile::tempdir().unwrap(), 3600);
        let keep = Duration::from_secs(16 * hour);
        for began in 0..17 {
            append(data.path(), &run(1 + began * hour), keep).unwrap();
        }
        assert_eq!(begins(data.path()).len(), 17);
        append(data.path(), &run(18 * hour), keep).unwrap();
        let kept = begins(data.path());
        assert_eq!((kept.len(), kept[0]), (16, 1 + 2 * hour));
    }

    #[test]
    fn many_young_runs_do_not_fill_the_disk() {
        let data = tempfile::tempdir().unwrap();
        let large = RunRecord { errors: vec!["x".repeat(60_000)], ..run(1) };
        for _ in 0..BYTES_MAX / 60_000 + 2 {
            append(data.path(), &large, KEEP).unwrap();
        }
        append(data.path(), &run(2), KEEP).unwrap();
        let size = std::fs::metadata(path(data.path(), "p")).unwrap().len();
        assert!(size < BYTES_MAX && size > BYTES_MAX / 3, "{size}");
        assert_eq!(begins(data.path()).last(), Some(&2));
    }

    #[test]
    fn two_writers_lose_no_line() {
        let data = tempfile::tempdir().unwrap();
        let keep = Duration::from_secs(1000);
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let data = data.path();
                scope.spawn(move || {
                    for n in 0..25 {
                        append(data, &run(10_000 + writer * 25 + n), keep).unwrap();
                    }
                });
            }
        });
        assert_eq!(begins(data.path()).len(), 100);
    }
}
