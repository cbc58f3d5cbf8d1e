//! What was told about a pipeline, kept in `DATA/PIPELINE/state/alerts.json`, so that the
//! next process neither tells it again nor forgets to tell that it is over.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::board::Alert;
use crate::history::replace;

/// The alerts of a pipeline by their receiver.
pub(super) type Kept = BTreeMap<String, Vec<Alert>>;

/// What is kept; nothing when it cannot be read.
pub(super) fn load(data_dir: &Path, pipeline: &str) -> Kept {
    let Ok(text) = std::fs::read(path(data_dir, pipeline)) else { return Kept::new() };
    serde_json::from_slice(&text).unwrap_or_else(|error| {
        tracing::warn!(pipeline, %error, "alerts.json cannot be read, as if nothing had been told");
        Kept::new()
    })
}

/// Keeps this instead, whole or not at all.
pub(super) fn save(data_dir: &Path, pipeline: &str, mut kept: Kept) {
    kept.retain(|_, alerts| !alerts.is_empty());
    let path = path(data_dir, pipeline);
    if kept.is_empty() && !path.exists() {
        return;
    }
    let written = serde_json::to_vec(&kept).map_err(std::io::Error::other);
    if let Err(error) = written.and_then(|text| replace(&path, &text)) {
        // What is at stake is that something is told twice after a restart.
        tracing::warn!(pipeline, %error, "what was told could not be noted");
    }
}

fn path(data_dir: &Path, pipeline: &str) -> PathBuf {
    data_dir.join(pipeline).join("state").join("alerts.json")
}
