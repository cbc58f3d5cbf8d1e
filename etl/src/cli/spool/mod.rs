//! `etl spool`: look at what waits, read it, check it, send it, drop it. Results go
//! to `out`, complaints to `err`; nothing is changed but by [`replay()`] and [`discard()`].

mod cat;
mod discard;
mod ls;
mod preview;
mod replay;
mod text;
mod verify;

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

pub use cat::{Cat, cat};
pub use discard::{Discard, What, discard};
pub use ls::{Ls, ls};
pub use replay::replay;
pub use verify::verify;

use super::args::{SpoolArgs, SpoolCommand};
use crate::exit::Exit;
use crate::spool::inspect::{SinkView, sinks};

/// Does what `etl spool …` was asked to.
#[must_use]
pub fn run(args: &SpoolArgs) -> Exit {
    let at = match &args.command {
        // It shows its progress on stderr, from threads of its own.
        SpoolCommand::Replay(args) => return replay(args),
        SpoolCommand::Ls { at, .. }
        | SpoolCommand::Cat { at, .. }
        | SpoolCommand::Verify { at }
        | SpoolCommand::Discard { at, .. } => at,
    };
    let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
    let is_file = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "gz");
    let files: Vec<PathBuf> = at.what.iter().filter(is_file).cloned().collect();
    let names: Vec<&str> =
        at.what.iter().filter(|path| !is_file(path)).filter_map(|path| path.to_str()).collect();
    if names.len() + files.len() < at.what.len() || names.len() > 1 {
        let problem = "error: give one pipeline's name, or files that end in .json.gz";
        return finish(writeln!(err, "{problem}").map(|()| Exit::Usage), &mut io::sink());
    }
    let (pipeline, data) = (names.first().copied(), at.data_dir.as_path());
    match &args.command {
        SpoolCommand::Ls { files, dead, .. } => {
            let now = crate::load::unix_seconds();
            let options = Ls { pipeline, dead: *dead, files: *files, json: at.json, now };
            ls(data, &options, &mut out, &mut err)
        }
        SpoolCommand::Cat { dead, .. } => {
            cat(data, &Cat { pipeline, files: &files, dead: *dead }, &mut out, &mut err)
        }
        SpoolCommand::Replay(args) => replay(args),
        SpoolCommand::Verify { .. } => verify(data, pipeline, &files, at.json, &mut out, &mut err),
        SpoolCommand::Discard { sink, dead, corrupt, yes, .. } => {
            let what = match (*dead, *corrupt) {
                _ if !files.is_empty() => What::Files(&files),
                (true, _) => What::Dead,
                (_, true) => What::Corrupt,
                _ => What::Waiting,
            };
            let options =
                Discard { pipeline, sink: sink.as_deref(), what, yes: *yes, json: at.json };
            let mut stdin = io::stdin().lock();
            let answers: Option<&mut dyn BufRead> =
                if io::stdin().is_terminal() { Some(&mut stdin) } else { None };
            discard(data, &options, answers, &mut out, &mut err)
        }
    }
}

/// The spools to look at: all under `data_dir`, or one pipeline's.
fn chosen(
    data_dir: &Path,
    pipeline: Option<&str>,
    err: &mut dyn Write,
) -> io::Result<Result<Vec<SinkView>, Exit>> {
    let mut views = match sinks(data_dir) {
        Ok(views) => views,
        Err(error) => {
            writeln!(err, "error: cannot look into {}: {error}", data_dir.display())?;
            return Ok(Err(Exit::Usage));
        }
    };
    let Some(pipeline) = pipeline else { return Ok(Ok(views)) };
    let mut names: Vec<String> = views.iter().map(|view| view.pipeline.clone()).collect();
    names.dedup();
    views.retain(|view| view.pipeline == pipeline);
    if views.is_empty() && !names.is_empty() {
        let (data, known) = (data_dir.display(), names.join(", "));
        writeln!(err, "error: no spool of `{pipeline}` in {data}; there are: {known}")?;
        return Ok(Err(Exit::Usage));
    }
    Ok(Ok(views))
}

/// A reader that went away (`| head`) is no failure; any other trouble with the
/// output is told and counts as one.
fn finish(result: io::Result<Exit>, err: &mut dyn Write) -> Exit {
    match result {
        Ok(exit) => exit,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Delivered,
        Err(error) => {
            // When even this cannot be said, the exit code says it.
            writeln!(err, "error: {error}").ok();
            Exit::Internal
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests;
