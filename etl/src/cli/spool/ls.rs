//! `etl spool ls`: what waits where, since when and why, from names and headers.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use serde_json::{Value, json};

use super::text::{Align, age, count, size, table};
use super::{chosen, finish};
use crate::exit::Exit;
use crate::spool::ReadError;
use crate::spool::inspect::{FileView, Headline, Kind, SinkView};

/// What to list.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ls<'a> {
    /// Only this pipeline.
    pub pipeline: Option<&'a str>,
    /// Only dead letters.
    pub dead: bool,
    /// Every file by itself instead of sums.
    pub files: bool,
    /// One JSON object.
    pub json: bool,
    /// The time that ages count to, in Unix seconds.
    pub now: u64,
}

/// The files of one sink in one state, summed.
#[derive(Debug, Default)]
struct Group {
    files: u64,
    records: u64,
    bytes: u64,
    oldest: Option<u64>,
    tries: u32,
    last_answer: String,
}

/// One file with what its header says; `None` when that does not check.
type Seen = (String, FileView, Option<Headline>);

/// One pipeline's spool.
struct Block {
    pipeline: String,
    directory: String,
    max_bytes: Option<u64>,
    groups: BTreeMap<(String, Kind), Group>,
    unreadable: u64,
    /// Only with `--files`: a spool may hold a million.
    files: Vec<Seen>,
}

/// Lists the spools under `data_dir`.
pub fn ls(data_dir: &Path, options: &Ls<'_>, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    let result = list(data_dir, options, out, err);
    finish(result, err)
}

fn list(
    data_dir: &Path,
    options: &Ls<'_>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    let views = match chosen(data_dir, options.pipeline, err)? {
        Ok(views) => views,
        Err(exit) => return Ok(exit),
    };
    let mut blocks = Vec::new();
    for sinks in views.chunk_by(|one, two| one.pipeline == two.pipeline) {
        let block = Block::gather(sinks, options)?;
        if !block.groups.is_empty() {
            blocks.push(block);
        }
    }
    if options.json {
        let pipelines: Vec<Value> = blocks.iter().map(|block| block.json(options)).collect();
        writeln!(out, "{}", json!({ "pipelines": pipelines }))?;
    } else if blocks.is_empty() {
        writeln!(out, "spool: empty")?;
    }
    for (index, block) in blocks.iter().enumerate().filter(|_| !options.json) {
        if index > 0 {
            writeln!(out)?;
        }
        block.print(options, out)?;
    }
    Ok(Exit::Delivered)
}

impl Block {
    fn gather(sinks: &[SinkView], options: &Ls<'_>) -> io::Result<Block> {
        let first = sinks.first();
        let directory = first.and_then(|view| view.directory().parent());
        let mut block = Block {
            pipeline: first.map(|view| view.pipeline.clone()).unwrap_or_default(),
            directory: directory.map(|path| path.display().to_string()).unwrap_or_default(),
            max_bytes: None,
            groups: BTreeMap::new(),
            unreadable: 0,
            files: Vec::new(),
        };
        for view in sinks {
            if let Some(max) = view.max_bytes() {
                block.max_bytes = Some(block.max_bytes.unwrap_or(0).saturating_add(max));
            }
            for file in view.files()? {
                if !options.dead || file.kind == Kind::Dead {
                    block.add(&view.sink, file, options.files);
                }
            }
        }
        Ok(block)
    }

    fn add(&mut self, sink: &str, file: FileView, keep: bool) {
        let headline = match file.kind {
            Kind::Corrupt => None,
            _ => match file.headline() {
                Ok(headline) => Some(headline),
                // Delivered since it was listed.
                Err(ReadError::NotFound { .. }) => return,
                Err(_) => {
                    self.unreadable += 1;
                    None
                }
            },
        };
        self.groups.entry((sink.to_owned(), file.kind)).or_default().add(&file, headline.as_ref());
        if keep {
            self.files.push((sink.to_owned(), file, headline));
        }
    }

    fn records(&self) -> u64 {
        self.groups.values().map(|group| group.records).sum()
    }

    fn bytes(&self) -> u64 {
        self.groups.values().map(|group| group.bytes).sum()
    }

    fn print(&self, options: &Ls<'_>, out: &mut dyn Write) -> io::Result<()> {
        let (records, bytes) = (count(self.records()), size(self.bytes()));
        let of = self.max_bytes.map(|max| format!(" of {}", size(max))).unwrap_or_default();
        writeln!(out, "SPOOL {}   {records} records   {bytes}{of}", self.directory)?;
        let last = if options.files { "FILE" } else { "LAST ANSWER" };
        let columns = [
            ("SINK", Align::Left),
            ("STATE   ", Align::Left),
            ("RECORDS", Align::Right),
            ("SIZE", Align::RightLeft),
            ("AGE", Align::Left),
            ("TRIES", Align::Right),
            (last, Align::Left),
        ];
        let rows: Vec<Vec<String>> = if options.files {
            self.files.iter().map(|seen| file_row(seen, options.now)).collect()
        } else {
            self.groups.iter().map(|(key, group)| group.row(key, options.now)).collect()
        };
        for line in table(&columns, &rows) {
            writeln!(out, "{line}")?;
        }
        self.print_hints(out)
    }

    fn print_hints(&self, out: &mut dyn Write) -> io::Result<()> {
        let has = |kind: Kind| self.groups.keys().any(|(_, present)| *present == kind);
        let name = &self.pipeline;
        if has(Kind::Pending) {
            writeln!(out, "pending: not tried yet; sent by the run that wrote it, or the next")?;
        }
        if has(Kind::Spooled) {
            writeln!(out, "spooled: sent by the next run; now: etl spool replay {name}")?;
        }
        if has(Kind::Dead) {
            let replay = "etl spool replay --dead (shows what it would send first)";
            writeln!(out, "dead:    etl spool cat --dead, fix, {replay}")?;
        }
        if has(Kind::Corrupt) {
            let why = format!("etl spool verify {name}");
            writeln!(out, "corrupt: damaged files, kept as they were; what is wrong: {why}")?;
        }
        if self.unreadable > 0 {
            let files = super::text::counted(self.unreadable, "file");
            writeln!(out, "unread:  {files} not readable; what is wrong: etl spool verify {name}")?;
        }
        Ok(())
    }

    fn json(&self, options: &Ls<'_>) -> Value {
        let group = |((sink, kind), group): (&(String, Kind), &Group)| {
            json!({
                "sink": sink, "state": kind.word(), "files": group.files,
                "records": group.records, "bytes": group.bytes,
                "age_seconds": options.now.saturating_sub(group.oldest.unwrap_or(options.now)),
                "tries": group.tries, "last_answer": group.last_answer,
            })
        };
        let file = |(sink, file, headline): &Seen| {
            json!({
                "sink": sink, "state": file.kind.word(), "file": file.path.to_string_lossy(),
                "records": headline.as_ref().map(|it| it.records), "bytes": file.size,
                "age_seconds": options.now.saturating_sub(file.since),
                "tries": headline.as_ref().map(|it| it.attempts.tried),
                "last_answer": headline.as_ref().map(|it| it.attempts.last_answer.as_str()),
            })
        };
        let mut block = json!({
            "pipeline": self.pipeline, "directory": self.directory, "records": self.records(),
            "bytes": self.bytes(), "max_bytes": self.max_bytes, "unreadable": self.unreadable,
            "groups": self.groups.iter().map(group).collect::<Vec<_>>(),
        });
        if options.files {
            block["files"] = self.files.iter().map(file).collect();
        }
        block
    }
}

impl Group {
    fn add(&mut self, file: &FileView, headline: Option<&Headline>) {
        self.files += 1;
        self.bytes += file.size;
        self.oldest = Some(self.oldest.map_or(file.since, |oldest| oldest.min(file.since)));
        let Some(headline) = headline else { return };
        self.records += headline.records;
        if headline.attempts.tried >= self.tries && !headline.attempts.last_answer.is_empty() {
            self.last_answer.clone_from(&headline.attempts.last_answer);
        }
        self.tries = self.tries.max(headline.attempts.tried);
    }

    fn row(&self, (sink, kind): &(String, Kind), now: u64) -> Vec<String> {
        let age = age(now.saturating_sub(self.oldest.unwrap_or(now)));
        let (records, tries, last) = match kind {
            Kind::Corrupt => {
                let files = super::text::counted(self.files, "file");
                ("?".to_owned(), String::new(), format!("{files} damaged"))
            }
            _ => (count(self.records), self.tries.to_string(), self.last_answer.clone()),
        };
        vec![sink.clone(), kind.word().to_owned(), records, size(self.bytes), age, tries, last]
    }
}

fn file_row((sink, file, headline): &Seen, now: u64) -> Vec<String> {
    let unknown = |text: Option<String>| text.unwrap_or_else(|| "?".to_owned());
    vec![
        sink.clone(),
        file.kind.word().to_owned(),
        unknown(headline.as_ref().map(|it| count(it.records))),
        size(file.size),
        age(now.saturating_sub(file.since)),
        unknown(headline.as_ref().map(|it| it.attempts.tried.to_string())),
        crate::spool::clean(&file.path.to_string_lossy(), 4096),
    ]
}
