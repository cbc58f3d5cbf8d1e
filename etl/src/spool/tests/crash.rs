//! Every operation of a cycle fails once, and the process "dies" at every one.

use super::super::fault::{Operation, Plan, with_plan};
use super::*;

/// What a cycle of all operations was told, batch by batch.
#[derive(Debug, Default)]
struct Told {
    /// Durable, by what `write` said; and whether removal was ever asked for.
    batches: Vec<(u64, bool)>,
    letters: bool,
    all_fine: bool,
}

/// Write, write ahead, update twice, remove, dead-letter, quarantine: stops at the
/// first error, as a caller in trouble would.
fn cycle(spool: &Spool) -> Told {
    let mut told = Told::default();
    let result = (|| -> Result<(), Box<dyn std::error::Error>> {
        let one =
            spool.write(State::Failed, 1, spool.next_sequence(), &payload(1), &attempts(1))?;
        told.batches.push((1, false));
        let mut two =
            spool.write(State::Pending, 2, spool.next_sequence(), &payload(2), &attempts(0))?;
        told.batches.push((2, false));
        spool.update(&mut two, State::Failed, 2, &payload(2), &attempts(1))?;
        spool.update(&mut two, State::Failed, 2, &payload(2), &attempts(2))?;
        told.batches[0].1 = true;
        spool.remove(one)?;
        spool.dead_letter(&[letter()])?;
        told.letters = true;
        let entry = spool.entries()?.into_iter().next_back().ok_or("no entry")?;
        spool.quarantine(&entry, "for the test")?;
        Ok(())
    })();
    told.all_fine = result.is_ok();
    told
}

/// What the next process finds: every batch that was reported durable and not
/// asked to be removed is there once and whole, here or in `corrupt/`.
fn check_next_start(root: &TempDir, told: &Told, plan: Plan) {
    let spool = spool(root);
    let entries = spool.entries().unwrap();
    let mut found: Vec<u64> = Vec::new();
    for entry in &entries {
        let (batch, _, _) = spool.read(entry).unwrap_or_else(|error| panic!("{plan:?}: {error}"));
        assert_eq!(batch.body, payload(batch.range.start).body, "{plan:?}");
        found.push(batch.range.start);
    }
    let quarantined = spool.usage().corrupt_files;
    for (number, removal_asked) in &told.batches {
        let times = found.iter().filter(|found| *found == number).count();
        let kept = times == 1 || (times == 0 && (*removal_asked || quarantined == 1));
        assert!(kept, "{plan:?}: batch {number} is there {times} times");
    }
    if told.letters {
        assert_eq!(spool.usage().dead_files, 1, "{plan:?}");
    }
    for folder in ["", "dead", "corrupt"] {
        let folder = spool.directory().join(folder);
        if folder.exists() {
            assert!(names(&folder).iter().all(|name| !name.ends_with(".tmp")), "{plan:?}");
        }
    }
}

fn operations_of_a_cycle() -> Vec<Operation> {
    let root = scratch();
    let spool = spool(&root);
    let (told, operations) = with_plan(Plan::Watch, || cycle(&spool));
    assert!(told.all_fine);
    drop(spool);
    check_next_start(&root, &told, Plan::Watch);
    operations
}

#[test]
fn every_write_syncs_the_file_before_its_name_and_the_directory_before_returning() {
    use Operation::{Create, Free, Rename, SyncDirectory, SyncFile, Write};
    let write = [Create, Write, SyncFile, Rename, SyncDirectory];
    // The name is taken, and then replaced on purpose.
    let replace = [Create, Write, SyncFile, Rename, Rename, SyncDirectory];
    let expected = [
        &write[..],
        &write,
        // Pending to failed: the old file goes only after the new one is durable, and is
        // not written over before that is durable too.
        &write,
        &[Free],
        &replace,
        &[Free],
        // A new folder is durable before what is in it.
        &[SyncDirectory],
        &write,
        &[SyncDirectory],
        &[Rename, Create, Rename, SyncDirectory, SyncDirectory],
    ];
    assert_eq!(operations_of_a_cycle(), expected.concat());
}

#[test]
fn a_crash_at_any_operation_loses_nothing_that_was_reported_durable() {
    for at in 0..operations_of_a_cycle().len() {
        let root = scratch();
        let spool = spool(&root);
        let plan = Plan::Crash(at);
        let (told, _) = with_plan(plan, || cycle(&spool));
        drop(spool);
        check_next_start(&root, &told, plan);
    }
}

#[test]
fn a_failure_of_any_operation_leaves_every_good_file_and_the_next_try_works() {
    use rustix::io::Errno;
    for errno in [Errno::IO, Errno::NOSPC, Errno::ROFS] {
        for at in 0..operations_of_a_cycle().len() {
            let root = scratch();
            let spool = spool(&root);
            let plan = Plan::FailOne(at, errno.raw_os_error());
            let (mut told, _) = with_plan(plan, || cycle(&spool));
            let temps = names(spool.directory()).iter().filter(|n| n.ends_with(".tmp")).count();
            assert!(temps <= 1, "{plan:?}");
            drop(store(&spool, 3));
            told.batches.push((3, false));
            drop(spool);
            check_next_start(&root, &told, plan);
        }
    }
}

#[test]
fn a_failed_sync_is_never_repeated_on_the_same_file() {
    let root = scratch();
    let spool = spool(&root);
    for (at, step) in [(2, "write"), (4, "make durable")] {
        let eio = rustix::io::Errno::IO.raw_os_error();
        let (result, operations) = with_plan(Plan::FailOne(at, eio), || {
            spool.write(State::Failed, 1, 9, &payload(1), &attempts(1)).map(drop)
        });
        let error = result.unwrap_err();
        assert_eq!((error.kind, error.step), (WriteErrorKind::Device, step));
        assert!(error.to_string().contains("the disk is failing"), "{error}");
        assert_eq!(operations.last(), Some(&Operation::Unlink));
        assert_eq!(names(spool.directory()), [".lock"]);
        assert_eq!(spool.usage(), Usage::default());
    }
    spool.write(State::Failed, 1, 9, &payload(1), &attempts(1)).map(drop).unwrap();
}

#[test]
fn of_two_copies_left_by_a_crash_the_failed_one_that_checks_is_kept() {
    let root = scratch();
    for damage in [false, true] {
        let spool = spool(&root);
        let batch = payload(1);
        let pending = spool.write(State::Pending, 1, 5, &batch, &attempts(0)).unwrap();
        let failed = spool.write(State::Failed, 2, 5, &batch, &attempts(1)).unwrap();
        assert_eq!(spool.entries().unwrap().len(), 1, "one batch is listed once");
        if damage {
            std::fs::write(spool.directory().join(failed.file_name()), b"").unwrap();
        }
        let directory = spool.directory().to_owned();
        drop(spool);
        let spool = super::spool(&root);
        let entries = spool.entries().unwrap();
        let kept = if damage { &pending } else { &failed };
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].file_name(), kept.file_name());
        assert_eq!((spool.usage().batches, spool.usage().bytes), (1, entries[0].size()));
        assert_eq!(spool.usage().corrupt_files, u64::from(damage));
        assert_eq!(directory.join(failed.file_name()).exists(), !damage);
        let (_, _, stored) = spool.read(&entries[0]).unwrap();
        spool.remove(stored).unwrap();
    }
}

#[test]
fn of_two_copies_in_one_state_the_one_with_more_attempts_is_kept() {
    for (old, new) in [(1, 2), (2, 1)] {
        let root = scratch();
        let first = spool(&root);
        let mut stored = first.write(State::Failed, old, 5, &payload(1), &attempts(1)).unwrap();
        // Neither another name for the old file nor its removal.
        let (updated, _) = with_plan(Plan::Crash(5), || {
            first.update(&mut stored, State::Failed, new, &payload(1), &attempts(2))
        });
        assert!(updated.is_ok(), "the new file is durable; the old one merely stays");
        assert_eq!(names(first.directory()).len(), 3, "both copies and the lock");
        drop(first);
        let spool = spool(&root);
        let entry = spool.entries().unwrap().remove(0);
        assert_eq!(spool.read(&entry).unwrap().1.tried, 2);
        assert_eq!((names(spool.directory()).len(), spool.usage().batches), (2, 1));
    }
}

#[test]
fn two_damaged_copies_are_left_for_replay_to_quarantine() {
    let root = scratch();
    let first = spool(&root);
    for state in [State::Pending, State::Failed] {
        let stored = first.write(state, 1, 5, &payload(1), &attempts(0)).unwrap();
        std::fs::write(first.directory().join(stored.file_name()), b"\x1f\x8b").unwrap();
    }
    drop(first);
    let spool = spool(&root);
    for left in [1, 0] {
        let entry = spool.entries().unwrap().remove(0);
        assert!(matches!(spool.read(&entry), Err(ReadError::Corrupt { .. })));
        spool.quarantine(&entry, "damaged").unwrap();
        assert_eq!(spool.usage().batches, left);
    }
    assert_eq!(spool.usage().corrupt_files, 2);
}

#[test]
fn unfinished_files_of_dead_processes_are_removed_and_nothing_else_is() {
    let root = scratch();
    let directory = spool(&root).directory().to_owned();
    for name in [".etl-1-0.tmp", ".etl-4294967295-18446744073709551615.tmp", "notes.tmp", "x.gz"] {
        std::fs::write(directory.join(name), b"half").unwrap();
    }
    spool(&root);
    assert_eq!(names(&directory), [".lock", "notes.tmp", "x.gz"]);
}
