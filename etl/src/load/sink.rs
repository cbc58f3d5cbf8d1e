//! What the loader asks of a place that takes batches.

use std::future::Future;
use std::pin::Pin;

use super::answer::Answer;
use crate::batch::Payload;

/// A future that a sink gives back, boxed so that sinks can be told apart at run time.
pub type Delivering<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

/// A place that takes batches.
///
/// One call is one attempt. The loader decides about retries, splitting and the
/// spool; a sink only says what the place answered, within its own deadline.
/// Dropping the future must be safe at any point: the batch then counts as
/// possibly delivered and is sent again under the same key.
pub trait Sink: std::fmt::Debug + Send + Sync + 'static {
    /// Sends `payload` once.
    fn deliver<'a>(&'a self, payload: &'a Payload) -> Delivering<'a>;

    /// What is asked, for messages, without secrets: `POST https://host/path`.
    fn target(&self) -> &str;

    /// What the user should change when the sink refuses with `status`.
    fn remedy(&self, status: Option<u16>) -> String;
}
