//! Records that an HTTP API hands out page by page. [`RestClient`] asks for a page as
//! often as it takes and is allowed; `pages` says what leads to the next one, `address`
//! and `auth` make the request, `decode` takes the answer apart, `lines` and `records`
//! find the records in it, [`High`] is what the next run asks from.
//!
//! All of it runs on a thread that may block: bodies are decompressed and split where
//! they arrive, in a memory that does not depend on their length.

mod address;
mod auth;
mod client;
mod decode;
mod error;
mod high;
mod lines;
mod look;
mod pages;
mod place;
mod records;
mod request;
mod wait;

pub use client::{Answer, Fetched, RestClient};
pub use error::{RestError, RestSetupError};
pub use high::High;
pub use lines::{Line, Lines};
pub use pages::{Pages, Seen};
pub use place::{Ask, Known, Page, Spot, Trace};
pub use records::{Found, Records};
pub use wait::Waits;
