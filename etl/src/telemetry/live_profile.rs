//! A profile of a run that goes on: SIGUSR1 asks for it, a file beside where it is put may
//! say for how long. The run goes on meanwhile.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::profile::{ProfileError, Sampler};

/// How long a profile takes unless it is said.
pub const SECONDS: u64 = 10;
/// The longest.
pub const SECONDS_MAX: u64 = 60;
const REQUEST: &str = "request.json";
const REQUEST_BYTES_MAX: u64 = 4096;

/// What is asked for; written before the signal is sent, and taken away by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// How long.
    pub seconds: u64,
    /// What the files' names begin with; letters, digits and `-`.
    pub name: String,
}

impl Request {
    /// One for so many seconds, named after the moment.
    #[must_use]
    pub fn now(seconds: u64) -> Request {
        let name = chrono::Utc::now().format("%Y%m%dT%H%M%S-%3f").to_string();
        Request { seconds, name }
    }

    /// Writes it where a run looks for it.
    ///
    /// # Errors
    /// When the directory cannot be made or written.
    pub fn put(&self, directory: &Path) -> io::Result<()> {
        std::fs::create_dir_all(directory)?;
        write(&directory.join(REQUEST), serde_json::to_string(self)?.as_bytes())
    }

    /// Takes what is there, or makes one where nothing is that can be used.
    fn take(directory: &Path) -> Request {
        let file = directory.join(REQUEST);
        let short = std::fs::metadata(&file).is_ok_and(|it| it.len() <= REQUEST_BYTES_MAX);
        let text = if short { std::fs::read(&file).unwrap_or_default() } else { Vec::new() };
        // What cannot be taken away would ask again with the next signal, no more.
        std::fs::remove_file(&file).ok();
        match serde_json::from_slice(&text) {
            Ok(request) if Request::is_sound(&request) => request,
            _ => Request::now(SECONDS),
        }
    }

    fn is_sound(&self) -> bool {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=SECONDS_MAX).contains(&self.seconds)
            && (1..=64).contains(&self.name.len())
            && self.name.bytes().all(plain)
    }

    /// The profile for pprof.
    #[must_use]
    pub fn cpu(&self, directory: &Path) -> PathBuf {
        directory.join(format!("{}.cpu.prof", self.name))
    }

    /// The picture; the last of the files that is written.
    #[must_use]
    pub fn flamegraph(&self, directory: &Path) -> PathBuf {
        directory.join(format!("{}.flamegraph.svg", self.name))
    }

    /// Why there is no profile.
    #[must_use]
    pub fn error(&self, directory: &Path) -> PathBuf {
        directory.join(format!("{}.error", self.name))
    }
}

/// Where the profiles of this process go; none until a run begins.
#[derive(Debug, Clone, Default)]
pub struct ProfilePlace(Arc<OnceLock<PathBuf>>);

impl ProfilePlace {
    /// Profiles go into `directory` from now on, unless a place was set before.
    pub fn set(&self, directory: PathBuf) {
        self.0.get_or_init(|| directory);
    }
}

/// Takes a profile whenever SIGUSR1 comes, which would end the process otherwise. To be
/// called within a runtime.
///
/// # Errors
/// When the handler cannot be installed.
pub fn on_signal() -> io::Result<ProfilePlace> {
    let asked = signal(SignalKind::user_defined1())?;
    let place = ProfilePlace::default();
    tokio::spawn(answer(asked, place.clone()));
    Ok(place)
}

async fn answer(mut asked: Signal, place: ProfilePlace) {
    while asked.recv().await.is_some() {
        let Some(directory) = place.0.get() else {
            tracing::warn!("no profile is taken: no run of this process alone; use etl profile");
            continue;
        };
        let request = Request::take(directory);
        match Sampler::start() {
            Ok(sampler) => _ = tokio::spawn(take(sampler, request, directory.clone())),
            // Such as that one is being taken.
            Err(error) => refuse(&request, directory, &error),
        }
    }
}

async fn take(sampler: Sampler, request: Request, directory: PathBuf) {
    tracing::info!(seconds = request.seconds, "a profile is being taken");
    tokio::time::sleep(Duration::from_secs(request.seconds)).await;
    let made = tokio::task::spawn_blocking(move || {
        let (cpu, flamegraph) = (request.cpu(&directory), request.flamegraph(&directory));
        let made = sampler.pprof().and_then(|profile| Ok((profile, sampler.flamegraph()?)));
        // Who sees the last file may ask for the next profile at once.
        drop(sampler);
        let written = made.and_then(|(profile, picture)| {
            save(&cpu, &profile)?;
            save(&flamegraph, &picture)
        });
        match written {
            Ok(()) => tracing::info!(
                flamegraph = %flamegraph.display(),
                cpu = %cpu.display(),
                "a profile was taken"
            ),
            Err(error) => refuse(&request, &directory, &error),
        }
    });
    if let Err(error) = made.await {
        tracing::warn!(%error, "no profile was taken");
    }
}

fn save(file: &Path, content: &[u8]) -> Result<(), ProfileError> {
    write(file, content).map_err(|source| ProfileError::Write { file: file.to_owned(), source })
}

/// Says why not, in the log and to who asked.
fn refuse(request: &Request, directory: &Path, error: &ProfileError) {
    tracing::warn!(%error, "no profile is taken");
    let why = std::error::Error::source(error);
    let text = why.map_or_else(|| error.to_string(), |why| format!("{error}: {why}"));
    // Then who asked waits in vain, and the log has it.
    write(&request.error(directory), text.as_bytes()).ok();
}

/// Writes a file that is there whole or not at all.
fn write(file: &Path, content: &[u8]) -> io::Result<()> {
    let part = file.with_extension("part");
    std::fs::write(&part, content)?;
    std::fs::rename(&part, file)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use super::{REQUEST, Request, SECONDS};

    #[test]
    fn a_request_is_taken_once_and_nonsense_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let asked = Request { seconds: 3, name: "20261121T200000-123".to_owned() };
        asked.put(directory.path()).unwrap();
        assert_eq!(Request::take(directory.path()), asked);
        assert_eq!(Request::take(directory.path()).seconds, SECONDS, "it is gone");
        for wrong in [
            "",
            "[]",
            r#"{"seconds":0,"name":"a"}"#,
            r#"{"seconds":61,"name":"a"}"#,
            r#"{"seconds":3,"name":"../a"}"#,
            r#"{"seconds":3,"name":""}"#,
        ] {
            std::fs::write(directory.path().join(REQUEST), wrong).unwrap();
            let taken = Request::take(directory.path());
            assert_eq!(taken.seconds, SECONDS, "{wrong}");
            assert!(taken.is_sound() && taken.name != "../a", "{wrong}");
            assert!(!directory.path().join(REQUEST).exists(), "{wrong}");
        }
    }
}
