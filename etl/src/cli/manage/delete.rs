//! `etl delete NAME`: takes a pipeline away, and never a record that nobody said may go.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use super::args::DeleteArgs;
use super::{orders, print, refuse};
use crate::checkpoint::Store;
use crate::cli::run::say;
use crate::exit::Exit;
use crate::http::printable;
use crate::manage::client::Client;
use crate::manage::find::Found;
use crate::manage::status::{self, Depth, Spool};
use crate::manage::units;
use crate::spool::inspect;
use crate::telemetry::figures::{bytes, counted};

/// Directories of a pipeline's data that are of no use without it; all else was delivered
/// there, or is somebody's own.
const OWN: [&str; 3] = ["spool", "state", "profile"];

pub(super) fn run(args: &DeleteArgs) -> Result<Exit, Exit> {
    let found = args.places.find(&args.pipeline)?;
    let name = &found.name;
    if !crate::config::is_name(name) || !found.file.is_file() {
        let file = printable(found.file.to_string_lossy().as_bytes(), 300);
        return Err(refuse(&format!("{file} is no pipeline with a name"), Exit::Usage));
    }
    if units::is_installed(name) {
        let error = format!("{name} has a unit; first: sudo etl service uninstall {name}");
        return Err(refuse(&error, Exit::Usage));
    }
    let data_dir = args.places.data_dir(name);
    let server = args.places.server(name)?;
    let status = status::of(&found, &data_dir, server.as_ref());
    if matches!(status.state.as_str(), "running" | "retrying") {
        let error = format!("{name} is {}; first: etl stop {name}", status.state);
        return Err(refuse(&error, Exit::SourceUnavailable));
    }
    let home = data_dir.join(name);
    may_be_lost(name, &status::spool(&data_dir, name, Depth::All), args.lose_records)?;
    let files = files_of(&found).map_err(|error| refuse(&error, Exit::Internal))?;
    if !args.yes {
        confirm(&files, &home)?;
    }
    if server.is_some_and(|server| server.pipeline(name).is_some()) {
        // No run begins any more, whether or not its file is still there.
        orders::order(&Client::new(&data_dir), "stop", name)?;
        orders::until_stopped(&data_dir, name)?;
    }
    remove(name, &data_dir, &files, args.lose_records)?;
    print(&told(&found, &files, &home));
    Ok(Exit::Delivered)
}

/// Refuses to lose records whose number was not given.
fn may_be_lost(name: &str, spool: &Spool, agreed: Option<u64>) -> Result<(), Exit> {
    let waiting = spool.records.unwrap_or_default();
    let dead = spool.dead_records.unwrap_or_default();
    let lost = waiting + dead;
    if spool.batches + spool.dead_files + spool.corrupt_files == 0 || agreed == Some(lost) {
        return Ok(());
    }
    let mut text = format!("{name} still has what was never delivered:");
    let mut part = |number: u64, noun: &str, then: &str| {
        if number > 0 {
            text.push_str(&format!("\n  {}  {then}", counted(number, noun)));
        }
    };
    part(waiting, "waiting record", &format!("to deliver them: etl spool replay {name}"));
    part(dead, "dead-lettered record", &format!("to look: etl spool cat {name} --dead"));
    part(spool.corrupt_files, "unreadable file", &format!("to look: etl spool verify {name}"));
    text.push_str(&format!(
        "\nnothing was deleted; to lose all that: etl delete {name} --lose-records {lost}"
    ));
    Err(refuse(&text, Exit::Spooled))
}

/// What is deleted beside the data: a pipeline's own directory has nothing else in it than
/// what belongs to it, of a shared one only its file goes.
fn files_of(found: &Found) -> io::Result<Vec<PathBuf>> {
    let directory = found.file.parent().filter(|_| found.file.ends_with("pipeline.yaml"));
    let own =
        directory.filter(|directory| directory.file_name().is_some_and(|it| *it == *found.name));
    let Some(own) = own else { return Ok(vec![found.file.clone()]) };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(own)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

fn confirm(files: &[PathBuf], home: &Path) -> Result<(), Exit> {
    let mut text = "this would delete for good:".to_owned();
    for path in files
        .iter()
        .cloned()
        .chain(OWN.map(|it| home.join(it)).into_iter().filter(|it| it.exists()))
    {
        text.push_str(&format!("\n  {}", printable(path.to_string_lossy().as_bytes(), 500)));
    }
    say(&text);
    if !io::stdin().is_terminal() {
        return Err(refuse(&"nothing was deleted; to delete it, add --yes", Exit::Usage));
    }
    drop(write!(io::stderr(), "type yes to delete it: "));
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    if read.is_ok() && line.trim() == "yes" {
        return Ok(());
    }
    say("nothing was deleted");
    Err(Exit::Usage)
}

/// Deletes under the locks of state and spools, so that no run is in the middle of it.
fn remove(name: &str, data_dir: &Path, files: &[PathBuf], agreed: Option<u64>) -> Result<(), Exit> {
    let home = data_dir.join(name);
    let failed = |path: &Path, error: &dyn std::fmt::Display| {
        refuse(&format!("cannot delete {}: {error}", path.display()), Exit::Internal)
    };
    // The state's lock is that of a run: with it nobody else begins one.
    let state = match home.join("state").is_dir() {
        true => Some(Store::open(&home.join("state")).map_err(|error| {
            refuse(&format!("{error}\nnothing was deleted"), Exit::SourceUnavailable)
        })?),
        false => None,
    };
    may_be_lost(name, &status::spool(data_dir, name, Depth::All), agreed)?;
    // The file first: without it nothing begins that would miss its state.
    for file in files {
        std::fs::remove_file(file).map_err(|error| failed(file, &error))?;
    }
    if let Some(directory) = files.first().and_then(|file| file.parent()) {
        // One that holds more stays.
        std::fs::remove_dir(directory).ok();
    }
    let views = inspect::sinks_of(data_dir, name).map_err(|error| failed(&home, &error))?;
    for view in views {
        let all = view.files().map_err(|error| failed(view.directory(), &error))?;
        view.discard(&all).map_err(|error| failed(view.directory(), &error))?;
    }
    for own in OWN.map(|own| home.join(own)) {
        match std::fs::remove_dir_all(&own) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed(&own, &error));
            }
            _ => {}
        }
    }
    drop(state);
    std::fs::remove_dir(&home).ok();
    Ok(())
}

fn told(found: &Found, files: &[PathBuf], home: &Path) -> String {
    let mut text = String::new();
    for file in files {
        text.push_str(&format!("deleted  {}\n", printable(file.to_string_lossy().as_bytes(), 500)));
    }
    text.push_str(&format!("deleted  state and spool of {}\n", found.name));
    let directory = files.first().and_then(|file| file.parent());
    let own = directory.filter(|it| it.file_name().is_some_and(|it| *it == *found.name));
    for kept in own.into_iter().chain([home]).filter(|kept| kept.is_dir()) {
        text.push_str(&format!("kept     {} ({})\n", kept.display(), bytes(size(kept))));
    }
    text
}

/// The bytes of all files below a directory.
fn size(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(about) if about.is_dir() => size(&entry.path()),
        Ok(about) => about.len(),
        Err(_) => 0,
    };
    entries.map(of).sum()
}
