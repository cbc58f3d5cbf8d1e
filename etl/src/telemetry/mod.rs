//! What a run tells about itself: its books while it moves and at the end, the
//! running display, the log, and where its time and memory went.

pub mod display;
pub mod figures;
pub mod live_profile;
pub mod logs;
pub mod profile;
pub mod report;
pub(crate) mod traces;

mod allocator;
mod books;
mod fleet;
mod meter;
mod notices;
mod requests;
mod result;
mod rotation;
mod screen;
mod terminal;
mod unhurried;
mod watch;

pub use books::{Books, BooksSnapshot, SinkBooks, SinkInput, SinkSnapshot};
pub use display::Display;
pub use fleet::{FleetBooks, FleetSnapshot, LAG_SECONDS};
pub use profile::ProfileFiles;
pub use requests::{REQUEST_SECONDS, Requests, RequestsSnapshot};
pub use result::{RunFiles, RunResult, SpoolRemaining, Stop};
pub use rotation::LogLimits;
pub(crate) use rotation::older_files;
pub use terminal::{Terminal, Tone};
pub use watch::{Progress, RunHeader, SinkHealth, SinkKind, SinkState, Watch};
