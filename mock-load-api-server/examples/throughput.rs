//! Requests a second of the mock against a bare hyper handler that reads the body, in one
//! process, in alternating rounds:
//! `cargo run --release -p mock-load-api-server --example throughput [ROWS] [CONNECTIONS]`
//!
//! The clients write prepared HTTP/1.1 requests, so that they cost as little as clients can.
//! All cores are saturated, so the ratio shows what checking costs; the figures are in
//! `docs/decisions/0006`. The second ratio is of requests a second of processor time: other
//! work on the machine changes it less.
//! Every request has its own key and, unless `ROWS` is 0 (one record, always the same), its own records.

use std::convert::Infallible;
use std::error::Error;
use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use mock_load_api_server::{Config, start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

type Failure = Box<dyn Error + Send + Sync>;

const ROUND: Duration = Duration::from_millis(700);
const ROUNDS: u32 = 5;
/// Bytes of each number that makes a request its own.
const DIGITS: usize = 16;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = |otherwise: usize| -> Result<usize, Failure> {
        Ok(arguments.next().map(|text| text.parse()).transpose()?.unwrap_or(otherwise))
    };
    let (rows, connections) = (argument(200)?, argument(32)?);
    let mock = start(Config::default()).await?;
    let bare = start_bare().await?;
    let mut out = std::io::stdout();
    let size = Template::new(rows).bytes.len();
    writeln!(out, "{rows} records, {size} bytes a request, {connections} connections")?;
    let mut totals = [Rates::default(); 2];
    for round in 0..=ROUNDS {
        for (total, addr) in totals.iter_mut().zip([bare, mock.addr()]) {
            let rates = measure(addr, rows, connections).await?;
            // The first round warms up.
            if round > 0 {
                total.by_clock += rates.by_clock / f64::from(ROUNDS);
                total.by_processor += rates.by_processor / f64::from(ROUNDS);
            }
        }
    }
    let [bare, checking] = totals;
    writeln!(
        out,
        "bare {:.0}/s, mock {:.0}/s, ratio {:.2}, by processor time {:.2}",
        bare.by_clock,
        checking.by_clock,
        checking.by_clock / bare.by_clock,
        checking.by_processor / bare.by_processor
    )?;
    let stats = mock.stats();
    writeln!(out, "ledger: {} batches, {} different records", stats.batches, stats.unique_records)?;
    Ok(())
}

async fn start_bare() -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let read = service_fn(|request: Request<Incoming>| async move {
                    let length =
                        request.into_body().collect().await.map_or(0, |b| b.to_bytes().len());
                    std::hint::black_box(length);
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"{}"))))
                });
                // A client that leaves ends its connection.
                drop(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), read)
                        .await,
                );
            });
        }
    });
    Ok(addr)
}

/// Requests a second.
#[derive(Clone, Copy, Default)]
struct Rates {
    by_clock: f64,
    by_processor: f64,
}

/// Processor time of this process so far, from `/proc/self/stat`.
fn processor_seconds() -> Result<f64, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    // utime and stime, fields 14 and 15; the name's bracket ends the second.
    let ticks: Result<Vec<f64>, _> = fields.skip(11).take(2).map(str::parse).collect();
    Ok(ticks?.iter().sum::<f64>() / 100.0)
}

async fn measure(addr: SocketAddr, rows: usize, connections: usize) -> Result<Rates, Failure> {
    let (began, used) = (Instant::now(), processor_seconds()?);
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..connections {
        clients.spawn(load(addr, rows, began + ROUND));
    }
    let mut requests = 0;
    while let Some(done) = clients.join_next().await {
        requests += done??;
    }
    let requests = f64::from(requests);
    Ok(Rates {
        by_clock: requests / began.elapsed().as_secs_f64(),
        by_processor: requests / (processor_seconds()? - used),
    })
}

async fn load(addr: SocketAddr, rows: usize, until: Instant) -> Result<u32, Failure> {
    let mut stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let mut template = Template::new(rows);
    let mut answer = vec![0; 1024];
    let mut requests = 0;
    while Instant::now() < until {
        template.renumber();
        stream.write_all(&template.bytes).await?;
        // Answers are small and come in one piece.
        let length = stream.read(&mut answer).await?;
        if !answer[..length].starts_with(b"HTTP/1.1 200") {
            return Err(String::from_utf8_lossy(&answer[..length]).into());
        }
        requests += 1;
    }
    Ok(requests)
}

/// A prepared request and the places of its numbers.
struct Template {
    bytes: Vec<u8>,
    numbers: Vec<usize>,
    random: fastrand::Rng,
}

impl Template {
    fn new(rows: usize) -> Self {
        let number = "0".repeat(DIGITS);
        let row = format!(
            "{{\"name\":\"device-{number}\",\"cpu_number\":\"0\",\"pidle\":\"87.31\",\"puser\":\"5.12\",\
             \"psys\":\"4.17\",\"pirq\":\"0.40\",\"pnice\":\"3.00\",\"timestamp\":1763645000,\
             \"site\":\"rack 17, row 4\"}}"
        );
        let body = format!("[{}]", vec![row; rows.max(1)].join(","));
        let head = format!(
            "POST /load HTTP/1.1\r\nhost: mock\r\ncontent-type: application/json\r\n\
             idempotency-key: {number}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let text = head + &body;
        let mut numbers: Vec<usize> = text.match_indices(&number).map(|(at, _)| at).collect();
        if rows == 0 {
            numbers.truncate(1);
        }
        Self { bytes: text.into_bytes(), numbers, random: fastrand::Rng::new() }
    }

    fn renumber(&mut self) {
        for at in &self.numbers {
            let mut number = self.random.u64(..);
            for digit in &mut self.bytes[*at..*at + DIGITS] {
                *digit = b'a' + (number & 15) as u8;
                number >>= 4;
            }
        }
    }
}
