//! Full disks, file size limits and directories that vanish: old data stays whole.

use std::process::Command;

use super::*;

const CHILD: &str = "ETL_TEST_SPOOL_LIMITED";

fn random_payload(number: u64, bytes: usize) -> Payload {
    let mut random = fastrand::Rng::with_seed(number);
    let text: String = std::iter::repeat_with(|| random.alphanumeric()).take(bytes).collect();
    let mut rows = Rows::default();
    rows.push(format!("\"{text}\"").as_bytes());
    let keys = KeyContext::new("p", "s", "r");
    Payload::seal(&mut rows, number..number + 1, Arc::from("r"), |r, b| keys.key(r, b))
}

/// All files are whole, none is empty, and nothing unfinished lies about.
fn all_whole(spool: &Spool) -> usize {
    let entries = spool.entries().unwrap();
    for entry in &entries {
        spool.read(entry).map(drop).unwrap();
    }
    let files = names(spool.directory()).len();
    assert_eq!(files, entries.len() + 1, "the entries and the lock");
    entries.len()
}

/// A disk of 256 KiB, seen by one process only, which needs no root where users may
/// have namespaces of their own.
#[test]
fn a_full_disk_keeps_old_data_whole_and_says_so() {
    let root = scratch();
    let namespace = if rustix::process::geteuid().is_root() {
        &["--mount"][..]
    } else {
        &["--user", "--map-root-user", "--mount"]
    };
    let shell = "mount -t tmpfs -o size=256k none \"$1\" && exec \"$0\" --exact \
        spool::tests::space::the_process_on_a_small_disk --ignored";
    let output = Command::new("unshare")
        .args(namespace)
        .args(["sh", "-c", shell])
        .arg(std::env::current_exe().unwrap())
        .arg(root.path())
        .env(CHILD, root.path().join("spool"))
        .output()
        .unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(
        output.status.success() && out.contains("1 passed"),
        "needs root, or a system where `unshare --user --map-root-user --mount` works for users \
         (sysctl kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns): \
         {out}{err}"
    );
}

#[test]
#[ignore = "run by another test on a small disk"]
fn the_process_on_a_small_disk() {
    let directory = std::env::var_os(CHILD).unwrap();
    let spool = Spool::open(Path::new(&directory), OPTIONS).unwrap();
    let mut written = 0;
    let error = loop {
        let batch = random_payload(written, 20_000);
        match spool.write(State::Failed, 0, written, &batch, &attempts(1)) {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 100, "the disk never fills");
    };
    assert_eq!(error.kind, WriteErrorKind::DiskFull);
    assert!(error.to_string().contains("free space"), "{error}");
    assert_eq!(all_whole(&spool) as u64, written);
    let entry = spool.entries().unwrap().remove(0);
    let (batch, _, mut stored) = spool.read(&entry).unwrap();
    let full = spool.update(&mut stored, State::Failed, 0, &batch, &attempts(2));
    assert_eq!(full.unwrap_err().kind, WriteErrorKind::DiskFull);
    assert_eq!(all_whole(&spool) as u64, written);
    spool.remove(stored).unwrap();
    spool.write(State::Failed, 0, 999, &batch, &attempts(1)).map(drop).unwrap();
    assert_eq!(all_whole(&spool) as u64, written);

    // What delivered batches have left to be written over makes room for a larger one.
    for entry in spool.entries().unwrap().into_iter().take(2) {
        let (_, _, stored) = spool.read(&entry).unwrap();
        spool.remove(stored).unwrap();
    }
    let larger = random_payload(1000, 35_000);
    spool.write(State::Failed, 0, 1000, &larger, &attempts(1)).map(drop).unwrap();
    assert_eq!(spool.entries().unwrap().len() as u64, written - 1);
}

#[test]
#[ignore = "run by another test under a file size limit"]
fn the_limited_process() {
    let directory = std::env::var_os(CHILD).unwrap();
    let spool = Spool::open(Path::new(&directory), OPTIONS).unwrap();
    spool.write(State::Failed, 0, 1, &random_payload(1, 1000), &attempts(1)).map(drop).unwrap();
    let error =
        spool.write(State::Failed, 0, 2, &random_payload(2, 60_000), &attempts(1)).unwrap_err();
    assert_eq!(error.kind, WriteErrorKind::FileTooLarge);
    assert!(error.to_string().contains("ulimit -f"), "{error}");
    assert_eq!(all_whole(&spool), 1);
}

#[test]
fn a_file_size_limit_is_an_error_and_no_short_file() {
    let root = scratch();
    // 32 blocks of 512 bytes; the program ignores SIGXFSZ as etl does.
    let shell = "trap '' XFSZ; ulimit -f 32; exec \"$0\" --exact \
        spool::tests::space::the_limited_process --ignored";
    let output = Command::new("sh")
        .args(["-c", shell])
        .arg(std::env::current_exe().unwrap())
        .env(CHILD, root.path().join("spool"))
        .output()
        .unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{out}{err}");
}

#[test]
fn a_vanished_directory_is_named_with_its_remedy() {
    let root = scratch();
    let spool = spool(&root);
    drop(store(&spool, 1));
    std::fs::remove_dir_all(spool.directory()).unwrap();
    let error = spool
        .write(State::Failed, 0, spool.next_sequence(), &payload(2), &attempts(1))
        .unwrap_err();
    assert_eq!(error.kind, WriteErrorKind::Gone);
    assert!(error.to_string().contains("was removed while in use"), "{error}");
    let letters = spool.dead_letter(&[letter()]).unwrap_err();
    assert_eq!(letters.kind, WriteErrorKind::Gone);
}
