//! `etl spool cat`: the records that wait, one JSON value a line.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{chosen, finish};
use crate::exit::Exit;
use crate::spool::ReadError;
use crate::spool::inspect::{FileView, Kind};

/// What to print.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cat<'a> {
    /// Only this pipeline.
    pub pipeline: Option<&'a str>,
    /// These files, by path or by name in a spool; none means all that wait.
    pub files: &'a [PathBuf],
    /// Dead letters instead of what waits.
    pub dead: bool,
}

/// Prints the records of the chosen files as JSON lines; what cannot be read is
/// named on `err` and makes the exit code 65.
pub fn cat(data_dir: &Path, options: &Cat<'_>, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    let result = print(data_dir, options, out, err);
    finish(result, err)
}

fn print(
    data_dir: &Path,
    options: &Cat<'_>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    let files = match select(data_dir, options, err)? {
        Ok(files) => files,
        Err(exit) => return Ok(exit),
    };
    let mut exit = Exit::Delivered;
    for file in files {
        match file.records() {
            Ok(records) => {
                for record in records {
                    out.write_all(&record)?;
                    out.write_all(b"\n")?;
                }
            }
            Err(ReadError::NotFound { .. }) if options.files.is_empty() => {}
            Err(error) => {
                writeln!(err, "error: {error}")?;
                exit = exit.worst(Exit::Rejected);
            }
        }
    }
    out.flush()?;
    Ok(exit)
}

fn select(
    data_dir: &Path,
    options: &Cat<'_>,
    err: &mut dyn Write,
) -> io::Result<Result<Vec<FileView>, Exit>> {
    if options.files.is_empty() {
        let views = match chosen(data_dir, options.pipeline, err)? {
            Ok(views) => views,
            Err(exit) => return Ok(Err(exit)),
        };
        let mut files = Vec::new();
        for view in views {
            files.extend(view.files()?.into_iter().filter(|file| match file.kind {
                Kind::Dead => options.dead,
                Kind::Pending | Kind::Spooled => !options.dead,
                Kind::Corrupt => false,
            }));
        }
        return Ok(Ok(files));
    }
    named(data_dir, options.files, err)
}

/// Files given by path, or by their name in some spool under `data_dir`.
pub(super) fn named(
    data_dir: &Path,
    paths: &[PathBuf],
    err: &mut dyn Write,
) -> io::Result<Result<Vec<FileView>, Exit>> {
    let mut files = Vec::new();
    for path in paths {
        if let Ok(file) = FileView::at(path) {
            files.push(file);
            continue;
        }
        let found = match chosen(data_dir, None, err)? {
            Ok(views) => find(&views, path)?,
            Err(exit) => return Ok(Err(exit)),
        };
        let Some(file) = found else {
            let (path, data) = (path.display(), data_dir.display());
            writeln!(err, "error: no file {path}, and no spool in {data} has one of that name")?;
            return Ok(Err(Exit::Usage));
        };
        files.push(file);
    }
    Ok(Ok(files))
}

fn find(views: &[crate::spool::inspect::SinkView], name: &Path) -> io::Result<Option<FileView>> {
    for view in views {
        let mut files = view.files()?.into_iter();
        if let Some(file) = files.find(|file| file.path.file_name() == Some(name.as_os_str())) {
            return Ok(Some(file));
        }
    }
    Ok(None)
}
