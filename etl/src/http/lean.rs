//! GETs over plain HTTP that cost little while they wait. A fleet has thousands of polls
//! in flight, each with nothing to do but to wait for its answer: here that takes a
//! socket and no buffer, since one is needed only when there is something to read.
//! Requests with a body, HTTP/2 and TLS are the pool's, [`super::HttpClient`].

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper::header::HeaderValue;
use hyper::{StatusCode, Uri};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::body::BodyError;
use super::connect::{ConnectTimedOut, LOOKUPS_MAX, LookupFailed};
use super::error::{SendError, SendErrorKind};
use super::response::{Reader, Trouble};

/// Read at once; answers of usual size take one or two.
const READ_BYTES: usize = 16 << 10;
/// Between two looks for connections that nobody has used for too long.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

thread_local! {
    /// What is read goes through here: never kept over a wait.
    static READ: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// How far a GET has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It has no connection yet.
    Connecting,
    /// The request is out.
    Waiting,
    /// The answer has begun.
    Reading,
}

/// An answer with all of its body.
#[derive(Debug)]
pub struct LeanAnswer {
    /// The status.
    pub status: StatusCode,
    /// Where a redirect leads.
    pub location: Option<Vec<u8>>,
    /// The body; empty unless the status is 200.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum LeanError {
    /// None came.
    #[error(transparent)]
    Send(#[from] SendError),
    /// It could not be read to its end.
    #[error(transparent)]
    Body(#[from] BodyError),
}

/// A client for GETs; see the module.
#[derive(Debug)]
pub struct LeanClient {
    connect_timeout: Duration,
    lookups: Semaphore,
    /// Milliseconds that a connection is kept which nobody uses.
    idle_ms: AtomicU64,
    kept_max: AtomicUsize,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    by_authority: HashMap<Box<str>, Vec<(TcpStream, Instant)>>,
    count: usize,
    swept: Instant,
}

impl LeanClient {
    /// A client that keeps up to `kept_max` connections for `idle`.
    #[must_use]
    pub fn new(connect_timeout: Duration, idle: Duration, kept_max: usize) -> LeanClient {
        let kept = Kept { by_authority: HashMap::new(), count: 0, swept: Instant::now() };
        let client = LeanClient {
            connect_timeout,
            lookups: Semaphore::new(LOOKUPS_MAX),
            idle_ms: AtomicU64::new(0),
            kept_max: AtomicUsize::new(0),
            kept: Mutex::new(kept),
        };
        client.keep(idle, kept_max);
        client
    }

    /// Keeps up to `kept_max` connections for `idle` from now on.
    pub fn keep(&self, idle: Duration, kept_max: usize) {
        self.idle_ms.store(u64::try_from(idle.as_millis()).unwrap_or(u64::MAX), Relaxed);
        self.kept_max.store(kept_max, Relaxed);
    }

    /// GETs `url`, which begins with `http://`, and reads the body of a 200 up to `cap`
    /// bytes. Has no deadline but that of connecting. `stage` hears how far it is.
    ///
    /// # Errors
    /// When no answer came, or not all of it.
    pub async fn get(
        &self,
        url: &Uri,
        headers: &[(&'static str, HeaderValue)],
        cap: usize,
        stage: &(dyn Fn(Stage) + Sync),
    ) -> Result<LeanAnswer, LeanError> {
        let authority = url.authority().map_or("", |authority| authority.as_str());
        let keeps = self.idle_ms.load(Relaxed) > 0;
        let request = request(url, authority, headers, keeps);
        while let Some(stream) = self.take(authority) {
            stage(Stage::Waiting);
            match self.exchange(stream, &request, authority, cap, stage).await {
                // It was closed while nobody looked: no answer has begun.
                Err(Failed { gone: true, .. }) => {}
                ended => return ended.map_err(|failed| failed.error),
            }
        }
        stage(Stage::Connecting);
        let stream = self.connect(url).await?;
        stage(Stage::Waiting);
        let exchanged = self.exchange(stream, &request, authority, cap, stage).await;
        exchanged.map_err(|failed| failed.error)
    }

    /// Sends and reads.
    async fn exchange(
        &self,
        stream: TcpStream,
        request: &[u8],
        authority: &str,
        cap: usize,
        stage: &(dyn Fn(Stage) + Sync),
    ) -> Result<LeanAnswer, Failed> {
        let mut reader = Reader::default();
        let read = match send(&stream, request).await {
            Ok(()) => read(&stream, &mut reader, cap, stage).await,
            Err(error) => Err(Broken::Io(error)),
        };
        let failed = |broken: Broken, reader: &Reader| Failed {
            gone: !reader.begun() && broken.is_gone(),
            error: broken.told(reader.head().is_some(), cap),
        };
        read.map_err(|broken| failed(broken, &reader))?;
        if reader.reusable() {
            self.put(authority, stream);
        }
        let Some(head) = reader.head() else { return Err(failed(Broken::Closed, &reader)) };
        let (status, location) = (head.status, head.location.clone());
        Ok(LeanAnswer { status, location, body: reader.into_body().into() })
    }

    /// A connection that is still open.
    fn take(&self, authority: &str) -> Option<TcpStream> {
        let idle = Duration::from_millis(self.idle_ms.load(Relaxed));
        let mut kept = self.kept();
        loop {
            let streams = kept.by_authority.get_mut(authority)?;
            let Some((stream, since)) = streams.pop() else {
                kept.by_authority.remove(authority);
                return None;
            };
            kept.count -= 1;
            let mut byte = [0];
            let quiet = stream.try_read(&mut byte);
            let open = quiet.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
            if open && since.elapsed() < idle {
                return Some(stream);
            }
        }
    }

    fn put(&self, authority: &str, stream: TcpStream) {
        let idle = Duration::from_millis(self.idle_ms.load(Relaxed));
        let now = Instant::now();
        let mut kept = self.kept();
        if now - kept.swept >= SWEEP_EVERY {
            kept.sweep(now, idle);
        }
        if idle.is_zero() || kept.count >= self.kept_max.load(Relaxed) {
            return;
        }
        kept.count += 1;
        match kept.by_authority.get_mut(authority) {
            Some(streams) => streams.push((stream, now)),
            None => drop(kept.by_authority.insert(authority.into(), vec![(stream, now)])),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Whole between any two calls on it.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect(&self, url: &Uri) -> Result<TcpStream, SendError> {
        let timed_out =
            || SendError::new(SendErrorKind::ConnectTimeout, true, ConnectTimedOut.into());
        match tokio::time::timeout(self.connect_timeout, self.connect_to_any(url)).await {
            Ok(connected) => connected,
            Err(_) => Err(timed_out()),
        }
    }

    async fn connect_to_any(&self, url: &Uri) -> Result<TcpStream, SendError> {
        let port = url.port_u16().unwrap_or(80);
        let host = url.host().unwrap_or_default();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            let connected = TcpStream::connect(SocketAddr::new(address, port)).await;
            return connected.map_err(SendError::connecting);
        }
        let addresses = self.look_up(host, port).await?;
        // The time is shared, so that one dead address leaves some for the next.
        let each = self.connect_timeout / u32::try_from(addresses.len().max(1)).unwrap_or(1);
        let mut last = SendError::new(SendErrorKind::Dns, true, "no address".into());
        for address in addresses {
            last = match tokio::time::timeout(each, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => SendError::connecting(error),
                Err(_) => {
                    SendError::new(SendErrorKind::ConnectTimeout, true, ConnectTimedOut.into())
                }
            };
        }
        Err(last)
    }

    async fn look_up(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, SendError> {
        let failed = |error| SendError::connecting(LookupFailed(error));
        let slot = self.lookups.acquire().await;
        let _slot = slot.map_err(|closed| failed(io::Error::other(closed)))?;
        tokio::net::lookup_host((host, port)).await.map(Iterator::collect).map_err(failed)
    }
}

impl Kept {
    /// Closes what nobody has used for too long.
    fn sweep(&mut self, now: Instant, idle: Duration) {
        self.swept = now;
        self.by_authority.retain(|_, streams| {
            streams.retain(|(_, since)| now - *since < idle);
            !streams.is_empty()
        });
        self.count = self.by_authority.values().map(Vec::len).sum();
    }
}

fn request(
    url: &Uri,
    authority: &str,
    headers: &[(&'static str, HeaderValue)],
    keeps: bool,
) -> Vec<u8> {
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let mut bytes = Vec::with_capacity(256);
    for text in ["GET ", path, " HTTP/1.1\r\nhost: ", authority, "\r\n"] {
        bytes.extend_from_slice(text.as_bytes());
    }
    for (name, value) in headers {
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(if keeps { b"\r\n" } else { b"connection: close\r\n\r\n" });
    bytes
}

/// What ended an exchange.
enum Broken {
    Io(io::Error),
    Trouble(Trouble),
    Closed,
}

/// An exchange that came to nothing.
struct Failed {
    error: LeanError,
    /// The connection was not there any more, before anything of an answer had come.
    gone: bool,
}

impl Broken {
    fn is_gone(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
        match self {
            Broken::Closed => true,
            Broken::Trouble(_) => false,
            Broken::Io(error) => {
                matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset)
            }
        }
    }

    fn told(self, within_body: bool, cap: usize) -> LeanError {
        let (kind, source): (_, Box<dyn std::error::Error + Send + Sync>) = match self {
            Broken::Trouble(Trouble::TooLarge) => return BodyError::TooLarge { cap }.into(),
            Broken::Trouble(Trouble::NotHttp) => (SendErrorKind::NotHttp, "not HTTP".into()),
            Broken::Closed => (SendErrorKind::Closed, "closed".into()),
            Broken::Io(error) => (SendErrorKind::of_io(&error), error.into()),
        };
        if within_body {
            return BodyError::Broken { kind, source }.into();
        }
        SendError::new(kind, false, source).into()
    }
}

async fn send(stream: &TcpStream, mut request: &[u8]) -> io::Result<()> {
    while !request.is_empty() {
        match stream.try_write(request) {
            Ok(sent) => request = &request[sent..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads until the answer is complete, or has another status than 200: then nobody wants
/// its body.
async fn read(
    stream: &TcpStream,
    reader: &mut Reader,
    cap: usize,
    stage: &(dyn Fn(Stage) + Sync),
) -> Result<(), Broken> {
    loop {
        stream.readable().await.map_err(Broken::Io)?;
        let begun = reader.begun();
        let complete = READ.with_borrow_mut(|buffer| match stream.try_read(buffer) {
            Ok(0) if reader.ended() => Ok(true),
            Ok(0) => Err(Broken::Closed),
            Ok(count) => reader.push(&buffer[..count], cap).map_err(Broken::Trouble),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(Broken::Io(error)),
        })?;
        if complete || reader.head().is_some_and(|head| head.status != StatusCode::OK) {
            return Ok(());
        }
        if !begun && reader.head().is_some() {
            stage(Stage::Reading);
        }
    }
}
