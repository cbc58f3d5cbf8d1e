//! `etl serve` from outside: runs when they are due, one at a time, tried again, under
//! files that change, and a stop that loses nothing. The mock's ledger has the last word.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::time::{Duration, Instant};

use mock_load_api_server::Faults;
use rustix::process::Signal;
use serde_json::Value;
use support::serving::{Serving, history};
use support::{Bench, down, each_exactly_once, mock, signal, wait_until};

/// A fleet pipeline of two appliances, `name`d, with more keys at its top.
fn fleet(bench: &Bench, file: &str, name: &str, url: &str, more: &str) {
    fleet_that_takes(bench, file, name, url, more, "0s");
}

fn fleet_that_takes(bench: &Bench, file: &str, name: &str, url: &str, more: &str, delay: &str) {
    bench.write("pipelines/appliances.csv", "ip,hostname\n192.0.2.1,a\n192.0.2.2,b\n");
    bench.write(
        &format!("pipelines/{file}"),
        format!(
            "name: {name}\n{more}\nsource:\n  csv: {{ path: appliances.csv }}\n\
             extract:\n  timeout: 30s\n  simulated: {{ delay: {delay} }}\n\
             transform: [cpu_indicators]\n\
             load:\n  - http: {{ url: \"{url}/load\" }}\n    timeout: 60s\n    \
             retry: {{ attempts: 2, base: 20ms, cap: 100ms }}\n"
        ),
    );
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("{key} of {value}"))
}

fn sum(runs: &[Value], key: &str) -> u64 {
    runs.iter().map(|run| number(run, key)).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelines_run_when_they_are_due_and_a_stop_is_no_failure() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    fleet(&bench, "a.yaml", "often", &server.url(), "schedule: '@every 1s'");
    fleet(&bench, "b.yml", "once", &server.url(), "");
    fleet(&bench, "c.yaml", "later", &server.url(), "schedule: { every: 1h, jitter: 59m }");
    let serving = Serving::start(&bench, "pipelines", &[]);
    serving.until("three runs are over", |it| it.runs("often") >= 3);
    serving.until("the one run is over", |it| it.pipeline("once")["state"] == "ended");
    assert_eq!(serving.pipeline("often")["schedule"], "@every 1s");
    assert_eq!(serving.pipeline("once")["next_run"], Value::Null);
    assert_eq!(serving.runs("once"), 1);
    assert_eq!(serving.runs("later"), 0, "its jitter is minutes for this name");
    let (code, said) = serving.stop();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("stopped, everything safe"), "{said}");
    assert!(said.contains("often  run") && said.contains("COMPLETE"), "{said}");

    let runs = [history(&bench, "often"), history(&bench, "once")].concat();
    assert!(runs.iter().all(|run| run["result"] == "complete" || run["result"] == "stopped"));
    assert_eq!(server.stats().records, sum(&runs, "delivered"));
    // The runs of the server are in `etl runs` too.
    let shown = bench.etl(&["runs", "often", "--json"]).exits(0);
    assert!(shown.json()["runs"].as_array().unwrap().len() >= 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_never_overlaps_itself() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    let (url, slow) = (server.url(), "1700ms");
    let queue = "schedule: { every: 1s, overlap: queue }";
    fleet_that_takes(&bench, "a.yaml", "skips", &url, "schedule: '@every 1s'", slow);
    fleet_that_takes(&bench, "b.yaml", "queues", &url, queue, slow);
    let serving = Serving::start(&bench, "pipelines", &[]);
    serving.until("runs were skipped", |it| number(&it.pipeline("skips"), "skipped_runs") >= 2);
    serving.until("queued runs ran", |it| it.runs("queues") >= 3);
    serving.until("both ran", |it| it.runs("skips") >= 2);
    let skipped = serving.metric("etl_schedule_skipped_runs_total{pipeline=\"skips\"}");
    assert!(skipped >= Some(2.0), "{skipped:?}");
    let (code, said) = serving.stop();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("skips  run skipped: the one before is still going on"), "{said}");
    for name in ["skips", "queues"] {
        // The log knows the order to the microsecond: begins and ends take turns.
        let log = std::fs::read_to_string(bench.path("logs/etl.log")).unwrap();
        let of = |word: &str, line: &str| {
            line.contains(word) && line.contains(&format!("pipeline=\"{name}\""))
        };
        let events = log.lines().filter_map(|line| match line {
            line if of("run begins", line) => Some(1),
            line if of("run ends", line) => Some(-1),
            _ => None,
        });
        let mut going_on = 0;
        let mut seen = 0;
        for event in events {
            going_on += event;
            seen += 1;
            assert!((0..=1).contains(&going_on), "{name}\n{log}");
        }
        assert!(seen >= 4, "{name} {seen}\n{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_change_appear_and_vanish_are_taken_up_and_wrong_ones_are_not() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    fleet(&bench, "a.yaml", "a", &server.url(), "schedule: '@every 1s'");
    let serving = Serving::start(&bench, "pipelines", &[]);
    serving.until("a run is over", |it| it.runs("a") >= 1);

    let before = serving.pipeline("a")["digest"].clone();
    fleet(&bench, "a.yaml", "a", &server.url(), "schedule: '@every 2s'");
    serving.until("the change is taken up", |it| it.pipeline("a")["schedule"] == "@every 2s");
    let good = serving.pipeline("a")["digest"].clone();
    assert_ne!(good, before);

    fleet(&bench, "a.yaml", "a", &server.url(), "shcedule: '@every 1s'");
    serving.until("the mistake is told", |it| it.pipeline("a")["reload_error"].is_string());
    let wrong = serving.pipeline("a");
    let error = wrong["reload_error"].as_str().unwrap();
    assert!(error.contains("line 2") && error.contains("shcedule"), "{error}");
    assert_eq!(wrong["digest"], good);
    assert_eq!(serving.metric("etl_config_wrong_files"), Some(1.0));
    assert!(serving.stderr().contains("did you mean `schedule`?"), "{}", serving.stderr());
    let runs = serving.runs("a");
    serving.until("what it said before still runs", |it| it.runs("a") > runs);

    fleet(&bench, "a.yaml", "a", &server.url(), "schedule: '@every 1s'");
    fleet(&bench, "b.yaml", "b", &server.url(), "");
    // Two that would share their data: the second is refused.
    fleet(&bench, "c.yaml", "a", &server.url(), "");
    serving.until("the new one ran", |it| it.runs("b") == 1);
    serving.until("the mend is seen", |it| it.pipeline("a")["reload_error"].is_null());
    let all = serving.json("/pipelines");
    let refused = all["wrong_files"]["pipelines/c.yaml"].as_str().unwrap();
    assert!(refused.contains("both name their pipeline `a`"), "{refused}");

    std::fs::remove_file(bench.path("pipelines/b.yaml")).unwrap();
    std::fs::remove_file(bench.path("pipelines/c.yaml")).unwrap();
    serving.until("the file is gone", |it| it.pipeline("b").is_null());
    serving.until("so is the mistake", |it| it.metric("etl_config_wrong_files") == Some(0.0));
    assert_eq!(serving.stop().0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_on_under_its_old_file_and_the_next_has_the_new_one() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    fleet_that_takes(&bench, "a.yaml", "a", &server.url(), "schedule: '@every 1h'", "4s");
    let serving = Serving::start(&bench, "pipelines", &[]);
    serving.until("it runs", |it| it.pipeline("a")["state"] == "running");
    let run = serving.pipeline("a")["run"]["run_id"].clone();
    fleet(&bench, "a.yaml", "a", &server.url(), "schedule: '@every 1s'");
    serving.until("the change is taken up", |it| it.pipeline("a")["schedule"] == "@every 1s");
    serving.until("both are over", |it| it.runs("a") >= 2);
    let runs = history(&bench, "a");
    assert_eq!(runs[0]["run_id"], run);
    assert_eq!(runs[0]["result"], "complete");
    assert!(runs[0]["seconds"].as_f64().unwrap() >= 4.0, "{runs:?}");
    assert!(runs[1]["seconds"].as_f64().unwrap() < 4.0, "{runs:?}");
    assert_eq!(serving.stop().0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_drains_what_runs_and_a_second_one_leaves_it_in_the_spool() {
    for (faults, again) in [
        (Faults { delay: Duration::from_millis(700), ..Faults::default() }, false),
        (Faults { hang: 1.0, ..Faults::default() }, true),
    ] {
        let (bench, server) = (Bench::new(), mock(faults).await);
        fleet(&bench, "a.yaml", "a", &server.url(), "schedule: '@every 1s'");
        fleet(&bench, "b.yaml", "b", &server.url(), "schedule: '@every 1s'");
        let mut serving = Serving::start(&bench, "pipelines", &[]);
        wait_until("both are being sent", || server.stats().requests >= 2);
        signal(&serving.child, Signal::TERM);
        serving.until("it stops", |it| it.stderr().contains("stopping: finishing"));
        if again {
            signal(&serving.child, Signal::TERM);
        }
        let asked = Instant::now();
        assert_eq!(serving.child.wait().unwrap().code(), Some(0), "{}", serving.stderr());
        assert!(asked.elapsed() < Duration::from_secs(28), "{:?}", asked.elapsed());
        let runs = [history(&bench, "a"), history(&bench, "b")].concat();
        assert_eq!(sum(&runs, "extracted"), sum(&runs, "delivered") + sum(&runs, "spooled"));
        assert_eq!(sum(&runs, "spooled") > 0, again, "{runs:?}");
        server.set_faults(Faults::default()).unwrap();
        for file in ["pipelines/a.yaml", "pipelines/b.yaml"] {
            bench.etl(&["run", file, "--json"]).exits(0);
        }
        let all = [history(&bench, "a"), history(&bench, "b")].concat();
        assert_eq!(server.stats().records, sum(&all, "extracted"), "{:?}", server.stats());
        assert_eq!(server.stats().conflicting_keys, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_did_not_end_well_is_tried_again_until_it_does() {
    let (bench, server) = (Bench::new(), mock(down()).await);
    let retry = "schedule: '@every 1h'\n\
                 run_retry: { max_retries: 500, retry_delay: 200ms, exponential_backoff: false }\n";
    bench.rows("n\n1\n2\n3\n", &server.url(), retry, "");
    let serving = Serving::start(&bench, "p.yaml", &[]);
    serving.until("it was tried again", |it| number(&it.pipeline("p"), "retries") >= 2);
    let failed = history(&bench, "p");
    assert!(failed.iter().all(|run| run["exit"] == 75), "{failed:?}");
    server.set_faults(Faults::default()).unwrap();
    serving.until("all is delivered", |it| it.pipeline("p")["last_run"]["exit"] == 0);
    serving.until("it rests", |it| it.pipeline("p")["state"] == "waiting");
    let runs = serving.runs("p");
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(serving.runs("p"), runs, "what ended well is not tried again");
    assert_eq!(serving.stop().0, Some(0));
    each_exactly_once(&server, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn missed_runs_are_run_once_or_not_at_all() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    let yearly = |missed: &str| format!("schedule: {{ cron: 0 0 1 1 *, missed: {missed} }}");
    fleet(&bench, "a.yaml", "catches-up", &server.url(), &yearly("run_once"));
    fleet(&bench, "b.yaml", "waits", &server.url(), &yearly("skip"));
    fleet(&bench, "c.yaml", "new", &server.url(), &yearly("run_once"));
    let past = "{\"last_start\":\"2023-06-01T00:00:00Z\"}";
    for name in ["catches-up", "waits"] {
        bench.write(&format!("data/{name}/state/schedule.json"), past);
    }
    let serving = Serving::start(&bench, "pipelines", &[]);
    serving.until("the missed run is over", |it| it.runs("catches-up") == 1);
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(serving.runs("catches-up"), 1);
    assert_eq!((serving.runs("waits"), serving.runs("new")), (0, 0));
    for name in ["catches-up", "waits"] {
        assert!(number(&serving.pipeline(name), "missed_runs") >= 3, "2024 to 2026");
    }
    assert_eq!(number(&serving.pipeline("new"), "missed_runs"), 0);
    assert_eq!(serving.stop().0, Some(0));
    // The start was noted: the next server owes nothing.
    let serving = Serving::start(&bench, "pipelines/a.yaml", &[]);
    assert_eq!(number(&serving.pipeline("catches-up"), "missed_runs"), 0);
    assert_eq!(serving.stop().0, Some(0));
    assert_eq!(history(&bench, "catches-up").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_cannot_begin_is_a_failed_run_and_not_the_end() {
    let (bench, server) = (Bench::new(), mock(Faults { hang: 1.0, ..Faults::default() }).await);
    let every_second = "schedule: '@every 1s'";
    fleet(&bench, "a.yaml", "a", &server.url(), every_second);
    let mut holder = bench.command(&["run", "pipelines/a.yaml", "--json"]).spawn().unwrap();
    wait_until("the other one has the spool", || server.stats().requests >= 1);
    let serving = Serving::start(&bench, "pipelines", &[]);
    serving.until("a run failed", |it| it.pipeline("a")["last_run"]["result"] == "failed");
    let (status, health) = serving.get("/health");
    assert_eq!(status, 503);
    let health: Value = serde_json::from_str(&health).unwrap();
    let error = health["components"]["a"]["error"].as_str().unwrap();
    assert!(error.contains("etl (pid "), "{error}");

    holder.kill().unwrap();
    holder.wait().unwrap();
    server.set_faults(Faults::default()).unwrap();
    serving.until("a run is well", |it| it.pipeline("a")["last_run"]["exit"] == 0);
    assert_eq!(serving.stop().0, Some(0));
    let failed = history(&bench, "a").into_iter().find(|run| run["result"] == "failed").unwrap();
    assert_eq!(failed["exit"], 69);
    assert!(failed["errors"][0].as_str().unwrap().contains("etl (pid "), "{failed}");
}

#[test]
fn every_mistake_of_every_file_is_told_before_anything_starts() {
    let bench = Bench::new();
    fleet(&bench, "a.yaml", "a", "http://127.0.0.1:1", "schedule: '@every 1ms'");
    fleet(&bench, "b.yaml", "b", "http://127.0.0.1:1", "schedule: { cron: '@dayly' }");
    let zone = "schedule: { cron: 0 3 * * *, timezone: Europe/Berln }\nrun_retry: { max_retry: 1 }";
    fleet(&bench, "c.yaml", "c", "http://127.0.0.1:1", zone);
    fleet(&bench, "d.yaml", "d", "http://127.0.0.1:1", "schedule: { every: 5s, jitter: 5s }");
    fleet(&bench, "e.yaml", "e", "http://127.0.0.1:1", "schedule: { every: 5s, cron: '@daily' }");
    fleet(&bench, "f.yaml", "same", "http://127.0.0.1:1", "");
    fleet(&bench, "g.yaml", "same", "http://127.0.0.1:1", "");
    let ran = bench.etl(&["serve", "pipelines", "--listen", "127.0.0.1:0"]).exits(78);
    for mistake in [
        "pipelines/a.yaml:2",
        "at least 1s",
        "did you mean `@daily`?",
        "did you mean `Europe/Berlin`?",
        "did you mean `max_retries`?",
        "jitter is not shorter",
        "`every` and `cron`",
        "both name their pipeline `same`",
        "nothing was read or sent",
    ] {
        assert!(ran.stderr.contains(mistake), "{mistake}: {}", ran.stderr);
    }
    bench.etl(&["serve", "missing.yaml"]).exits(78);
    bench.etl(&["serve"]).exits(64);
    assert!(!bench.path("data").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_of_the_earlier_services_is_honoured_and_a_taken_one_is_said() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    fleet(&bench, "a.yaml", "a", &server.url(), "");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port().to_string();
    let mut command = bench.command(&["serve", "pipelines"]);
    let taken = command.env("SERVER_PORT", &port).output().unwrap();
    assert_eq!(taken.status.code(), Some(69));
    let said = String::from_utf8_lossy(&taken.stderr).into_owned();
    assert!(said.contains(&format!("127.0.0.1:{port}")) && said.contains("--listen"), "{said}");
    drop(free);
    let mut command = bench.command(&["serve", "pipelines"]);
    command.env("SERVER_PORT", &port);
    let serving = Serving::spawn(command);
    assert_eq!(serving.address, format!("127.0.0.1:{port}"));
    assert_eq!(serving.stop().0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn etl_health_tells_by_its_exit_code_whether_a_server_is_well() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    fleet(&bench, "a.yaml", "often", &server.url(), "schedule: '@every 1s'");
    let serving = Serving::start(&bench, "pipelines", &[]);
    serving.until("a run is over", |it| it.runs("often") >= 1);
    let url = format!("http://{}/health", serving.address);
    let ran = bench.etl(&["health", "--url", &url]).exits(0);
    assert!(ran.json()["status"] == "healthy", "{}", ran.stdout);

    server.set_faults(down()).unwrap();
    serving.until("it is seen", |it| it.get("/health").0 == 503);
    let ran = bench.etl(&["health", "--url", &url]).exits(69);
    assert!(ran.stdout.contains("\"unhealthy\""), "{}", ran.stdout);

    serving.stop();
    let ran = bench.etl(&["health", "--url", &url]).exits(69);
    assert!(ran.stderr.contains("start it with: etl serve"), "{}", ran.stderr);
    bench.etl(&["health", "--url", "no address"]).exits(69);
}
