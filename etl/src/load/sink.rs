//! What the loader asks of a place that takes batches.

use std::future::Future;
use std::pin::Pin;
use std::time::SystemTime;

use super::answer::Answer;
use crate::batch::Payload;
use crate::telemetry::SinkKind;

/// A future that a sink gives back, boxed so that sinks can be told apart at run time.
pub type Delivering<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

/// A probe under way.
pub type Probing<'a> = Pin<Box<dyn Future<Output = Probe> + Send + 'a>>;

/// What came of asking a sink without sending a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// How far the question got.
    pub reach: Reach,
    /// What was tried and what came back, in words.
    pub text: String,
    /// What to do when it is not ready.
    pub remedy: Option<String>,
    /// The sink's clock, when it tells.
    pub clock: Option<SystemTime>,
}

/// How far a question to a sink got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// It would take a batch.
    Ready,
    /// It is there and takes nothing now.
    NotNow,
    /// It is there and refuses us: a matter of configuration.
    Refused,
    /// It is not there.
    Unreachable,
}

impl Probe {
    /// A sink that would take a batch.
    #[must_use]
    pub fn ready(text: String) -> Probe {
        Probe { reach: Reach::Ready, text, remedy: None, clock: None }
    }

    /// A sink that would not, and what to do.
    #[must_use]
    pub fn new(reach: Reach, text: String, remedy: impl Into<String>) -> Probe {
        Probe { reach, text, remedy: Some(remedy.into()), clock: None }
    }
}

/// A place that takes batches.
///
/// One call is one attempt. The loader decides about retries, splitting and the
/// spool; a sink only says what the place answered, within its own deadline.
/// Dropping the future must be safe at any point: the batch then counts as
/// possibly delivered and is sent again under the same key.
pub trait Sink: std::fmt::Debug + Send + Sync + 'static {
    /// Sends `payload` once.
    fn deliver<'a>(&'a self, payload: &'a Payload) -> Delivering<'a>;

    /// Asks without sending a record whether the place is there and would take one.
    fn probe(&self) -> Probing<'_>;

    /// What kind of place it is.
    fn kind(&self) -> SinkKind {
        SinkKind::Api
    }

    /// What is asked, for messages, without secrets: `POST https://host/path`.
    fn target(&self) -> &str;

    /// What the user should change when the sink refuses with `status`.
    fn remedy(&self, status: Option<u16>) -> String;
}
