//! What must hold for any bytes and any name that stand in a spool directory.

use super::gzip;
use super::metadata::{Attempts, Metadata};
use super::name::{Name, is_temp, parse_dead};
use super::{legacy, read};
use crate::batch::Payload;

/// Any bytes as a spool file. The first byte chooses: as they are, or as changes
/// to a file of our making, which must show.
pub(crate) fn reader(data: &[u8]) {
    let Some((way, data)) = data.split_first() else { return };
    if way % 2 == 0 {
        drop(gzip::header(data));
        if let Ok((payload, _)) = read::own(data, None) {
            check(&payload);
            assert!(read::sealed(data, None).is_ok(), "replay refuses what verify accepts");
        }
        if let Ok(payload) = legacy::read(data) {
            check(&payload);
        }
        return;
    }
    let good = good_file();
    assert!(read::own(&good, None).is_ok(), "a file of our making is not read");
    let mut bad = good.clone();
    for change in data.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % bad.len();
        bad[at] = change[2];
    }
    assert!(bad == good || read::sealed(&bad, None).is_err(), "a changed file is accepted");
    let cut = data.first().map_or(0, |byte| usize::from(*byte) % good.len());
    assert!(read::sealed(&good[..cut], None).is_err(), "a cut file is accepted");
    let longer = [&good[..], data].concat();
    assert!(data.is_empty() || read::sealed(&longer, None).is_err(), "a longer file is accepted");
}

/// Any bytes as a file name.
pub(crate) fn name(data: &[u8]) {
    is_temp(data);
    parse_dead(data);
    let Some(name) = Name::parse(data) else { return };
    // What is called something is found under that name again.
    assert_eq!(name.file_name().as_encoded_bytes(), data);
    if let Name::Batch(batch) = &name {
        assert_eq!(Name::parse(batch.to_string().as_bytes()), Some(name.clone()));
    }
}

/// What is read is whole JSON, record by record.
fn check(payload: &Payload) {
    assert!(payload.records() > 0 || &payload.body[..] == b"[]", "no record in a payload");
    let whole: Vec<&serde_json::value::RawValue> = serde_json::from_slice(&payload.body)
        .unwrap_or_else(|error| panic!("a body that is not an array was accepted: {error}"));
    assert_eq!(whole.len(), payload.records());
    assert_eq!(payload.rows().count(), payload.records());
}

fn good_file() -> Vec<u8> {
    let body =
        bytes::Bytes::from_static(br#"[{"name":"device-0","v":1},{"name":"device-1","v":2}]"#);
    let key = crate::batch::BatchKey::of_foreign_body(&body);
    let payload = Payload::from_array(body.clone(), key, 0..2, std::sync::Arc::from("run"));
    let attempts = Attempts { tried: 1, last_answer: "503".to_owned(), first_at: 1_763_000_000 };
    let framed = payload.map(|payload| gzip::frame(Metadata::of(&payload, &attempts), &body));
    match framed {
        Ok(Ok(file)) => file,
        other => panic!("{other:?}"),
    }
}
