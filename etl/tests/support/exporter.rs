//! node_exporter, the real one, as Debian packages it.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::net::TcpStream;
use std::process::{Command, Stdio};

use crate::support::program::{Program, free_port, started};

/// The running exporter; ends with the test, however that ends.
pub struct Exporter {
    pub port: u16,
    _process: Program,
}

impl Exporter {
    /// Another process may take the free port first; then another one is tried.
    pub fn start() -> Exporter {
        started(Exporter::start_once)
    }

    fn start_once() -> Option<Exporter> {
        let port = free_port();
        let mut command = Command::new("prometheus-node-exporter");
        command
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut process = Program::start(&mut command, "prometheus-node-exporter");
        let up = process.is_up(|| TcpStream::connect(("127.0.0.1", port)).is_ok());
        up.then_some(Exporter { port, _process: process })
    }
}

/// The CPUs that it tells of.
pub fn cpus() -> usize {
    let stat = std::fs::read_to_string("/proc/stat").unwrap();
    stat.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")).count()
}
