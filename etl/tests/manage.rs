//! Pipelines managed by their names, through a server and without one: started, stopped,
//! looked at, scheduled, deleted; and never a record lost by it.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;

use mock_load_api_server::Faults;
use rustix::process::Signal;
use serde_json::Value;
use support::serving::{Serving, history};
use support::{Bench, down, each_exactly_once, mock, signal, wait_until};

/// A fleet pipeline under `pipelines/`, of so many appliances that take `delay` each, one by one.
fn fleet(bench: &Bench, name: &str, url: &str, more: &str, appliances: usize, delay: &str) {
    let rows: String = (0..appliances).map(|n| format!("192.0.2.{n},{name}-{n}\n")).collect();
    bench.write(&format!("pipelines/{name}/appliances.csv"), rows);
    bench.write(
        &format!("pipelines/{name}/pipeline.yaml"),
        format!(
            "# kept\nname: {name}   # its name\n{more}\nsource:\n  \
             csv: {{ path: appliances.csv, header: false, columns: [ip, hostname] }}\n\
             extract:\n  workers: 1\n  timeout: 30s\n  simulated: {{ delay: {delay} }}\n\
             transform: [cpu_indicators]\n\
             load:\n  - http: {{ url: \"{url}/load\", token: a-secret-token }}\n    \
             batch: {{ records: 5 }}\n    retry: {{ attempts: 2, base: 20ms, cap: 100ms }}\n"
        ),
    );
}

fn status(bench: &Bench, name: &str) -> Value {
    let all = bench.etl(&["monitor", "--json"]).exits(0).json();
    let found = all["pipelines"].as_array().unwrap().iter().find(|it| it["name"] == name);
    found.cloned().unwrap_or_else(|| panic!("no {name} in {all}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_stopped_in_good_order_and_started_again() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    fleet(&bench, "slow", &server.url(), "", 200, "30ms");
    let serving = Serving::start(&bench, "pipelines", &[]);
    serving.until("some have arrived", |_| server.stats().records >= 10);
    let shown = status(&bench, "slow");
    assert_eq!(
        (shown["state"].as_str(), shown["pid"].as_u64()),
        (Some("running"), Some(u64::from(serving.child.id())))
    );
    assert!(shown["run"]["extracted"].as_u64().unwrap() >= 10, "{shown}");
    assert!(shown["memory_bytes"].as_u64().unwrap() > 1 << 20, "{shown}");

    let told = bench.etl(&["stop", "slow"]).exits(0).stdout;
    assert!(
        told.contains("stopped; run ") && told.contains("stays so until: etl start slow"),
        "{told}"
    );
    let run = history(&bench, "slow").pop().unwrap();
    let number = |key: &str| run[key].as_u64().unwrap();
    assert_eq!(
        (run["result"].as_str(), run["exit"].as_u64()),
        (Some("stopped"), Some(143)),
        "{run}"
    );
    // The books balance: what was read is at the API or on the disk.
    assert!((10..200).contains(&number("extracted")), "{run}");
    assert_eq!(number("extracted"), number("delivered") + number("spooled"), "{run}");
    assert_eq!(server.stats().unique_records, number("delivered"));
    assert_eq!(status(&bench, "slow")["state"], "stopped");
    assert_eq!(serving.metric("etl_stopped{pipeline=\"slow\"}"), Some(1.0));
    assert_eq!(serving.get("/ready").0, 200);
    // Stopping it once more changes nothing.
    bench.etl(&["stop", "slow"]).exits(0);

    // It stays stopped over a restart of the server, and says so.
    assert_eq!(serving.stop().0, Some(0));
    assert_eq!(status(&bench, "slow")["state"], "stopped");
    let serving = Serving::start(&bench, "pipelines", &[]);
    assert!(serving.stderr().contains("slow  is stopped; start it with: etl start slow"));
    serving.until("it is stopped", |it| it.pipeline("slow")["state"] == "stopped");
    assert_eq!(serving.runs("slow"), 0);

    // Started, it goes on where it was cut short: each appliance arrives once.
    let told = bench.etl(&["start", "pipelines/slow/pipeline.yaml"]).exits(0).stdout;
    assert!(told.starts_with("slow  started"), "{told}");
    serving.until("its run is over", |it| it.runs("slow") == 1);
    assert_eq!(history(&bench, "slow").pop().unwrap()["result"], "complete");
    each_exactly_once(&server, 200);
    assert_eq!(serving.stop().0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_schedule_begins_nothing_until_it_is_started() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    fleet(&bench, "often", &server.url(), "schedule: '@every 1s'", 1, "0s");
    let serving = Serving::start(&bench, "pipelines", &[]);
    serving.until("it runs", |it| it.runs("often") >= 1);
    bench.etl(&["stop", "often"]).exits(0);
    let (runs, shown) = (serving.runs("often"), serving.pipeline("often"));
    assert_eq!((&shown["state"], &shown["next_run"]), (&"stopped".into(), &Value::Null));
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert_eq!(serving.runs("often"), runs);
    bench.etl(&["start", "often"]).exits(0);
    // Once for the order, and again by the schedule.
    serving.until("it runs again", |it| it.runs("often") >= runs + 2);
    assert_eq!(serving.pipeline("often")["missed_runs"], 0);
    assert_eq!(serving.stop().0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_come_over_the_socket_only_and_it_is_the_owners() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    fleet(&bench, "p", &server.url(), "schedule: '@daily'", 1, "0s");
    let serving = Serving::start(&bench, "pipelines", &[]);
    for head in
        ["POST /control/stop/p HTTP/1.1\r\nContent-Length: 0\r\n", "GET /control HTTP/1.1\r\n"]
    {
        assert_eq!(serving.ask(head).0, 404, "{head}");
    }
    let socket = bench.path("data/control.sock");
    let about = fs::metadata(&socket).unwrap();
    assert!(about.file_type().is_socket());
    assert_eq!(about.permissions().mode() & 0o777, 0o600);
    let ask = |request: &str| {
        let mut stream = UnixStream::connect(&socket).unwrap();
        write!(stream, "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().parse::<u16>().unwrap()
    };
    assert_eq!(ask("POST /control/stop/nobody"), 404);
    assert_eq!(ask("POST /control/pause/p"), 404);
    assert_eq!(ask("GET /control/stop/p"), 404);
    assert_eq!(ask("GET /health"), 200);
    assert_eq!(serving.pipeline("p")["state"], "waiting");

    // A second server of the data directory leaves the first its socket.
    let second = Serving::start(&bench, "pipelines", &[]);
    assert!(second.stderr().contains("another etl serve takes the orders"), "{}", second.stderr());
    assert_eq!(second.stop().0, Some(0));
    assert_eq!(ask("POST /control/stop/p"), 200);
    assert_eq!(serving.pipeline("p")["state"], "stopped");
    // What a killed server leaves is no obstacle for the next one.
    signal(&serving.child, Signal::KILL);
    drop(serving);
    assert!(socket.exists());
    let third = Serving::start(&bench, "pipelines", &[]);
    assert_eq!(ask("POST /control/start/p"), 200);
    assert_eq!(third.stop().0, Some(0));
    assert!(!socket.exists());
    // `etl runs` looks past what is no pipeline.
    bench.etl(&["runs"]).exits(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn list_info_and_logs_tell_without_secrets() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    fleet(&bench, "one", &server.url(), "schedule: '@every 1h'", 3, "0s");
    fleet(&bench, "two", &server.url(), "", 3, "0s");
    bench.write("pipelines/broken.yaml", "name: broken\nsource: {}\nlaod: []\n");
    bench.etl(&["run", "pipelines/one/pipeline.yaml"]).exits(0);
    bench.etl(&["run", "pipelines/two/pipeline.yaml"]).exits(0);
    let list = bench.etl(&["list"]).exits(0).stdout;
    let line = |name: &str| list.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    for words in ["idle", "@every 1h", "complete", "empty", "pipelines/one/pipeline.yaml"] {
        assert!(line("one ").contains(words), "{list}");
    }
    assert!(line("broken ").contains("wrong") && list.contains("etl check pipelines/broken.yaml"));

    let info = bench.etl(&["info", "one"]).exits(0).stdout;
    for words in ["next runs", "extracted 3, delivered 3", "workers: 1", "(hidden)", "data/one"] {
        assert!(info.contains(words), "{words}: {info}");
    }
    let json = bench.etl(&["info", "one", "--json"]).exits(0);
    assert_eq!(json.json()["next_runs"].as_array().unwrap().len(), 5);
    assert_eq!(json.json()["configuration"]["load"][0]["http"]["token"], "(hidden)");
    assert!(!(info + &json.stdout).contains("a-secret-token"));
    let unknown = bench.etl(&["info", "onne"]).exits(64).stderr;
    assert!(unknown.contains("did you mean `one`?"), "{unknown}");

    let log = bench.etl(&["logs", "one"]).exits(0).stdout;
    assert!(log.contains("run begins") && log.contains("loader"), "{log}");
    assert!(log.lines().all(|line| line.contains("pipeline=\"one\"")), "{log}");
    assert_eq!(bench.etl(&["logs", "one", "-n", "2"]).exits(0).stdout.lines().count(), 2);
    // What is written from now on comes too.
    let mut following = bench.command(&["logs", "one", "-f", "-n", "0"]).spawn().unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap());
    // It has to be at the end of the log before something is added to it.
    std::thread::sleep(std::time::Duration::from_millis(1000));
    bench.etl(&["run", "pipelines/one/pipeline.yaml"]).exits(0);
    let mut first = String::new();
    lines.read_line(&mut first).unwrap();
    assert!(first.contains("run begins") && first.contains("pipeline=\"one\""), "{first}");
    following.kill().unwrap();
    following.wait().unwrap();

    let screen = bench.etl(&["monitor"]).exits(0).stdout;
    assert!(screen.starts_with("no etl serve is at work here\n"), "{screen}");
    assert!(screen.contains("broken: ") && !screen.contains('\x1b'), "{screen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_is_changed_in_the_file_and_a_server_takes_it_up() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    fleet(&bench, "p", &server.url(), "schedule: '@daily'  # at night", 1, "0s");
    let file = bench.path("pipelines/p/pipeline.yaml");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let before = fs::read_to_string(&file).unwrap();
    let serving = Serving::start(&bench, "pipelines", &[]);
    let scheduled = |words: &str, text: &str| {
        let args: Vec<&str> = ["schedule", "p"].into_iter().chain(words.split(' ')).collect();
        bench.etl(&args).exits(0);
        let now = fs::read_to_string(&file).unwrap();
        assert_eq!(now, before.replace("'@daily'", &format!("\"{text}\"")), "{words}");
        // Days are numbers there.
        let told = text.replace("mon", "1");
        serving.until("it is taken up", |it| it.pipeline("p")["schedule"] == told);
    };
    scheduled("daily 03:30", "30 3 * * *");
    scheduled("hourly 2", "0 */2 * * *");
    scheduled("weekly mon 00:00", "0 0 * * mon");
    scheduled("monthly 1 00:00", "0 0 1 * *");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    bench.etl(&["schedule", "p", "remove"]).exits(0);
    let now = fs::read_to_string(&file).unwrap();
    assert_eq!(now, before.replace("schedule: '@daily'  # at night\n", ""));
    // Without one it runs once more, as any file that changes.
    serving.until("it ran", |it| it.runs("p") == 1);
    assert_eq!(serving.stop().0, Some(0));

    // What would be wrong, or cannot be edited, is refused and left as it is.
    fleet(&bench, "q", &server.url(), "schedule: { every: 2h, jitter: 90m }", 1, "0s");
    let file = bench.path("pipelines/q/pipeline.yaml");
    let text = fs::read_to_string(&file).unwrap();
    let refused = bench.etl(&["schedule", "q", "hourly"]).exits(78).stderr;
    assert!(refused.contains("jitter") && refused.contains("nothing was changed"), "{refused}");
    bench.etl(&["schedule", "q", "daily", "25:00"]).exits(64);
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_is_said_and_no_record_goes_unasked() {
    let (bench, server) = (Bench::new(), mock(down()).await);
    fleet(&bench, "p", &server.url(), "", 12, "0s");
    bench.etl(&["run", "pipelines/p/pipeline.yaml"]).exits(75);
    bench.write("data/p/processed/kept.json", "[]");
    bench.write("pipelines/p/notes/mine.txt", "mine");
    let all_there = || {
        assert_eq!(status(&bench, "p")["spool"]["records"], 12);
        assert!(bench.path("pipelines/p/pipeline.yaml").exists());
    };
    for args in
        [&["--yes"][..], &["--yes", "--lose-records", "11"], &["--yes", "--lose-records", "13"]]
    {
        let refused = bench.etl(&[&["delete", "p"], args].concat()).exits(75).stderr;
        assert!(
            refused.contains("12 waiting records") && refused.contains("etl spool replay p"),
            "{refused}"
        );
        all_there();
    }
    // Nobody answers here, so it takes --yes.
    let refused = bench.etl(&["delete", "p", "--lose-records", "12"]).exits(64).stderr;
    assert!(
        refused.contains("pipelines/p/appliances.csv") && refused.contains("add --yes"),
        "{refused}"
    );
    all_there();
    let told = bench.etl(&["delete", "p", "--yes", "--lose-records", "12"]).exits(0).stdout;
    assert!(told.contains("deleted  pipelines/p/pipeline.yaml"), "{told}");
    // What was delivered into files, and what is somebody's own, stays, and is said.
    assert!(told.contains("kept     data/p") && told.contains("kept     pipelines/p"), "{told}");
    assert!(bench.path("data/p/processed/kept.json").exists());
    assert!(bench.path("pipelines/p/notes/mine.txt").exists());
    assert!(!bench.path("data/p/spool").exists() && !bench.path("data/p/state").exists());
    assert!(!bench.path("pipelines/p/pipeline.yaml").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_that_runs_is_not_deleted() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    fleet(&bench, "p", &server.url(), "", 200, "50ms");
    // By hand: the state says who has it.
    let mut by_hand = bench.command(&["run", "pipelines/p/pipeline.yaml"]).spawn().unwrap();
    wait_until("it runs", || status(&bench, "p")["state"] == "running");
    assert_eq!(status(&bench, "p")["pid"], by_hand.id());
    let refused = bench.etl(&["delete", "p", "--yes"]).exits(69).stderr;
    assert!(refused.contains("p is running; first: etl stop p"), "{refused}");
    let refused = bench.etl(&["stop", "p"]).exits(69).stderr;
    assert!(refused.contains(&format!("kill {}", by_hand.id())), "{refused}");
    signal(&by_hand, Signal::TERM);
    assert_eq!(by_hand.wait().unwrap().code(), Some(143));

    // By a server: it has to be stopped, and is served no more when it is gone.
    let serving = Serving::start(&bench, "pipelines", &[]);
    serving.until("it runs", |it| it.pipeline("p")["state"] == "running");
    bench.etl(&["delete", "p", "--yes"]).exits(69);
    bench.etl(&["stop", "p"]).exits(0);
    let waiting = status(&bench, "p")["spool"]["records"].as_u64().unwrap().to_string();
    bench.etl(&["delete", "p", "--yes", "--lose-records", &waiting]).exits(0);
    serving.until("it is served no more", |it| it.pipeline("p").is_null());
    assert!(!bench.path("data/p").exists() && !bench.path("pipelines/p").exists());
    assert_eq!(serving.stop().0, Some(0));
}
