//! A spool directory that somebody else has been in.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use super::*;

const OWN: &str = "buffer_failed_worker3-00000000000000000042-0123456789abcdef.json.gz";

/// Reads everything there is and quarantines what does not check, as replay does.
fn replay(spool: &Spool) -> (Vec<Payload>, Vec<String>) {
    let (mut good, mut reasons) = (Vec::new(), Vec::new());
    for entry in spool.entries().unwrap() {
        match spool.read(&entry) {
            Ok((payload, _, _)) => good.push(payload),
            Err(ReadError::Corrupt { reason, .. }) => {
                spool.quarantine(&entry, &reason).unwrap();
                reasons.push(reason);
            }
            Err(error) => panic!("{error}"),
        }
    }
    (good, reasons)
}

#[test]
fn strange_files_are_quarantined_and_the_good_ones_go_on() {
    let root = scratch();
    let directory = {
        let spool = spool(&root);
        drop(store(&spool, 1));
        spool.directory().to_owned()
    };
    let secret = root.path().join("secret");
    std::fs::write(&secret, "untouched").unwrap();
    let at = |name: &str| directory.join(name);
    symlink(&secret, at(OWN)).unwrap();
    symlink("/dev/zero", at("buffer_failed_worker8.json.gz")).unwrap();
    let fifo = at("buffer_failed_worker7.json.gz");
    assert!(std::process::Command::new("mkfifo").arg(fifo).status().unwrap().success());
    std::fs::create_dir(at("buffer_failed_worker9.json.gz")).unwrap();
    std::fs::write(at("buffer_failed_worker5.json.gz"), b"").unwrap();
    std::fs::write(at(&OWN.replace("42", "43")), b"").unwrap();
    std::fs::write(at(&OWN.replace("42", "44")), b"plain text").unwrap();
    std::fs::write(at("buffer_failed_worker..%2f.json.gz"), b"x").unwrap();
    let long = format!("buffer_{}.json.gz", "x".repeat(240));
    std::fs::write(at(&long), b"x").unwrap();
    let odd = OsStr::from_bytes(b"buffer_failed_worker\xff\n.json.gz");
    std::fs::write(directory.join(odd), b"x").unwrap();
    std::fs::write(at("notes.txt"), b"x").unwrap();

    let spool = spool(&root);
    let (good, reasons) = replay(&spool);
    assert_eq!((good.len(), &good[0].body), (1, &payload(1).body));
    assert_eq!(reasons.len(), 10, "{reasons:?}");
    assert_eq!((spool.usage().batches, spool.usage().corrupt_files), (1, 10));
    assert_eq!(std::fs::read(&secret).unwrap(), b"untouched");
    assert_eq!(std::fs::read(at("notes.txt")).unwrap(), b"x");
    assert_eq!(replay(&spool).1.len(), 0);
    let kept = names(&directory.join("corrupt"));
    assert_eq!(kept.iter().filter(|name| !name.ends_with(".reason")).count(), 10, "{kept:?}");
    drop(spool);
    assert_eq!(super::spool(&root).usage().corrupt_files, 10);
}

#[test]
fn a_zero_byte_file_is_quarantined_with_the_reason_beside_it() {
    let root = scratch();
    let spool = spool(&root);
    std::fs::write(spool.directory().join(OWN), b"").unwrap();
    assert_eq!(replay(&spool).1, ["empty file"]);
    let note = spool.directory().join("corrupt").join(format!("{OWN}.reason"));
    assert_eq!(std::fs::read_to_string(note).unwrap(), "empty file\n");
}

#[test]
fn quarantine_never_overwrites_and_a_file_is_quarantined_once() {
    let root = scratch();
    let spool = spool(&root);
    for content in ["one", "two", "three"] {
        std::fs::write(spool.directory().join(OWN), content).unwrap();
        let entry = spool.entries().unwrap().remove(0);
        let path = spool.quarantine(&entry, "bad\x1b[2J").unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), content);
        assert!(spool.quarantine(&entry, "again").is_err());
    }
    assert_eq!(spool.usage().corrupt_files, 3);
}

#[test]
fn a_file_under_another_batch_s_name_or_without_metadata_is_not_replayed() {
    let root = scratch();
    let spool = spool(&root);
    let stored = store(&spool, 1);
    let (from, to) = (spool.directory().join(stored.file_name()), spool.directory().join(OWN));
    std::fs::rename(&from, &to).unwrap();
    assert_eq!(replay(&spool).1, ["its name belongs to another batch"]);

    drop(store(&spool, 2));
    let stored = store(&spool, 3);
    let path = spool.directory().join(stored.file_name());
    let shell = format!("zcat {0} > {0}.tmp && gzip < {0}.tmp > {0}", path.display());
    assert!(std::process::Command::new("sh").args(["-c", &shell]).status().unwrap().success());
    let (good, reasons) = replay(&spool);
    assert_eq!(good.len(), 1);
    assert!(reasons[0].contains("buffer_failed_worker0.json.gz"), "{reasons:?}");
}

#[test]
fn every_flip_and_cut_of_a_stored_file_is_caught() {
    let root = scratch();
    let spool = spool(&root);
    drop(store(&spool, 1));
    let entry = spool.entries().unwrap().remove(0);
    let file = std::fs::read(spool.directory().join(entry.file_name())).unwrap();
    let read = |bytes: &[u8]| read::decode(&entry.name, bytes, 0, read::sealed);
    assert!(read(&file).is_ok());
    for bit in 0..file.len() * 8 {
        let mut bad = file.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(read(&bad).is_err(), "bit {bit}");
    }
    for length in 0..file.len() {
        assert!(read(&file[..length]).is_err(), "cut at {length}");
    }
}

#[test]
fn a_huge_file_and_a_bomb_cost_no_memory_and_are_quarantined() {
    let root = scratch();
    let spool = spool(&root);
    let sparse = std::fs::File::create(spool.directory().join(OWN)).unwrap();
    sparse.set_len(1 << 40).unwrap();
    let bomb = spool.directory().join("buffer_failed_worker1.json.gz");
    let shell = format!("head -c 50000000 /dev/zero | gzip > {}", bomb.display());
    assert!(std::process::Command::new("sh").args(["-c", &shell]).status().unwrap().success());
    let (_, reasons) = replay(&spool);
    assert!(reasons.iter().all(|reason| reason.contains("larger than")), "{reasons:?}");
    assert_eq!(reasons.len(), 2);
}

#[test]
fn folders_that_are_something_else_do_not_stop_a_start() {
    let root = scratch();
    let directory = spool(&root).directory().to_owned();
    std::fs::write(directory.join("dead"), "x").unwrap();
    symlink("/tmp", directory.join("corrupt")).unwrap();
    let spool = spool(&root);
    assert!(spool.dead_letter(&[letter()]).is_err());
    std::fs::write(directory.join(OWN), b"").unwrap();
    let entry = spool.entries().unwrap().remove(0);
    assert!(spool.quarantine(&entry, "bad").is_err());
    assert!(directory.join(OWN).exists());
}

#[test]
fn the_largest_sequence_neither_wraps_nor_is_reused() {
    let root = scratch();
    let first = spool(&root);
    first.write(State::Failed, 0, 7, &payload(1), &attempts(1)).map(drop).unwrap();
    let name = OWN.replace("00000000000000000042", "18446744073709551615");
    std::fs::write(first.directory().join(name), b"").unwrap();
    drop(first);
    assert_eq!(spool(&root).next_sequence(), 8);
}
