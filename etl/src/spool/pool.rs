//! Files whose batch was delivered, kept under names that no reader takes for a batch
//! and written over by the next batches. Giving a file another name costs a quarter of
//! removing it, and a directory in which many files were just removed takes new ones
//! slowly (docs/decisions/0022-spool-speed.md).
//!
//! A file is written over only after the loss of its old name is durable: else a power
//! cut could bring the name back with a content that is not its batch's.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::debug;

use super::directory::Directory;
use super::group::Change;
use super::name::free_name;
use super::write::Blank;

/// The most files that are kept: a long outage's, at 24 bytes of memory each.
const FILES_MAX: usize = if cfg!(test) { 8 } else { 32 << 10 };
/// The largest file that is kept, in bytes.
const SIZE_MAX: u64 = 256 << 10;
/// For how long a file is kept that nobody needs, in seconds.
pub(super) const KEPT_SECONDS: u64 = 3600;
/// Files removed at once, so that nobody waits long.
const REMOVED_AT_ONCE: usize = 64;

/// The free files of one directory.
#[derive(Debug)]
pub(super) struct Pool {
    free: Mutex<Free>,
    /// The most that they may hold, in bytes.
    bytes_max: u64,
    /// Whether the disk needs the space.
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct Free {
    files: VecDeque<FreeFile>,
    bytes: u64,
    /// Numbers of files that nobody will write over.
    unneeded: Vec<u64>,
    next_number: u64,
}

#[derive(Debug, Clone, Copy)]
struct FreeFile {
    number: u64,
    size: u64,
    /// That it lost its old name; `None` when that was made durable at the start.
    renamed: Option<Change>,
}

impl Pool {
    /// An empty pool that may keep a quarter of what the spool may hold.
    pub fn new(spool_bytes_max: u64) -> Pool {
        let (free, closed) = (Mutex::default(), AtomicBool::new(false));
        Pool { free, bytes_max: spool_bytes_max / 4, closed }
    }

    /// Takes up a file of an earlier process whose name is durable; one that is not
    /// `wanted`, or for which there is no place, is to be removed.
    pub fn take_up(&self, number: u64, size: u64, wanted: bool) {
        let mut free = self.lock();
        free.next_number = free.next_number.max(number.saturating_add(1));
        if wanted && self.fits(&free, size) {
            free.push(FreeFile { number, size, renamed: None });
        } else {
            free.unneeded.push(number);
        }
    }

    /// Removes some of the files that nobody will write over; says whether there are more.
    pub fn tidy(&self, directory: &Directory) -> bool {
        let (some, more) = {
            let mut free = self.lock();
            let rest = free.unneeded.len().saturating_sub(REMOVED_AT_ONCE);
            (free.unneeded.split_off(rest), rest > 0)
        };
        some.iter().for_each(|number| remove(directory, &free_name(*number)));
        more
    }

    /// Takes the file's name away: keeps it if there is a place, removes it otherwise.
    ///
    /// # Errors
    /// When it has its name still, or none any more.
    pub fn put(&self, directory: &Directory, name: &OsStr, size: u64) -> io::Result<()> {
        let number = {
            let mut free = self.lock();
            let number = self.fits(&free, size).then_some(free.next_number);
            free.next_number += u64::from(number.is_some());
            number
        };
        let Some(number) = number else { return directory.remove(name) };
        match directory.rename_free(name, OsStr::new(&free_name(number))) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(error),
            Err(_) => return directory.remove(name),
        }
        let renamed = Some(directory.change());
        self.lock().push(FreeFile { number, size, renamed });
        Ok(())
    }

    /// A file to write over.
    pub fn take(&self, directory: &Directory) -> Option<Blank> {
        let mut free = self.lock();
        let first = *free.files.front()?;
        if !first.renamed.is_none_or(|change| directory.is_durable(change)) {
            return None;
        }
        free.pop();
        drop(free);
        let name = free_name(first.number);
        match directory.open_to_overwrite(&name) {
            Ok(Some((handle, size))) => Some(Blank { name, handle, size }),
            // Somebody has linked it or lets others read it: their content stays, ours goes.
            Ok(None) => {
                remove(directory, &name);
                None
            }
            Err(error) => {
                debug!(%error, name, "could not open a free spool file");
                None
            }
        }
    }

    /// Gives space back to a disk that has little left, some files at a time, and keeps
    /// none from now on; says whether there were any.
    pub fn close(&self, directory: &Directory) -> bool {
        self.closed.store(true, Relaxed);
        let mut any = false;
        for _ in 0..REMOVED_AT_ONCE {
            let Some(file) = self.lock().pop() else { break };
            any = true;
            remove(directory, &free_name(file.number));
        }
        any
    }

    fn fits(&self, free: &Free, size: u64) -> bool {
        !self.closed.load(Relaxed)
            && size <= SIZE_MAX
            && free.files.len() < FILES_MAX
            && free.bytes.saturating_add(size) <= self.bytes_max
    }

    fn lock(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Free {
    fn push(&mut self, file: FreeFile) {
        self.bytes = self.bytes.saturating_add(file.size);
        self.files.push_back(file);
    }

    fn pop(&mut self) -> Option<FreeFile> {
        let file = self.files.pop_front()?;
        self.bytes = self.bytes.saturating_sub(file.size);
        Some(file)
    }
}

/// A free file that cannot be removed stays, in nobody's way.
fn remove(directory: &Directory, name: &str) {
    if let Err(error) = directory.remove(OsStr::new(name)) {
        debug!(%error, name, "could not remove a free spool file");
    }
}
