//! A directory that files are published in: whole, durable and never overwritten.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use super::encode::Draft;
use crate::load::answer::{Answer, Failure};
use crate::load::sink::{Probe, Reach};
use crate::load::unix_seconds;
use crate::spool::{
    Directory, NewFile, WriteError, WriteErrorKind, create_durably, is_temp, write_durably,
};

/// A temporary file as old as this is nobody's any more: no write takes so long.
const ABANDONED: Duration = Duration::from_secs(3600);

/// A local directory, made when the first file is written.
#[derive(Debug)]
pub(in crate::load) struct Local {
    root: PathBuf,
    /// Directories already searched for what a crash left behind.
    swept: Mutex<std::collections::HashSet<PathBuf>>,
}

/// Why a file is not there.
#[derive(Debug, thiserror::Error)]
pub(in crate::load) enum LocalError {
    /// The system refused.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Something that is no file of ours has the name.
    #[error("{} is in the way and is not a file; move it, or set another path", .0.display())]
    InTheWay(PathBuf),
}

impl LocalError {
    /// What this means for the batch.
    pub fn answer(&self) -> Answer {
        let text = self.to_string();
        let failure = Failure::without_answer(crate::http::printable(text.as_bytes(), 500));
        match self {
            LocalError::InTheWay(_) => Answer::Refused(failure),
            LocalError::Write(error) => match error.kind {
                WriteErrorKind::Denied | WriteErrorKind::ReadOnly | WriteErrorKind::Gone => {
                    Answer::Refused(failure)
                }
                _ => Answer::Retry(failure),
            },
        }
    }
}

impl Local {
    pub fn new(root: PathBuf) -> Local {
        Local { root, swept: Mutex::default() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes `draft` a durable file, unless it is one already. Blocks.
    pub fn publish(&self, draft: &Draft) -> Result<(), LocalError> {
        let directory = self.directory(&draft.directories)?;
        self.sweep(&directory);
        let name = OsStr::new(&draft.name);
        let path = directory.path().join(name);
        let facts = directory.facts(name).map_err(|error| WriteError::new("see", &path, error))?;
        match facts {
            // Whoever renamed it may have died before making that durable.
            Some(facts) if facts.regular => self.settle(&directory, &path),
            Some(_) => Err(LocalError::InTheWay(path)),
            None => {
                let file =
                    NewFile { name: &draft.name, bytes: &draft.bytes, modified: unix_seconds() };
                match write_durably(&directory, &file, || false) {
                    Ok(_) => Ok(()),
                    Err(error) if error.kind == WriteErrorKind::Exists => {
                        self.settle(&directory, &path)
                    }
                    Err(error) => Err(error.into()),
                }
            }
        }
    }

    fn settle(&self, directory: &Directory, path: &Path) -> Result<(), LocalError> {
        directory.sync().map_err(|error| WriteError::new("make durable", path, error).into())
    }

    /// The directory below the root, every level made durable.
    fn directory(&self, steps: &[String]) -> Result<Directory, LocalError> {
        if std::fs::metadata(&self.root).is_ok_and(|facts| !facts.is_dir()) {
            return Err(LocalError::InTheWay(self.root.clone()));
        }
        let make = |path: &Path, error| WriteError::new("make the directory", path, error);
        let open = || {
            create_durably(&self.root)?;
            // The root may be a link to another disk; what is below it may not.
            Directory::open(&std::fs::canonicalize(&self.root)?)
        };
        let mut directory = open().map_err(|error| make(&self.root, error))?;
        for step in steps {
            let path = directory.path().join(step);
            let inner = directory.subdirectory(step).map_err(|error| make(&path, error))?;
            // Whoever made it may have died before making that durable.
            directory.sync().map_err(|error| make(&path, error))?;
            directory = inner;
        }
        Ok(directory)
    }

    /// Removes, once per directory, the temporary files that a crash left long ago.
    fn sweep(&self, directory: &Directory) {
        let path = directory.path().to_owned();
        let first = self.swept.lock().is_ok_and(|mut swept| swept.insert(path));
        if !first {
            return;
        }
        let now = unix_seconds();
        let mut abandoned = Vec::new();
        let visited = directory.visit_names(|name| {
            if is_temp(name.as_encoded_bytes())
                && directory.facts(name)?.is_some_and(|facts| {
                    facts.regular && now.saturating_sub(facts.modified) > ABANDONED.as_secs()
                })
            {
                abandoned.push(name.to_owned());
            }
            Ok(())
        });
        let removed = visited.and_then(|()| abandoned.iter().try_for_each(|n| directory.remove(n)));
        if let Err(error) = removed {
            // They are hidden and harmless; the next process tries again.
            tracing::debug!(%error, "could not remove old temporary files");
        }
    }

    /// Whether a file could be made here, tried without leaving anything behind.
    pub fn probe(&self) -> Probe {
        let existing = self.root.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
        let existing = if existing.as_os_str().is_empty() { Path::new(".") } else { existing };
        let tried = std::fs::canonicalize(existing)
            .and_then(|path| Directory::open(&path))
            .and_then(|directory| {
                let (temp, _) = directory.create_temp()?;
                directory.remove(OsStr::new(&temp))?;
                directory.free_bytes()
            });
        match tried {
            Ok(free) => {
                let free = bytesize::ByteSize(free).display().iec().to_string();
                Probe::ready(format!("{} writable, {free} free", self.root.display()))
            }
            Err(error) => {
                let text = format!("{}: {error}", existing.display());
                Probe::new(reach(&error), text, REMEDY)
            }
        }
    }
}

/// What to do when the directory refuses us.
pub(super) const REMEDY: &str =
    "let this user write there (chown, chmod u+wx), or set another path for the files";

fn reach(error: &io::Error) -> Reach {
    match error.kind() {
        io::ErrorKind::PermissionDenied
        | io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::NotADirectory => Reach::Refused,
        _ => Reach::NotNow,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use std::time::SystemTime;

    use super::*;
    use crate::spool::fault::{Plan, with_plan};

    fn draft(steps: &[&str], bytes: &'static [u8]) -> Draft {
        let directories = steps.iter().map(|step| (*step).to_owned()).collect();
        Draft { directories, name: "a.json".to_owned(), bytes: bytes.into() }
    }

    #[test]
    fn a_file_is_published_once_and_never_overwritten() {
        let home = tempfile::tempdir().unwrap();
        let local = Local::new(home.path().join("out/deep"));
        local.publish(&draft(&["date=1"], b"one")).unwrap();
        local.publish(&draft(&["date=1"], b"two")).unwrap();
        let path = home.path().join("out/deep/date=1/a.json");
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    /// Whatever fails and wherever the process dies, there is the whole file or none, and
    /// the same batch makes it whole afterwards.
    #[test]
    fn no_failure_and_no_crash_leaves_half_a_file() {
        let whole = draft(&["date=1"], b"one");
        let publish = |home: &Path, plan| {
            let local = Local::new(home.to_owned());
            with_plan(plan, || local.publish(&whole))
        };
        let home = tempfile::tempdir().unwrap();
        let (done, operations) = publish(home.path(), Plan::Watch);
        done.unwrap();
        let errnos = [rustix::io::Errno::NOSPC, rustix::io::Errno::IO, rustix::io::Errno::DQUOT];
        for at in 0..operations.len() {
            let plans = errnos.map(|errno| Plan::FailOne(at, errno.raw_os_error()));
            for plan in plans.into_iter().chain([Plan::Crash(at)]) {
                let home = tempfile::tempdir().unwrap();
                let error = publish(home.path(), plan).0.unwrap_err();
                if matches!(plan, Plan::FailOne(..)) {
                    assert!(matches!(error.answer(), Answer::Retry(_)), "{plan:?}: {error}");
                }
                let path = home.path().join("date=1/a.json");
                let there = std::fs::read(&path).ok();
                assert!(there.is_none_or(|there| there == b"one"), "{plan:?}");
                publish(home.path(), Plan::Watch).0.unwrap();
                assert_eq!(std::fs::read(&path).unwrap(), b"one", "{plan:?}");
            }
        }
    }

    #[test]
    fn what_is_in_the_way_is_kept_and_links_below_the_root_are_not_followed() {
        let home = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), home.path().join("root")).unwrap();
        let local = Local::new(home.path().join("root"));
        local.publish(&draft(&[], b"one")).unwrap();
        assert!(elsewhere.path().join("a.json").exists(), "the root may be a link");
        std::os::unix::fs::symlink("/tmp", elsewhere.path().join("date=1")).unwrap();
        let answer = local.publish(&draft(&["date=1"], b"one")).unwrap_err().answer();
        assert!(matches!(answer, Answer::Refused(_)), "{answer:?}");
        std::fs::create_dir_all(elsewhere.path().join("date=2/a.json")).unwrap();
        let error = local.publish(&draft(&["date=2"], b"one")).unwrap_err();
        assert!(matches!(error, LocalError::InTheWay(_)), "{error}");
        std::fs::write(home.path().join("file"), "").unwrap();
        let error = Local::new(home.path().join("file")).publish(&draft(&[], b"")).unwrap_err();
        assert!(matches!(error, LocalError::InTheWay(_)), "{error}");
    }

    #[test]
    fn only_old_temporaries_of_ours_are_swept() {
        let home = tempfile::tempdir().unwrap();
        let old = SystemTime::now() - 2 * ABANDONED;
        for (name, modified) in
            [(".etl-1-1.tmp", old), (".etl-1-2.tmp", SystemTime::now()), (".other.tmp", old)]
        {
            let file = std::fs::File::create(home.path().join(name)).unwrap();
            file.set_modified(modified).unwrap();
        }
        Local::new(home.path().to_owned()).publish(&draft(&[], b"one")).unwrap();
        let mut left: Vec<_> = std::fs::read_dir(home.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, [".etl-1-2.tmp", ".other.tmp", "a.json"]);
    }
}
