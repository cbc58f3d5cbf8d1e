//! The example pipelines of `fixtures/pipelines` that read APIs, and what their sinks hold.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test file uses a part of this, and a failed step is a failed test"
)]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::serving::history;
use crate::support::{Bench, files};

/// A pipeline with its sinks.
pub struct Example {
    pub name: &'static str,
    pub sinks: Vec<ExampleSink>,
}

/// A sink and where its records are: a table, else files.
pub struct ExampleSink {
    pub name: &'static str,
    pub table: Option<&'static str>,
    pub upsert: bool,
}

impl Example {
    /// `posts`, `coins` or `users`.
    pub fn new(name: &'static str) -> Example {
        let file = |name| ExampleSink { name, table: None, upsert: false };
        let table = |name, upsert| ExampleSink { name, table: Some(name), upsert };
        let sinks = match name {
            "posts" => vec![
                file("raw_files"),
                table("raw_data", false),
                file("processed_files"),
                table("processed_data", true),
            ],
            "coins" => {
                vec![file("raw_files"), table("coin_market_raw", false), file("processed_files")]
            }
            "users" => vec![file("parquet"), table("users", true)],
            _ => panic!("there is no example {name}"),
        };
        Example { name, sinks }
    }

    /// The pipeline's file.
    pub fn file(&self) -> String {
        let pipelines = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/pipelines");
        let file = pipelines.join(format!("{}.yaml", self.name));
        file.canonicalize().unwrap().into_os_string().into_string().unwrap()
    }
}

pub fn posts() -> Example {
    Example::new("posts")
}

/// The pipelines that this build can run.
pub fn examples() -> Vec<Example> {
    let mut all = vec![posts(), Example::new("coins")];
    if cfg!(feature = "parquet") {
        all.push(Example::new("users"));
    }
    all
}

/// `etl` with the pipelines' variables: this API, and of the machine's own none.
pub fn command(bench: &Bench, args: &[&str], api: &str) -> Command {
    let mut command = bench.command(args);
    for name in [
        "DATABASE_URL",
        "FETCH_INTERVAL",
        "VS_CURRENCY",
        "PER_PAGE",
        "POSTGRES_HOST",
        "POSTGRES_PORT",
        "POSTGRES_USER",
        "POSTGRES_PASSWORD",
        "POSTGRES_DB",
        "SERVER_PORT",
    ] {
        command.env_remove(name);
    }
    command
        .env("API_URL", format!("{api}/posts"))
        .env("USERS_URL", format!("{api}/users?results=100"))
        .env("COINGECKO_URL", format!("{api}/coins/markets"));
    command
}

/// A number of a sink, over all runs in the history.
pub fn sum(bench: &Bench, pipeline: &str, sink: &str, column: &str) -> u64 {
    let runs = history(bench, pipeline);
    // A run that could not begin has no sinks.
    runs.iter().filter_map(|run| run["sinks"].get(sink)?[column].as_u64()).sum()
}

/// The records that a sink holds, by the history.
pub fn held(bench: &Bench, pipeline: &str, sink: &str) -> u64 {
    sum(bench, pipeline, sink, "delivered") + sum(bench, pipeline, sink, "replayed_earlier")
}

/// All records in the files of a sink.
pub fn records_below(bench: &Bench, pipeline: &str, sink: &str) -> Vec<Value> {
    let directory = if sink.starts_with("raw") { "raw" } else { "processed" };
    let files = files::files_below(&bench.path(&format!("data/{pipeline}/{directory}")));
    files.iter().flat_map(|file| files::records_in(file)).collect()
}
