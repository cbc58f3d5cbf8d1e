//! Appliances of a test's own making: one port on every address of this machine, each
//! path one appliance, which answers, fails or hangs as it is told. Every request is
//! remembered with its time, and how many were going on at once.

#![allow(dead_code, clippy::unwrap_used, reason = "as in the rest of the support code")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use etl::fleet::grid::Grid;
use etl::fleet::roster::Roster;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::Bench;

/// What an appliance does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Does {
    /// Answers after so long.
    Answer(Duration),
    /// Answers 500.
    Fail,
    /// Never answers.
    Hang,
}

/// All appliances.
#[derive(Clone)]
pub struct Appliances {
    pub port: u16,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    does: HashMap<usize, Does>,
    /// By appliance: when its requests came, milliseconds since 1970.
    hits: BTreeMap<usize, Vec<u64>>,
    now: HashMap<IpAddr, usize>,
    most: HashMap<IpAddr, usize>,
    all_now: usize,
    all_most: usize,
}

pub const AT_ONCE: Does = Does::Answer(Duration::ZERO);

impl Appliances {
    pub async fn start() -> Appliances {
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let inner = Arc::<Mutex<Inner>>::default();
        let appliances = Appliances { port, inner: inner.clone() };
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // A client that goes away ends its task, and nothing else.
                tokio::spawn(serve(stream, inner.clone()));
            }
        });
        appliances
    }

    /// Lets some appliances do something else.
    pub fn let_them(&self, which: impl IntoIterator<Item = usize>, does: Does) {
        let mut inner = self.inner.lock().unwrap();
        inner.does.extend(which.into_iter().map(|id| (id, does)));
    }

    /// When each was asked, milliseconds since 1970.
    pub fn hits(&self) -> BTreeMap<usize, Vec<u64>> {
        self.inner.lock().unwrap().hits.clone()
    }

    /// How often all were asked together.
    pub fn count(&self) -> usize {
        self.inner.lock().unwrap().hits.values().map(Vec::len).sum()
    }

    /// The most requests at once: of one address, and of all.
    pub fn most_at_once(&self) -> (usize, usize) {
        let inner = self.inner.lock().unwrap();
        (inner.most.values().copied().max().unwrap_or(0), inner.all_most)
    }

    /// An inventory of the appliances `ids`, over `hosts` addresses.
    pub fn inventory(&self, bench: &Bench, ids: impl IntoIterator<Item = usize>, hosts: usize) {
        let mut rows = "id,ip\n".to_owned();
        for id in ids {
            rows.push_str(&format!("{id},127.0.7.{}\n", 1 + id % hosts));
        }
        // Whole or not at all, as a careful tool would.
        let written = bench.write("inventory.new", rows);
        std::fs::rename(written, bench.path("appliances.csv")).unwrap();
    }

    /// A pipeline `p` that polls them for good.
    pub fn pipeline(&self, bench: &Bench, every: &str, extract: &str, api: &str) {
        let port = self.port;
        let text = format!(
            "name: p\nsource:\n  csv: {{ path: appliances.csv }}\nextract:\n  every: {every}\n  \
             attempts: 1\n{extract}  http: {{ url: \"http://{{ip}}:{port}/{{id}}\" }}\nload:\n  - \
             http: {{ url: \"{api}/load\" }}\n    batch: {{ records: 50, linger: 300ms }}\n    \
             retry: {{ attempts: 2, base: 20ms, cap: 100ms }}\n    timeout: 15s\n"
        );
        let written = bench.write("p.new", text);
        std::fs::rename(written, bench.path("p.yaml")).unwrap();
    }
}

/// The cycles in which an appliance of [`Appliances::inventory`] was asked.
pub fn cycles(id: usize, hosts: usize, interval: Duration, hits: &[u64]) -> Vec<u32> {
    let (grid, phase) = place(id, hosts, interval);
    hits.iter().map(|hit| grid.cycle_at(*hit, phase)).collect()
}

/// When an appliance is due.
pub fn place(id: usize, hosts: usize, interval: Duration) -> (Grid, u32) {
    let mut roster = Roster::default();
    let row = format!("{{\"id\":{id},\"ip\":\"127.0.7.{}\"}}", 1 + id % hosts);
    roster.push(row.as_bytes()).unwrap();
    roster.finish();
    let grid = Grid::new(interval);
    (grid, grid.phase(roster.identities()[0]))
}

/// Fails unless the cycles rise one by one: none twice, none left out.
#[track_caller]
pub fn one_by_one(id: usize, cycles: &[u32]) {
    let expected: Vec<u32> =
        cycles.first().map_or(vec![], |first| (*first..).take(cycles.len()).collect());
    assert_eq!(cycles, expected, "appliance {id}");
}

/// The appliances and numbers of requests that records in the mock's ledger name.
pub fn delivered(server: &mock_load_api_server::Server) -> BTreeSet<(usize, usize)> {
    let number = |value: &serde_json::Value| usize::try_from(value.as_u64().unwrap()).unwrap();
    let records = server.records();
    let rows = records
        .iter()
        .map(|row| serde_json::from_slice::<serde_json::Value>(row.body.as_ref()).unwrap());
    rows.map(|row| (number(&row["id"]), number(&row["n"]))).collect()
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

async fn serve(mut stream: TcpStream, inner: Arc<Mutex<Inner>>) -> std::io::Result<()> {
    let host = stream.local_addr()?.ip();
    let mut head = Vec::new();
    loop {
        head.clear();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let text = String::from_utf8_lossy(&head);
        let path = text.split(' ').nth(1).unwrap();
        let id: usize = path.trim_start_matches('/').parse().unwrap();
        let (does, n) = {
            let mut inner = inner.lock().unwrap();
            let hits = inner.hits.entry(id).or_default();
            hits.push(now_ms());
            let n = hits.len() - 1;
            inner.all_now += 1;
            inner.all_most = inner.all_most.max(inner.all_now);
            let now = inner.now.entry(host).or_default();
            *now += 1;
            let now = *now;
            let most = inner.most.entry(host).or_default();
            *most = (*most).max(now);
            (inner.does.get(&id).copied().unwrap_or(AT_ONCE), n)
        };
        let answer = match does {
            Does::Answer(after) => {
                tokio::time::sleep(after).await;
                Some(("200 OK", format!("{{\"n\":{n}}}")))
            }
            Does::Fail => Some(("500 Internal Server Error", String::new())),
            Does::Hang => None,
        };
        if answer.is_none() {
            // Until the client gives up.
            while stream.read_u8().await.is_ok() {}
        }
        {
            let mut inner = inner.lock().unwrap();
            inner.all_now -= 1;
            *inner.now.get_mut(&host).unwrap() -= 1;
        }
        let Some((status, body)) = answer else { return Ok(()) };
        let length = body.len();
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
        stream.write_all(answer.as_bytes()).await?;
    }
}
