//! Unix time that nobody sets while it goes on: read from the wall once, and from then on
//! from the clock that only goes forward.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(super) struct WallClock {
    began_us: u64,
    began: Instant,
}

impl WallClock {
    pub(super) fn start() -> WallClock {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let began_us = u64::try_from(since.as_micros()).unwrap_or(0);
        WallClock { began_us, began: Instant::now() }
    }

    /// Microseconds since 1970.
    pub(super) fn now_us(&self) -> u64 {
        self.began_us + u64::try_from(self.began.elapsed().as_micros()).unwrap_or(0)
    }

    /// Milliseconds since 1970.
    pub(super) fn now_ms(&self) -> u64 {
        self.now_us() / 1000
    }

    /// Seconds since 1970.
    pub(super) fn now_s(&self) -> u32 {
        u32::try_from(self.now_us() / 1_000_000).unwrap_or(u32::MAX)
    }

    /// When it is that many milliseconds since 1970.
    pub(super) fn instant(&self, ms: u64) -> Instant {
        self.began + Duration::from_micros((ms * 1000).saturating_sub(self.began_us))
    }
}
