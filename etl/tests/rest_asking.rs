//! How an API is asked: who asks, with secrets that are left nowhere; tokens that are renewed;
//! each request counted, in turn with the rate; and what `doctor` and `check` know of it.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

#[path = "support/api.rs"]
mod api;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use api::{Api, answer, ok, pipeline, records, run};
use mock_load_api_server::Faults;
use support::serving::Serving;
use support::{Bench, Ran, each_exactly_once, mock};

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_say_who_asks() {
    let api = Api::start(|request| ok(format!(r#"[{{"id":1,"method":"{}"}}]"#, request.method)));
    for (auth, header, value) in [
        ("auth: { bearer: s3cret }", "authorization", "Bearer s3cret"),
        ("auth: { bearer: \"\" }", "authorization", ""),
        ("auth: { basic: { user: me, password: s3cret } }", "authorization", "Basic bWU6czNjcmV0"),
        ("auth: { api_key: { header: X-Key, key: s3cret } }", "x-key", "s3cret"),
        ("headers: { X-Team: s3cret, Accept: text/x }", "accept", "text/x"),
    ] {
        let (ran, _sink, bench) = run(&api, "/who?a=1", auth).await;
        ran.exits(0);
        let asked = api.seen().pop().unwrap();
        assert_eq!(asked.header(header), value, "{auth}");
        no_secret_is_left(&bench);
    }
    let key = "auth: { api_key: { query: key, key: \"s3cret &\" } }\nquery: { b: \"x y\" }";
    let (ran, _sink, bench) = run(&api, "/who?a=1", key).await;
    ran.exits(0);
    let asked = api.seen().pop().unwrap();
    assert_eq!(
        (asked.param("a"), asked.param("b"), asked.param("key")),
        (Some("1"), Some("x%20y"), Some("s3cret%20%26"))
    );
    no_secret_is_left(&bench);

    let (ran, sink, _bench) = run(&api, "/find", "method: POST\nbody: '{\"open\": true}'").await;
    ran.exits(0);
    let asked = api.seen().pop().unwrap();
    assert_eq!((&asked.method[..], &asked.body[..]), ("POST", r#"{"open": true}"#));
    assert_eq!(asked.header("content-type"), "application/json");
    each_exactly_once(&sink, 1);
}

/// Neither state, spool, history nor log hold the secret.
fn no_secret_is_left(bench: &Bench) {
    let mut waiting = vec![bench.path("data"), bench.path("logs")];
    let mut files = 0;
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
                continue;
            }
            files += 1;
            let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
            assert!(!text.contains("s3cret"), "{}: {text}", path.display());
        }
    }
    assert!(files >= 3, "{files}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_a_next_link_is_not_remembered() {
    let api = Api::start(|request| {
        let page = request.number("page");
        if page > 2 {
            return answer("404 Not Found", "");
        }
        let next =
            format!("/list?page={}&key={}", page + 1, request.param("key").unwrap_or("none"));
        ok(format!(r#"{{"items":{},"next":"{next}"}}"#, records(page * 3..page * 3 + 3)))
    });
    let more = "records: /items\npagination: { next: { pointer: /next } }\nauth: { api_key: { query: key, key: s3cret } }";
    let (ran, sink, bench) = run(&api, "/list", more).await;
    ran.exits(69);
    assert!(api.seen().iter().all(|request| request.param("key") == Some("s3cret")));
    each_exactly_once(&sink, 9);
    no_secret_is_left(&bench);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oauth_token_is_kept_and_renewed_once_when_refused() {
    let given = Arc::new(AtomicUsize::new(0));
    let tokens = given.clone();
    let api = Api::start(move |request| {
        if request.path == "/token" {
            let good = request.header("authorization")
                == "Basic bWU6czNjcmV0LWE%3D".replace("%3D", "=").as_str()
                && request.body == "grant_type=client_credentials&scope=read%20all";
            if !good {
                return answer(
                    "401 Unauthorized",
                    r#"{"error":"invalid_client","hint":"s3cret-a"}"#,
                );
            }
            let n = tokens.fetch_add(1, SeqCst) + 1;
            return ok(format!(r#"{{"access_token":"token-{n}","expires_in":3600}}"#));
        }
        let page = request.number("page");
        // The first token is good for two pages.
        let token = request.header("authorization").to_owned();
        match (page, token.as_str()) {
            (1 | 2, "Bearer token-1") | (3.., "Bearer token-2") => {
                ok(records((page.min(6) - 1) * 10..page.min(5) * 10))
            }
            _ => answer("401 Unauthorized", ""),
        }
    });
    let oauth = |secret: &str| {
        format!(
            "pagination: {{ page: {{}} }}\nauth: {{ oauth2: {{ token_url: \"{}\", client_id: me, client_secret: {secret}, scope: read all }} }}",
            api.url("/token")
        )
    };
    let (ran, sink, bench) = run(&api, "/", &oauth("s3cret-a")).await;
    ran.exits(0);
    each_exactly_once(&sink, 50);
    assert_eq!(given.load(SeqCst), 2);
    no_secret_is_left(&bench);

    // The third token is not taken either: refused, after one renewal.
    let before = api.count();
    let (ran, _sink, _bench) = run(&api, "/", &oauth("s3cret-a")).await;
    let ran = ran.exits(69);
    assert!(ran.stderr.contains("answered 401 Unauthorized; the API refuses us"), "{}", ran.stderr);
    assert_eq!((given.load(SeqCst), api.count() - before), (4, 4));

    let (ran, _sink, _bench) = run(&api, "/", &oauth("s3cret-b")).await;
    let ran = ran.exits(69);
    assert!(
        ran.stderr.contains("/token answered 401 Unauthorized (invalid_client)"),
        "{}",
        ran.stderr
    );
    assert!(!ran.stderr.contains("s3cret"), "{}", ran.stderr);
}

/// Requests for tokens, and those whose token was refused, too.
#[tokio::test(flavor = "multi_thread")]
async fn every_request_that_is_sent_is_counted() {
    let given = Arc::new(AtomicUsize::new(0));
    let api = Api::start(move |request| {
        if request.path == "/token" {
            let n = given.fetch_add(1, SeqCst) + 1;
            return ok(format!(r#"{{"access_token":"token-{n}","expires_in":3600}}"#));
        }
        let page = request.number("page");
        match (page, request.header("authorization")) {
            (1 | 2, "Bearer token-1") | (3.., "Bearer token-2") => {
                ok(records((page.min(4) - 1) * 10..page.min(3) * 10))
            }
            _ => answer("401 Unauthorized", ""),
        }
    });
    let (bench, sink) = (Bench::new(), mock(Faults::default()).await);
    let rest = format!(
        "url: {}\npagination: {{ page: {{}} }}\nauth: {{ oauth2: {{ token_url: \"{}\", client_id: me, client_secret: s3cret }} }}",
        api.url("/"),
        api.url("/token")
    );
    pipeline(&bench, &rest, &sink.url(), "");
    let serving = Serving::start(&bench, "p.yaml", &[]);
    serving.until("a run is over", |it| it.runs("p") == 1);
    each_exactly_once(&sink, 30);
    // Four pages, one of them twice, and two tokens.
    assert_eq!(api.count(), 7);
    let metric = |name: &str| serving.metric(&format!("{name}{{pipeline=\"p\"}}"));
    assert_eq!(metric("etl_api_requests_total"), Some(7.0));
    assert_eq!(metric("etl_api_requests_failed_total"), Some(1.0));
    assert_eq!(metric("etl_api_request_duration_seconds_count"), Some(7.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_and_a_retry_after_are_kept() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let api = Api::start(move |request| {
        if request.path == "/later" && count.fetch_add(1, SeqCst) == 0 {
            return answer("429 Too Many Requests\r\nretry-after: 1", "");
        }
        let page = request.number("page");
        ok(records((page.min(9) - 1) * 5..page.min(8) * 5))
    });
    let began = Instant::now();
    let (ran, _sink, _bench) = run(&api, "/", "pagination: { page: {} }\nrate: 10/s").await;
    ran.exits(0);
    // Nine requests, the first at once.
    assert!(began.elapsed() >= Duration::from_millis(700), "{:?}", began.elapsed());
    let began = Instant::now();
    let (ran, _sink, _bench) = run(&api, "/later", "pagination: { page: {} }").await;
    ran.exits(0);
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_and_check_know_an_api() {
    let api = Api::start(|request| match request.header("authorization") {
        "Bearer good" => ok(records(0..10)),
        _ => answer("401 Unauthorized", ""),
    });
    let sink = mock(Faults::default()).await;
    for (token, code, words) in [
        ("good", 0, "ok    source       GET http://127.0.0.1"),
        ("bad", 69, "answered 401 Unauthorized; the API refuses us: check source.rest.auth"),
    ] {
        let bench = Bench::new();
        let rest = format!(
            "url: ${{API_URL:-{}}}\npagination: {{ page: {{}} }}\nauth: {{ bearer: {token} }}",
            api.url("/x")
        );
        pipeline(&bench, &rest, &sink.url(), "");
        let ran = bench.etl(&["doctor", "p.yaml"]).exits(code);
        assert!(ran.stdout.contains(words), "{}", ran.stdout);
        let ran = bench.etl(&["check", "p.yaml"]).exits(0);
        assert!(ran.stdout.contains("p: rest (pages by number) -> http"), "{}", ran.stdout);
        let elsewhere =
            bench.command(&["check", "p.yaml"]).env("API_URL", "nowhere").output().unwrap();
        assert_eq!(Ran::from(elsewhere).code, Some(78));
    }
    assert_eq!(sink.stats().records, 0);
    assert_eq!(api.count(), 2);
}
