//! A load API to test against: it parses and checks what it is sent, keeps a ledger of
//! what really arrived, and fails on demand, the same way for the same seed.
//!
//! The binary is `mock-load-api-server`; tests start the same server in their own process:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use mock_load_api_server::{Config, Faults, start};
//!
//! let mut faults = Faults::default();
//! faults.fail.insert(503, 0.2);
//! let server = start(Config { faults, ..Config::default() }).await?;
//! println!("{}/load", server.url());
//! assert_eq!(server.stats().records, 0);
//! server.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! No authentication protects the control paths (`/faults`, `/stats`): it is a test tool
//! and listens on the loopback interface unless told otherwise.

mod app;
mod appliances;
mod body;
pub mod cli;
mod config;
mod connection;
mod distinct;
mod faults;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod hash;
mod ledger;
mod load;
mod patch;
mod records;
mod reply;
mod routes;
mod server;
mod sources;
mod units;

pub use config::{Config, SettingsError, StartError};
pub use faults::{DelayRange, Faults, Outage, Token};
pub use ledger::{BatchRow, RecordRow, Stats};
pub use server::{Server, start};
