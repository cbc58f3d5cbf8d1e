//! The throwaway servers of the tests.

#[path = "../../etl/tests/support/postgres.rs"]
pub(crate) mod postgres;
#[allow(dead_code, clippy::unwrap_used, clippy::expect_used, reason = "as in the tests")]
#[path = "../../etl/tests/support/program.rs"]
pub(crate) mod program;
