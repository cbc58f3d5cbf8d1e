//! A log file that is moved out of the way when it is too large or too old: `etl.log` to
//! `etl.log.1`, that to `etl.log.2`, and so on up to the number that is kept. Several processes
//! may write one log: a lock on its directory, which ends with its holder, keeps their lines
//! and their rotations apart, and each notices when another has moved the file.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::FlockOperation;

use crate::config::{Size, Span};

/// How often the lock is tried for, and the pause between: nobody has it for longer than a
/// write takes, and a log never waits for a process that was halted with it.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(1);
/// No more files are looked for.
const KEEP_MAX: usize = 1000;

/// How large and how old a log may become, and how many are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    /// A larger file is moved away.
    pub size: Size,
    /// So is one that was begun longer ago.
    pub age: Span,
    /// Files kept beside the one that is written.
    pub keep: usize,
}

/// A log file that keeps to its limits. Each write is of whole lines.
pub(super) struct Rotating {
    path: PathBuf,
    limits: LogLimits,
    file: File,
    inode: u64,
    /// Locked for a write, and alone for a rotation.
    directory: File,
    /// Why rotation failed was said.
    warned: bool,
}

/// The files that were moved away from `path`, the oldest first.
pub(crate) fn older_files(path: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        (1..=KEEP_MAX).map(|number| numbered(path, number)).take_while(|it| it.exists()).collect();
    files.reverse();
    files
}

impl Rotating {
    /// Opens the log for appending; makes it, readable by its owner only, when there is none.
    pub fn open(path: &Path, limits: LogLimits) -> io::Result<Rotating> {
        let parent = path.parent().filter(|directory| !directory.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        std::fs::create_dir_all(parent)?;
        let file = append_to(path)?;
        let inode = file.metadata()?.ino();
        let directory = File::open(parent)?;
        Ok(Rotating { path: path.to_owned(), limits, file, inode, directory, warned: false })
    }

    /// Moves on to the file that is at the path now, should another process have moved ours;
    /// gives what is known of it, where it can be rotated.
    fn follow(&mut self) -> Option<Metadata> {
        let about = std::fs::metadata(&self.path).ok();
        if about.as_ref().is_some_and(|about| about.ino() == self.inode) {
            return about.filter(Metadata::is_file);
        }
        // What cannot be opened now may be at the next write; until then ours is good.
        let file = append_to(&self.path).ok()?;
        let about = file.metadata().ok()?;
        (self.file, self.inode) = (file, about.ino());
        Some(about).filter(Metadata::is_file)
    }

    fn is_full(&self, about: &Metadata, more: usize) -> bool {
        let begun = about.created().or_else(|_| about.modified()).ok();
        let age = begun.and_then(|begun| SystemTime::now().duration_since(begun).ok());
        let too_large = about.len().saturating_add(more as u64) > self.limits.size.0;
        let too_old = age.is_some_and(|age| age > self.limits.age.0);
        about.len() > 0 && (too_large || too_old)
    }

    fn lock(&self, how: FlockOperation) -> bool {
        for _ in 0..TRIES {
            match rustix::fs::flock(&self.directory, how) {
                Ok(()) => return true,
                Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(PAUSE),
                Err(_) => return false,
            }
        }
        false
    }

    fn unlock(&self) {
        // It ends with the process at the latest.
        rustix::fs::flock(&self.directory, FlockOperation::Unlock).ok();
    }

    /// Moves the file away, unless another process has done so.
    fn rotate(&mut self, more: usize) -> io::Result<()> {
        if !self.lock(FlockOperation::NonBlockingLockExclusive) {
            return Ok(());
        }
        let moved = match self.follow() {
            Some(about) if self.is_full(&about, more) => self.shift(),
            _ => Ok(()),
        };
        self.follow();
        self.unlock();
        moved
    }

    fn shift(&self) -> io::Result<()> {
        let keep = self.limits.keep;
        let all = (keep..=KEEP_MAX).map(|number| numbered(&self.path, number));
        for over in all.take_while(|file| file.exists()) {
            std::fs::remove_file(over)?;
        }
        for number in (1..keep).rev() {
            let from = numbered(&self.path, number);
            if from.exists() {
                std::fs::rename(from, numbered(&self.path, number + 1))?;
            }
        }
        std::fs::rename(&self.path, numbered(&self.path, 1))
    }
}

impl Write for Rotating {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let about = self.follow();
        if about.is_some_and(|about| self.is_full(&about, lines.len()))
            && let Err(error) = self.rotate(lines.len())
            && !std::mem::replace(&mut self.warned, true)
        {
            writeln!(self.file, "the log cannot be rotated: {error}")?;
        }
        let locked = self.lock(FlockOperation::NonBlockingLockShared);
        // Between the look and the lock it may have been moved.
        self.follow();
        let written = self.file.write_all(lines);
        if locked {
            self.unlock();
        }
        written.map(|()| lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

fn numbered(path: &Path, number: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::time::Duration;

    use super::{LogLimits, Rotating, numbered, older_files};
    use crate::config::{Size, Span};

    fn limits(bytes: u64, keep: usize) -> LogLimits {
        LogLimits { size: Size(bytes), age: Span(Duration::from_secs(3600)), keep }
    }

    /// One line, as the log's own thread writes it: in one piece.
    fn put(log: &mut Rotating, line: &str) {
        log.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// All lines, the oldest first.
    fn lines(log: &Path) -> Vec<String> {
        let files = older_files(log).into_iter().chain([log.to_owned()]);
        let text: String = files.map(|file| std::fs::read_to_string(file).unwrap()).collect();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_full_log_is_moved_away_whole_and_so_many_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("logs/etl.log");
        let mut log = Rotating::open(&path, limits(50, 3)).unwrap();
        // Five lines of ten bytes fill a file to the last byte.
        for n in 0..20 {
            put(&mut log, &format!("line {n:04}"));
        }
        assert_eq!(lines(&path), (0..20).map(|n| format!("line {n:04}")).collect::<Vec<_>>());
        for n in 20..27 {
            put(&mut log, &format!("line {n:04}"));
        }
        assert_eq!(older_files(&path).len(), 3);
        assert_eq!(lines(&path), (10..27).map(|n| format!("line {n:04}")).collect::<Vec<_>>());
        for file in older_files(&path).iter().chain([&path]) {
            let about = std::fs::metadata(file).unwrap();
            assert!(about.len() <= 50, "{}", about.len());
            assert_eq!(about.permissions().mode() & 0o777, 0o600);
        }
        // Fewer are kept from now on; one line that is larger than a file is not cut.
        let mut log = Rotating::open(&path, limits(50, 1)).unwrap();
        put(&mut log, &"x".repeat(100));
        put(&mut log, "the end");
        assert_eq!(lines(&path), ["x".repeat(100), "the end".to_owned()]);
        assert!(!numbered(&path, 2).exists());
    }

    #[test]
    fn an_old_log_is_moved_away_at_the_next_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("etl.log");
        let young = LogLimits { age: Span(Duration::from_millis(1)), ..limits(1 << 20, 5) };
        let mut log = Rotating::open(&path, young).unwrap();
        put(&mut log, "one");
        std::thread::sleep(Duration::from_millis(50));
        put(&mut log, "two");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
        assert_eq!(std::fs::read_to_string(numbered(&path, 1)).unwrap(), "one\n");
    }

    #[test]
    fn writers_of_one_log_lose_no_line_and_move_it_once() {
        const WRITERS: usize = 4;
        const LINES: usize = 500;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("etl.log");
        std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                let path = &path;
                // Each has files of its own, as processes have.
                scope.spawn(move || {
                    let mut log = Rotating::open(path, limits(2000, 900)).unwrap();
                    for n in 0..LINES {
                        put(&mut log, &format!("writer {writer} line {n:04}"));
                    }
                });
            }
        });
        let lines = lines(&path);
        assert_eq!(lines.len(), WRITERS * LINES);
        for writer in 0..WRITERS {
            let own: Vec<&String> = lines
                .iter()
                .filter(|line| line.starts_with(&format!("writer {writer} ")))
                .collect();
            let expected: Vec<String> =
                (0..LINES).map(|n| format!("writer {writer} line {n:04}")).collect();
            assert!(own.into_iter().eq(expected.iter()), "writer {writer}");
        }
        // 19 bytes and 2000 a file; one that two had moved would be nearly empty.
        let files = older_files(&path);
        for file in &files {
            assert!(std::fs::metadata(file).unwrap().len() > 1800, "{}", file.display());
        }
    }

    #[test]
    fn what_is_no_file_and_what_was_removed() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = Rotating::open(Path::new("/dev/null"), limits(1, 1)).unwrap();
        put(&mut log, "nowhere");
        put(&mut log, "nowhere");
        assert!(!Path::new("/dev/null.1").exists());
        let path = directory.path().join("etl.log");
        let mut log = Rotating::open(&path, limits(100, 1)).unwrap();
        put(&mut log, "one");
        std::fs::remove_file(&path).unwrap();
        put(&mut log, "two");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
    }
}
