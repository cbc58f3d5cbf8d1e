//! Files as the earlier Go program left them, from `fixtures/legacy-spool`.

use super::*;

fn with_fixtures(root: &TempDir) -> Spool {
    let directory = spool(root).directory().to_owned();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/legacy-spool");
    for name in names(&fixtures).iter().filter(|name| name.ends_with(".gz")) {
        std::fs::copy(fixtures.join(name), directory.join(name)).unwrap();
    }
    spool(root)
}

#[test]
fn all_records_of_all_values_and_members_are_replayed_whatever_the_worker_number() {
    let root = scratch();
    let spool = with_fixtures(&root);
    drop(store(&spool, 1));
    let entries = spool.entries().unwrap();
    let records: Vec<(bool, usize)> = entries
        .iter()
        .map(|entry| (entry.is_legacy(), spool.read(entry).unwrap().0.records()))
        .collect();
    assert_eq!(records, [(true, 3), (true, 200), (true, 9), (true, 1), (false, 2)]);
    let (payload, attempts, _) = spool.read(&entries[0]).unwrap();
    let record: serde_json::Value = serde_json::from_slice(payload.rows().next().unwrap()).unwrap();
    assert_eq!(record["name"], "device-200");
    assert_eq!(record["indicators"][0]["name"], "utilization");
    assert_eq!((attempts.tried, payload.range.clone()), (1, 0..0));
    assert_eq!(payload.key, spool.read(&entries[0]).unwrap().0.key, "the same at every reading");
}

#[test]
fn an_update_turns_a_legacy_file_into_one_of_ours_with_the_same_key_and_bytes() {
    let root = scratch();
    let first = with_fixtures(&root);
    let entry = first.entries().unwrap().remove(1);
    let (batch, _, mut stored) = first.read(&entry).unwrap();
    first.update(&mut stored, State::Failed, 0, &batch, &attempts(2)).unwrap();
    assert!(!first.directory().join(entry.file_name()).exists());
    let usage = first.usage();
    drop(first);
    let spool = spool(&root);
    assert_eq!(spool.usage().batches, 4);
    assert_eq!(spool.usage().bytes, usage.bytes);
    let own = spool.entries().unwrap().remove(3);
    let (again, tried, stored) = spool.read(&own).unwrap();
    assert_eq!((again.key, again.body), (batch.key, batch.body));
    assert_eq!(tried.tried, 2);
    spool.remove(stored).unwrap();
    assert_eq!(spool.usage().batches, 3);
}

#[test]
fn a_file_of_ours_renamed_to_a_legacy_name_keeps_its_key() {
    let root = scratch();
    let spool = spool(&root);
    let stored = store(&spool, 1);
    let target = spool.directory().join("buffer_failed_worker0.json.gz");
    std::fs::rename(spool.directory().join(stored.file_name()), target).unwrap();
    let entry = spool.entries().unwrap().remove(0);
    assert!(entry.is_legacy());
    assert_eq!(spool.read(&entry).unwrap().0.key, payload(1).key);
}
