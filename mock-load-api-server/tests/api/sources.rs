//! The appliances and the sample sources, over HTTP.

use std::time::{Duration, Instant};

use crate::client::Client;
use crate::with_faults;
use hyper::Method;
use hyper::body::Bytes;
use mock_load_api_server::{Config, Faults, start};

#[tokio::test]
async fn an_appliance_shows_percentages_as_strings() {
    let server = start(Config::default()).await.unwrap();
    let client = Client::of(&server);
    let reply = client.get("/appliances/192.168.1.7/cpu").await.unwrap().json();
    assert_eq!(reply["cpu_number"], "0");
    let percent = |key: &str| reply[key].as_str().unwrap().parse::<f64>().unwrap();
    let sum: f64 = ["pidle", "puser", "psys", "pirq", "pnice"].map(percent).iter().sum();
    assert!((sum - 100.0).abs() < 1e-9, "{sum}");
    assert!(reply["timestamp"].as_u64().unwrap() > 1_700_000_000);
    let again = client.get("/appliances/192.168.1.7/cpu").await.unwrap().json();
    assert_eq!(again["pidle"], reply["pidle"]);
    assert_eq!(client.get("/appliances/192.168.1.777/cpu").await.unwrap().status, 404);

    let metrics = client.get("/appliances/192.168.1.7/metrics").await.unwrap();
    let text = String::from_utf8(metrics.body.to_vec()).unwrap();
    assert_eq!(text.matches("node_cpu_seconds_total{").count(), 32);
    assert!(metrics.header("content-type").starts_with("text/plain; version=0.0.4"));
    assert_eq!(server.stats().requests, 0);
    assert_eq!(server.stats().source_requests, 3);
}

#[tokio::test]
async fn appliances_have_their_own_delay_and_failures() {
    let faults = Faults {
        appliance_delay: "10ms..60ms".parse().unwrap(),
        appliance_fail: 0.3,
        ..Faults::default()
    };
    let server = start(with_faults(faults)).await.unwrap();
    let client = Client::of(&server);
    let mut failed = Vec::new();
    let began = Instant::now();
    for n in 0..20 {
        let path = format!("/appliances/10.0.0.{n}/cpu");
        if client.get(&path).await.unwrap().status == 503 {
            failed.push(path);
        }
    }
    assert!((1..15).contains(&failed.len()), "{failed:?}");
    assert!(began.elapsed() >= Duration::from_millis(200));
    assert_eq!(client.get(&failed[0]).await.unwrap().status, 503);
}

#[tokio::test]
async fn pages_link_to_each_other_and_carry_tags() {
    let server = start(Config::default()).await.unwrap();
    let client = Client::of(&server);
    let reply = client.get("/posts?_page=1&_limit=40").await.unwrap();
    assert_eq!(reply.json().as_array().unwrap().len(), 40);
    assert_eq!(reply.header("x-total-count"), "100");
    let next = format!("<{}/posts?_page=2&_limit=40>; rel=\"next\"", server.url());
    assert!(reply.header("link").contains(&next), "{}", reply.header("link"));

    let headers = [("if-none-match", reply.header("etag"))];
    let again = client.send(Method::GET, "/posts?_page=1&_limit=40", &headers, Bytes::new()).await;
    let again = again.unwrap();
    assert_eq!((again.status, again.body.len()), (304, 0));
    assert_eq!(client.get("/posts?_page=0").await.unwrap().status, 400);
    let users = client.get("/users?results=3").await.unwrap().json();
    assert_eq!(users["results"].as_array().unwrap().len(), 3);
    let coins = client.get("/coins/markets?vs_currency=usd&per_page=5").await.unwrap().json();
    assert_eq!(coins[0]["id"], "bitcoin");
}

#[tokio::test]
async fn the_sources_limit_and_fail_when_asked() {
    let server =
        start(with_faults(Faults { source_rate: Some(2), ..Faults::default() })).await.unwrap();
    let client = Client::of(&server);
    let mut limited = 0;
    for _ in 0..5 {
        let reply = client.get("/posts?_page=1").await.unwrap();
        if reply.status == 429 {
            assert_eq!(reply.header("retry-after"), "1");
            limited += 1;
        }
    }
    assert!(limited >= 1);
    server.set_faults(Faults { source_fail: 1.0, ..Faults::default() }).unwrap();
    assert_eq!(client.get("/users").await.unwrap().status, 503);
    assert_eq!(client.get("/health").await.unwrap().status, 200);
}
