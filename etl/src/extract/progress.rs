//! How far a call has come, for the one who runs into the deadline.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::error::ExtractError;
use crate::config::Span;
use crate::http::Watch;

/// How far a call has come.
#[derive(Debug, Default)]
pub(super) struct Progress(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    /// How the last attempt failed.
    before: Option<String>,
}

/// What is going on.
#[derive(Debug, Default)]
pub(super) enum Phase {
    /// Nothing yet.
    #[default]
    Starting,
    /// A request is out; the watch tells whether it has a connection.
    Requesting(Watch),
    /// There is no connection yet.
    Connecting,
    /// The request is out.
    Answering,
    /// The answer is being read.
    Reading,
    /// Until the next attempt.
    Waiting,
    /// Until the second sample.
    BetweenSamples,
    /// Something else, in these words.
    Agent(&'static str),
}

impl Progress {
    pub(super) fn enter(&self, phase: Phase) {
        self.lock().phase = phase;
    }

    /// An attempt failed and there will be another.
    pub(super) fn failed(&self, error: &ExtractError) {
        let mut state = self.lock();
        state.before = Some(error.to_string());
        state.phase = Phase::Waiting;
    }

    /// Something that would explain why the call comes to nothing.
    pub(super) fn note(&self, text: String) {
        self.lock().before = Some(text);
    }

    /// The error for a call that is given up now.
    pub(super) fn timed_out(&self, after: Duration) -> ExtractError {
        let mut state = self.lock();
        let phase = match &state.phase {
            Phase::Starting => "waiting",
            Phase::Requesting(watch) if !watch.connected() => "connecting",
            Phase::Connecting => "connecting",
            Phase::Requesting(_) | Phase::Answering => "waiting for the answer",
            Phase::Reading => "reading the answer",
            Phase::Waiting => "waiting to try again",
            Phase::BetweenSamples => "between two samples",
            Phase::Agent(words) => words,
        };
        ExtractError::Timeout { after: Span(after), phase, before: state.before.take() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
