//! Files that are free to be written over, from outside the pool.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::super::fault::{Operation, Plan, with_plan};
use super::super::pool::KEPT_SECONDS;
use super::*;

fn free_files(directory: &Path) -> Vec<String> {
    names(directory).into_iter().filter(|name| name.starts_with(".etl-free-")).collect()
}

/// A spool with one free file whose old name is durably gone, and that file's inode.
fn with_a_free_file(root: &TempDir) -> (Spool, u64) {
    let spool = spool(root);
    let first = store(&spool, 1);
    let inode = std::fs::metadata(spool.directory().join(first.file_name())).unwrap().ino();
    spool.remove(first).unwrap();
    drop(store(&spool, 2));
    (spool, inode)
}

fn inode(spool: &Spool, stored: &Stored) -> u64 {
    std::fs::metadata(spool.directory().join(stored.file_name())).unwrap().ino()
}

#[test]
fn a_free_file_is_written_over_in_the_order_of_a_new_one_and_holds_only_the_new_batch() {
    use Operation::{Rename, Reuse, SyncDirectory, SyncFile, Write};
    let root = scratch();
    let (spool, free) = with_a_free_file(&root);
    // Shorter and longer than what the file held.
    for rows in [1, 400] {
        let mut buffer = Rows::default();
        (0..rows).for_each(|row| buffer.push(format!("{{\"n\":{row}}}").as_bytes()));
        let keys = KeyContext::new("p", "s", "r");
        let batch = Payload::seal(&mut buffer, 9..10, Arc::from("run-1"), |r, b| keys.key(r, b));
        let (stored, operations) = with_plan(Plan::Watch, || {
            spool.write(State::Failed, 1, spool.next_sequence(), &batch, &attempts(1)).unwrap()
        });
        assert_eq!(operations, [Reuse, Write, SyncFile, Rename, SyncDirectory]);
        assert_eq!(inode(&spool, &stored), free);
        let entry = spool.entries().unwrap().pop().unwrap();
        let (read, _, stored) = spool.read(&entry).unwrap();
        assert_eq!((read.body, entry.size()), (batch.body, stored.size()));
        spool.remove(stored).unwrap();
        spool.directory.sync().unwrap();
    }
}

#[test]
fn a_file_is_not_written_over_before_the_loss_of_its_name_is_durable() {
    let root = scratch();
    let spool = spool(&root);
    let first = store(&spool, 1);
    let free = inode(&spool, &first);
    spool.remove(first).unwrap();
    let second = store(&spool, 2);
    assert_ne!(inode(&spool, &second), free, "its name might have come back");
    let third = store(&spool, 3);
    assert_eq!(inode(&spool, &third), free, "the second batch's fsync made it durable");
}

#[test]
fn a_crash_or_a_failure_at_any_operation_of_writing_over_leaves_every_batch_whole() {
    let eio = rustix::io::Errno::IO.raw_os_error();
    for at in 0..6 {
        for plan in [Plan::Crash(at), Plan::FailOne(at, eio)] {
            let root = scratch();
            let (first, _) = with_a_free_file(&root);
            let (told, _) = with_plan(plan, || {
                first.write(State::Failed, 1, 77, &payload(3), &attempts(1)).is_ok()
            });
            drop(first);
            let spool = spool(&root);
            let entries = spool.entries().unwrap();
            let mut found: Vec<u64> =
                entries.iter().map(|entry| spool.read(entry).unwrap().0.range.start).collect();
            found.retain(|number| *number != 3 || told);
            assert_eq!(found, if told { vec![2, 3] } else { vec![2] }, "{plan:?}");
            assert_eq!(spool.usage().corrupt_files, 0, "{plan:?}");
        }
    }
}

#[test]
fn what_others_hold_or_may_read_is_not_written_over() {
    let root = scratch();
    for how in ["linked", "readable", "a link"] {
        let (spool, _) = with_a_free_file(&root);
        let free = spool.directory().join(&free_files(spool.directory())[0]);
        let other = root.path().join("other");
        std::fs::write(&other, b"theirs").unwrap();
        match how {
            "linked" => {
                std::fs::remove_file(&other).unwrap();
                std::fs::hard_link(&free, &other).unwrap();
            }
            "readable" => {
                std::fs::set_permissions(&free, std::fs::Permissions::from_mode(0o644)).unwrap();
            }
            _ => {
                std::fs::remove_file(&free).unwrap();
                std::os::unix::fs::symlink(&other, &free).unwrap();
            }
        }
        let before = std::fs::read(&other).unwrap();
        let stored = store(&spool, 4);
        let facts = std::fs::metadata(spool.directory().join(stored.file_name())).unwrap();
        assert_eq!((facts.nlink(), facts.mode() & 0o777), (1, 0o600), "{how}");
        assert_eq!(std::fs::read(&other).unwrap(), before, "{how}");
        std::fs::remove_file(&other).unwrap();
        drop(spool);
        std::fs::remove_dir_all(root.path().join("p")).unwrap();
    }
}

#[test]
fn free_files_are_few_are_found_again_and_go_when_nobody_needs_them() {
    let root = scratch();
    let first = spool(&root);
    let stored: Vec<Stored> = (0..20).map(|number| store(&first, number)).collect();
    stored.into_iter().for_each(|stored| first.remove(stored).unwrap());
    assert_eq!(free_files(first.directory()).len(), 8);
    assert_eq!((first.usage(), first.entries().unwrap().len()), (Usage::default(), 0));
    let directory = first.directory().to_owned();
    drop(first);
    // Names that are not exactly ours.
    for name in [".etl-free-01", ".etl-free-x", ".etl-free-"] {
        std::fs::write(directory.join(name), b"").unwrap();
    }
    let second = spool(&root);
    assert_eq!(free_files(&directory).len(), 8 + 3);
    let stored = store(&second, 1);
    assert_eq!(free_files(&directory).len(), 7 + 3, "an earlier process's file is used");
    second.remove(stored).unwrap();
    // A disk with little room gets them back.
    second.pool.close(&second.directory);
    assert_eq!(free_files(&directory).len(), 3);
    let stored = store(&second, 1);
    second.remove(stored).unwrap();
    assert_eq!(free_files(&directory).len(), 3, "and none is kept any more");
}

#[test]
fn what_nobody_has_needed_for_an_hour_goes() {
    let root = scratch();
    let spool = spool(&root);
    let stored: Vec<Stored> = (0..5).map(|number| store(&spool, number)).collect();
    stored.into_iter().for_each(|stored| spool.remove(stored).unwrap());
    let now = metadata::unix_now();
    for (later, left) in [(0, 5), (KEPT_SECONDS - 60, 5), (KEPT_SECONDS + 60, 0)] {
        let pool = Pool::new(OPTIONS.max_bytes);
        recover::take_up_free(&spool.directory, &pool, now + later).unwrap();
        assert!(!pool.tidy(&spool.directory), "there are more");
        assert_eq!(free_files(spool.directory()).len(), left, "{later} s later");
    }
}
