//! Faults as a client sees them, and what the ledger says of the same requests.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::with_faults;
use mock_load_api_server::{Config, Faults, SettingsError, StartError, start};
use serde_json::json;

const ONE: &str = r#"[{"name":"a","value":1}]"#;

#[tokio::test]
async fn the_same_seed_fails_the_same_keys_in_any_order() {
    let faults = Faults { fail: [(503, 0.3)].into(), ..Faults::default() };
    let mut outcomes = Vec::new();
    for reversed in [false, true] {
        let server = start(with_faults(faults.clone())).await.unwrap();
        let client = Client::of(&server);
        let mut statuses = BTreeMap::new();
        let mut order: Vec<u32> = (0..100).collect();
        if reversed {
            order.reverse();
        }
        for n in order {
            let reply = client.load(&format!("key-{n}"), ONE).await.unwrap();
            statuses.insert(n, reply.status);
        }
        let failed = statuses.values().filter(|status| **status == 503).count() as u64;
        assert!((15..45).contains(&failed), "{failed}");
        assert_eq!(server.stats().by_status[&503], failed);
        assert_eq!(server.stats().batches, 100 - failed);
        outcomes.push(statuses);
    }
    assert_eq!(outcomes[0], outcomes[1]);
}

#[tokio::test]
async fn failures_carry_retry_after_and_redirects_a_location() {
    let faults = Faults {
        fail: [(503, 1.0)].into(),
        retry_after: Some(Duration::from_millis(1500)),
        ..Faults::default()
    };
    let server = start(with_faults(faults.clone())).await.unwrap();
    let client = Client::of(&server);
    let reply = client.load("k1", ONE).await.unwrap();
    assert_eq!((reply.status, reply.header("retry-after")), (503, "2"));
    server.set_faults(Faults { retry_after_date: true, ..faults.clone() }).unwrap();
    let reply = client.load("k1", ONE).await.unwrap();
    assert!(httpdate::parse_http_date(reply.header("retry-after")).is_ok());
    server.set_faults(Faults { fail: [(302, 1.0)].into(), ..faults }).unwrap();
    let reply = client.load("k1", ONE).await.unwrap();
    assert_eq!((reply.status, reply.header("location")), (302, "/health"));
    assert_eq!(server.stats().records, 0);
}

#[tokio::test]
async fn a_reset_stores_nothing_and_a_lost_reply_stores() {
    let server = start(with_faults(Faults { reset: 1.0, ..Faults::default() })).await.unwrap();
    for (http2, key) in [(false, "k1"), (true, "k2")] {
        let client = Client::with_protocol(&server, http2);
        client.load(key, ONE).await.unwrap_err();
    }
    assert_eq!((server.stats().requests, server.stats().batches), (2, 0));

    server.set_faults(Faults { lose_reply: 1.0, ..Faults::default() }).unwrap();
    let client = Client::of(&server);
    let error = client.load("k1", ONE).await.unwrap_err();
    assert!(error.contains("ConnectionReset"), "{error}");
    assert_eq!(server.stats().batches, 1);

    server.set_faults(Faults::default()).unwrap();
    assert_eq!(client.load("k1", ONE).await.unwrap().status, 200);
    let stats = server.stats();
    assert_eq!((stats.batches, stats.duplicate_batches, stats.records), (1, 1, 1));
    assert_eq!(stats.by_status, [(200, 1)].into());
}

#[tokio::test]
async fn a_truncated_reply_is_an_error_and_a_lie_is_no_success() {
    let server = start(with_faults(Faults { truncate: 1.0, ..Faults::default() })).await.unwrap();
    let client = Client::of(&server);
    let error = client.load("k1", ONE).await.unwrap_err();
    assert!(error.starts_with("body: "), "{error}");
    assert_eq!(server.stats().batches, 1);

    server.set_faults(Faults { lie: 1.0, ..Faults::default() }).unwrap();
    let reply = client.load("k2", ONE).await.unwrap();
    assert_eq!((reply.status, reply.json()), (200, json!({ "errors": true })));
    assert_eq!(server.stats().batches, 1);
}

#[tokio::test]
async fn a_client_that_gives_up_finds_its_batch_stored() {
    let delay = Duration::from_secs(3);
    let server = start(with_faults(Faults { delay, ..Faults::default() })).await.unwrap();
    let client = Client::of(&server);
    let patience = Duration::from_millis(400);
    assert!(tokio::time::timeout(patience, client.load("k1", ONE)).await.is_err());
    assert_eq!(server.stats().batches, 1);
    server.set_faults(Faults { hang: 1.0, ..Faults::default() }).unwrap();
    assert!(tokio::time::timeout(patience, client.load("k2", ONE)).await.is_err());
    assert_eq!((server.stats().batches, server.stats().by_status.len()), (1, 0));
}

#[tokio::test]
async fn settings_change_while_it_runs() {
    let server = start(Config::default()).await.unwrap();
    let client = Client::of(&server);
    let reply = client.post("/faults", r#"{"fail": {"503": 1}, "delay": "10ms"}"#).await.unwrap();
    assert_eq!((reply.status, &reply.json()["delay"]), (200, &json!("10ms")));
    assert_eq!(client.load("k1", ONE).await.unwrap().status, 503);
    let reply = client.post("/faults", r#"{"fail": {}}"#).await.unwrap();
    assert_eq!((&reply.json()["delay"], &reply.json()["seed"]), (&json!("10ms"), &json!(42)));
    assert_eq!(client.load("k1", ONE).await.unwrap().status, 200);
    assert_eq!(server.faults().delay, Duration::from_millis(10));

    let reply = client.post("/faults", r#"{"resett": 0.1}"#).await.unwrap();
    assert_eq!(reply.status, 422);
    assert!(reply.json()["error"].as_str().unwrap().contains("`resett`"), "{reply:?}");
    assert_eq!(client.post("/faults", r#"{"reset": 0.9, "hang": 0.2}"#).await.unwrap().status, 422);
    assert_eq!(server.faults().reset, 0.0);
}

#[tokio::test]
async fn while_down_only_the_control_paths_answer() {
    let server = start(Config::default()).await.unwrap();
    let client = Client::of(&server);
    let control = Client::of(&server);
    assert_eq!(control.post("/faults", r#"{"down": true}"#).await.unwrap().status, 200);
    assert!(client.load("k1", ONE).await.is_err());
    assert!(client.get("/health").await.is_err());
    assert_eq!(control.get("/stats").await.unwrap().json()["requests"], 0);
    assert_eq!(control.post("/faults", r#"{"down": false}"#).await.unwrap().status, 200);
    assert_eq!(client.get("/health").await.unwrap().status, 200);
    assert_eq!(client.load("k1", ONE).await.unwrap().status, 200);
}

#[tokio::test]
async fn an_outage_begins_and_ends_by_itself_and_cuts_off_what_is_open() {
    let faults = Faults {
        delay: Duration::from_secs(3),
        outage: vec!["300ms..1200ms".parse().unwrap()],
        ..Faults::default()
    };
    let server = start(with_faults(faults)).await.unwrap();
    let client = Client::of(&server);
    let began = Instant::now();
    client.load("k1", ONE).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_millis(1150), "{:?}", began.elapsed());
    assert!(client.get("/health").await.is_err());
    while client.get("/health").await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(4));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(began.elapsed() >= Duration::from_millis(1180), "{:?}", began.elapsed());
    assert_eq!(server.stats().batches, 1);
}

#[tokio::test]
async fn wrong_settings_and_a_taken_port_stop_the_start() {
    let faults = Faults { reset: 0.6, hang: 0.6, ..Faults::default() };
    let refused = start(with_faults(faults)).await.unwrap_err();
    assert!(matches!(refused, StartError::Settings(SettingsError::RatesAboveOne { .. })));
    let server = start(Config::default()).await.unwrap();
    let taken = Config { listen: server.addr(), ..Config::default() };
    let refused = start(taken.clone()).await.unwrap_err();
    assert!(matches!(refused, StartError::InUse { .. }), "{refused:?}");
    server.shutdown().await;
    assert_eq!(start(taken.clone()).await.unwrap().addr(), taken.listen);
}

#[tokio::test]
async fn dropping_the_server_stops_it() {
    let server = start(Config::default()).await.unwrap();
    let client = Client::of(&server);
    assert_eq!(client.get("/health").await.unwrap().status, 200);
    drop(server);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(client.get("/health").await.is_err());
}
