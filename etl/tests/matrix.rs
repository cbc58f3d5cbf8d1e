//! Every way an API can fail × new records written ahead, new records spooled on
//! failure, records from the spool × 1 and 10 workers: the exit code tells, the books
//! balance, and once the API is well each record arrives exactly once.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

#[path = "support/front.rs"]
mod front;
#[path = "support/peak.rs"]
mod peak;
mod support;

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use front::{Act, Front, Script, answer, healthy};
use mock_load_api_server::{Config, Faults, Server};
use support::{Bench, Ran, each_exactly_once, files_of, mock};

const RECORDS: u64 = 50;
const BATCHES: usize = 5;
const POISON: &str = "device-17\"";
/// A reply of the API may be 4 MiB, held by each of 10 workers.
const PEAK_MIB_MAX: u64 = 160;

/// Who makes the trouble.
enum Trouble {
    /// The mock API itself.
    Api(Box<Faults>),
    /// A server in front of it.
    Front(Script),
    /// Nobody listens at the API's address.
    Nobody,
    /// The API's name does not exist.
    NoName,
}

/// How a run under the trouble ends.
#[derive(Clone, Copy, PartialEq)]
enum End {
    /// 75: every record waits in the spool.
    Kept,
    /// 0: every record was delivered all the same.
    Delivered,
    /// 65: one record is dead, the others are delivered.
    Poison,
}

struct Case {
    trouble: Trouble,
    end: End,
    /// What people read about it.
    says: &'static str,
    /// The shortest time that the trouble may take: a wait that was asked for.
    at_least: Duration,
}

/// Which records meet the trouble.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    WriteAhead,
    OnFailure,
    Replay,
}

fn case(trouble: Trouble, end: End, says: &'static str) -> Case {
    Case { trouble, end, says, at_least: Duration::ZERO }
}

fn api(faults: Faults, end: End, says: &'static str) -> Case {
    case(Trouble::Api(Box::new(faults)), end, says)
}

fn front(script: Script, end: End, says: &'static str) -> Case {
    case(Trouble::Front(script), end, says)
}

fn none() -> Faults {
    Faults::default()
}

fn cases() -> Vec<Case> {
    let poison = || Some(POISON.to_owned());
    let mut cases = statuses();
    cases.extend([
        api(Faults { lie: 1.0, ..none() }, End::Kept, "reports errors"),
        api(Faults { partial: true, poison: poison(), ..none() }, End::Poison, ""),
        api(Faults { poison: poison(), ..none() }, End::Poison, ""),
        front(poison_400, End::Poison, ""),
        front(no_content, End::Delivered, ""),
        api(Faults { max_records: Some(3), ..none() }, End::Delivered, ""),
        api(Faults { reset: 1.0, ..none() }, End::Kept, "connection"),
        api(Faults { hang: 1.0, ..none() }, End::Kept, "no answer within"),
        api(Faults { truncate: 1.0, ..none() }, End::Kept, "cut short"),
        api(Faults { lose_reply: 1.0, ..none() }, End::Kept, "connection"),
        case(Trouble::Nobody, End::Kept, "connection refused"),
        case(Trouble::NoName, End::Kept, "name"),
        front(web_page, End::Kept, "web page"),
        front(broken_json, End::Kept, "not JSON"),
        front(not_http, End::Kept, "not HTTP"),
        front(endless_success, End::Kept, "larger than"),
        front(endless_failure, End::Kept, "500"),
        front(large_failure, End::Kept, "503"),
        front(terminal_escapes, End::Kept, "502"),
        front(many_headers, End::Kept, ""),
        front(a_large_header, End::Kept, ""),
        front(endless_continue, End::Kept, "no answer within"),
        front(a_flood_of_continue, End::Kept, "no answer within"),
    ]);
    cases
}

/// Plain statuses, for every request.
fn statuses() -> Vec<Case> {
    let fails = |status: u16| Faults { fail: [(status, 1.0)].into(), ..none() };
    let mut cases: Vec<Case> = [
        (301, "301"),
        (302, "302"),
        (307, "307"),
        (401, "401"),
        (403, "403"),
        (404, "404"),
        (408, "408"),
        (409, "409"),
        (425, "425"),
        (500, "500"),
        (501, "501"),
        (502, "502"),
        (503, "503"),
        (504, "504"),
    ]
    .into_iter()
    .map(|(status, says)| api(fails(status), End::Kept, says))
    .collect();
    // A date has whole seconds: 2 s from now are at least 1 s.
    for (retry_after_date, seconds) in [(false, 1), (true, 2)] {
        let retry_after = Some(Duration::from_secs(seconds));
        let faults = Faults { retry_after, retry_after_date, ..fails(429) };
        let at_least = Duration::from_secs(1);
        cases.push(Case { at_least, ..api(faults, End::Kept, "429") });
    }
    cases
}

fn poison_400(request: &[u8]) -> Act {
    if request.windows(POISON.len()).any(|part| part == POISON.as_bytes()) {
        return Act::Answer(answer("400 Bad Request", b"{\"error\":\"some record is wrong\"}"));
    }
    Act::Forward
}

fn no_content(_: &[u8]) -> Act {
    Act::ForwardAndAnswer(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec())
}

fn web_page(_: &[u8]) -> Act {
    Act::Answer(answer("200 OK\r\ncontent-type: text/html", b"<html>please log in</html>"))
}

fn broken_json(_: &[u8]) -> Act {
    Act::Answer(answer("200 OK\r\ncontent-type: application/json", b"{\"accepted\":"))
}

fn not_http(_: &[u8]) -> Act {
    Act::Answer(b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec())
}

/// A chunk of 64 KiB, as chunked encoding writes it.
fn chunk() -> Vec<u8> {
    [b"10000\r\n", &[b'x'; 0x10000][..], b"\r\n"].concat()
}

fn endless_success(_: &[u8]) -> Act {
    Act::Endless(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec(), chunk())
}

fn endless_failure(_: &[u8]) -> Act {
    let head = b"HTTP/1.1 500 Internal Server Error\r\ntransfer-encoding: chunked\r\n\r\n";
    Act::Endless(head.to_vec(), chunk())
}

fn large_failure(_: &[u8]) -> Act {
    let head = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 104857600\r\n\r\n";
    Act::Endless(head.to_vec(), vec![b'\x1b'; 1 << 16])
}

fn terminal_escapes(_: &[u8]) -> Act {
    Act::Answer(answer("502 Bad Gateway", b"\x1b[2J\x1b]0;owned\x07\x9b31m\r\nfake line"))
}

fn many_headers(_: &[u8]) -> Act {
    let headers: String = (0..50_000).map(|n| format!("\r\nx-{n}: y")).collect();
    Act::Answer(answer(&format!("200 OK{headers}"), b"{}"))
}

fn a_large_header(_: &[u8]) -> Act {
    Act::Answer(answer(&format!("200 OK\r\nx-large: {}", "y".repeat(8 << 20)), b"{}"))
}

fn endless_continue(_: &[u8]) -> Act {
    Act::Drip(b"HTTP/1.1 100 Continue\r\n\r\n".repeat(100))
}

/// As fast as the connection takes it: nobody gets to wait for more.
fn a_flood_of_continue(_: &[u8]) -> Act {
    let many = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(4000);
    Act::Endless(many.clone(), many)
}

/// One run of one case: a directory, an API, and perhaps something before it.
struct Stage<'a> {
    case: &'a Case,
    way: Way,
    bench: Bench,
    server: Option<Server>,
    front: Option<Front>,
    /// Where an API can start that nobody else takes meanwhile.
    address: SocketAddr,
}

impl<'a> Stage<'a> {
    async fn new(case: &'a Case, way: Way, workers: usize) -> Stage<'a> {
        let address = address_of_its_own();
        let server = match case.trouble {
            Trouble::Nobody => None,
            _ => Some(mock(none()).await),
        };
        let front = match (&case.trouble, &server) {
            (Trouble::Front(_), Some(server)) => Some(Front::start(server.addr(), healthy)),
            _ => None,
        };
        let bench = Bench::new();
        bench.inventory(RECORDS as usize);
        let stage = Stage { case, way, bench, server, front, address };
        let mode = if way == Way::OnFailure { "on_failure" } else { "write_ahead" };
        // A server that never answers is given up soon; the others may be slow.
        let timeout = if case.says == "no answer within" { "300ms" } else { "15s" };
        stage.bench.fleet(
            &stage.url(),
            &format!(
                "workers: {workers}\ntimeout: {timeout}\nspool: {{ mode: {mode} }}\n\
                 batch: {{ records: 10, linger: 20s }}\nretry: {{ attempts: 2, base: 5ms, cap: 20ms }}"
            ),
        );
        stage
    }

    fn url(&self) -> String {
        match (&self.case.trouble, &self.front, &self.server) {
            (Trouble::NoName, ..) => "http://no-such-host.invalid".to_owned(),
            (_, Some(front), _) => front.url(),
            (_, None, Some(server)) => server.url(),
            (_, None, None) => format!("http://{}", self.address),
        }
    }

    fn trouble(&self) {
        match (&self.case.trouble, &self.front, &self.server) {
            (Trouble::Front(script), Some(front), _) => front.set(*script),
            (Trouble::Api(faults), _, Some(server)) => {
                server.set_faults((**faults).clone()).unwrap()
            }
            _ => {}
        }
    }

    /// The API is well; gives what a run must be told for that.
    async fn heal(&mut self) -> Vec<String> {
        if let Some(front) = &self.front {
            front.set(healthy);
        }
        let Some(server) = &self.server else {
            let config = Config { listen: self.address, keep_records: true, ..Config::default() };
            self.server = Some(mock_load_api_server::start(config).await.unwrap());
            return Vec::new();
        };
        server.set_faults(none()).unwrap();
        match self.case.trouble {
            Trouble::NoName => {
                vec!["--set".to_owned(), format!("load.0.http.url={}/load", server.url())]
            }
            _ => Vec::new(),
        }
    }

    /// Fills the spool while the API is away, and takes the source away.
    fn fill_spool(&self) {
        if let Some(server) = &self.server {
            server.set_faults(support::down()).unwrap();
        }
        self.bench.run(&[]).exits(75);
        assert_eq!(self.bench.spool_files().len(), BATCHES);
        self.bench.inventory(0);
        if let Some(server) = &self.server {
            server.set_faults(none()).unwrap();
        }
    }

    async fn play(mut self) {
        if self.way == Way::Replay {
            self.fill_spool();
        }
        self.trouble();
        let began = Instant::now();
        let (output, peak_mib) = peak::to_the_end(self.bench.start(&["-v"]));
        let took = began.elapsed();
        self.check(&Ran::from(output), took, peak_mib);

        self.bench.inventory(0);
        let healed = self.heal().await;
        let mut more: Vec<&str> = healed.iter().map(String::as_str).collect();
        more.extend(["--set", "load.0.timeout=30s"]);
        self.bench.run(&more).exits(0);
        let alive = RECORDS - u64::from(self.case.end == End::Poison);
        each_exactly_once(self.server.as_ref().unwrap(), alive);
        assert_eq!(self.bench.spool_files().len(), 0);
        let dead = files_of(&self.bench.spool().join("dead")).len();
        assert_eq!(dead, usize::from(self.case.end == End::Poison));
    }

    /// What the run under the trouble must have come to.
    fn check(&self, ran: &Ran, took: Duration, peak_mib: u64) {
        let (code, waiting) = match self.case.end {
            End::Kept => (75, BATCHES),
            End::Delivered => (0, 0),
            End::Poison => (65, 0),
        };
        assert_eq!(ran.code, Some(code), "{}\n{}", ran.stdout, ran.stderr);
        assert_eq!(ran.json()["balanced"], true, "{}", ran.stdout);
        assert_eq!(self.bench.spool_files().len(), waiting, "{}", ran.stderr);
        if self.way != Way::Replay {
            let ends = ["delivered", "spooled", "dead_lettered"].map(|column| ran.sink(column));
            let expected = match self.case.end {
                End::Kept => [0, RECORDS, 0],
                End::Delivered => [RECORDS, 0, 0],
                End::Poison => [RECORDS - 1, 0, 1],
            };
            assert_eq!(ends, expected, "{}", ran.stdout);
        }
        let log = std::fs::read_to_string(self.bench.path("logs/etl.log")).unwrap();
        let told = format!("{}{log}", ran.stderr);
        assert!(told.contains(self.case.says), "`{}` is not in: {told}", self.case.says);
        let raw = told.chars().find(|c| c.is_control() && *c != '\n');
        assert_eq!(raw, None, "a control character reached the terminal or the log: {told:?}");
        assert!(told.len() < 256 << 10, "{} bytes were said about it", told.len());
        assert!(took >= self.case.at_least, "{took:?}");
        assert!(peak_mib < PEAK_MIB_MAX, "{peak_mib} MiB");
    }
}

/// An address on this machine that no other test or process uses.
fn address_of_its_own() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    // Each play its own: two with one address would share a server.
    SocketAddr::from(([127, NEXT.fetch_add(1, Relaxed), high, low.max(1)], 18_080))
}

#[test]
fn whatever_the_api_does_nothing_is_lost_doubled_or_miscounted() {
    let cases = cases();
    let ways = [Way::WriteAhead, Way::OnFailure, Way::Replay];
    let plan: Vec<(usize, Way, usize)> = (0..cases.len())
        .flat_map(|case| ways.map(|way| [(case, way, 1), (case, way, 10)]))
        .flatten()
        .collect();
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    // Most of the time is spent waiting for time-outs and backoff.
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(1)
                    .enable_all()
                    .build()
                    .unwrap();
                while let Some((at, way, workers)) = plan.get(next.fetch_add(1, Relaxed)) {
                    let case = &cases[*at];
                    let play = async { Stage::new(case, *way, *workers).await.play().await };
                    let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                        runtime.block_on(play);
                    }));
                    if played.is_err() {
                        let what =
                            format!("case {at} (`{}`), {way:?}, {workers} workers", case.says);
                        failed.lock().unwrap().push(what);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "of {} plays: {failed:#?}", plan.len());
}
