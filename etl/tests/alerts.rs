//! Alerts from outside: a listener that keeps what it is told, pipelines that fail and
//! recover, servers that are started again, receivers that are away.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

#[path = "support/api.rs"]
mod api;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use api::{Api, answer, ok, records};
use mock_load_api_server::Faults;
use serde_json::Value;
use support::serving::Serving;
use support::{Bench, mock};

/// Where messages are sent; the path is a secret, as it is with most services.
const HOOK: &str = "/services/s3cret-path";

/// An API that fails while `broken` is not 0.
fn source(broken: &Arc<AtomicUsize>) -> Api {
    let broken = broken.clone();
    Api::start(move |_| match broken.load(SeqCst) {
        0 => ok(records(0..3)),
        _ => answer("404 Not Found", ""),
    })
}

/// What was told.
fn told(hook: &Api) -> Vec<Value> {
    let messages = hook.seen().into_iter().filter(|request| request.method == "POST");
    let messages = messages.map(|request| {
        assert_eq!(request.path, HOOK);
        assert_eq!(request.header("content-type"), "application/json");
        serde_json::from_str(&request.body).unwrap()
    });
    messages.collect()
}

/// A pipeline from the API into files, told about at `hook`.
fn pipeline(bench: &Bench, name: &str, api: &Api, hook: &str, alerts: &str) {
    let text = format!(
        "name: {name}\nschedule: '@every 1s'\nsource:\n  rest:\n    url: {}\n    \
         conditional: false\n    retry: {{ attempts: 1 }}\nload:\n  - file: {{}}\n\
         alerts: {{ webhook: {{ url: \"{hook}\" }}, {alerts} }}\n",
        api.url("/")
    );
    bench.write(&format!("pipelines/{name}.yaml"), text);
}

/// The secret is in no message to people, no log and no file of the state.
fn no_secret_is_left(bench: &Bench, said: &str) {
    assert!(!said.contains("s3cret"), "{said}");
    let mut files = vec![bench.path("logs/etl.log")];
    files.extend(support::files::files_below(&bench.path("data")));
    for file in files {
        let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
        assert!(!text.contains("s3cret"), "{}: {text}", file.display());
    }
}

fn count(serving: &Serving, metric: &str) -> f64 {
    serving.metric(&format!("{metric}{{channel=\"webhook\"}}")).unwrap()
}

#[test]
fn many_problems_are_told_once_together_over_restarts_and_so_is_their_end() {
    let (bench, hook) = (Bench::new(), Api::start(|_| ok("ok")));
    let broken = Arc::new(AtomicUsize::new(1));
    let api = source(&broken);
    let names = ["coins", "posts", "users"];
    for name in names {
        pipeline(&bench, name, &api, &hook.url(HOOK), "group: 4s");
    }
    let serving = Serving::start(&bench, "pipelines", &[]);
    serving.until("somebody is told", |_| !told(&hook).is_empty());
    let first = told(&hook).remove(0);
    assert_eq!((&first["status"], &first["problems"]), (&"problem".into(), &3.into()), "{first}");
    for (alert, name) in first["alerts"].as_array().unwrap().iter().zip(names) {
        assert_eq!((&alert["pipeline"], &alert["alert"]), (&name.into(), &"run".into()));
        assert_eq!(alert["status"], "new");
        assert!(alert["text"].as_str().unwrap().contains("answered 404"), "{alert}");
    }
    let text = first["text"].as_str().unwrap();
    assert!(text.starts_with("etl on ") && text.contains("NEW       coins: run "), "{text}");
    serving.until("it is counted", |it| count(it, "etl_alert_messages_total") == 1.0);
    assert_eq!(serving.metric("etl_alert_problems{pipeline=\"coins\"}"), Some(1.0));

    // They go on failing, under another process too.
    serving.until("more runs fail", |it| names.iter().all(|name| it.runs(name) >= 3));
    let (code, said) = serving.stop();
    assert_eq!(code, Some(0), "{said}");
    no_secret_is_left(&bench, &said);
    let serving = Serving::start(&bench, "pipelines", &[]);
    serving.until("more runs fail", |it| names.iter().all(|name| it.runs(name) >= 3));
    assert_eq!(told(&hook).len(), 1, "{:?}", told(&hook));

    broken.store(0, SeqCst);
    serving.until("the end is told", |_| told(&hook).len() >= 2);
    let last = told(&hook).remove(1);
    assert_eq!((&last["status"], &last["resolved"]), (&"resolved".into(), &3.into()), "{last}");
    assert!(last["alerts"][2]["resolved_at"].is_string(), "{last}");
    serving.until("nobody has a problem", |it| {
        it.metric("etl_alert_problems{pipeline=\"users\"}") == Some(0.0)
    });
    let (code, said) = serving.stop();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(told(&hook).len(), 2);
}

#[test]
fn a_problem_that_stays_is_told_again() {
    let (bench, hook) = (Bench::new(), Api::start(|_| ok("ok")));
    let api = source(&Arc::new(AtomicUsize::new(1)));
    pipeline(&bench, "p", &api, &hook.url(HOOK), "group: 0s, repeat: 3s");
    let serving = Serving::start(&bench, "pipelines", &[]);
    serving.until("it is told three times", |_| told(&hook).len() >= 3);
    assert_eq!(serving.stop().0, Some(0));
    let status: Vec<String> = told(&hook)
        .iter()
        .map(|message| message["alerts"][0]["status"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(status[..3], ["new", "still", "still"]);
}

#[test]
fn a_receiver_that_is_away_holds_nothing_up_and_is_told_later() {
    let (bench, away) = (Bench::new(), Arc::new(AtomicUsize::new(1)));
    let is_away = away.clone();
    let hook = Api::start(move |request| match is_away.load(SeqCst) {
        0 => ok("ok"),
        // An answer that repeats the secret.
        _ => answer("503 Service Unavailable", format!("no {}", request.path)),
    });
    let broken = Arc::new(AtomicUsize::new(1));
    let api = source(&broken);
    pipeline(&bench, "p", &api, &hook.url(HOOK), "group: 0s");
    let serving = Serving::start(&bench, "pipelines", &[]);
    serving.until("attempts fail", |it| count(it, "etl_alert_failures_total") >= 2.0);
    let runs = serving.runs("p");
    serving.until("runs go on", |it| it.runs("p") >= runs + 2);
    assert_eq!(count(&serving, "etl_alert_messages_total"), 0.0);
    away.store(0, SeqCst);
    serving.until("it is told", |it| count(it, "etl_alert_messages_total") == 1.0);
    let (code, said) = serving.stop();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(told(&hook).pop().unwrap()["alerts"][0]["status"], "new");
    let log = std::fs::read_to_string(bench.path("logs/etl.log")).unwrap();
    assert!(log.contains("an alert could not be sent, trying again"), "{log}");
    assert!(log.contains("answered 503 Service Unavailable: no ***"), "{log}");
    no_secret_is_left(&bench, &said);
}

/// What a timer starts tells by itself, and remembers it for the next.
#[test]
fn a_single_run_tells_of_its_failure_once_and_the_next_good_one_of_its_end() {
    let (bench, away) = (Bench::new(), Arc::new(AtomicUsize::new(1)));
    let is_away = away.clone();
    let hook = Api::start(move |_| match is_away.load(SeqCst) {
        0 => ok("ok"),
        _ => answer("500 Internal Server Error", ""),
    });
    let broken = Arc::new(AtomicUsize::new(1));
    let api = source(&broken);
    pipeline(&bench, "p", &api, &hook.url(HOOK), "group: 1h");
    let run = |code| bench.etl(&["run", "pipelines/p.yaml", "--json"]).exits(code);
    // Nobody hears it: three attempts, and the run is what it was.
    let ran = run(69);
    assert_eq!((ran.json()["complete"] == false, told(&hook).len()), (true, 3));
    assert!(ran.stderr.contains("the next run tries it again"), "{}", ran.stderr);
    away.store(0, SeqCst);
    run(69);
    assert_eq!(told(&hook).len(), 4);
    assert_eq!(told(&hook)[3]["alerts"][0]["status"], "new");
    run(69);
    assert_eq!(told(&hook).len(), 4, "it is known");
    broken.store(0, SeqCst);
    run(0);
    let last = told(&hook).pop().unwrap();
    assert_eq!((told(&hook).len(), &last["status"]), (5, &"resolved".into()), "{last}");
    run(0);
    assert_eq!(told(&hook).len(), 5);

    // One that cannot even begin.
    std::fs::rename(bench.path("data/p/spool"), bench.path("data/p/away")).unwrap();
    bench.write("data/p/spool", "no directory");
    let ran = bench.etl(&["run", "pipelines/p.yaml"]);
    assert!(matches!(ran.code, Some(69 | 78)), "{:?} {}", ran.code, ran.stderr);
    let last = told(&hook).pop().unwrap();
    let text = last["alerts"][0]["text"].as_str().unwrap();
    assert!(text.starts_with("a run could not begin: "), "{last}");
    no_secret_is_left(&bench, &ran.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_and_what_waits_too_long_are_told_until_they_are_gone() {
    let (bench, hook) = (Bench::new(), Api::start(|_| ok("ok")));
    let server = mock(Faults::default()).await;
    bench.rows(
        "n\n1\nx\n",
        &server.url(),
        &format!(
            "transform: [{{ cast: {{ n: integer }} }}]\nalerts: {{ spool_age: 1s, webhook: {{ url: \"{}\" }} }}\n",
            hook.url(HOOK)
        ),
        "max_rejected: 100%",
    );
    bench.run(&[]).exits(65);
    let first = told(&hook).pop().unwrap();
    assert_eq!(first["alerts"][0]["alert"], "dead_letters", "{first}");
    assert_eq!(first["alerts"][0]["text"], "1 record rejected before any sink");
    bench.etl(&["spool", "discard", "p", "--dead", "--yes"]).exits(0);
    bench.run(&[]).exits(0);
    assert_eq!((told(&hook).len(), &told(&hook)[1]["status"]), (2, &"resolved".into()));

    server.set_faults(Faults { fail: [(503, 1.0)].into(), ..Faults::default() }).unwrap();
    bench.write("rows.csv", "n\n7\n8\n");
    bench.run(&[]).exits(75);
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    bench.run(&[]).exits(75);
    let waits = told(&hook).pop().unwrap();
    assert_eq!(waits["alerts"][0]["alert"], "spool_age", "{waits}");
    assert_eq!(waits["alerts"][0]["sink"], "http");
    let before = told(&hook).len();
    server.set_faults(Faults::default()).unwrap();
    bench.etl(&["spool", "replay", "p.yaml"]).exits(0);
    assert_eq!(told(&hook).len(), before + 1);
    assert_eq!(told(&hook)[before]["alerts"][0]["status"], "resolved");
}

#[test]
fn runs_that_nobody_was_there_to_begin_are_told() {
    let (bench, hook) = (Bench::new(), Api::start(|_| ok("ok")));
    let api = source(&Arc::new(AtomicUsize::new(0)));
    pipeline(&bench, "p", &api, &hook.url(HOOK), "group: 0s");
    let serving = Serving::start(&bench, "pipelines", &[]);
    serving.until("a run is over", |it| it.runs("p") >= 1);
    assert_eq!(serving.stop().0, Some(0));
    assert!(told(&hook).is_empty(), "{:?}", told(&hook));
    std::thread::sleep(std::time::Duration::from_millis(3500));
    let serving = Serving::start(&bench, "pipelines", &[]);
    serving.until("it is told, and that it is over", |_| {
        told(&hook).iter().any(|message| message["resolved"] == 1)
    });
    assert_eq!(serving.stop().0, Some(0));
    let first = told(&hook).remove(0);
    assert_eq!(first["alerts"][0]["alert"], "missed", "{first}");
    let text = first["alerts"][0]["text"].as_str().unwrap();
    assert!(text.ends_with(" due and not begun"), "{first}");
}

#[test]
fn doctor_asks_the_receiver_and_sends_a_test_when_told_to() {
    let (bench, hook) = (Bench::new(), Api::start(|_| ok("ok")));
    let api = source(&Arc::new(AtomicUsize::new(0)));
    pipeline(&bench, "p", &api, &hook.url(HOOK), "group: 0s");
    let doctor = |more: &[&str]| bench.etl(&[&["doctor", "pipelines/p.yaml"], more].concat());
    let ran = doctor(&[]).exits(0);
    assert!(ran.stdout.contains("ok    webhook      http://127.0.0.1"), "{}", ran.stdout);
    assert!(!ran.stdout.contains("s3cret"), "{}", ran.stdout);
    assert!(told(&hook).is_empty());
    let ran = doctor(&["--alert"]).exits(0);
    assert!(ran.stdout.contains("a test message was taken"), "{}", ran.stdout);
    assert!(told(&hook)[0]["text"].as_str().unwrap().contains("this is a test of alerts"));
    let nowhere = "http://127.0.0.1:1/services/s3cret-path";
    pipeline(&bench, "p", &api, nowhere, "group: 0s");
    let ran = doctor(&[]).exits(69);
    assert!(ran.stdout.contains("connection refused"), "{}", ran.stdout);
    assert!(!ran.stdout.contains("s3cret"), "{}", ran.stdout);
    pipeline(&bench, "p", &api, "${ALERT_WEBHOOK:-}", "group: 0s");
    let ran = doctor(&["--alert"]).exits(0);
    assert!(ran.stdout.contains("nobody is told"), "{}", ran.stdout);
}
