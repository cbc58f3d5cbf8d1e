//! Traces: what a collector gets over OTLP, and what a run does without one.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use mock_load_api_server::Faults;
use support::{Bench, each_exactly_once, mock};

#[cfg(not(feature = "otel"))]
#[tokio::test(flavor = "multi_thread")]
async fn a_build_without_traces_says_so_when_they_are_wanted_and_runs() {
    let (bench, server) = (Bench::new(), mock(Faults::default()).await);
    bench.inventory(10);
    bench.fleet(&server.url(), "");
    let mut command = bench.command(&["run", "p.yaml", "--json"]);
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1");
    let ran = support::Ran::from(command.env(endpoint.0, endpoint.1).output().unwrap()).exits(0);
    assert!(ran.stderr.contains("build it with --features otel"), "{}", ran.stderr);
    each_exactly_once(&server, 10);
}

#[cfg(feature = "otel")]
mod exported {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};

    use super::support::Ran;
    use super::*;

    /// An OTLP collector that keeps what it is sent.
    struct Collector {
        url: String,
        bodies: Arc<Mutex<Vec<Vec<u8>>>>,
    }

    /// One span as the collector got it.
    #[derive(Debug, Default, Clone, PartialEq)]
    struct Span {
        trace: Vec<u8>,
        id: Vec<u8>,
        parent: Vec<u8>,
        name: String,
        failed: bool,
    }

    impl Collector {
        fn start() -> Collector {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let bodies: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
            let kept = bodies.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let kept = kept.clone();
                    std::thread::spawn(move || take(&stream.unwrap(), &kept));
                }
            });
            Collector { url, bodies }
        }

        fn spans(&self) -> Vec<Span> {
            let bodies = self.bodies.lock().unwrap();
            bodies.iter().flat_map(|body| spans(body)).collect()
        }
    }

    /// Answers the requests of one connection.
    fn take(stream: &TcpStream, kept: &Mutex<Vec<Vec<u8>>>) {
        let mut reader = BufReader::new(stream);
        loop {
            let (mut length, mut first) = (0, String::new());
            if reader.read_line(&mut first).unwrap_or(0) == 0 {
                return;
            }
            assert!(first.starts_with("POST /v1/traces "), "{first}");
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                let line = line.trim().to_ascii_lowercase();
                if let Some(value) = line.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if line.is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            kept.lock().unwrap().push(body);
            let mut stream = stream;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        }
    }

    /// The fields of a protobuf message: number and bytes, or the number of a varint.
    fn fields(mut message: &[u8]) -> Vec<(u64, &[u8], u64)> {
        fn varint(message: &mut &[u8]) -> u64 {
            let (mut value, mut shift) = (0, 0);
            loop {
                let byte = message[0];
                *message = &message[1..];
                value |= u64::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    return value;
                }
            }
        }
        let mut found = Vec::new();
        while !message.is_empty() {
            let tag = varint(&mut message);
            let length = match tag & 7 {
                0 => {
                    found.push((tag >> 3, &message[..0], varint(&mut message)));
                    continue;
                }
                1 => 8,
                2 => usize::try_from(varint(&mut message)).unwrap(),
                5 => 4,
                other => panic!("wire type {other}"),
            };
            found.push((tag >> 3, &message[..length], 0));
            message = &message[length..];
        }
        found
    }

    /// The sub-messages of `message` in its field `number`.
    fn inner(message: &[u8], number: u64) -> Vec<&[u8]> {
        fields(message).into_iter().filter(|it| it.0 == number).map(|it| it.1).collect()
    }

    /// The spans of an `ExportTraceServiceRequest` (opentelemetry-proto, trace.proto).
    fn spans(request: &[u8]) -> Vec<Span> {
        let mut spans = Vec::new();
        for resource in inner(request, 1) {
            for scope in inner(resource, 2) {
                for message in inner(scope, 2) {
                    let mut span = Span::default();
                    for (number, bytes, _) in fields(message) {
                        match number {
                            1 => span.trace = bytes.to_vec(),
                            2 => span.id = bytes.to_vec(),
                            4 => span.parent = bytes.to_vec(),
                            5 => span.name = String::from_utf8(bytes.to_vec()).unwrap(),
                            15 => {
                                span.failed = fields(bytes).iter().any(|it| (it.0, it.2) == (3, 2))
                            }
                            _ => {}
                        }
                    }
                    spans.push(span);
                }
            }
        }
        spans
    }

    fn run_with(bench: &Bench, endpoint: &str) -> Ran {
        let mut command = bench.command(&["run", "p.yaml", "--json"]);
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint).output().unwrap().into()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_run_its_batches_and_their_requests_are_one_trace() {
        let faults = Faults { fail: [(503, 0.3)].into(), ..Faults::default() };
        let (bench, server) = (Bench::new(), mock(faults).await);
        let collector = Collector::start();
        bench.inventory(2000);
        bench.fleet(&server.url(), "retry: { attempts: 9, base: 5ms, cap: 10ms }");
        let ran = run_with(&bench, &collector.url);
        assert!(!ran.stderr.contains("traces"), "{}", ran.stderr);
        let spans = collector.spans();
        let named =
            |name: &str| -> Vec<&Span> { spans.iter().filter(|span| span.name == name).collect() };
        let (runs, batches, requests) = (named("run"), named("batch"), named("request"));
        assert_eq!(runs.len(), 1, "{spans:?}");
        assert!(runs[0].parent.is_empty());
        let ids: Vec<&[u8]> = batches.iter().map(|batch| &*batch.id).collect();
        assert!(batches.iter().all(|batch| batch.parent == runs[0].id));
        assert!(requests.iter().all(|request| ids.contains(&&*request.parent)));
        assert!(spans.iter().all(|span| span.trace == runs[0].trace));
        let stats = server.stats();
        assert_eq!(requests.len() as u64, stats.requests);
        let failed = requests.iter().filter(|request| request.failed).count() as u64;
        assert_eq!(failed, stats.requests - stats.by_status[&200]);
        assert!(failed > 0, "{stats:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_collector_that_is_down_costs_nothing_but_a_line() {
        let (bench, server) = (Bench::new(), mock(Faults::default()).await);
        bench.inventory(2000);
        bench.fleet(&server.url(), "");
        run_with(&bench, "http://127.0.0.1:1").exits(0);
        each_exactly_once(&server, 2000);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_endpoint_that_is_no_address_is_said_and_stops_nothing() {
        let (bench, server) = (Bench::new(), mock(Faults::default()).await);
        bench.inventory(10);
        bench.fleet(&server.url(), "");
        let ran = run_with(&bench, "not an address").exits(0);
        assert!(ran.stderr.contains("traces"), "{}", ran.stderr);
        each_exactly_once(&server, 10);
    }
}
