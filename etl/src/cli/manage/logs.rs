//! `etl logs NAME`: the lines of the log that are about one pipeline.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value as Json;

use super::args::LogsArgs;
use super::refuse;
use crate::exit::Exit;
use crate::manage::units;
use crate::telemetry::older_files;

/// How often is looked for new lines.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A longer line is cut there.
const LINE_MAX: usize = 64 << 10;

pub(super) fn run(args: &LogsArgs) -> Result<Exit, Exit> {
    let found = args.places.find(&args.pipeline)?;
    let log = args.log_file.clone().unwrap_or_else(|| match units::is_installed(&found.name) {
        true => units::log_file(&found.name),
        false => PathBuf::from("logs/etl.log"),
    });
    let unreadable = |error: io::Error| {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => "; nothing has run here yet, or give --log-file",
            _ => "",
        };
        refuse(&format!("cannot read {}: {error}{hint}", log.display()), Exit::Usage)
    };
    let mut current = Tail::open(&log).map_err(unreadable)?;
    let mut newest = VecDeque::new();
    let mut keep = |line: String| {
        if newest.len() == args.lines {
            newest.pop_front();
        }
        if args.lines > 0 {
            newest.push_back(line);
        }
    };
    for older in older_files(&log) {
        let mut tail = Tail::open(&older).map_err(unreadable)?;
        tail.read(&found.name, &mut keep).map_err(unreadable)?;
    }
    current.read(&found.name, &mut keep).map_err(unreadable)?;
    let mut out = io::stdout().lock();
    // A closed pipe leaves nobody to tell, and ends it.
    let mut told = newest.iter().try_for_each(|line| writeln!(out, "{line}"));
    while args.follow && told.is_ok() {
        told = out.flush();
        std::thread::sleep(LOOK_EVERY);
        let mut show = |line: String| {
            if told.is_ok() {
                told = writeln!(out, "{line}");
            }
        };
        current.read(&found.name, &mut show).map_err(unreadable)?;
        // The log was moved out of the way: what was written to it last has just been read.
        if let Ok(mut next) = current.successor(&log) {
            current.read(&found.name, &mut show).map_err(unreadable)?;
            next.read(&found.name, &mut show).map_err(unreadable)?;
            current = next;
        }
    }
    Ok(Exit::Delivered)
}

/// A log that may grow.
struct Tail {
    lines: BufReader<File>,
    inode: u64,
    /// The beginning of a line whose end is not there yet.
    begun: Vec<u8>,
}

impl Tail {
    fn open(path: &Path) -> io::Result<Tail> {
        let file = File::open(path)?;
        let inode = file.metadata()?.ino();
        Ok(Tail { lines: BufReader::new(file), inode, begun: Vec::new() })
    }

    /// The file that has taken this one's place.
    fn successor(&self, path: &Path) -> io::Result<Tail> {
        let next = Tail::open(path)?;
        if next.inode == self.inode { Err(io::ErrorKind::AlreadyExists.into()) } else { Ok(next) }
    }

    /// Shows the whole lines about `pipeline` that have come since.
    fn read(&mut self, pipeline: &str, show: &mut impl FnMut(String)) -> io::Result<()> {
        while self.lines.read_until(b'\n', &mut self.begun)? > 0 {
            if self.begun.last() != Some(&b'\n') {
                return Ok(());
            }
            self.begun.pop();
            self.begun.truncate(LINE_MAX);
            let line = String::from_utf8_lossy(&self.begun);
            if is_about(&line, pipeline) {
                show(line.into_owned());
            }
            self.begun.clear();
        }
        Ok(())
    }
}

/// Whether a line names the pipeline, itself or by the run that it belongs to.
fn is_about(line: &str, pipeline: &str) -> bool {
    if line.starts_with('{') {
        let line: Json = serde_json::from_str(line).unwrap_or_default();
        return line["pipeline"] == pipeline || line["span"]["pipeline"] == pipeline;
    }
    line.contains(&format!("pipeline=\"{pipeline}\""))
}

#[cfg(test)]
mod tests {
    use super::is_about;

    #[test]
    fn lines_are_told_apart_by_their_pipeline() {
        for line in [
            r#"2026-11-21T15:56:35Z  INFO run{pipeline="p"}: etl::load::worker: loader 9 left"#,
            r#"2026-11-21T15:56:35Z  INFO etl::pipeline: run begins pipeline="p" run_id="2""#,
            r#"{"level":"INFO","message":"x","span":{"pipeline":"p","name":"run"}}"#,
            r#"{"level":"INFO","message":"x","pipeline":"p"}"#,
        ] {
            assert!(is_about(line, "p"), "{line}");
            assert!(!is_about(line, "p2"), "{line}");
        }
        assert!(!is_about("INFO run{pipeline=\"pp\"}: x", "p"));
        assert!(!is_about("{\"message\":\"p\"}", "p"));
    }
}
