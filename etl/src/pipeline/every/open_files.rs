//! How many polls may be in flight, by the files that the process may have open.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::process::{Resource, getrlimit};

use crate::config::KeepAlive;

/// Files that are no sockets of a fleet: logs, spools, listeners, inventories.
const RESERVE: u64 = 256;
/// More than this is not found by itself: `workers` can say more.
const FOUND_MAX: u64 = 65_536;
const FOUND_MIN: u64 = 16;
/// Of all files, those that may be kept connections: one in so many.
const KEPT_SHARE: u64 = 4;

/// Fleets of this process that share its files.
static FLEETS: AtomicU64 = AtomicU64::new(0);

/// One fleet at work.
#[derive(Debug)]
pub(super) struct Share(());

impl Share {
    pub(super) fn take() -> Share {
        FLEETS.fetch_add(1, Relaxed);
        Share(())
    }

    /// The most polls in flight, when so many files are spoken for.
    pub(super) fn polls_max(&self, spoken_for: u64) -> usize {
        let found = found(limit(), spoken_for, FLEETS.load(Relaxed));
        usize::try_from(found).unwrap_or(usize::MAX)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        FLEETS.fetch_sub(1, Relaxed);
    }
}

fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(FOUND_MAX * 2)
}

fn found(limit: u64, spoken_for: u64, fleets: u64) -> u64 {
    let free = limit.saturating_sub(RESERVE + spoken_for);
    (free / fleets.max(1)).clamp(FOUND_MIN, FOUND_MAX)
}

/// How many connections are kept for a fleet: none where there is no room for one to each
/// host – keeping some would close what is needed next.
pub(super) fn kept_max(keep_alive: KeepAlive, hosts: u64, targets: u64) -> u64 {
    let room = limit() / KEPT_SHARE;
    match keep_alive {
        KeepAlive::Auto if hosts <= room => room.min(targets),
        KeepAlive::Auto | KeepAlive::Off => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::{FOUND_MAX, FOUND_MIN, found};

    #[test]
    fn fleets_share_what_the_limit_leaves() {
        assert_eq!(found(20_000, 10, 1), 19_734);
        assert_eq!(found(20_000, 10, 2), 9_867);
        assert_eq!(found(1_000_000, 10, 1), FOUND_MAX);
        assert_eq!(found(100, 10, 1), FOUND_MIN);
    }
}
