//! Sinks that share a file, and who may read it.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up should fail loudly")]

use std::os::unix::fs::PermissionsExt;
use std::sync::Barrier;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::json;

use super::{Store, Trouble};
use crate::load::database::table::Table;

/// In one round of fifteen SQLite refuses one of two that make a file at once.
const ROUNDS: usize = 60;

#[test]
fn two_sinks_make_one_file_at_the_same_moment() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..ROUNDS {
        let file = directory.path().join(format!("{round}.db"));
        let both = Barrier::new(2);
        let open = |table: &str| {
            let load = json!({ "table": table, "layout": "raw", "create": true });
            let table = Table::new(&serde_json::from_value(load).unwrap());
            let busy = Duration::from_secs(20);
            let mut store = Store { file: file.clone(), table, busy, open: None };
            both.wait();
            match store.open() {
                Ok(()) => {}
                Err(Trouble::Database(_, error)) => panic!("round {round}: {error}"),
                Err(_) => panic!("round {round}"),
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| open("one"));
            scope.spawn(|| open("other"));
        });
        let tables = "SELECT count(*) FROM sqlite_master WHERE name IN ('one', 'other')";
        let made = Connection::open(&file).unwrap().query_row(tables, [], |row| row.get(0));
        assert_eq!(made, Ok(2), "round {round}");
    }
}

#[test]
fn records_are_for_the_owner_of_the_file_only() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("data.db");
    let load = json!({ "table": "t", "layout": "raw", "create": true });
    let table = Table::new(&serde_json::from_value(load).unwrap());
    let mut store = Store { file, table, busy: Duration::from_secs(20), open: None };
    assert!(store.open().is_ok());
    let rights = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let entries = std::fs::read_dir(directory.path()).unwrap();
    let found: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    assert!(found.len() >= 3, "no -wal and -shm: {found:?}");
    assert!(found.iter().all(|path| rights(path) == 0o600), "{found:?}");

    // Who wants others to read it may say so.
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(&store.file, open).unwrap();
    store.open = None;
    assert!(store.open().is_ok());
    assert_eq!(rights(&store.file), 0o644);
}
