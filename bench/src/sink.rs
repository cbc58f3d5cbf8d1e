//! The API at the other end: one thread, answers at once, counts what arrives.
//!
//! It counts instead of parsing, so that it is not what is measured. A batch is
//! a JSON array of records that are so many objects each, and no text in them
//! contains a brace (the fixtures' do not): opening braces give the records. What
//! is not such an array is counted as malformed and none of its records.

use std::collections::HashSet;
use std::convert::Infallible;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;

/// What has arrived.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Counts {
    /// Complete requests.
    pub(crate) requests: u64,
    /// Bytes of their bodies.
    pub(crate) bytes: u64,
    /// Records, those of repeated keys not counted again.
    pub(crate) records: u64,
    /// Requests whose `Idempotency-Key` had arrived before.
    pub(crate) repeated: u64,
    /// Requests that were not an array of whole records, or broke off.
    pub(crate) malformed: u64,
}

/// How a sink behaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SinkOptions {
    /// JSON objects of a record: itself and those nested in it.
    pub(crate) objects_per_record: u64,
    /// What it takes for each request.
    pub(crate) delay: Duration,
    /// Its port; 0: any that is free.
    pub(crate) port: u16,
    /// Requests whose body begins so are also counted by themselves.
    pub(crate) mark: Option<&'static [u8]>,
}

/// What of a load that is told apart has arrived.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Marked {
    /// Records.
    pub(crate) records: u64,
    /// When its first and its last request were complete.
    pub(crate) span: Option<(Instant, Instant)>,
    /// Requests of others since then.
    pub(crate) others_since: u64,
}

impl Default for SinkOptions {
    fn default() -> Self {
        SinkOptions { objects_per_record: 1, delay: Duration::ZERO, port: 0, mark: None }
    }
}

struct Ledger {
    objects_per_record: u64,
    delay: Duration,
    mark: Option<&'static [u8]>,
    marked: Marked,
    counts: Counts,
    keys: HashSet<Box<[u8]>>,
}

/// A running sink; dropping it stops it.
pub(crate) struct Sink {
    address: SocketAddr,
    ledger: Arc<Mutex<Ledger>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Sink {
    /// Starts on a free port of the loopback interface. A record is
    /// `objects_per_record` JSON objects: itself and those nested in it.
    pub(crate) fn start(objects_per_record: u64) -> io::Result<Sink> {
        Sink::start_with(SinkOptions { objects_per_record, ..SinkOptions::default() })
    }

    /// Starts one that behaves as `options` say.
    pub(crate) fn start_with(options: SinkOptions) -> io::Result<Sink> {
        let SinkOptions { objects_per_record, delay, port, mark } = options;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (marked, counts, keys) = (Marked::default(), Counts::default(), HashSet::new());
        let ledger = Ledger { objects_per_record, delay, mark, marked, counts, keys };
        let ledger = Arc::new(Mutex::new(ledger));
        let (stop, stopped) = oneshot::channel();
        let shared = ledger.clone();
        let thread = std::thread::Builder::new().name("sink".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    _ = accept(listener, shared) => {}
                }
            });
        })?;
        Ok(Sink { address, ledger, stop: Some(stop), thread: Some(thread) })
    }

    /// Where to POST.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/load", self.address)
    }

    /// What of the marked load has arrived since the last call.
    pub(crate) fn take_marked(&self) -> Marked {
        std::mem::take(&mut lock(&self.ledger).marked)
    }

    /// What has arrived since the last call; forgets the keys too.
    pub(crate) fn take(&self) -> Counts {
        let mut ledger = lock(&self.ledger);
        ledger.keys.clear();
        std::mem::take(&mut ledger.counts)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A sink that panicked has counted nothing, which the bench reports.
            thread.join().ok();
        }
    }
}

fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, ledger: Arc<Mutex<Ledger>>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let ledger = ledger.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, &ledger));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // A connection that breaks has counted only what was complete.
            connection.await.ok();
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    ledger: &Mutex<Ledger>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, mut body) = request.into_parts();
    let mut count = Counter::new(head.headers.contains_key("content-encoding"));
    let mut mark = lock(ledger).mark;
    while let Some(frame) = body.frame().await {
        match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(data)) => {
                // Judged by what comes first, which is longer than a mark.
                mark = mark.filter(|mark| count.has_begun() || data.starts_with(mark));
                count.add(&data);
            }
            Ok(Err(_trailers)) => {}
            Err(_broken) => {
                lock(ledger).counts.malformed += 1;
                return Ok(reply(StatusCode::BAD_REQUEST));
            }
        }
    }
    let key = head.headers.get("idempotency-key").map(|key| key.as_bytes().into());
    let delay = lock(ledger).delay;
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    let valid = lock(ledger).enter(key, &count.finish(), mark.is_some());
    Ok(reply(if valid { StatusCode::OK } else { StatusCode::BAD_REQUEST }))
}

fn reply(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = status;
    response
}

impl Ledger {
    /// Enters a complete request; false when it was malformed.
    fn enter(&mut self, key: Option<Box<[u8]>>, count: &ArrayCount, marked: bool) -> bool {
        self.counts.requests += 1;
        self.counts.bytes += count.bytes;
        let Some(records) = count.records(self.objects_per_record) else {
            self.counts.malformed += 1;
            return false;
        };
        if marked {
            let now = Instant::now();
            let first = self.marked.span.map_or(now, |(first, _)| first);
            let records = self.marked.records + records;
            self.marked = Marked { records, span: Some((first, now)), others_since: 0 };
        } else {
            self.marked.others_since += 1;
        }
        // A loader without keys is counted in full: its duplicates show as excess.
        if key.is_none_or(|key| self.keys.insert(key)) {
            self.counts.records += records;
        } else {
            self.counts.repeated += 1;
        }
        true
    }
}

/// Counts a body, unpacking it where that is needed.
enum Counter {
    Plain(ArrayCount),
    Gzip(Box<flate2::write::GzDecoder<ArrayCount>>),
}

impl Counter {
    fn new(gzip: bool) -> Counter {
        let count = ArrayCount::default();
        match gzip {
            true => Counter::Gzip(Box::new(flate2::write::GzDecoder::new(count))),
            false => Counter::Plain(count),
        }
    }

    fn add(&mut self, data: &[u8]) {
        match self {
            Counter::Plain(count) => count.add(data),
            // What does not unpack is no array in the end.
            Counter::Gzip(unpacked) => drop(unpacked.write_all(data)),
        }
    }

    /// Whether anything of the body has come; what is packed is never told apart.
    fn has_begun(&self) -> bool {
        match self {
            Counter::Plain(count) => count.bytes > 0,
            Counter::Gzip(_) => false,
        }
    }

    fn finish(self) -> ArrayCount {
        match self {
            Counter::Plain(count) => count,
            Counter::Gzip(unpacked) => unpacked.finish().unwrap_or_default(),
        }
    }
}

impl Write for ArrayCount {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.add(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The outline of a JSON array, from its pieces.
#[derive(Debug, Default)]
struct ArrayCount {
    bytes: u64,
    opened: u64,
    closed: u64,
    first: Option<u8>,
    last: Option<u8>,
}

impl ArrayCount {
    fn add(&mut self, data: &[u8]) {
        self.bytes += data.len() as u64;
        self.opened += memchr::memchr_iter(b'{', data).count() as u64;
        self.closed += memchr::memchr_iter(b'}', data).count() as u64;
        self.first = self.first.or(data.first().copied());
        self.last = data.last().copied().or(self.last);
    }

    /// Records in it; none when it is not an array of whole records.
    fn records(&self, objects_per_record: u64) -> Option<u64> {
        let whole = self.first == Some(b'[')
            && self.last == Some(b']')
            && self.opened == self.closed
            && self.opened.is_multiple_of(objects_per_record);
        whole.then(|| self.opened / objects_per_record)
    }
}

#[cfg(test)]
mod tests;
