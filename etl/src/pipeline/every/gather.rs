//! Lets what happens within a moment be seen to at once. Of a large fleet something
//! happens several times a millisecond – a target falls due, an answer comes – and to wake
//! a thread for each costs more than what it then does.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// How long events are gathered: short against the lag that is promised.
const MOMENT: Duration = Duration::from_millis(2);
/// Where something happens more rarely than that, nothing waits for more.
const BUSY: Duration = Duration::from_millis(4);

thread_local! {
    /// When the thread had nothing to do the last time.
    static IDLE_AT: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// To be called by the fleet's own thread when it has nothing to do: waits a moment if
/// it has just been there.
pub(super) fn before_sleep() {
    let now = Instant::now();
    let before = IDLE_AT.replace(Some(now));
    if before.is_some_and(|before| now - before < BUSY) {
        std::thread::sleep(MOMENT);
    }
}
