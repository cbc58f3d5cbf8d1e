//! Follows the pipeline files: one that changes, appears or vanishes is taken up, and a
//! wrong one keeps what was there before and says so. What has just been written may be
//! half of it, so a change counts once it has been seen twice.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::files::{Seen, watched};
use super::scheduler::{Scheduler, same_name};
use crate::config::{self, Loaded, Report};
use crate::stop::Urgency;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What came of the changes of files.
#[derive(Debug, Clone, Default)]
pub struct ReloadState {
    /// Files that were read again.
    pub reloads: u64,
    /// Of these, files that were wrong.
    pub failures: u64,
    /// Files that are wrong now, each with what is wrong; what they said before is
    /// still in force.
    pub wrong: BTreeMap<PathBuf, String>,
}

/// Follows the pipeline files.
pub(super) struct Reloader {
    scheduler: Arc<Scheduler>,
    /// The last good content of each file.
    good: BTreeMap<PathBuf, Arc<Loaded>>,
    /// What has been taken up.
    settled: Seen,
}

impl Reloader {
    /// Begins with the files as they were loaded; a change since then is noticed.
    pub(super) fn new(
        scheduler: Arc<Scheduler>,
        loaded: &[Arc<Loaded>],
        settled: Seen,
    ) -> Reloader {
        let good = loaded.iter().map(|it| (it.path.clone(), it.clone())).collect();
        Reloader { scheduler, good, settled }
    }

    /// Looks at the files until the server stops.
    pub(super) async fn follow(mut self) {
        let stop = self.scheduler.stop.clone();
        let mut before: Option<Seen> = None;
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = stop.reached(Urgency::Drain) => return,
            }
            let looked = tokio::task::spawn_blocking(move || {
                let known = before.as_ref().unwrap_or(&self.settled);
                match watched(&self.scheduler.settings.paths, known) {
                    Ok(seen) if seen == self.settled => (self, None),
                    Ok(seen) if before.as_ref() == Some(&seen) => {
                        self.take_up(seen);
                        (self, None)
                    }
                    Ok(seen) => (self, Some(seen)),
                    Err(error) => {
                        tracing::warn!(%error, "the pipeline files cannot be looked at");
                        (self, None)
                    }
                }
            });
            match looked.await {
                Ok((reloader, seen)) => (self, before) = (reloader, seen),
                Err(error) => {
                    tracing::error!(%error, "files are followed no more, a panic");
                    return;
                }
            }
        }
    }

    fn take_up(&mut self, seen: Seen) {
        let wrong = self.scheduler.reload_state().wrong;
        let changed = |path: &PathBuf| {
            if wrong.contains_key(path) {
                return true;
            }
            let (old, new) = (self.settled.0.get(path), seen.0.get(path));
            !old.zip(new).is_some_and(|(old, new)| old.same_content(new))
        };
        let changed: Vec<PathBuf> = seen.0.keys().filter(|path| changed(path)).cloned().collect();
        let gone = |path: &PathBuf| !seen.0.contains_key(path);
        for path in self.good.keys().filter(|path| gone(path)) {
            tracing::info!(file = %path.display(), "file is gone");
            self.scheduler.tell(&format!("{}  is gone", path.display()));
        }
        let before = self.names();
        self.good.retain(|path, _| !gone(path));
        self.scheduler.lock_reload().wrong.retain(|path, _| !gone(path));
        for path in changed {
            self.reload(path);
        }
        let now = self.names();
        for (name, _) in before.iter().filter(|(name, _)| !now.contains_key(*name)) {
            self.scheduler.retire(name);
        }
        for (name, loaded) in now {
            if !before.get(&name).is_some_and(|old| Arc::ptr_eq(old, &loaded)) {
                self.scheduler.serve(loaded);
            }
        }
        self.settled = seen;
    }

    fn names(&self) -> BTreeMap<String, Arc<Loaded>> {
        self.good.values().map(|it| (it.pipeline.name.clone(), it.clone())).collect()
    }

    /// Reads one file again.
    fn reload(&mut self, path: PathBuf) {
        let mut state = self.scheduler.lock_reload();
        state.reloads += 1;
        let mistake = match config::load(&path, &self.scheduler.settings.sets, None) {
            Ok(loaded) => {
                let name = &loaded.pipeline.name;
                let taken = self
                    .good
                    .iter()
                    .find(|(other, it)| **other != path && it.pipeline.name == *name);
                match taken {
                    Some((other, _)) => Err(same_name(name, other, &path)),
                    None => Ok(loaded),
                }
            }
            Err(report) => {
                self.scheduler.tell(report.render_errors(false).trim_end());
                Err(in_short(&report))
            }
        };
        let shown = path.display();
        match mistake {
            Ok(loaded) => {
                tracing::info!(file = %shown, "file taken up");
                self.scheduler.tell(&format!("{shown}  taken up"));
                state.wrong.remove(&path);
                self.good.insert(path, Arc::new(loaded));
            }
            Err(mistake) => {
                let then = match self.good.contains_key(&path) {
                    true => "what it said before stays in force",
                    false => "it is not served",
                };
                tracing::error!(file = %shown, mistake, "file is wrong, {then}");
                self.scheduler.tell(&format!("{shown}  is wrong: {mistake}; {then}"));
                state.failures += 1;
                state.wrong.insert(path, mistake);
            }
        }
    }
}

/// A report's errors on one line.
fn in_short(report: &Report) -> String {
    let errors = report.errors().iter().map(|error| match report.position(error) {
        Some(at) => format!("line {}: {}", at.line, error.message),
        None => error.message.clone(),
    });
    errors.collect::<Vec<_>>().join("; ")
}
