//! `etl spool discard`: the only way that undelivered data leaves a spool without
//! having been delivered. Says what it would drop, asks, then says what it dropped.

use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::text::{count, counted, size};
use super::{cat, chosen, finish};
use crate::exit::Exit;
use crate::spool::inspect::{FileView, Kind, SinkView};
use crate::spool::{OpenError, clean};

/// Which files are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What<'a> {
    /// These, by path or by name in a spool.
    Files(&'a [PathBuf]),
    /// What waits to be delivered.
    Waiting,
    /// Dead letters.
    Dead,
    /// Quarantined files.
    Corrupt,
}

/// What to drop, and whether that was agreed to.
#[derive(Debug, Clone, Copy)]
pub struct Discard<'a> {
    /// Only this pipeline.
    pub pipeline: Option<&'a str>,
    /// Only this sink.
    pub sink: Option<&'a str>,
    /// Which files.
    pub what: What<'a>,
    /// Agreed beforehand (`--yes`).
    pub yes: bool,
    /// One JSON object.
    pub json: bool,
}

/// A sink and those of its files that are meant.
type Chosen = (SinkView, Vec<FileView>);

/// Drops files after a confirmation read from `answers`, which is `None` where
/// nobody can answer (no terminal). A spool in use is refused.
pub fn discard(
    data_dir: &Path,
    options: &Discard<'_>,
    answers: Option<&mut dyn BufRead>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Exit {
    let result = select(data_dir, options, err).and_then(|chosen| match chosen {
        Ok(chosen) => confirm_and_drop(&chosen, options, answers, out, err),
        Err(exit) => Ok(exit),
    });
    finish(result, err)
}

fn select(
    data_dir: &Path,
    options: &Discard<'_>,
    err: &mut dyn Write,
) -> io::Result<Result<Vec<Chosen>, Exit>> {
    let wanted = match options.what {
        What::Files(paths) => match cat::named(data_dir, paths, err)? {
            Ok(files) => Some(files),
            Err(exit) => return Ok(Err(exit)),
        },
        _ => None,
    };
    let mut views = match chosen(data_dir, options.pipeline, err)? {
        Ok(views) => views,
        Err(exit) => return Ok(Err(exit)),
    };
    views.retain(|view| options.sink.is_none_or(|sink| view.sink == sink));
    let mut chosen = Vec::new();
    for view in views {
        let mut files = view.files()?;
        files.retain(|file| match options.what {
            What::Files(_) => wanted.iter().flatten().any(|want| same_file(&want.path, &file.path)),
            What::Waiting => matches!(file.kind, Kind::Pending | Kind::Spooled),
            What::Dead => file.kind == Kind::Dead,
            What::Corrupt => file.kind == Kind::Corrupt,
        });
        if !files.is_empty() {
            chosen.push((view, files));
        }
    }
    Ok(Ok(chosen))
}

/// Whether two paths name one file, spelled differently or not.
fn same_file(one: &Path, two: &Path) -> bool {
    let real = |path: &Path| -> Option<PathBuf> {
        Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?))
    };
    one.file_name() == two.file_name()
        && (one == two || real(one).is_some_and(|it| Some(it) == real(two)))
}

fn confirm_and_drop(
    chosen: &[Chosen],
    options: &Discard<'_>,
    answers: Option<&mut dyn BufRead>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    let files = || chosen.iter().flat_map(|(_, files)| files);
    if files().next().is_none() {
        return report(&[], options.json, out).map(|()| Exit::Delivered);
    }
    if !options.yes {
        writeln!(err, "this would drop for good {}", describe(files()))?;
        let Some(answers) = answers else {
            writeln!(err, "error: nothing was dropped; to drop it, add --yes")?;
            return Ok(Exit::Usage);
        };
        if !agreed(answers, err)? {
            writeln!(err, "nothing was dropped")?;
            return Ok(Exit::Usage);
        }
    }
    let mut dropped = Vec::new();
    let mut exit = Exit::Delivered;
    for (view, files) in chosen {
        let facts: Vec<Dropped> = files.iter().map(Dropped::of).collect();
        match view.discard(files) {
            Ok(gone) => dropped.extend(facts.into_iter().filter(|it| gone.contains(&it.file))),
            Err(error) => {
                writeln!(err, "error: {error}")?;
                let later = matches!(error, OpenError::Locked { .. });
                exit = exit.worst(if later { Exit::Spooled } else { Exit::Internal });
                // What is gone of this sink is no longer there; that is what is told.
                dropped.extend(facts.into_iter().filter(|it| !later && !it.file.path.exists()));
            }
        }
    }
    report(&dropped, options.json, out)?;
    Ok(exit)
}

/// A file that was dropped, and how many records it was said to hold.
#[derive(Debug)]
struct Dropped {
    file: FileView,
    records: Option<u64>,
}

impl Dropped {
    fn of(file: &FileView) -> Dropped {
        let records = file.headline().ok().map(|headline| headline.records);
        Dropped { file: file.clone(), records }
    }
}

fn agreed(answers: &mut dyn BufRead, err: &mut dyn Write) -> io::Result<bool> {
    write!(err, "type yes to drop it: ")?;
    err.flush()?;
    let mut line = String::new();
    io::Read::take(answers, 100).read_line(&mut line)?;
    Ok(line.trim() == "yes")
}

fn describe<'a>(files: impl Iterator<Item = &'a FileView>) -> String {
    let (mut number, mut bytes, mut records) = (0, 0, 0);
    for file in files {
        (number, bytes) = (number + 1, bytes + file.size);
        records += file.headline().map_or(0, |headline| headline.records);
    }
    format!("{} with {} records, {}", counted(number, "file"), count(records), size(bytes))
}

fn report(dropped: &[Dropped], json: bool, out: &mut dyn Write) -> io::Result<()> {
    let records: u64 = dropped.iter().filter_map(|it| it.records).sum();
    let bytes: u64 = dropped.iter().map(|it| it.file.size).sum();
    if json {
        let item = |it: &Dropped| -> Value {
            json!({ "file": it.file.path.to_string_lossy(), "state": it.file.kind.word(),
                "records": it.records, "bytes": it.file.size })
        };
        let list: Vec<Value> = dropped.iter().map(item).collect();
        return writeln!(out, "{}", json!({ "records": records, "bytes": bytes, "dropped": list }));
    }
    for it in dropped {
        let path = clean(&it.file.path.to_string_lossy(), 4096);
        let records = it.records.map_or_else(|| "?".to_owned(), count);
        writeln!(out, "dropped  {path}  {records} records")?;
    }
    let files = counted(dropped.len() as u64, "file");
    writeln!(out, "dropped {files}, {} records, {}", count(records), size(bytes))
}
