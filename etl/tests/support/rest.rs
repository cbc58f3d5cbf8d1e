//! What the tests of APIs as sources share.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test file uses a part of this, and a failed step is a failed test"
)]

use std::collections::BTreeSet;

use mock_load_api_server::{Faults, Server};

use super::support::{Bench, Ran};

const RETRY: &str = "retry: { attempts: 8, base: 5ms, cap: 40ms }";

/// A pipeline from the API `rest` into `sink`.
pub fn pipeline(bench: &Bench, rest: &str, sink: &Server, load: &str) {
    let retry = if rest.contains("retry:") { "" } else { RETRY };
    let text = format!(
        "name: p\nsource:\n  rest:\n    {}\n    {retry}\nload:\n  - http: {{ url: \"{}/load\" }}\n    \
         retry: {{ attempts: 8, base: 5ms, cap: 40ms }}\n    {}\n",
        rest.trim().replace('\n', "\n    "),
        sink.url(),
        load.trim().replace('\n', "\n    ")
    );
    bench.write("p.yaml", text);
}

pub fn posts(posts: u32) -> Faults {
    Faults { posts, ..Faults::default() }
}

/// Fails a sixth of all requests, of the source and of the sink.
pub fn unreliable(count: u32) -> Faults {
    Faults { source_fail: 0.16, fail: [(503, 0.16)].into(), lose_reply: 0.05, ..posts(count) }
}

/// What the run says of its input.
pub fn input(ran: &Ran) -> String {
    ran.json()["input"].as_str().unwrap_or_default().to_owned()
}

/// The `id`s that arrived.
pub fn ids(server: &Server) -> BTreeSet<u64> {
    let rows = server.ledger_rows();
    let id = |record: &bytes::Bytes| {
        let record: serde_json::Value = serde_json::from_slice(record).unwrap();
        record["id"].as_u64().unwrap()
    };
    rows.iter().flat_map(|row| &row.records).map(id).collect()
}
