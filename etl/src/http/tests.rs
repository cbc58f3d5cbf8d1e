//! The client against servers that misbehave, over TCP and TLS.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;

use super::testing::{Act, Authority, Server};
use super::{BodyError, ClientOptions, HttpClient, SendError, SendErrorKind, read_body};
use crate::config::{HttpVersion, Tls};

fn client(ca: Option<PathBuf>) -> HttpClient {
    HttpClient::new(&ClientOptions {
        connect_timeout: Duration::from_millis(300),
        version: HttpVersion::Auto,
        tls: Tls { ca },
        idle_per_host: 4,
    })
    .unwrap()
}

fn get(url: &str) -> Request<Full<Bytes>> {
    Request::get(url).body(Full::default()).unwrap()
}

async fn fetch(client: &HttpClient, url: &str, cap: usize) -> Result<Bytes, BodyError> {
    let answer = client.send(get(url)).await.unwrap();
    assert_eq!(answer.status(), 200);
    read_body(answer.into_body(), cap).await
}

#[tokio::test]
async fn a_connection_is_reused_and_bodies_are_capped() {
    let server = Server::start(|_, _| Act::ok("0123456789")).await;
    let client = client(None);
    for _ in 0..3 {
        assert_eq!(&fetch(&client, &server.url("/"), 10).await.unwrap()[..], b"0123456789");
    }
    assert_eq!(server.connections.load(std::sync::atomic::Ordering::SeqCst), 1);
    let error = fetch(&client, &server.url("/"), 9).await.unwrap_err();
    assert_eq!(error.to_string(), "body larger than 9 B");
}

#[tokio::test]
async fn a_body_without_an_end_is_cut_off_at_the_cap() {
    let server = Server::start(|_, _| {
        let mut answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        for _ in 0..200 {
            answer.extend_from_slice(b"400\r\n");
            answer.extend_from_slice(&[b'x'; 1024]);
            answer.extend_from_slice(b"\r\n");
        }
        Act::Answer(answer)
    })
    .await;
    let error = fetch(&client(None), &server.url("/"), 64 << 10).await.unwrap_err();
    assert_eq!(error.to_string(), "body larger than 64 KiB");
}

#[tokio::test]
async fn a_truncated_body_is_an_error_and_not_a_short_answer() {
    let server = Server::start(|number, _| {
        Act::AnswerAndClose(match number {
            0 => b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf".to_vec(),
            _ => b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n".to_vec(),
        })
    })
    .await;
    for _ in 0..2 {
        let error = fetch(&client(None), &server.url("/"), 1000).await.unwrap_err();
        assert_eq!(error.to_string(), "answer cut short");
    }
}

async fn failure(client: &HttpClient, url: &str) -> SendError {
    client.send(get(url)).await.unwrap_err()
}

#[tokio::test]
async fn failures_are_told_apart_in_a_few_words() {
    let client = client(None);
    let refused = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}/", listener.local_addr().unwrap())
    };
    let error = failure(&client, &refused).await;
    assert_eq!((error.kind(), error.is_connect()), (&SendErrorKind::Refused, true));
    assert_eq!(error.to_string(), "connection refused");
    assert!(std::error::Error::source(&error).is_some());

    let closes = Server::start(|_, _| Act::AnswerAndClose(Vec::new())).await;
    let error = failure(&client, &closes.url("/")).await;
    assert_eq!((error.kind(), error.is_connect()), (&SendErrorKind::Closed, false));

    let babbles = Server::start(|_, _| Act::AnswerAndClose(b"SSH-2.0-x\r\n\r\n".to_vec())).await;
    assert_eq!(failure(&client, &babbles.url("/")).await.kind(), &SendErrorKind::NotHttp);

    let text = failure(&client, "ftp://127.0.0.1/").await.to_string();
    assert!(!text.is_empty());
    // `.invalid` never exists (RFC 6761); a sandbox may have no name server at all.
    let error = failure(&client, "http://nowhere.invalid/").await;
    assert!(
        matches!(
            error.kind(),
            SendErrorKind::Dns | SendErrorKind::DnsUnavailable | SendErrorKind::ConnectTimeout
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_connection_that_never_opens_ends_with_the_connect_timeout() {
    // A TLS server that accepts and says nothing: TCP connects, the handshake hangs.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, Authority::new("ours").pem()).unwrap();
    let started = Instant::now();
    let error = failure(&client(Some(ca)), &url).await;
    assert_eq!(error.kind(), &SendErrorKind::ConnectTimeout);
    assert!(error.is_connect());
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn tls_trusts_the_given_authority_only_and_says_why_not() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, ours.pem()).unwrap();
    let client = client(Some(ca));

    let https = async |authority: &Authority, name: &str, expired: bool| {
        let server =
            Server::start_with(Some(authority.acceptor(name, expired)), |_, _| Act::ok("yes"))
                .await;
        client.send(get(&format!("https://localhost:{}/", server.address.port()))).await
    };
    assert_eq!(https(&ours, "localhost", false).await.unwrap().status(), 200);
    let text = |error: SendError| {
        assert!(matches!(error.kind(), SendErrorKind::Tls(_)), "{error:?}");
        assert!(error.is_connect());
        error.to_string()
    };
    let error = https(&theirs, "localhost", false).await.unwrap_err();
    assert_eq!(text(error), "certificate not trusted, unknown authority");
    let error = https(&ours, "elsewhere.example", false).await.unwrap_err();
    let shown = text(error);
    assert!(shown.starts_with("certificate is for another name"), "{shown}");
    assert!(shown.contains("elsewhere.example"), "{shown}");
    let error = https(&ours, "localhost", true).await.unwrap_err();
    assert_eq!(text(error), "certificate expired");

    let plain = Server::start(|_, _| Act::ok("plain")).await;
    let url = format!("https://localhost:{}/", plain.address.port());
    let shown = client.send(get(&url)).await.unwrap_err().to_string();
    assert!(shown == "the server does not speak TLS" || shown == "timed out connecting", "{shown}");
}

#[test]
fn an_unusable_authority_file_is_refused_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().join("empty.pem");
    std::fs::write(&empty, "not a certificate").unwrap();
    for path in [empty, directory.path().join("missing.pem")] {
        let options = ClientOptions {
            connect_timeout: Duration::from_secs(1),
            version: HttpVersion::Auto,
            tls: Tls { ca: Some(path.clone()) },
            idle_per_host: 1,
        };
        let text = HttpClient::new(&options).unwrap_err().to_string();
        assert!(text.contains(&path.display().to_string()), "{text}");
        assert!(text.contains("give a PEM file"), "{text}");
    }
}
