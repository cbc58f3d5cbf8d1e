//! `POST /load` as a client sees it, held against what the ledger says arrived.

use std::io::Write;

use crate::client::Client;
use crate::with_faults;
use hyper::Method;
use hyper::body::Bytes;
use mock_load_api_server::{Config, Faults, Token, start};
use serde_json::json;

const TWO: &str = r#"[{"name":"a","value":1},{"name":"b","value":2}]"#;

#[tokio::test]
async fn a_batch_is_stored_once_however_often_it_is_sent() {
    let server = start(Config { keep_records: true, ..Config::default() }).await.unwrap();
    let client = Client::of(&server);
    for _ in 0..3 {
        let reply = client.load("k1", TWO).await.unwrap();
        assert_eq!((reply.status, reply.json()), (200, json!({ "accepted": 2 })));
    }
    let stats = server.stats();
    assert_eq!((stats.requests, stats.batches, stats.records, stats.unique_records), (3, 1, 2, 2));
    assert_eq!((stats.duplicate_batches, stats.conflicting_keys), (2, 0));
    assert_eq!(stats.bytes, TWO.len() as u64);
    assert_eq!(stats.by_status, [(200, 3)].into());
    let rows = server.ledger_rows();
    assert_eq!((rows.len(), rows[0].arrivals, rows[0].key.as_deref()), (1, 3, Some("k1")));
    assert_eq!(rows[0].records[1], r#"{"name":"b","value":2}"#);
    assert_eq!(server.records().len(), 2);
    server.shutdown().await;
}

#[tokio::test]
async fn a_key_with_another_body_is_refused_and_counted() {
    let server = start(Config::default()).await.unwrap();
    let client = Client::of(&server);
    assert_eq!(client.load("k1", TWO).await.unwrap().status, 200);
    let reply = client.load("k1", r#"[{"name":"c"}]"#).await.unwrap();
    assert_eq!(reply.status, 422);
    assert!(reply.json()["error"].as_str().unwrap().contains("Idempotency-Key"));
    let stats = server.stats();
    assert_eq!((stats.batches, stats.records, stats.conflicting_keys), (1, 2, 1));
}

#[tokio::test]
async fn what_is_no_batch_is_refused_with_the_place() {
    let server = start(Config::default()).await.unwrap();
    let client = Client::of(&server);
    for (body, place) in [
        ("", "byte 0"),
        ("{\"a\":1}", "byte 0"),
        ("[{\"a\":NaN}]", "byte 6"),
        ("[{\"a\":1}", "byte 8"),
        ("[{}]", "byte 1"),
        ("NaN", "byte 0"),
    ] {
        let reply = client.load("k1", body).await.unwrap();
        assert_eq!(reply.status, 400, "{body}");
        let error = reply.json()["error"].as_str().unwrap().to_owned();
        assert!(error.ends_with(place), "{body}: {error}");
    }
    // The key is not bound to what was refused; an empty array stores nothing.
    assert_eq!(client.load("k1", "[]").await.unwrap().json(), json!({ "accepted": 0 }));
    assert_eq!(client.load("k1", TWO).await.unwrap().status, 200);
    assert_eq!(server.stats().batches, 1);
}

#[tokio::test]
async fn without_the_token_nothing_is_stored() {
    let token = Some(Token::new("s3cret"));
    let server = start(with_faults(Faults { token, ..Faults::default() })).await.unwrap();
    let client = Client::of(&server);
    let attempt = async |authorization: &str| {
        let headers = [("authorization", authorization)];
        client.send(Method::POST, "/load", &headers, Bytes::from_static(TWO.as_bytes())).await
    };
    for wrong in ["", "Bearer", "Bearer wrong!", "Basic s3cret", "Bearer s3cret2"] {
        let reply = attempt(wrong).await.unwrap();
        assert_eq!((reply.status, reply.header("www-authenticate")), (401, "Bearer"), "{wrong}");
    }
    assert_eq!(server.stats().records, 0);
    assert_eq!(attempt("Bearer s3cret").await.unwrap().status, 200);
    assert_eq!(server.stats().records, 2);
}

#[tokio::test]
async fn compressed_batches_are_the_same_batches() {
    let server = start(Config::default()).await.unwrap();
    let client = Client::of(&server);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(TWO.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(TWO.as_bytes(), 1).unwrap();
    for (encoding, body) in [("gzip", gzip.clone()), ("zstd", zstd), ("identity", TWO.into())] {
        let headers = [("content-encoding", encoding), ("idempotency-key", "k1")];
        let reply = client.send(Method::POST, "/load", &headers, body.into()).await.unwrap();
        assert_eq!(reply.status, 200, "{encoding}: {reply:?}");
    }
    assert_eq!((server.stats().batches, server.stats().duplicate_batches), (1, 2));

    let cut = Bytes::copy_from_slice(&gzip[..gzip.len() - 4]);
    for (encoding, body, status) in [
        ("gzip", cut, 400),
        ("zstd", Bytes::from(gzip), 400),
        ("br", Bytes::from_static(b"x"), 415),
    ] {
        let headers = [("content-encoding", encoding)];
        let reply = client.send(Method::POST, "/load", &headers, body).await.unwrap();
        assert_eq!(reply.status, status, "{encoding}: {reply:?}");
    }
}

#[tokio::test]
async fn bodies_and_bombs_over_the_limit_are_413() {
    let server = start(with_faults(Faults { max_body: 1000, ..Faults::default() })).await.unwrap();
    let client = Client::of(&server);
    let large = format!(r#"[{{"a":"{}"}}]"#, "x".repeat(2000));
    assert_eq!(client.load("k1", &large).await.unwrap().status, 413);
    let bomb = format!(r#"[{{"a":"{}"}}]"#, "x".repeat(100_000));
    let bomb = zstd::encode_all(bomb.as_bytes(), 1).unwrap();
    assert!(bomb.len() < 1000);
    let headers = [("content-encoding", "zstd")];
    let reply = client.send(Method::POST, "/load", &headers, bomb.into()).await.unwrap();
    assert_eq!(reply.status, 413);
    assert_eq!(server.stats().batches, 0);
}

#[tokio::test]
async fn too_many_records_are_413_and_poison_is_named() {
    let faults =
        Faults { max_records: Some(2), poison: Some("\"b\"".to_owned()), ..Faults::default() };
    let server = start(with_faults(faults.clone())).await.unwrap();
    let client = Client::of(&server);
    assert_eq!(client.load("k0", r#"[{"a":1},{"a":2},{"a":3}]"#).await.unwrap().status, 413);
    let reply = client.load("k1", TWO).await.unwrap();
    assert_eq!((reply.status, &reply.json()["index"]), (422, &json!(1)));
    assert_eq!(server.stats().records, 0);

    server.set_faults(Faults { partial: true, ..faults }).unwrap();
    for _ in 0..2 {
        let reply = client.load("k1", TWO).await.unwrap();
        assert_eq!(reply.status, 207);
        assert_eq!(reply.json()["failed"][0]["index"], 1);
        assert_eq!(reply.json()["accepted"], 1);
    }
    assert_eq!((server.stats().records, server.stats().duplicate_batches), (1, 1));
}

#[tokio::test]
async fn http2_is_spoken_without_tls() {
    let server = start(Config::default()).await.unwrap();
    let client = Client::with_protocol(&server, true);
    let large = format!(r#"[{{"a":"{}"}}]"#, "x".repeat(3 << 20));
    assert_eq!(client.load("k1", &large).await.unwrap().status, 200);
    assert_eq!(server.stats().bytes, large.len() as u64);
}

#[tokio::test]
async fn other_methods_and_paths_are_refused() {
    let server = start(Config::default()).await.unwrap();
    let client = Client::of(&server);
    let reply = client.get("/load").await.unwrap();
    assert_eq!((reply.status, reply.header("allow")), (405, "POST"));
    let reply = client.post("/health", "").await.unwrap();
    assert_eq!((reply.status, reply.header("allow")), (405, "GET, HEAD"));
    assert_eq!(client.get("/nowhere").await.unwrap().status, 404);
    assert_eq!(client.get("/health").await.unwrap().json(), json!({ "status": "ok" }));
    let headers = [("content-type", "text/plain")];
    let reply = client.send(Method::POST, "/load", &headers, Bytes::new()).await.unwrap();
    assert_eq!(reply.status, 415);
}
