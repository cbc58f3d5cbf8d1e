//! A server that speaks SQL Server's protocol (TDS 7.4) for tests, with SQLite behind it,
//! so that queries really run. It is honest about types: a column that a test declares as
//! `decimal(38,10)`, `datetimeoffset(7)` or `nvarchar(max)` goes over the wire as SQL Server
//! sends it, fixed or nullable, short or in chunks, in the code page of its collation.
//!
//! What it does not know (a T-SQL function, a comparison of unlike types) it refuses with an
//! error, so that a test never passes on a wrong guess.

#![allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "each test file uses a part of this, and a failed step is a failed test"
)]

mod calendar;
mod catalog;
mod decimal;
mod describe;
mod encode;
mod login;
mod packets;
mod rpc;
mod server;
mod session;
mod sql;
mod sqltype;
mod store;
mod tls;
mod tokens;
mod value;

pub use server::{DATABASE, Login, PASSWORD, Server, ServerError, Tls, USER};
pub use tls::Authority;
