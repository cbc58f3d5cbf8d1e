//! Files that are replaced whole: whichever operation fails, or is the last before
//! a crash, the old or the new content is there.

use crate::spool::fault::{Plan, with_plan};
use crate::spool::{KeptFiles, OpenError};

#[test]
fn whichever_operation_fails_the_old_or_the_new_content_is_there() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("state");
    let files = KeptFiles::open(&path).unwrap();
    files.replace("a", b"old").unwrap();
    let (_, operations) = with_plan(Plan::Watch, || files.replace("a", b"old").unwrap());
    assert!(operations.len() >= 5, "{operations:?}");
    for at in 0..operations.len() {
        for plan in [Plan::FailOne(at, 28), Plan::Crash(at)] {
            files.replace("a", b"old").unwrap();
            let (result, _) = with_plan(plan, || files.replace("a", b"new"));
            let content = files.read("a", 100).unwrap().unwrap();
            match result {
                Ok(()) => assert_eq!(content, b"new", "{plan:?}"),
                Err(_) => assert!(content == b"old" || content == b"new", "{plan:?}"),
            }
        }
    }
    drop(files);
    // What crashes have left is cleared away.
    let files = KeptFiles::open(&path).unwrap();
    assert!(matches!(KeptFiles::open(&path), Err(OpenError::Locked { .. })));
    let names: Vec<_> =
        std::fs::read_dir(files.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!(files.read("a", 2).unwrap_err().kind(), std::io::ErrorKind::InvalidData);
    assert_eq!(files.read("missing", 2).unwrap(), None);
}
