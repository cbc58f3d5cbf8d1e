//! When the spool had everything, by the files in it. A run whose sink is down asks it three
//! times more at its end, a second apart, and that is no time of the spool's.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Batches that are asked about once more at the end, and whose files then note it.
const ASKED_LAST: usize = 3;

/// From `start` to the instant at which the last batch had its name.
pub(crate) fn taken_after(spool: &Path, start: SystemTime) -> io::Result<Duration> {
    let mut named = Vec::new();
    for entry in fs::read_dir(spool)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().ends_with(b".json.gz") {
            let facts = entry.metadata()?;
            let seconds = Duration::from_secs(facts.ctime().unsigned_abs());
            named.push(seconds + Duration::from_nanos(facts.ctime_nsec().unsigned_abs()));
        }
    }
    named.sort_unstable();
    let last = named.len().checked_sub(1 + ASKED_LAST).and_then(|last| named.get(last));
    let start = start.duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
    last.and_then(|last| last.checked_sub(start))
        .ok_or_else(|| io::Error::other("too few files in the spool"))
}
