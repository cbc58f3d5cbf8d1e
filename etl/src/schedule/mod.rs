//! Runs pipelines when they are due, for as long as the process lives.
//!
//! [`Timing`] and [`Plan`] say when, given the time; [`state`] remembers the last start
//! over restarts; `orders` are what people want of one pipeline; `runner` does one run and its retries, `worker` one pipeline's
//! life, `files` and `reload` follow the pipeline files; [`Served`] is what others may
//! look at. [`Scheduler`] holds all of it.

mod files;
mod orders;
mod plan;
mod reload;
mod runner;
mod scheduler;
mod served;
mod spools;
pub mod state;
mod timing;
mod totals;
mod worker;
mod zone;

pub use files::{Seen, expand, pipeline_files, watched};
pub use orders::is_stopped;
pub use plan::Plan;
pub use reload::ReloadState;
pub use scheduler::{LoadedFiles, OrderError, Scheduler, Settings, load_all};
pub use served::{Activity, Figures, Served};
pub use spools::{SinkSpool, spools_of};
pub use timing::{Clock, Timing};
pub use totals::{Durations, RUN_SECONDS, SinkTotals, Totals};
pub use zone::Zone;
