//! What `etl serve` tells over HTTP: metrics that promtool and a real Prometheus take,
//! health that names what is away, readiness tied to progress, profiles, and answers to
//! requests that are none of these.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

#[path = "support/postgres.rs"]
mod postgres;
mod support;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mock_load_api_server::Faults;
use postgres::Postgres;
use pprof::protos::{Message, Profile};
use serde_json::Value;
use support::program::{Program, free_port};
use support::serving::{Serving, history};
use support::{Bench, down, mock};

/// Names that dashboards of the earlier systems use, and those of the design.
const FIXED_NAMES: [&str; 18] = [
    "etl_api_requests_total",
    "etl_api_requests_failed_total",
    "etl_api_request_duration_seconds_bucket",
    "etl_records_processed_total",
    "etl_transformation_errors_total",
    "etl_data_saved_total",
    "etl_database_writes_total",
    "etl_database_write_errors_total",
    "etl_extractions_total",
    "etl_transformations_total",
    "etl_loads_total",
    "etl_failures_total",
    "etl_spool_bytes",
    "etl_spool_batches",
    "etl_spool_oldest_age_seconds",
    "etl_dead_letter_records",
    "etl_circuit_open",
    "etl_in_flight_bytes",
];

fn deploy(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(file)
}

/// The pipeline `p` of some appliances every second.
fn every_second(bench: &Bench, url: &str, appliances: usize) {
    bench.inventory(appliances);
    bench.fleet(url, "timeout: 60s");
    let text = std::fs::read_to_string(bench.path("p.yaml")).unwrap();
    bench.write("p.yaml", format!("{text}schedule: '@every 1s'\n"));
}

/// What a program says about `input`; fails the test unless it ends with 0.
#[track_caller]
fn piped(program: &str, args: &[&str], input: &str) -> String {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}; see .ci/packages"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {said}");
    said
}

/// Names with labels of every series of a page, each at most once.
#[track_caller]
fn series(page: &str) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert!(seen.insert(name.to_owned()), "twice: {name}");
    }
    seen
}

fn names(series: &BTreeSet<String>) -> BTreeSet<&str> {
    series.iter().map(|series| series.split('{').next().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_pass_promtool_once_each_and_agree_with_the_ledger() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    every_second(&bench, &server.url(), 300);
    bench.write("rows.csv", "n\n1\n2\n");
    let url = server.url();
    let rows = format!(
        "name: rows\nsource:\n  csv: {{ path: rows.csv }}\nload:\n  \
         - http: {{ url: \"{url}/load\" }}\n  - name: archive\n    http: {{ url: \"{url}/load\" }}\n"
    );
    bench.write("rows.yaml", rows);
    let serving = Serving::start(&bench, ".", &[]);
    // Also while nothing has run, and while something runs.
    for runs in [0, 1, 3] {
        serving.until("runs are over", |it| it.runs("p") >= runs);
        let page = serving.get("/metrics").1;
        let said = piped("promtool", &["check", "metrics"], &page);
        assert_eq!(said.trim(), "", "{said}\n{page}");
        let series = series(&page);
        let names = names(&series);
        for name in FIXED_NAMES {
            assert!(names.contains(name), "{name}\n{page}");
        }
        for name in names {
            assert!(name.starts_with("etl_"), "{name}");
        }
        let known = ["", "pipeline", "sink", "result", "le", "version", "channel"];
        for label in series.iter().flat_map(|it| labels(it)) {
            assert!(known.contains(&label.as_str()), "{label}");
        }
    }
    let (status, head, page) = serving
        .ask("GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text;version=1.0.0\r\n");
    assert_eq!(status, 200);
    assert!(head.contains("application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(page.ends_with(b"# EOF\n"));

    serving.until("the rows are delivered", |it| it.pipeline("rows")["state"] == "ended");
    let value = |series: &str| serving.metric(series).unwrap_or_else(|| panic!("{series}"));
    assert_eq!(value("etl_records_delivered_total{pipeline=\"rows\",sink=\"archive\"}"), 2.0);
    assert_eq!(value("etl_data_saved_total{pipeline=\"rows\"}"), 4.0);
    assert_eq!(value("etl_records_processed_total{pipeline=\"rows\"}"), 2.0);
    assert_eq!(value("etl_runs_total{pipeline=\"rows\",result=\"complete\"}"), 1.0);
    assert_eq!(value("etl_database_writes_total{pipeline=\"p\"}"), 0.0);
    // Counters survive the end of a run: they are never less than a moment ago.
    let (mut before, counter) = (0.0, "etl_records_processed_total{pipeline=\"p\"}");
    let until = serving.runs("p") + 2;
    while serving.runs("p") < until {
        let now = value(counter);
        assert!(now >= before, "{now} after {before}");
        before = now;
    }
    let runs = serving.runs("p");
    assert!(value(counter) >= 300.0 * runs as f64);
    assert!(value("etl_api_requests_total{pipeline=\"p\"}") >= 300.0 * runs as f64);
    assert_eq!(serving.stop().0, Some(0));
    let delivered = [history(&bench, "p"), history(&bench, "rows")].concat();
    let delivered: u64 = delivered.iter().map(|run| run["delivered"].as_u64().unwrap()).sum();
    assert_eq!(server.stats().records, delivered);
}

/// The names of a series' labels.
fn labels(series: &str) -> Vec<String> {
    let inside = series.split_once('{').map_or("", |it| it.1.trim_end_matches('}'));
    inside.split(',').map(|pair| pair.split('=').next().unwrap().to_owned()).collect()
}

fn get(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: test\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer.split_once("\r\n\r\n")?.1.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_scrapes_it() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    every_second(&bench, &server.url(), 20);
    let serving = Serving::start(&bench, "p.yaml", &[]);
    let address = format!("127.0.0.1:{}", free_port());
    let rules = deploy("prometheus/alerts.yml");
    let config = format!(
        "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\n\
         rule_files: [{}]\n\
         scrape_configs:\n  - job_name: etl\n    static_configs: [{{ targets: ['{}'] }}]\n",
        rules.canonicalize().unwrap().display(),
        serving.address
    );
    let config = bench.write("prometheus/prometheus.yml", config);
    let mut command = Command::new("prometheus");
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", bench.path("prometheus/data").display()))
        .arg(format!("--web.listen-address={address}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _prometheus = Program::start(&mut command, "prometheus");
    let query = |query: &str| -> Vec<Value> {
        let answer = get(&address, &format!("/api/v1/query?query={query}")).unwrap_or_default();
        let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
        answer["data"]["result"].as_array().cloned().unwrap_or_default()
    };
    serving.until("Prometheus has the records", |_| {
        let found = query("etl_records_processed_total");
        found.first().is_some_and(|it| {
            it["metric"]["pipeline"] == "p"
                && it["value"][1]
                    .as_str()
                    .is_some_and(|value| value.parse::<f64>().unwrap() >= 20.0)
        })
    });
    assert_eq!(query("up")[0]["value"][1], "1");
    serving.until("it knows the counters as such", |_| {
        let answer = get(&address, "/api/v1/metadata?metric=etl_loads_total").unwrap_or_default();
        let openmetrics = get(&address, "/api/v1/metadata?metric=etl_loads").unwrap_or_default();
        (answer + &openmetrics).contains("\"counter\"")
    });
    let rules = get(&address, "/api/v1/rules").unwrap();
    assert!(rules.contains("EtlSinkDown") && !rules.contains("\"health\":\"err\""), "{rules}");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_names_the_sink_that_is_away_and_is_well_when_it_is_back() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    every_second(&bench, &server.url(), 20);
    let serving = Serving::start(&bench, "p.yaml", &[]);
    serving.until("a run is over", |it| it.runs("p") >= 1);
    for path in ["/health", "/healthz"] {
        let (status, body) = serving.get(path);
        assert_eq!(status, 200, "{body}");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["status"], "healthy");
        assert!(body["timestamp"].as_str().unwrap().ends_with('Z'), "{body}");
        assert_eq!(body["components"]["p/http"]["status"], "healthy", "{body}");
        assert_eq!(body["components"]["p"]["status"], "healthy");
    }
    assert_eq!(serving.metric("etl_circuit_open{pipeline=\"p\",sink=\"http\"}"), Some(0.0));

    server.set_faults(down()).unwrap();
    serving.until("it is unhealthy", |it| it.get("/health").0 == 503);
    let health = serving.json("/health");
    assert_eq!(health["status"], "unhealthy");
    let sink = &health["components"]["p/http"];
    assert_eq!(sink["status"], "unhealthy", "{health}");
    assert!(sink["error"].as_str().unwrap().contains(&server.url()), "{health}");
    serving.until("what waits is told", |it| {
        let spooled = |name: &str| it.metric(&format!("{name}{{pipeline=\"p\",sink=\"http\"}}"));
        spooled("etl_spool_batches") >= Some(1.0)
            && spooled("etl_spool_bytes") >= Some(1.0)
            && spooled("etl_spool_oldest_age_seconds") >= Some(1.0)
            && spooled("etl_circuit_open") == Some(1.0)
    });

    server.set_faults(Faults::default()).unwrap();
    serving.until("it is well again", |it| it.get("/health").0 == 200);
    serving.until("nothing waits", |it| {
        it.metric("etl_spool_batches{pipeline=\"p\",sink=\"http\"}") == Some(0.0)
    });
    assert_eq!(serving.stop().0, Some(0));
}

/// A pipeline whose runs are an hour apart says nothing of its database meanwhile: it is
/// asked itself.
#[tokio::test(flavor = "multi_thread")]
async fn health_asks_a_database_and_names_it_while_it_is_away() {
    let (bench, api) = (Bench::new(), mock(Faults::default()).await);
    let mut database = Postgres::start();
    let (url, target) = (api.url(), database.url());
    bench.write(
        "q.yaml",
        format!(
            "name: q\nschedule: '@every 1h'\n\
             source:\n  rest: {{ url: '{url}/posts?_page=1&_limit=20' }}\n\
             load:\n  - postgres: {{ url: '{target}', table: raw_data, layout: raw, create: true }}\n"
        ),
    );
    let serving = Serving::start(&bench, "q.yaml", &[]);
    serving.until("the run is over", |it| it.pipeline("q")["last_run"]["exit"] == 0);
    assert_eq!(database.number("SELECT count(*) FROM raw_data"), 20);
    let value = |series: &str| serving.metric(&format!("{series}{{pipeline=\"q\"}}"));
    assert_eq!(value("etl_data_saved_total"), Some(20.0));
    assert_eq!(value("etl_database_writes_total"), value("etl_loads_total"));
    assert!(value("etl_database_writes_total") >= Some(1.0));
    assert_eq!(value("etl_api_requests_total"), Some(1.0));
    assert_eq!(serving.json("/health")["components"]["q/postgres"]["status"], "healthy");

    database.halt();
    serving.until("its absence is seen", |it| it.get("/health").0 == 503);
    let health = serving.json("/health");
    let component = &health["components"]["q/postgres"];
    assert_eq!(component["status"], "unhealthy", "{health}");
    assert!(component["error"].as_str().is_some_and(|error| !error.is_empty()), "{health}");
    assert_eq!(health["components"]["q"]["status"], "healthy", "{health}");
    database.go();
    serving.until("it is back", |it| it.get("/health").0 == 200);
    assert_eq!(serving.stop().0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_says_which_run_does_not_move() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    every_second(&bench, &server.url(), 20);
    let serving = Serving::start(&bench, "p.yaml", &["--stuck-after", "2s"]);
    serving.until("a run is over", |it| it.runs("p") >= 1);
    assert_eq!((serving.get("/ready").0, serving.get("/readyz").0), (200, 200));
    assert_eq!(serving.json("/ready")["status"], "ready");

    server.set_faults(Faults { hang: 1.0, ..Faults::default() }).unwrap();
    serving.until("it is stuck", |it| it.get("/ready").0 == 503);
    let ready = serving.json("/readyz");
    assert_eq!(ready["status"], "not_ready");
    let error = ready["components"]["p"]["error"].as_str().unwrap();
    assert!(error.contains("has not moved for"), "{ready}");
    assert!(serving.metric("etl_run_unmoved_seconds{pipeline=\"p\"}") >= Some(1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn profiles_name_our_functions() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    every_second(&bench, &server.url(), 8000);
    let serving = Serving::start(&bench, "p.yaml", &[]);
    serving.until("a run is over", |it| it.runs("p") >= 1);
    // One profiler at a time: while one is at work, the other is refused.
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            loop {
                let answer = serving.ask("GET /debug/pprof/profile?seconds=4 HTTP/1.1\r\n");
                if answer.0 != 409 {
                    return answer;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        serving.until("the second is refused", |it| {
            std::thread::sleep(Duration::from_millis(500));
            it.get("/debug/pprof/flamegraph?seconds=1").0 == 409
        });
        let (status, head, body) = asked.join().unwrap();
        assert_eq!(status, 200, "{head}");
        let profile = Profile::decode(body.as_slice()).unwrap();
        assert!(!profile.sample.is_empty());
        assert!(profile.string_table.iter().any(|name| name.contains("etl::")), "{head}");
    });
    let (status, picture) = serving.get("/debug/pprof/flamegraph?seconds=3");
    assert_eq!(status, 200, "{picture}");
    assert!(picture.contains("<svg") && picture.contains("etl::"));
    let (status, body) = serving.get("/debug/pprof/profile?seconds=600");
    assert_eq!(status, 400, "{body}");
    let forwarded = "GET /debug/pprof/profile?seconds=1 HTTP/1.1\r\nX-Forwarded-For: 1.2.3.4\r\n";
    assert_eq!(serving.ask(forwarded).0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_question_gets_a_short_answer() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    every_second(&bench, &server.url(), 1);
    let serving = Serving::start(&bench, "p.yaml", &[]);
    let (status, body) = serving.get("/metricz");
    assert_eq!(status, 404);
    let body: Value = serde_json::from_str(&body).unwrap();
    assert!(body["paths"].as_array().unwrap().iter().any(|path| path == "/metrics"), "{body}");
    let (status, head, body) = serving.ask("POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n");
    assert_eq!(status, 405);
    assert!(head.to_lowercase().contains("allow: get, head"), "{head}");
    assert!(serde_json::from_slice::<Value>(&body).unwrap()["error"].is_string());
    let (status, _, _) = serving.ask("GET /health HTTP/1.1\r\nContent-Length: 10000000\r\n");
    assert_eq!(status, 413);
    let (status, head, body) = serving.ask("HEAD /pipelines HTTP/1.1\r\n");
    assert_eq!((status, body.len()), (200, 0));
    assert!(head.contains("application/json"), "{head}");
    let long = format!("GET /health HTTP/1.1\r\nX-Long: {}\r\n", "x".repeat(100_000));
    let mut stream = TcpStream::connect(&serving.address).unwrap();
    let mut answer = Vec::new();
    // What is not read of it resets the connection, perhaps before the refusal is read.
    let told = stream.write_all(long.as_bytes()).and_then(|()| stream.read_to_end(&mut answer));
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.contains(" 431 ") || answer.contains(" 400 ") || told.is_err(), "{answer}");

    // Slow clients take places; the others are still answered, and too many are not let in.
    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(&serving.address).unwrap();
        stream.write_all(b"GET /heal").unwrap();
        slow.push(stream);
    }
    assert_eq!(serving.get("/pipelines").0, 200);
    for _ in 0..50 {
        slow.push(TcpStream::connect(&serving.address).unwrap());
    }
    serving.until("too many are refused", |it| it.stderr().contains("too many connections"));
    drop(slow);
    let began = Instant::now();
    while get(&serving.address, "/pipelines").is_none_or(|body| body.is_empty()) {
        assert!(began.elapsed() < Duration::from_secs(30), "no place becomes free");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(serving.stop().0, Some(0));
}

/// Words that begin as our metrics do.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !word(c));
    words.filter(|word| word.starts_with("etl_")).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_and_dashboard_pass_promtool_and_use_only_metrics_that_exist() {
    let alerts = deploy("prometheus/alerts.yml");
    piped("promtool", &["check", "rules", alerts.to_str().unwrap()], "");
    let tests = deploy("prometheus/alerts_test.yml");
    piped("promtool", &["test", "rules", tests.to_str().unwrap()], "");

    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    every_second(&bench, &server.url(), 5);
    // Beside it the same appliances, polled for good.
    let text = std::fs::read_to_string(bench.path("p.yaml")).unwrap();
    let text = text.replace("name: p\n", "name: fleet\n").replace("schedule: '@every 1s'\n", "");
    bench.write("fleet.yaml", text.replace("  timeout: 5s\n", "  timeout: 5s\n  every: 6s\n"));
    let serving = Serving::start(&bench, ".", &[]);
    serving.until("a run is over", |it| it.runs("p") >= 1);
    let answered = "etl_fleet_polls_total{pipeline=\"fleet\",outcome=\"answered\"}";
    serving.until("the fleet is polled", |it| it.metric(answered) >= Some(1.0));
    let page = serving.get("/metrics").1;
    let said = piped("promtool", &["check", "metrics"], &page);
    assert_eq!(said.trim(), "", "{said}\n{page}");
    let series = series(&page);
    let exist: BTreeSet<String> = names(&series).into_iter().map(str::to_owned).collect();

    let rules = std::fs::read_to_string(alerts).unwrap();
    let used = metrics_in(&rules);
    assert!(used.len() >= 15, "{used:?}");
    assert_eq!(used.difference(&exist).collect::<Vec<_>>(), Vec::<&String>::new());

    let dashboard = std::fs::read_to_string(deploy("grafana/etl.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    // A row is a heading, and has no figures.
    let panels = panels.iter().filter(|panel| panel["type"] != "row");
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
    let expressions: Vec<&str> = targets.map(|it| it["expr"].as_str().unwrap()).collect();
    let variables = dashboard["templating"]["list"].to_string();
    let used = metrics_in(&(expressions.join("\n") + &variables));
    assert!(used.len() >= 25, "{used:?}");
    assert_eq!(used.difference(&exist).collect::<Vec<_>>(), Vec::<&String>::new());
    // Each expression is one that Prometheus can read.
    let rules: Vec<String> = expressions
        .iter()
        .enumerate()
        .map(|(number, expression)| {
            let expression = expression.replace("$pipeline", ".*");
            format!("  - record: panel_{number}\n    expr: {}\n", Value::from(expression))
        })
        .collect();
    let rules = format!("groups:\n- name: dashboard\n  rules:\n{}", rules.concat());
    let file = bench.write("dashboard-rules.yml", rules);
    piped("promtool", &["check", "rules", file.to_str().unwrap()], "");
    assert_eq!(serving.stop().0, Some(0));
}
