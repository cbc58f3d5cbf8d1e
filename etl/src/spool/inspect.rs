//! Looking into spools from outside, without their locks: a run may be going on.
//! Files that vanish while being looked at were delivered.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::dead::DEAD;
use super::directory::Directory;
use super::legacy;
use super::listing::list;
use super::lock::{Holder, LOCK, Lock};
use super::metadata::Attempts;
use super::name::{Name, State, parse_dead};
use super::quarantine::{CORRUPT, REASON};
use super::read::{ReadError, decode, metadata_of, own, whole_file};
use super::{OpenError, SpoolOptions, gzip, open};
use crate::batch::Payload;

/// One sink's spool, seen from outside.
#[derive(Debug)]
pub struct SinkView {
    /// The pipeline's name.
    pub pipeline: String,
    /// The sink's name.
    pub sink: String,
    directory: Directory,
}

/// What kind of file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Written ahead of its first attempt.
    Pending,
    /// At least one attempt has failed.
    Spooled,
    /// Records refused for good.
    Dead,
    /// Quarantined.
    Corrupt,
}

/// One file of a spool, its content unread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileView {
    /// Where it counts.
    pub kind: Kind,
    /// The whole path.
    pub path: PathBuf,
    /// Bytes on disk.
    pub size: u64,
    /// Since when it waits, in Unix seconds.
    pub since: u64,
}

/// What a file's header says about its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headline {
    /// Records in it.
    pub records: u64,
    /// What was tried with them.
    pub attempts: Attempts,
}

impl Kind {
    /// As listings call it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Kind::Pending => "pending",
            Kind::Spooled => "spooled",
            Kind::Dead => "dead",
            Kind::Corrupt => "corrupt",
        }
    }
}

/// The spools under a data directory, by pipeline and sink; those that are not
/// directories, or are links, are left out.
///
/// # Errors
/// When a directory cannot be listed. A missing one is empty.
pub fn sinks(data_dir: &Path) -> io::Result<Vec<SinkView>> {
    let mut sinks = Vec::new();
    for (pipeline, _) in folders(data_dir)? {
        sinks.extend(sinks_of(data_dir, &pipeline)?);
    }
    Ok(sinks)
}

/// As [`sinks`], of one pipeline.
///
/// # Errors
/// When a directory cannot be listed. A missing one is empty.
pub fn sinks_of(data_dir: &Path, pipeline: &str) -> io::Result<Vec<SinkView>> {
    let mut sinks = Vec::new();
    for (sink, path) in folders(&data_dir.join(pipeline).join("spool"))? {
        if let Ok(directory) = Directory::open(&path) {
            sinks.push(SinkView { pipeline: pipeline.to_owned(), sink, directory });
        }
    }
    Ok(sinks)
}

/// The process that has the state of `pipeline` now, which is the one that runs it. Takes no
/// lock, which would get into the way of a run that begins: it asks the kernel for its list.
#[must_use]
pub fn run_by(data_dir: &Path, pipeline: &str) -> Option<u32> {
    let state = Directory::open(&data_dir.join(pipeline).join("state")).ok()?;
    let holder = Holder::last(&state)?;
    let inode = std::fs::metadata(state.path().join(LOCK)).ok()?.ino();
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    // `1: FLOCK  ADVISORY  WRITE 3422 fd:01:5112 0 EOF`
    let held = locks.lines().any(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let flock = fields.next() == Some("FLOCK");
        let pid = fields.nth(2).and_then(|pid| pid.parse::<u32>().ok());
        let file = fields.next().and_then(|place| place.rsplit(':').next()?.parse::<u64>().ok());
        flock && pid == Some(holder.pid) && file == Some(inode)
    });
    held.then_some(holder.pid)
}

fn folders(path: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut folders = Vec::new();
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Ok(folders);
        }
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir())
            && let Some(name) = entry.file_name().to_str()
        {
            folders.push((name.to_owned(), entry.path()));
        }
    }
    folders.sort();
    Ok(folders)
}

impl SinkView {
    /// Its directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The cap that the last run set, in bytes.
    #[must_use]
    pub fn max_bytes(&self) -> Option<u64> {
        Holder::last(&self.directory).map(|holder| holder.max_bytes)
    }

    /// Its files: what waits by sequence, then dead letters, then quarantined files.
    ///
    /// # Errors
    /// When a directory cannot be listed.
    pub fn files(&self) -> io::Result<Vec<FileView>> {
        let mut entries = list(&self.directory)?;
        entries.dedup_by(|later, kept| kept.same_batch(later));
        let mut files: Vec<FileView> = entries
            .into_iter()
            .map(|entry| FileView {
                kind: kind_of(entry.state()),
                path: self.directory.path().join(entry.file_name()),
                size: entry.size(),
                since: entry.since(),
            })
            .collect();
        files.extend(self.kept(DEAD, Kind::Dead)?);
        files.extend(self.kept(CORRUPT, Kind::Corrupt)?);
        Ok(files)
    }

    /// As [`FileView::headline`], of a file that waits here; opens no directory for it.
    ///
    /// # Errors
    /// When it is damaged, gone, or not readable.
    pub fn headline(&self, file: &FileView) -> Result<Headline, ReadError> {
        file.headline_in(&self.directory, file.path.file_name().unwrap_or_default())
    }

    fn kept(&self, folder: &str, kind: Kind) -> io::Result<Vec<FileView>> {
        let mut files = Vec::new();
        let folder = match self.directory.existing_subdirectory(folder) {
            Ok(folder) => folder,
            // Missing, or something else under its name, which is not ours to read.
            Err(_) => return Ok(files),
        };
        folder.visit_names(|name| {
            let bytes = name.as_bytes();
            let wanted = match kind {
                Kind::Corrupt => !bytes.starts_with(b".") && !bytes.ends_with(REASON.as_bytes()),
                _ => parse_dead(bytes).is_some(),
            };
            if let (true, Ok(Some(facts))) = (wanted, folder.facts(name)) {
                let path = folder.path().join(name);
                files.push(FileView { kind, path, size: facts.size, since: facts.modified });
            }
            Ok(())
        })?;
        files.sort_by(|one, two| one.path.cmp(&two.path));
        Ok(files)
    }

    /// Removes files for good, under the spool's lock; gives back those that were
    /// still there. Nothing else is touched.
    ///
    /// # Errors
    /// When a run holds the spool, or the system refuses.
    pub fn discard(&self, files: &[FileView]) -> Result<Vec<FileView>, OpenError> {
        let options = Holder::last(&self.directory).map_or(
            SpoolOptions { max_bytes: 0, min_free: 0 },
            |last| SpoolOptions { max_bytes: last.max_bytes, min_free: last.min_free },
        );
        let _lock: Lock = open::lock(&self.directory, options)?;
        let mut gone = Vec::new();
        for file in files {
            let removed = locate(&file.path).and_then(|(folder, name)| folder.remove(&name));
            match removed {
                Ok(()) => gone.push(file.clone()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(OpenError::io("remove from", &file.path, source)),
            }
        }
        Ok(gone)
    }
}

impl FileView {
    /// The file at `path`, whatever it is called.
    ///
    /// # Errors
    /// When it is not there.
    pub fn at(path: &Path) -> io::Result<FileView> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_os_string();
        let path = folder_of(path).canonicalize()?.join(&name);
        let (folder, _) = locate(&path)?;
        let facts = folder.facts(&name)?.ok_or(io::ErrorKind::NotFound)?;
        let kind = match Name::parse(name.as_bytes()) {
            _ if folder.path().file_name() == Some(OsStr::new(CORRUPT)) => Kind::Corrupt,
            _ if parse_dead(name.as_bytes()).is_some() => Kind::Dead,
            Some(Name::Batch(batch)) => kind_of(batch.state),
            _ => Kind::Spooled,
        };
        Ok(FileView { kind, path, size: facts.size, since: facts.modified })
    }

    /// What its header says; a file of the earlier program has none and is read whole.
    ///
    /// # Errors
    /// When it is damaged, gone, or not readable.
    pub fn headline(&self) -> Result<Headline, ReadError> {
        let (folder, name) = self.open()?;
        self.headline_in(&folder, &name)
    }

    fn headline_in(&self, folder: &Directory, name: &OsStr) -> Result<Headline, ReadError> {
        match metadata_of(folder, name)? {
            (Some(metadata), _) => {
                Ok(Headline { records: metadata.records, attempts: metadata.attempts() })
            }
            (None, _) => {
                let (payload, attempts) = self.read()?;
                Ok(Headline { records: payload.records() as u64, attempts })
            }
        }
    }

    /// Its records, every checksum and digest checked; for dead letters, the letters.
    ///
    /// # Errors
    /// When it is damaged, gone, or not readable.
    pub fn records(&self) -> Result<Vec<Bytes>, ReadError> {
        let (payload, _) = self.read()?;
        Ok(payload.rows().map(|row| payload.body.slice_ref(row)).collect())
    }

    /// Why it is in `corrupt/`, if it is and a reason was noted.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        let mut name = self.path.file_name()?.to_os_string();
        name.push(REASON);
        let text = std::fs::read_to_string(self.path.with_file_name(name)).ok()?;
        Some(super::clean(text.trim_end(), 500))
    }

    fn read(&self) -> Result<(Payload, Attempts), ReadError> {
        let (folder, name) = self.open()?;
        let (file, facts) = whole_file(&folder, &name)?;
        let content = match (Name::parse(name.as_bytes()), parse_dead(name.as_bytes())) {
            (_, Some((_, key))) => own(&file, Some(key)),
            (Some(named @ (Name::Batch(_) | Name::Legacy(_))), _) => {
                decode(&named, &file, facts.modified, own)
            }
            // A copy under another name is judged by its content.
            _ if gzip::begins_like_ours(&file) => own(&file, None),
            _ => legacy::read(&file)
                .map(|payload| (payload, Attempts::default()))
                .map_err(|problem| problem.to_string()),
        };
        content.map_err(|reason| match folder.facts(&name) {
            // Delivered meanwhile, and perhaps written over.
            Ok(None) => ReadError::NotFound { path: self.path.clone() },
            _ => ReadError::corrupt(&self.path, reason),
        })
    }

    fn open(&self) -> Result<(Directory, OsString), ReadError> {
        locate(&self.path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => ReadError::NotFound { path: self.path.clone() },
            _ => ReadError::Io { path: self.path.clone(), source },
        })
    }
}

fn kind_of(state: State) -> Kind {
    match state {
        State::Pending => Kind::Pending,
        State::Failed => Kind::Spooled,
    }
}

/// The directory of a path, opened, and the name in it.
fn locate(path: &Path) -> io::Result<(Directory, OsString)> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_os_string();
    Ok((Directory::open(folder_of(path))?, name))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
