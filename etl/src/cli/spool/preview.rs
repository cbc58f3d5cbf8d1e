//! What a replay would send, shown before anything is: from names and headers.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::text::{Align, age, count, size, table};
use crate::spool::clean;
use crate::spool::inspect::FileView;

/// Files whose names are shown.
const SHOWN: usize = 3;

/// One sink's files that would be sent, in order.
#[derive(Debug)]
pub(super) struct Preview {
    sink: String,
    target: String,
    files: Vec<FileView>,
    records: u64,
    tries: u32,
    last_answer: String,
}

impl Preview {
    pub(super) fn of(sink: &str, target: Option<String>, files: Vec<FileView>) -> Preview {
        let target = target.unwrap_or_default();
        let mut preview = Preview {
            sink: sink.to_owned(),
            target,
            files: Vec::new(),
            records: 0,
            tries: 0,
            last_answer: String::new(),
        };
        for headline in files.iter().filter_map(|file| file.headline().ok()) {
            preview.records += headline.records;
            preview.tries = preview.tries.max(headline.attempts.tried);
            if !headline.attempts.last_answer.is_empty() {
                preview.last_answer = headline.attempts.last_answer;
            }
        }
        Preview { files, ..preview }
    }

    fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    fn oldest(&self) -> Option<u64> {
        self.files.iter().map(|file| file.since).min()
    }

    fn row(&self, now: u64) -> Vec<String> {
        let waited = self.oldest().map(|oldest| age(now.saturating_sub(oldest)));
        vec![
            self.sink.clone(),
            count(self.files.len() as u64),
            count(self.records),
            size(self.bytes()),
            waited.unwrap_or_default(),
            self.tries.to_string(),
            self.last_answer.clone(),
        ]
    }

    fn json(&self, now: u64) -> Value {
        json!({
            "sink": self.sink, "target": self.target, "batches": self.files.len(),
            "records": self.records, "bytes": self.bytes(),
            "age_seconds": self.oldest().map(|oldest| now.saturating_sub(oldest)),
            "tries": self.tries, "last_answer": self.last_answer,
        })
    }
}

/// Prints what would be sent. `how` is the command that sends it.
pub(super) fn print(
    previews: &[Preview],
    how: &str,
    now: u64,
    as_json: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    if as_json {
        let sinks: Vec<Value> = previews.iter().map(|preview| preview.json(now)).collect();
        return writeln!(out, "{}", json!({ "dry_run": true, "sinks": sinks }));
    }
    if previews.iter().all(|preview| preview.files.is_empty()) {
        return writeln!(out, "nothing to send");
    }
    writeln!(out, "WOULD SEND (nothing was sent)")?;
    let columns = [
        ("SINK", Align::Left),
        ("BATCHES", Align::Right),
        ("RECORDS", Align::Right),
        ("SIZE", Align::RightLeft),
        ("AGE", Align::Left),
        ("TRIES", Align::Right),
        ("LAST ANSWER", Align::Left),
    ];
    let rows: Vec<Vec<String>> = previews.iter().map(|preview| preview.row(now)).collect();
    for line in table(&columns, &rows) {
        writeln!(out, "{line}")?;
    }
    for preview in previews {
        writeln!(out, "to:    {}", preview.target)?;
        for (index, file) in preview.files.iter().take(SHOWN).enumerate() {
            let label = if index == 0 { "first:" } else { "" };
            writeln!(out, "{label:<6} {}", clean(&file.path.to_string_lossy(), 4096))?;
        }
    }
    writeln!(out, "send:  {how}")
}
