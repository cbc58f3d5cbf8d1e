//! A fleet on the loopback interface: every target has an address of its own, as in a
//! network, so that no pair of addresses runs out of ports and no connection to one
//! target serves another. One socket listens on all of them, on `lo` alone.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;

use super::hits::Hits;

/// The first target's address; the others follow.
const FIRST: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 0);

/// Connections that wait to be accepted.
const BACKLOG: u32 = 4096;

/// More than any request of a poll has.
const HEAD_BYTES_MAX: usize = 4096;

/// One target in so many accepts and never answers.
const BLACK_HOLE_EVERY: usize = 20;

/// What a fleet is like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FleetOptions {
    pub(crate) targets: usize,
    /// How often each of them is to be polled.
    pub(crate) every: Duration,
    /// What a poll may take in all.
    pub(crate) deadline: Duration,
    /// What each takes to answer.
    pub(crate) delay: Duration,
    /// Whether one in twenty never answers.
    pub(crate) black_holes: bool,
}

impl FleetOptions {
    /// Whether a target answers.
    pub(crate) fn is_living(&self, target: usize) -> bool {
        !self.black_holes || target % BLACK_HOLE_EVERY != BLACK_HOLE_EVERY / 2
    }
}

/// A running fleet; dropping it stops it.
pub(crate) struct MockFleet {
    pub(crate) port: u16,
    hits: Arc<Mutex<Hits>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Fleet {
    options: FleetOptions,
    began: Instant,
    hits: Arc<Mutex<Hits>>,
}

impl MockFleet {
    /// Starts on a free port.
    pub(crate) fn start(options: FleetOptions) -> io::Result<MockFleet> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _inside = runtime.enter();
            let socket = TcpSocket::new_v4()?;
            socket.bind_device(Some(b"lo"))?;
            socket.bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))?;
            socket.listen(BACKLOG)?
        };
        let port = listener.local_addr()?.port();
        let hits =
            Arc::new(Mutex::new(Hits::new(options.targets, options.every, options.deadline)));
        let fleet = Arc::new(Fleet { options, began: Instant::now(), hits: hits.clone() });
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("fleet".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    () = accept(&listener, &fleet) => {}
                }
            });
        })?;
        Ok(MockFleet { port, hits, stop: Some(stop), thread: Some(thread) })
    }

    /// The polls so far.
    pub(crate) fn hits(&self) -> MutexGuard<'_, Hits> {
        lock(&self.hits)
    }
}

impl Drop for MockFleet {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // One that panicked has noted nothing more, which the bench reports as missed.
            thread.join().ok();
        }
    }
}

/// A target's address.
pub(crate) fn address(target: usize) -> Ipv4Addr {
    let offset = u32::try_from(target).unwrap_or(u32::MAX);
    Ipv4Addr::from(u32::from(FIRST).saturating_add(offset))
}

fn target_of(address: IpAddr) -> Option<usize> {
    let IpAddr::V4(address) = address else { return None };
    u32::from(address).checked_sub(u32::from(FIRST)).map(|offset| offset as usize)
}

fn lock(hits: &Mutex<Hits>) -> MutexGuard<'_, Hits> {
    hits.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: &TcpListener, fleet: &Arc<Fleet>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let fleet = fleet.clone();
                // A poll that breaks off shows as one that was not answered.
                tokio::spawn(async move { fleet.serve(stream).await.ok() });
            }
            // Out of files, most likely; some are free again in a moment.
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

impl Fleet {
    async fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        let Some(target) = target_of(stream.local_addr()?.ip()) else { return Ok(()) };
        let mut buffer = Vec::new();
        while let Some(request) = next_request(&mut stream, &mut buffer).await? {
            lock(&self.hits).note(target, self.began.elapsed());
            if !self.options.is_living(target) {
                // Until the other end has had enough.
                let mut rest = [0; 64];
                while stream.read(&mut rest).await? > 0 {}
                return Ok(());
            }
            tokio::time::sleep(self.options.delay).await;
            let up = self.began.elapsed().as_secs_f64() + 1_000.0 + target as f64;
            stream.write_all(&answer(&request, up)).await?;
            if request.last {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// What matters of a request.
struct Request {
    metrics: bool,
    last: bool,
}

/// Reads a request's head, for none of these has a body; none when the other end is done.
async fn next_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Request>> {
    loop {
        if let Some(end) = memchr::memmem::find(buffer, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
            buffer.drain(..end + 4);
            return Ok(Some(Request {
                metrics: head.starts_with("get /metrics "),
                last: head.contains("\r\nconnection: close") || head.contains(" http/1.0\r\n"),
            }));
        }
        if buffer.len() > HEAD_BYTES_MAX || stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

/// An answer of a target that has been up for so many seconds.
fn answer(request: &Request, up: f64) -> Vec<u8> {
    let (body, kind) = match request.metrics {
        true => (metrics(up), "text/plain; version=0.0.4; charset=utf-8"),
        false => (json(up), "application/json"),
    };
    let close = if request.last { "Connection: close\r\n" } else { "" };
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{close}\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(&body);
    answer
}

/// One CPU and what else an exporter on a small appliance tells: 1.5 KB.
fn metrics(up: f64) -> Vec<u8> {
    let mut text = Vec::with_capacity(2_048);
    text.extend_from_slice(
        b"# HELP node_cpu_seconds_total Seconds the CPUs spent in each mode.\n\
          # TYPE node_cpu_seconds_total counter\n",
    );
    for (mode, share) in [
        ("idle", 0.70),
        ("iowait", 0.02),
        ("irq", 0.01),
        ("nice", 0.01),
        ("softirq", 0.01),
        ("steal", 0.0),
        ("system", 0.10),
        ("user", 0.15),
    ] {
        let seconds = up * share;
        writeln!(text, "node_cpu_seconds_total{{cpu=\"0\",mode=\"{mode}\"}} {seconds:.2}").ok();
    }
    text.extend_from_slice(REST);
    let bytes = up * 1_024.0;
    writeln!(text, "node_network_receive_bytes_total{{device=\"eth0\"}} {bytes:.0}").ok();
    writeln!(text, "node_network_transmit_bytes_total{{device=\"eth0\"}} {bytes:.0}").ok();
    text
}

/// What does not move.
const REST: &[u8] = b"\
# TYPE node_boot_time_seconds gauge
node_boot_time_seconds 1.7636e+09
# TYPE node_filesystem_avail_bytes gauge
node_filesystem_avail_bytes{device=\"/dev/sda1\",fstype=\"ext4\",mountpoint=\"/\"} 5.6130789376e+10
# TYPE node_filesystem_size_bytes gauge
node_filesystem_size_bytes{device=\"/dev/sda1\",fstype=\"ext4\",mountpoint=\"/\"} 2.66288869376e+11
# HELP node_load1 1m load average.
# TYPE node_load1 gauge
node_load1 0.21
# TYPE node_load15 gauge
node_load15 0.05
# TYPE node_load5 gauge
node_load5 0.11
# HELP node_memory_MemAvailable_bytes Memory information field MemAvailable_bytes.
# TYPE node_memory_MemAvailable_bytes gauge
node_memory_MemAvailable_bytes 2.1474836480e+10
# TYPE node_memory_MemTotal_bytes gauge
node_memory_MemTotal_bytes 2.5769803776e+10
# TYPE node_network_receive_bytes_total counter
# TYPE node_network_transmit_bytes_total counter
";

/// The same as a JSON object of percentages.
fn json(up: f64) -> Vec<u8> {
    let busy = up % 60.0;
    format!(
        "{{\"cpu_number\":\"0\",\"pidle\":{:.2},\"puser\":{busy:.2},\"psys\":1.50,\"pirq\":0.25,\
         \"pnice\":0.00,\"timestamp\":{:.0}}}",
        98.25 - busy,
        1_763_600_000.0 + up
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::Duration;

    use super::{FleetOptions, MockFleet, address, target_of};

    const OPTIONS: FleetOptions = FleetOptions {
        targets: 70_000,
        every: Duration::from_secs(60),
        deadline: Duration::from_secs(5),
        delay: Duration::from_millis(20),
        black_holes: true,
    };

    fn ask(fleet: &MockFleet, target: usize, path: &str, times: usize) -> String {
        let mut stream = TcpStream::connect((address(target), fleet.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        for left in (0..times).rev() {
            let close = if left == 0 { "Connection: close\r\n" } else { "" };
            write!(stream, "GET {path} HTTP/1.1\r\nHost: t\r\n{close}\r\n").unwrap();
        }
        let mut answers = String::new();
        stream.read_to_string(&mut answers).unwrap();
        answers
    }

    #[test]
    fn addresses_are_targets() {
        assert_eq!(address(65_536).to_string(), "127.2.0.0");
        for target in [0, 255, 256, 99_999] {
            assert_eq!(target_of(address(target).into()), Some(target));
        }
        assert_eq!(target_of([127, 0, 0, 1].into()), None);
    }

    #[test]
    fn every_target_answers_and_is_counted_by_its_address() {
        let fleet = MockFleet::start(OPTIONS).unwrap();
        let page = ask(&fleet, 3, "/metrics", 2);
        assert_eq!(page.matches("HTTP/1.1 200 OK\r\n").count(), 2, "{page}");
        assert_eq!(page.matches("cpu=\"0\"").count(), 16, "{page}");
        assert!((3_000..3_600).contains(&page.len()), "{}", page.len());
        let json = ask(&fleet, 69_999, "/cpu", 1);
        let body: serde_json::Value =
            serde_json::from_str(json.rsplit("\r\n\r\n").next().unwrap()).unwrap();
        assert_eq!(body["cpu_number"], "0");
        let hits = fleet.hits();
        assert_eq!((hits.total(), hits.polls(|target| target == 3)), (3, 1));
    }

    #[test]
    fn a_black_hole_accepts_and_never_answers() {
        let fleet = MockFleet::start(OPTIONS).unwrap();
        assert!(!OPTIONS.is_living(10) && OPTIONS.is_living(11));
        assert_eq!((0..70_000).filter(|target| !OPTIONS.is_living(*target)).count(), 3_500);
        let mut stream = TcpStream::connect((address(10), fleet.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
        assert!(stream.read(&mut [0; 8]).is_err(), "no answer and no end");
        assert_eq!(fleet.hits().polls(|target| !OPTIONS.is_living(target)), 1);
    }
}
