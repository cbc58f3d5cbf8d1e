//! The process's limit of open files: a fleet holds a socket per poll in flight.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that are not sockets of the fleet: logs, spool, listeners, inventory.
const RESERVE: u64 = 256;

/// Raises the limit of open files as far as the system allows: a fleet that is polled for
/// good takes what there is.
pub fn raise_open_files_fully() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // What there is afterwards is looked at by those who need it.
    setrlimit(Resource::Nofile, raised).ok();
}

/// Raises the limit of open files as far as the system allows. Gives a warning
/// when that is not enough for `sockets` at once.
#[must_use]
pub fn raise_open_files(sockets: u64) -> Option<String> {
    let limit = getrlimit(Resource::Nofile);
    let wanted = sockets + RESERVE;
    if limit.current.is_some_and(|current| current < wanted) {
        raise_open_files_fully();
    }
    match getrlimit(Resource::Nofile).current {
        Some(current) if current < wanted => Some(format!(
            "only {current} files may be open at once and {wanted} are wanted: lower \
             extract.workers, or raise the limit (ulimit -n {wanted})"
        )),
        _ => None,
    }
}
