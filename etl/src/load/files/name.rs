//! A file's name: a function of the batch, so that the same batch is the same file.

use super::time::compact;
use crate::batch::{Payload, run_began};

/// `posts_20261121T122530Z_0000000200_0123456789abcdef` and the extension: when the run
/// began, the batch's first record in it, and the beginning of the batch's key, which tells
/// the parts of a divided batch apart. A batch of another program's making tells no time.
pub(in crate::load) fn file_name(prefix: &str, payload: &Payload, extension: &str) -> String {
    let began = run_began(&payload.run_id).map_or_else(|| "undated".to_owned(), compact);
    let (first, key) = (payload.range.start, payload.key.short());
    format!("{prefix}_{began}_{first:010}_{key}.{extension}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::file_name;
    use crate::batch::{BatchKey, Payload};

    #[test]
    fn a_name_tells_the_run_the_place_and_the_key() {
        let payload = |run: &str| {
            let body = Bytes::from_static(b"[1,2]");
            let key = BatchKey::of_foreign_body(&body);
            Payload::from_array(body, key, 200..202, Arc::from(run)).unwrap()
        };
        let dated = payload("9f3a61c06b018dba");
        let name = file_name("posts", &dated, "json");
        let key = dated.key.short();
        assert_eq!(name, format!("posts_20261121T122530Z_0000000200_{key}.json"));
        let [left, right] = dated.halves().unwrap();
        assert_ne!(file_name("p", &left, "json"), file_name("p", &right, "json"));
        assert!(file_name("posts", &payload(""), "json").starts_with("posts_undated_0000000200_"));
    }
}
