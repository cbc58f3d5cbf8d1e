//! When a pipeline was last started, kept in `DATA/PIPELINE/state/schedule.json`, so
//! that a start knows what was due while nobody was there.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::timing::Moment;
use crate::history::replace;

#[derive(Debug, Serialize, Deserialize)]
struct State {
    /// RFC 3339.
    last_start: Moment,
}

/// When `pipeline` was last started; none when it never was, or when the note cannot
/// be read.
#[must_use]
pub fn last_start(data_dir: &Path, pipeline: &str) -> Option<Moment> {
    let text = std::fs::read_to_string(path(data_dir, pipeline)).ok()?;
    let state = serde_json::from_str::<State>(&text);
    let state = state.inspect_err(|error| {
        tracing::warn!(pipeline, %error, "schedule.json cannot be read, as if it had never run");
    });
    state.ok().map(|state| state.last_start)
}

/// Notes that `pipeline` is started, whole or not at all.
///
/// # Errors
/// When the system refuses.
pub fn note_start(data_dir: &Path, pipeline: &str, now: Moment) -> io::Result<()> {
    let state = serde_json::to_vec(&State { last_start: now })?;
    replace(&path(data_dir, pipeline), &state)
}

fn path(data_dir: &Path, pipeline: &str) -> PathBuf {
    data_dir.join(pipeline).join("state").join("schedule.json")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use super::{last_start, note_start, path};

    #[test]
    fn the_last_start_outlives_the_process_and_nonsense_is_no_start() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(last_start(data.path(), "p"), None);
        let now = chrono::Utc::now();
        note_start(data.path(), "p", now).unwrap();
        assert_eq!(last_start(data.path(), "p"), Some(now));
        std::fs::write(path(data.path(), "p"), "{\"last_start\":").unwrap();
        assert_eq!(last_start(data.path(), "p"), None);
    }
}
