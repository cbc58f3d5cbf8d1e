//! A file's name: a function of the batch, so that the same batch is the same file.

use super::time::compact;
use crate::batch::{Payload, run_began};
use crate::load::answer::FailedRecord;

/// `posts_20261121T122530Z_0000000200_0123456789abcdef` and the extension: when the run
/// began, the batch's first record in it, and the beginning of the batch's key, which tells
/// the parts of a divided batch apart. A batch of another program's making tells no time.
///
/// Which records `failed` is part of the key: a batch of which more fits when it comes
/// again, after a changed schema, must not take the smaller file for its own.
pub(in crate::load) fn file_name(
    prefix: &str,
    payload: &Payload,
    failed: &[FailedRecord],
    extension: &str,
) -> String {
    let began = run_began(&payload.run_id).map_or_else(|| "undated".to_owned(), compact);
    let key = if failed.is_empty() { payload.key } else { payload.key.part(which(failed)) };
    let (first, key) = (payload.range.start, key.short());
    format!("{prefix}_{began}_{first:010}_{key}.{extension}")
}

/// A number for a set of records, whatever their order.
fn which(failed: &[FailedRecord]) -> u64 {
    let mut indices: Vec<usize> = failed.iter().map(|record| record.index).collect();
    indices.sort_unstable();
    let mut hasher = blake3::Hasher::new();
    for index in indices {
        hasher.update(&(index as u64).to_le_bytes());
    }
    let mut number = [0; 8];
    number.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(number)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::file_name;
    use crate::batch::{BatchKey, Payload};
    use crate::load::answer::FailedRecord;

    #[test]
    fn a_name_tells_the_run_the_place_and_the_key() {
        let payload = |run: &str| {
            let body = Bytes::from_static(b"[1,2]");
            let key = BatchKey::of_foreign_body(&body);
            Payload::from_array(body, key, 200..202, Arc::from(run)).unwrap()
        };
        let dated = payload("9f3a61c06b018dba");
        let name = file_name("posts", &dated, &[], "json");
        let key = dated.key.short();
        assert_eq!(name, format!("posts_20261121T122530Z_0000000200_{key}.json"));
        let [left, right] = dated.halves().unwrap();
        assert_ne!(file_name("p", &left, &[], "json"), file_name("p", &right, &[], "json"));
        let failed = |indices: &[usize]| -> Vec<FailedRecord> {
            let record = |index: &usize| FailedRecord { index: *index, reason: String::new() };
            indices.iter().map(record).collect()
        };
        let without = |indices| file_name("posts", &dated, &failed(indices), "json");
        assert_eq!(without(&[0, 1]), without(&[1, 0]));
        assert_ne!(without(&[0]), without(&[1]));
        assert_ne!(without(&[0]), name);
        assert!(
            file_name("posts", &payload(""), &[], "json").starts_with("posts_undated_0000000200_")
        );
    }
}
