//! What a pipeline's spools hold while no run has them open. Listing costs a look at
//! every file, so what was seen is kept for a while.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::spool::inspect::{Kind, SinkView, sinks_of};

/// How long a look is good for.
const FRESH: Duration = Duration::from_secs(10);

/// What one sink's spool holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SinkSpool {
    /// Bytes of what waits.
    pub bytes: u64,
    /// Batches that wait.
    pub batches: u64,
    /// Since when the oldest of them waits, Unix seconds.
    pub oldest_since: Option<u64>,
    /// Records in the dead letters.
    pub dead_records: u64,
}

/// The spools of one pipeline, as last seen.
#[derive(Debug, Default)]
pub(super) struct Spools {
    seen: Option<(Instant, BTreeMap<String, SinkSpool>)>,
    /// Files and bytes of dead letters per sink, with their records: these have to be
    /// read from each file, so only when there are others.
    dead: BTreeMap<String, (u64, u64, u64)>,
}

/// What the spools of a pipeline hold now.
#[must_use]
pub fn spools_of(data_dir: &Path, pipeline: &str) -> BTreeMap<String, SinkSpool> {
    Spools::default().look(data_dir, pipeline)
}

impl Spools {
    /// What the spools hold, looked at anew unless that was done a moment ago.
    pub(super) fn look(&mut self, data_dir: &Path, pipeline: &str) -> BTreeMap<String, SinkSpool> {
        if let Some((at, seen)) = &self.seen
            && at.elapsed() < FRESH
        {
            return seen.clone();
        }
        let views = sinks_of(data_dir, pipeline).unwrap_or_default();
        let seen: BTreeMap<_, _> =
            views.iter().map(|view| (view.sink.clone(), self.count(view))).collect();
        self.seen = Some((Instant::now(), seen.clone()));
        seen
    }

    /// The next look is a new one.
    pub(super) fn forget(&mut self) {
        self.seen = None;
    }

    fn count(&mut self, view: &SinkView) -> SinkSpool {
        let files = view.files().unwrap_or_default();
        let mut spool = SinkSpool::default();
        let (mut dead_files, mut dead_bytes) = (0, 0);
        for file in &files {
            match file.kind {
                Kind::Pending | Kind::Spooled => {
                    spool.bytes += file.size;
                    spool.batches += 1;
                    let since = spool.oldest_since.map_or(file.since, |old| old.min(file.since));
                    spool.oldest_since = Some(since);
                }
                Kind::Dead => {
                    dead_files += 1;
                    dead_bytes += file.size;
                }
                Kind::Corrupt => {}
            }
        }
        let known = self.dead.get(&view.sink);
        spool.dead_records = match known {
            Some((files, bytes, records)) if (*files, *bytes) == (dead_files, dead_bytes) => {
                *records
            }
            _ => {
                let dead = files.iter().filter(|file| file.kind == Kind::Dead);
                dead.filter_map(|file| file.headline().ok()).map(|line| line.records).sum()
            }
        };
        self.dead.insert(view.sink.clone(), (dead_files, dead_bytes, spool.dead_records));
        spool
    }
}
