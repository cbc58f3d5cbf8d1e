//! Dead letters sent again because a person asked: the records of one file as one
//! new batch. Its key is made of its content, so that asking twice, or a crash in
//! between, sends the same bytes under the same key.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use serde::Deserialize;
use serde_json::value::RawValue;
use tracing::{error, info, warn};

use super::delivery::unix_seconds;
use super::parts::{Parts, Placed};
use crate::batch::{BatchKey, Payload, Rows};
use crate::spool::Attempts;
use crate::spool::inspect::FileView;

/// The part of a dead letter that was once sent.
#[derive(Deserialize)]
struct Letter<'a> {
    #[serde(borrow)]
    record: &'a RawValue,
}

/// The records of a dead-letter file as a batch.
///
/// # Errors
/// When the file cannot be read, is damaged, or holds no letters; in words.
pub(super) fn payload(file: &FileView) -> Result<Payload, String> {
    let letters = file.records().map_err(|error| error.to_string())?;
    let mut rows = Rows::default();
    for letter in &letters {
        let letter: Letter<'_> =
            serde_json::from_slice(letter).map_err(|error| error.to_string())?;
        rows.push(letter.record.get().as_bytes());
    }
    if letters.is_empty() {
        return Err("it holds no letters".to_owned());
    }
    let key = |_: &std::ops::Range<u64>, body: &[u8]| BatchKey::of_foreign_body(body);
    Ok(Payload::seal(&mut rows, 0..0, Arc::from(""), key))
}

/// Sends one file's records. The file goes when every record was acknowledged or is
/// durably in a new dead-letter file; until then it stays whole.
pub(super) async fn resend(
    parts: &Arc<Parts>,
    label: u32,
    payload: &Payload,
    file: FileView,
) -> Placed {
    let mut attempts = Attempts { tried: 0, last_answer: String::new(), first_at: unix_seconds() };
    let ended = parts.courier().carry(payload.clone(), &mut attempts, 0).await;
    let delivered = ended.delivered;
    if !ended.left.is_empty() {
        // Its letters stay where they are; what was delivered is recognised by its
        // key when it is sent again.
        warn!(sink = parts.name, file = %file.path.display(), answer = attempts.last_answer, "dead letters not sent, they stay");
        return Placed { delivered, ..Placed::default() };
    }
    let Some(placed) = parts.place(label, payload, None, attempts, ended, false).await else {
        return Placed { delivered, ..Placed::default() };
    };
    let path = file.path.clone();
    match parts.disk.run(move |spool| spool.remove_dead(&file)).await {
        Ok(Ok(())) => info!(file = %path.display(), "dead letters sent, file removed"),
        Err(error) | Ok(Err(error)) => {
            error!(file = %path.display(), %error, "could not remove a dead-letter file whose records were sent");
        }
    }
    parts.books.replay_dead_lettered.fetch_add(placed.dead_lettered, Relaxed);
    placed
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use bytes::Bytes;

    use super::payload;
    use crate::spool::inspect::FileView;
    use crate::spool::{DeadLetter, Spool, SpoolOptions};

    #[test]
    fn the_same_letters_give_the_same_batch_and_only_their_file_is_removed() {
        let home = tempfile::tempdir().unwrap();
        let options = SpoolOptions { max_bytes: 1 << 20, min_free: 0 };
        let spool = Spool::open(&home.path().join("http"), options).unwrap();
        let letter = |record: &'static str, time| DeadLetter {
            record: Bytes::from_static(record.as_bytes()),
            reason: "no".to_owned(),
            status: Some(422),
            response: String::new(),
            batch_key: String::new(),
            time,
        };
        let first =
            spool.dead_letter(&[letter("{\"a\":1.50}", 7), letter("{\"b\":2}", 8)]).unwrap();
        let again =
            spool.dead_letter(&[letter("{\"a\":1.50}", 9), letter("{\"b\":2}", 9)]).unwrap();
        let (first, again) = (FileView::at(&first).unwrap(), FileView::at(&again).unwrap());
        let (one, two) = (payload(&first).unwrap(), payload(&again).unwrap());
        assert_eq!(&one.body[..], b"[{\"a\":1.50},{\"b\":2}]");
        assert_eq!((one.key, one.body), (two.key, two.body));

        spool.remove_dead(&first).unwrap();
        assert!(!first.path.exists() && again.path.exists());
        assert_eq!(spool.usage().dead_files, 1);
        let lock = FileView { path: home.path().join("http/.lock"), ..again };
        assert!(spool.remove_dead(&lock).is_err());
    }
}
