//! node_exporter, the real one, as Debian packages it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed step is a failed test")]

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The running exporter; ends with the test, however that ends.
pub struct Exporter {
    process: Child,
    pub port: u16,
}

impl Exporter {
    /// Another process may take the free port first; then another one is tried.
    pub fn start() -> Exporter {
        (0..5).find_map(|_| Exporter::start_once()).expect("prometheus-node-exporter ends at once")
    }

    fn start_once() -> Option<Exporter> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let started = Command::new("prometheus-node-exporter")
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let process = match started {
            Ok(process) => process,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                panic!("install the Debian package prometheus-node-exporter: {error}")
            }
            Err(error) => panic!("prometheus-node-exporter does not start: {error}"),
        };
        let mut exporter = Exporter { process, port };
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if exporter.process.try_wait().unwrap().is_some() {
                return None;
            }
            assert!(Instant::now() < deadline, "prometheus-node-exporter does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(exporter)
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// The CPUs that it tells of.
pub fn cpus() -> usize {
    let stat = std::fs::read_to_string("/proc/stat").unwrap();
    stat.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")).count()
}
