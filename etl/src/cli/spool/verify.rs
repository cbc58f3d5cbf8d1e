//! `etl spool verify`: reads and checks every file, whole.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::text::{count, counted};
use super::{cat, chosen, finish};
use crate::exit::Exit;
use crate::spool::ReadError;
use crate::spool::clean;
use crate::spool::inspect::{FileView, Kind};

#[derive(Debug, Default)]
struct Findings {
    files: u64,
    records: u64,
    bad: Vec<(PathBuf, String)>,
}

/// Checks every file of the spools under `data_dir`, or only `files` when given;
/// 65 when one does not check or is quarantined. Changes nothing.
pub fn verify(
    data_dir: &Path,
    pipeline: Option<&str>,
    files: &[PathBuf],
    json: bool,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Exit {
    let result = check(data_dir, pipeline, files, err).and_then(|findings| match findings {
        Ok(findings) => findings.print(json, out),
        Err(exit) => Ok(exit),
    });
    finish(result, err)
}

fn check(
    data_dir: &Path,
    pipeline: Option<&str>,
    paths: &[PathBuf],
    err: &mut dyn Write,
) -> io::Result<Result<Findings, Exit>> {
    let mut findings = Findings::default();
    if !paths.is_empty() {
        return Ok(cat::named(data_dir, paths, err)?.map(|files| {
            files.iter().for_each(|file| findings.look_at(file, false));
            findings
        }));
    }
    Ok(match chosen(data_dir, pipeline, err)? {
        Ok(views) => {
            for view in views {
                view.files()?.iter().for_each(|file| findings.look_at(file, true));
            }
            Ok(findings)
        }
        Err(exit) => Err(exit),
    })
}

impl Findings {
    fn look_at(&mut self, file: &FileView, may_vanish: bool) {
        let problem = match (file.records(), file.kind) {
            // Delivered since it was listed.
            (Err(ReadError::NotFound { .. }), _) if may_vanish => return,
            (Ok(records), Kind::Corrupt) => {
                let reason = file.reason().unwrap_or_else(|| "reason unknown".to_owned());
                let records = counted(records.len() as u64, "record");
                Some(format!("quarantined ({reason}); its content reads as {records}"))
            }
            (Ok(records), _) => {
                self.records += records.len() as u64;
                None
            }
            (Err(ReadError::Corrupt { reason, .. }), _) => Some(reason),
            (Err(error), _) => Some(error.to_string()),
        };
        self.files += 1;
        if let Some(problem) = problem {
            self.bad.push((file.path.clone(), clean(&problem, 500)));
        }
    }

    fn print(&self, json: bool, out: &mut dyn Write) -> io::Result<Exit> {
        let bad = self.bad.len() as u64;
        if json {
            let item = |(path, problem): &(PathBuf, String)| -> Value {
                json!({ "file": path.to_string_lossy(), "problem": problem })
            };
            let list: Vec<Value> = self.bad.iter().map(item).collect();
            let good = self.files - bad;
            let all =
                json!({ "files": self.files, "good": good, "records": self.records, "bad": list });
            writeln!(out, "{all}")?;
        } else {
            for (path, problem) in &self.bad {
                writeln!(out, "BAD  {}: {problem}", clean(&path.to_string_lossy(), 4096))?;
            }
            let (files, records) = (counted(self.files, "file"), count(self.records));
            let verdict =
                if bad == 0 { "all good".to_owned() } else { format!("{} bad", count(bad)) };
            writeln!(out, "verified {files}: {verdict}, {records} records readable")?;
        }
        Ok(if bad == 0 { Exit::Delivered } else { Exit::Rejected })
    }
}
