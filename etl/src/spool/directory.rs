//! One held directory and everything done to it: the only place of the spool, and of the
//! sinks that write files, with fsync, rename and unlink. Symbolic links are never
//! followed, nothing is overwritten unless asked, and the handle stays on the directory
//! that was opened even when its path is renamed.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, Stat, Timespec};
use rustix::io::Errno;

use super::fault::{Operation, step};
use super::group::{Change, GroupSync};
use super::name;

/// An open directory.
#[derive(Debug)]
pub(crate) struct Directory {
    handle: OwnedFd,
    path: PathBuf,
    syncs: GroupSync,
}

/// What `stat` says about a name, as far as the spool cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileFacts {
    pub regular: bool,
    pub size: u64,
    /// Unix seconds.
    pub modified: u64,
    /// Unix seconds: when it was last written, renamed or linked.
    pub changed: u64,
}

const PRIVATE_FILE: Mode = Mode::RUSR.union(Mode::WUSR);
const PRIVATE_DIRECTORY: Mode = Mode::RWXU;
/// So that a name is never used twice in a process, whatever directory it is for.
static TEMPS: AtomicU64 = AtomicU64::new(0);

impl Directory {
    /// Opens an existing directory; a symbolic link is refused.
    pub fn open(path: &Path) -> io::Result<Directory> {
        let handle = rustix::fs::openat(CWD, path, directory_flags(), Mode::empty())?;
        Ok(Directory { handle, path: path.to_owned(), syncs: GroupSync::default() })
    }

    /// Opens the directory `name` in this one, made private and durable if missing.
    pub fn subdirectory(&self, name: &str) -> io::Result<Directory> {
        match rustix::fs::mkdirat(&self.handle, name, PRIVATE_DIRECTORY) {
            Ok(()) => self.sync()?,
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        self.existing_subdirectory(name)
    }

    /// Opens the directory `name` in this one.
    pub fn existing_subdirectory(&self, name: &str) -> io::Result<Directory> {
        let handle = rustix::fs::openat(&self.handle, name, directory_flags(), Mode::empty())?;
        Ok(Directory { handle, path: self.path.join(name), syncs: GroupSync::default() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn stat_self(&self) -> io::Result<Stat> {
        Ok(rustix::fs::fstat(&self.handle)?)
    }

    /// Bytes that this user may still write on the directory's disk.
    pub fn free_bytes(&self) -> io::Result<u64> {
        let disk = rustix::fs::fstatvfs(&self.handle)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Hands every name to `visit`, in no order, without holding them all.
    pub fn visit_names(&self, mut visit: impl FnMut(&OsStr) -> io::Result<()>) -> io::Result<()> {
        for entry in Dir::read_from(&self.handle)? {
            let entry = entry?;
            visit(OsStr::from_bytes(entry.file_name().to_bytes()))?;
        }
        Ok(())
    }

    /// What stands under `name`, not following links; `None` when nothing does.
    pub fn facts(&self, name: &OsStr) -> io::Result<Option<FileFacts>> {
        match rustix::fs::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(file_facts(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens `name` for reading. Never follows a link and never waits for a FIFO;
    /// the caller looks at the facts before it reads.
    pub fn open_file(&self, name: &OsStr) -> io::Result<(File, FileFacts)> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(&self.handle, name, flags, Mode::empty())?;
        let facts = file_facts(&rustix::fs::fstat(&handle)?);
        Ok((File::from(handle), facts))
    }

    /// Opens or creates `name` for locking.
    pub fn open_or_create(&self, name: &str) -> io::Result<(File, FileFacts)> {
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(&self.handle, name, flags, PRIVATE_FILE)?;
        let facts = file_facts(&rustix::fs::fstat(&handle)?);
        Ok((File::from(handle), facts))
    }

    /// A new, private, empty file under a name that nobody else uses.
    pub fn create_temp(&self) -> io::Result<(String, File)> {
        step(Operation::Create)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        loop {
            let counter = TEMPS.fetch_add(1, Ordering::Relaxed);
            let name = name::temp_name(std::process::id(), counter);
            match rustix::fs::openat(&self.handle, &name, flags, PRIVATE_FILE) {
                Ok(handle) => return Ok((name, File::from(handle))),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Opens `name` to be written over, and says how long it is; `None` when it is not a
    /// private file of this user's under this one name.
    pub fn open_to_overwrite(&self, name: &str) -> io::Result<Option<(File, u64)>> {
        step(Operation::Reuse)?;
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(&self.handle, name, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&handle)?;
        let facts = file_facts(&stat);
        let alone = facts.regular
            && stat.st_nlink == 1
            && stat.st_mode & 0o077 == 0
            && stat.st_uid == rustix::process::geteuid().as_raw();
        Ok(alone.then(|| (File::from(handle), facts.size)))
    }

    /// Renames within the directory; fails with `AlreadyExists` rather than replace.
    pub fn rename_new(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        step(Operation::Rename)?;
        rename_without_replacing(self, from, self, to)
    }

    /// Renames within the directory, replacing what is there.
    pub fn rename_over(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        step(Operation::Rename)?;
        Ok(rustix::fs::renameat(&self.handle, from, &self.handle, to)?)
    }

    /// Gives a file that is done with a name that nobody else uses.
    pub fn rename_free(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        step(Operation::Free)?;
        Ok(rustix::fs::renameat(&self.handle, from, &self.handle, to)?)
    }

    /// Moves a file to another directory of the same disk; fails with
    /// `AlreadyExists` rather than replace.
    pub fn move_new(&self, from: &OsStr, target: &Directory, to: &OsStr) -> io::Result<()> {
        step(Operation::Rename)?;
        rename_without_replacing(self, from, target, to)
    }

    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        step(Operation::Unlink)?;
        Ok(rustix::fs::unlinkat(&self.handle, name, AtFlags::empty())?)
    }

    /// Makes creations, renames and removals in this directory durable, those of other
    /// threads with them.
    pub fn sync(&self) -> io::Result<()> {
        self.syncs.sync(|| {
            step(Operation::SyncDirectory)?;
            Ok(rustix::fs::fsync(&self.handle)?)
        })
    }

    /// Stands for what was changed in this directory before the call.
    pub(super) fn change(&self) -> Change {
        self.syncs.change()
    }

    /// Whether a change is durable, by an fsync of anybody's.
    pub(super) fn is_durable(&self, change: Change) -> bool {
        self.syncs.is_durable(change)
    }
}

/// Gives a file the time that says how old its batch is.
pub(super) fn set_modified(file: &File, modified: u64) -> io::Result<()> {
    let seconds = i64::try_from(modified).unwrap_or(i64::MAX).min(i64::from(u32::MAX));
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::futimens(file, &times)?)
}

/// Makes a file's content durable.
pub(super) fn sync_file(file: &File) -> io::Result<()> {
    step(Operation::SyncFile)?;
    Ok(rustix::fs::fsync(file)?)
}

/// Makes `path` a private directory, every missing level durable in its parent.
///
/// Levels that exist are made durable as well: an earlier process may have died
/// between making one and syncing its parent.
pub(crate) fn create_durably(path: &Path) -> io::Result<()> {
    const LEVELS: usize = 4;
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(builder.recursive(true), 0o700);
    builder.create(path)?;
    let path = std::fs::canonicalize(path)?;
    for parent in path.ancestors().skip(1).take(LEVELS) {
        match Directory::open(parent) {
            Ok(parent) => parent.sync()?,
            // A level that we may not even read is none that we made.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn directory_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

fn file_facts(stat: &Stat) -> FileFacts {
    FileFacts {
        regular: FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        modified: u64::try_from(stat.st_mtime).unwrap_or(0),
        changed: u64::try_from(stat.st_ctime).unwrap_or(0),
    }
}

fn rename_without_replacing(
    source: &Directory,
    from: &OsStr,
    target: &Directory,
    to: &OsStr,
) -> io::Result<()> {
    let flags = RenameFlags::NOREPLACE;
    match rustix::fs::renameat_with(&source.handle, from, &target.handle, to, flags) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            link_and_unlink(source, from, target, to)
        }
        result => Ok(result?),
    }
}

/// For file systems without `RENAME_NOREPLACE`: a hard link fails when its name is taken.
fn link_and_unlink(
    source: &Directory,
    from: &OsStr,
    target: &Directory,
    to: &OsStr,
) -> io::Result<()> {
    rustix::fs::linkat(&source.handle, from, &target.handle, to, AtFlags::empty())?;
    Ok(rustix::fs::unlinkat(&source.handle, from, AtFlags::empty())?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn renaming_never_replaces_with_either_method() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::open(root.path()).unwrap();
        for rename in [rename_without_replacing, link_and_unlink] {
            std::fs::write(root.path().join("a"), "a").unwrap();
            std::fs::write(root.path().join("b"), "b").unwrap();
            let go = |to: &str| {
                rename(&directory, OsStr::new("a"), &directory, OsStr::new(to))
                    .map_err(|error| error.kind())
            };
            assert_eq!(go("b"), Err(io::ErrorKind::AlreadyExists));
            assert_eq!(std::fs::read(root.path().join("b")).unwrap(), b"b");
            assert_eq!(go("c"), Ok(()));
            assert!(!root.path().join("a").exists());
            assert_eq!(std::fs::read(root.path().join("c")).unwrap(), b"a");
            std::fs::remove_file(root.path().join("c")).unwrap();
        }
    }

    #[test]
    fn files_and_directories_are_private() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("data/p/spool/http");
        create_durably(&path).unwrap();
        create_durably(&path).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        let directory = Directory::open(&path).unwrap();
        let (temp, _) = directory.create_temp().unwrap();
        assert_eq!(mode(&path.join(temp)), 0o600);
        assert_eq!(mode(directory.subdirectory("dead").unwrap().path()), 0o700);
    }

    #[test]
    fn links_and_fifos_are_neither_followed_nor_waited_for() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::open(root.path()).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.path().join("link")).unwrap();
        assert!(directory.open_file(OsStr::new("link")).is_err());
        assert!(!directory.facts(OsStr::new("link")).unwrap().unwrap().regular);
        let fifo = std::process::Command::new("mkfifo").arg(root.path().join("fifo")).status();
        assert!(fifo.unwrap().success());
        let (_, facts) = directory.open_file(OsStr::new("fifo")).unwrap();
        assert!(!facts.regular);
        assert_eq!(directory.facts(OsStr::new("missing")).unwrap(), None);
        std::os::unix::fs::symlink(root.path(), root.path().join("loop")).unwrap();
        assert!(Directory::open(&root.path().join("loop")).is_err());
    }
}
