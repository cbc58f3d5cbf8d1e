//! The sink must not let speed hide loss, so it is tested like any ledger.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::{ArrayCount, Counts, Sink};

fn records(pieces: &[&str]) -> Option<u64> {
    let mut count = ArrayCount::default();
    for piece in pieces {
        count.add(piece.as_bytes());
    }
    count.records(1)
}

#[test]
fn records_are_counted_wherever_the_pieces_are_cut() {
    assert_eq!(records(&[r#"[{"a":1},{"a":2}]"#]), Some(2));
    assert_eq!(records(&["[", r#"{"a":1}"#, "", r#",{"a":2"#, "}]"]), Some(2));
    assert_eq!(records(&["[]"]), Some(0));
}

#[test]
fn what_is_not_a_whole_array_counts_for_nothing() {
    for piece in ["", r#"{"a":1}"#, r#"[{"a":1}"#, r#"[{"a":1]"#] {
        assert_eq!(records(&[piece]), None, "{piece}");
    }
}

#[test]
fn nested_objects_belong_to_their_record() {
    let mut count = ArrayCount::default();
    count.add(br#"[{"a":{}},{"a":{}}]"#);
    assert_eq!(count.records(2), Some(2));
    assert_eq!(count.records(3), None);
}

/// Sends one request and gives the status line.
fn post(sink: &Sink, key: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(sink.address).unwrap();
    write!(
        stream,
        "POST /load HTTP/1.1\r\nHost: sink\r\nConnection: close\r\n{key}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().next().unwrap_or("").to_owned()
}

#[test]
fn repeated_keys_are_counted_once_and_missing_keys_every_time() {
    let sink = Sink::start(1).unwrap();
    let batch = r#"[{"a":1},{"a":2}]"#;
    for _ in 0..3 {
        assert_eq!(post(&sink, "Idempotency-Key: k1\r\n", batch), "HTTP/1.1 200 OK");
    }
    for _ in 0..2 {
        assert_eq!(post(&sink, "", batch), "HTTP/1.1 200 OK");
    }
    assert_eq!(post(&sink, "", "oops"), "HTTP/1.1 400 Bad Request");

    let bytes = 5 * batch.len() as u64 + 4;
    let expected = Counts { requests: 6, bytes, records: 6, repeated: 2, malformed: 1 };
    assert_eq!(sink.take(), expected);
    assert_eq!(sink.take(), Counts::default());
}
