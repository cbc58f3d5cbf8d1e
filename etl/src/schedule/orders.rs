//! What people order of one pipeline while it is served: to stop, to start. That it was
//! stopped is kept in `DATA/PIPELINE/state/stopped.json`, so that it stays so when the
//! server is started again.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::history::{replace, sync_directory};
use crate::load::unix_seconds;

/// What is ordered of a pipeline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Orders {
    /// No run begins, and the one that is going on ends.
    pub stopped: bool,
    /// How often a run was ordered beside the schedule.
    pub runs: u64,
}

/// Whether `pipeline` was stopped and not started again.
#[must_use]
pub fn is_stopped(data_dir: &Path, pipeline: &str) -> bool {
    path(data_dir, pipeline).exists()
}

/// Notes that `pipeline` is stopped, durably.
pub(super) fn note_stop(data_dir: &Path, pipeline: &str) -> io::Result<()> {
    let text = json!({ "since": unix_seconds() }).to_string();
    replace(&path(data_dir, pipeline), text.as_bytes())
}

/// Takes the note away, durably.
pub(super) fn note_start(data_dir: &Path, pipeline: &str) -> io::Result<()> {
    let path = path(data_dir, pipeline);
    match std::fs::remove_file(&path) {
        Ok(()) => sync_directory(&path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn path(data_dir: &Path, pipeline: &str) -> PathBuf {
    data_dir.join(pipeline).join("state").join("stopped.json")
}
