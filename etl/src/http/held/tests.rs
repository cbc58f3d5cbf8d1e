//! Held connections against servers that misbehave.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use super::{HeldClient, SendError};
use crate::config::{HttpVersion, Tls};
use crate::http::testing::{Act, Server};
use crate::http::{ClientOptions, SendErrorKind};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");

fn client(url: &str, version: HttpVersion) -> Option<HeldClient> {
    let options = ClientOptions {
        connect_timeout: Duration::from_millis(300),
        version,
        tls: Tls::default(),
        idle_per_host: 2,
    };
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("text/x"))]);
    HeldClient::new(&options, &url.parse().unwrap(), &headers).unwrap()
}

async fn post(client: &HeldClient) -> Result<(u16, Result<String, String>), SendError> {
    let (head, body) =
        client.post(&Bytes::new(), (KEY, HeaderValue::from_static("k1")), 10).await?;
    let body = body.map(|body| String::from_utf8(body.to_vec()).unwrap());
    Ok((head.status.as_u16(), body.map_err(|error| error.to_string())))
}

#[tokio::test]
async fn one_connection_serves_request_after_request_with_all_their_headers() {
    let server = Server::start(|_, head| {
        let head = head.to_lowercase();
        let wanted = ["post /load?a=1 http/1.1", "host: 127.0.0.1:", "idempotency-key: k1"];
        let all = wanted.iter().all(|it| head.contains(it)) && head.contains("text/x");
        Act::ok(if all { "0123456789" } else { "no" })
    })
    .await;
    let client = client(&server.url("/load?a=1"), HttpVersion::Auto).unwrap();
    for _ in 0..20 {
        assert_eq!(post(&client).await.unwrap(), (200, Ok("0123456789".to_owned())));
    }
    assert_eq!((server.seen(), server.connections.load(SeqCst)), (20, 1));
}

/// A connection that the server has closed is not taken for a failure: the batch goes by
/// another one, and the server sees it once.
#[tokio::test]
async fn a_connection_closed_meanwhile_is_replaced_without_a_failure() {
    let server = Server::start(|number, _| {
        let Act::Answer(answer) = Act::ok("yes") else { unreachable!() };
        if number < 3 { Act::AnswerAndClose(answer) } else { Act::Answer(answer) }
    })
    .await;
    let client = client(&server.url("/"), HttpVersion::Auto).unwrap();
    for number in 1..=5 {
        assert_eq!(post(&client).await.unwrap(), (200, Ok("yes".to_owned())));
        // The end of the connection arrives.
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(server.seen(), number);
    }
    assert_eq!(server.connections.load(SeqCst), 4);
}

#[tokio::test]
async fn a_connection_whose_answer_broke_off_or_came_late_is_not_used_again() {
    let server = Server::start(|number, _| match number {
        0 => Act::AnswerAndClose(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf".to_vec()),
        1 => Act::ok("01234567890"),
        2 => Act::Hang,
        3 => Act::AnswerAndClose(b"SSH-2.0-x\r\n\r\n".to_vec()),
        4 => Act::AnswerAndClose(Vec::new()),
        5 => Act::Answer(
            b"HTTP/1.1 503 Busy\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".to_vec(),
        ),
        _ => Act::ok("yes"),
    })
    .await;
    let client = client(&server.url("/"), HttpVersion::Http1).unwrap();
    let broken = post(&client).await.unwrap();
    assert_eq!(broken, (200, Err("answer cut short".to_owned())));
    let long = post(&client).await.unwrap();
    assert_eq!(long, (200, Err("body larger than 10 B".to_owned())));
    let late = tokio::time::timeout(Duration::from_millis(50), post(&client)).await;
    assert!(late.is_err());
    let babble = post(&client).await.unwrap_err();
    assert_eq!((babble.kind(), babble.is_connect()), (&SendErrorKind::NotHttp, false));
    let closed = post(&client).await.unwrap_err();
    assert_eq!((closed.kind(), closed.is_connect()), (&SendErrorKind::Closed, false));
    assert_eq!(post(&client).await.unwrap().0, 503);
    assert_eq!(post(&client).await.unwrap(), (200, Ok("yes".to_owned())));
    // What was too long had come as a whole: that connection was used again.
    assert_eq!(server.connections.load(SeqCst), 6);
}

#[tokio::test]
async fn requests_at_once_have_a_connection_each_and_not_more_are_kept_than_allowed() {
    let Act::Answer(answer) = Act::ok("yes") else { unreachable!() };
    let server =
        Server::start(move |_, _| Act::Late(Duration::from_millis(30), answer.clone())).await;
    let client = std::sync::Arc::new(client(&server.url("/"), HttpVersion::Auto).unwrap());
    for opened in [4, 6] {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let client = client.clone();
            tasks.spawn(async move { post(&client).await.unwrap() });
        }
        assert_eq!(tasks.join_all().await, vec![(200, Ok("yes".to_owned())); 4]);
        assert_eq!(server.connections.load(SeqCst), opened);
    }
}

#[tokio::test]
async fn a_place_where_nobody_listens_is_told_and_other_protocols_are_left_to_the_pool() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let error = post(&client(&url, HttpVersion::Auto).unwrap()).await.unwrap_err();
    assert_eq!((error.kind(), error.is_connect()), (&SendErrorKind::Refused, true));
    assert!(client(&url, HttpVersion::Http2).is_none());
    assert!(client("https://127.0.0.1/", HttpVersion::Auto).is_none());
}
