//! How far a run has come, in memory and on disk: [`Tracker`] knows the highest
//! position with nothing unsettled before it, [`State`] is what outlives the
//! process, [`Store`] keeps it durable in two generations.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod places;
mod rest;
mod sql;
mod state;
mod store;
mod watermark;

pub use places::{Places, SettledTargets};
pub use rest::RestState;
pub use sql::{LaneState, SqlState};
pub use state::{FleetState, InputState, Place, State, Targets};
pub use store::{Damage, Store, StoreError};

/// The lock of the watermark; `loom/` puts its own in its place.
mod sync {
    pub(super) use std::sync::{Mutex, MutexGuard};
}

pub use watermark::{Ticket, Tracker};
