//! One process per spool, and a directory that is ours alone.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use super::*;

const CHILD: &str = "ETL_TEST_SPOOL";

fn refused(root: &TempDir) -> OpenError {
    Spool::open(&root.path().join("p/spool/http"), OPTIONS).map(drop).unwrap_err()
}

#[test]
fn a_second_opener_is_told_who_has_the_spool_since_when() {
    let root = scratch();
    let first = spool(&root);
    let OpenError::Locked { holder, .. } = refused(&root) else { panic!("not locked") };
    assert!(holder.contains(&format!("pid {}", std::process::id())), "{holder}");
    assert!(holder.contains("since 20"), "{holder}");
    drop(first);
    spool(&root);
}

#[test]
#[ignore = "run by another test as the other process"]
fn the_other_process() {
    let directory = std::env::var_os(CHILD).unwrap();
    let _spool = Spool::open(Path::new(&directory), OPTIONS).unwrap();
    writeln!(std::io::stdout(), "ready").unwrap();
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn the_lock_ends_with_the_process_that_holds_it_even_by_kill() {
    let root = scratch();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "spool::tests::owner::the_other_process", "--ignored", "--nocapture"])
        .env(CHILD, root.path().join("p/spool/http"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("ready")));
    let message = refused(&root).to_string();
    assert!(message.contains(&format!("pid {}", child.id())), "{message}");
    child.kill().unwrap();
    child.wait().unwrap();
    spool(&root);
}

#[test]
fn a_lock_file_full_of_nonsense_is_taken_and_a_strange_one_refused() {
    let root = scratch();
    let directory = spool(&root).directory().to_owned();
    std::fs::write(directory.join(".lock"), vec![b'{'; 100_000]).unwrap();
    drop(spool(&root));
    std::fs::remove_file(directory.join(".lock")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", directory.join(".lock")).unwrap();
    assert!(matches!(refused(&root), OpenError::Io { step: "lock", .. }));
}

#[test]
fn a_directory_that_others_can_write_is_refused_with_the_remedy() {
    let root = scratch();
    let directory = spool(&root).directory().to_owned();
    for mode in [0o770, 0o707, 0o720, 0o702] {
        std::fs::set_permissions(&directory, PermissionsExt::from_mode(mode)).unwrap();
        let message = refused(&root).to_string();
        assert!(message.contains("run: chmod 700 "), "{message}");
    }
    std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o755)).unwrap();
    drop(spool(&root));
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&directory, Some(65_534), None).unwrap();
        let message = refused(&root).to_string();
        assert!(message.contains("belongs to user 65534") && message.contains("chown 0 "));
    }
}

#[test]
fn what_is_not_a_directory_is_refused() {
    let root = scratch();
    std::fs::create_dir_all(root.path().join("p/spool")).unwrap();
    let path = root.path().join("p/spool/http");
    std::fs::write(&path, "a file").unwrap();
    assert!(matches!(refused(&root), OpenError::NotADirectory { .. }));
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/tmp", &path).unwrap();
    assert!(matches!(refused(&root), OpenError::NotADirectory { .. }));
}
