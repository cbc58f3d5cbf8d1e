//! A place for tests to make the nth file operation fail, or to "crash" there:
//! that and every later operation of the thread fails. Costs nothing elsewhere.

/// One durable file operation; their order is what the spool's promise rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    /// Of a file that is free, to be written over.
    Reuse,
    Write,
    SyncFile,
    Rename,
    SyncDirectory,
    /// A file that is done with gets a free file's name.
    Free,
    Unlink,
}

#[cfg(not(test))]
pub(super) fn step(_: Operation) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
pub(crate) use planned::{Plan, step, with_plan};

#[cfg(test)]
mod planned {
    use std::cell::RefCell;
    use std::io;

    use super::Operation;

    /// What happens to the operations of the current thread.
    #[derive(Debug, Clone, Copy)]
    pub(crate) enum Plan {
        /// All succeed.
        Watch,
        /// The nth, counted from 0, fails with this errno.
        FailOne(usize, i32),
        /// The nth and all later ones fail: the process is dead.
        Crash(usize),
    }

    thread_local! {
        static PLAN: RefCell<Option<(Plan, Vec<Operation>)>> = const { RefCell::new(None) };
    }

    pub(crate) fn step(operation: Operation) -> io::Result<()> {
        PLAN.with_borrow_mut(|plan| {
            let Some((plan, done)) = plan else { return Ok(()) };
            let index = done.len();
            done.push(operation);
            match *plan {
                Plan::FailOne(at, errno) if at == index => Err(io::Error::from_raw_os_error(errno)),
                Plan::Crash(at) if index >= at => Err(io::Error::other("the process is dead")),
                _ => Ok(()),
            }
        })
    }

    /// Runs `work` under `plan`; gives back its result and the operations it tried.
    pub(crate) fn with_plan<T>(plan: Plan, work: impl FnOnce() -> T) -> (T, Vec<Operation>) {
        PLAN.set(Some((plan, Vec::new())));
        let result = work();
        let operations = PLAN.take().map(|(_, operations)| operations).unwrap_or_default();
        (result, operations)
    }
}
