//! What a client of the server sees, held against what the ledger says arrived.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod client;
mod command;
mod faults;
mod load;
mod sources;

use mock_load_api_server::{Config, Faults};

fn with_faults(faults: Faults) -> Config {
    Config { faults, ..Config::default() }
}
