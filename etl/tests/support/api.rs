//! An API of a test's own making: a closure answers each request, byte by byte if it
//! wants to, and every request is remembered.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test file uses a part of this, and a failed step is a failed test"
)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use mock_load_api_server::{Faults, Server};

use crate::support::{Bench, Ran, mock};

/// A request as it came.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub query: BTreeMap<String, String>,
    /// By lower-case name.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Request {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub fn param(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// A parameter that is a number, 0 without one.
    pub fn number(&self, name: &str) -> usize {
        self.param(name).map_or(0, |text| text.parse().unwrap())
    }
}

/// Writes a whole answer; an error cuts the connection.
pub type Answering = dyn Fn(&Request, &mut dyn Write) -> std::io::Result<()> + Send + Sync;

/// The server; its threads end with the test's process.
pub struct Api {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Api {
    /// Answers every request with what `answer` gives.
    pub fn start(answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Api {
        Api::streaming(move |request, out| out.write_all(&answer(request)))
    }

    /// Answers every request with what `answering` writes.
    pub fn streaming(
        answering: impl Fn(&Request, &mut dyn Write) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Api {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (noted, answering) = (seen.clone(), Arc::new(answering));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, seen) = (stream.unwrap(), noted.clone());
                let answering = answering.clone();
                // A client that goes away ends its thread, and nothing else.
                std::thread::spawn(move || serve(&stream, &seen, &*answering).ok());
            }
        });
        Api { address, seen }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// How many requests came.
    pub fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

fn serve(
    stream: &TcpStream,
    seen: &Mutex<Vec<Request>>,
    answering: &Answering,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(request) = read_request(&mut reader)? {
        seen.lock().unwrap().push(request.clone());
        let mut out = stream;
        answering(&request, &mut out)?;
        out.flush()?;
    }
    Ok(())
}

fn read_request(reader: &mut impl BufRead) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut request = Request::default();
    let mut words = line.split_ascii_whitespace();
    request.method = words.next().unwrap_or_default().to_owned();
    let target = words.next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    request.path = path.to_owned();
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        request.query.insert(name.to_owned(), value.to_owned());
    }
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        request.headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = request.header("content-length").parse().unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    request.body = String::from_utf8_lossy(&body).into_owned();
    Ok(Some(request))
}

/// An answer with a body and its length; `head` is the status and perhaps headers.
pub fn answer(head: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let bytes = format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n", body.len());
    [bytes.as_bytes(), body].concat()
}

/// A 200 with a JSON body.
pub fn ok(body: impl AsRef<[u8]>) -> Vec<u8> {
    answer("200 OK\r\ncontent-type: application/json", body)
}

/// Records `from..until` as a JSON array.
pub fn records(range: std::ops::Range<usize>) -> String {
    let records: Vec<String> =
        range.map(|n| format!("{{\"id\":{n},\"title\":\"record {n}\"}}")).collect();
    format!("[{}]", records.join(","))
}

/// A pipeline `p` of the API `rest` into `sink`; what fails is asked for three times.
pub fn pipeline(bench: &Bench, rest: &str, sink: &str, load: &str) {
    let retry =
        if rest.contains("retry:") { "" } else { "retry: { attempts: 3, base: 5ms, cap: 40ms }" };
    let text = format!(
        "name: p\nsource:\n  rest:\n    {}\n    {retry}\nload:\n  - http: {{ url: \"{sink}/load\" }}\n    {}\n",
        rest.trim().replace('\n', "\n    "),
        load.trim().replace('\n', "\n    ")
    );
    bench.write("p.yaml", text);
}

/// Runs a pipeline of the API's `path` with more settings.
pub async fn run(api: &Api, path: &str, more: &str) -> (Ran, Server, Bench) {
    let (bench, sink) = (Bench::new(), mock(Faults::default()).await);
    pipeline(&bench, &format!("url: {}\n{more}", api.url(path)), &sink.url(), "");
    (bench.run(&[]), sink, bench)
}
