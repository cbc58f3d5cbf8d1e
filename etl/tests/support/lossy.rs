//! A TCP proxy in front of PostgreSQL that loses what is hard to lose on purpose: the
//! reply to a COMMIT, or all replies.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test file uses a part of this, and a failed step is a failed test"
)]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

/// What is lost.
#[derive(Default)]
struct Faults {
    /// So many replies to a COMMIT are still to be lost, with their connections.
    commits: AtomicU32,
    lost: AtomicU32,
    /// Nothing is passed back.
    hang: AtomicBool,
}

/// The proxy; its threads end with the test's process.
pub struct Lossy {
    pub port: u16,
    faults: Arc<Faults>,
}

impl Lossy {
    /// Stands in front of the server on `port`.
    pub fn start(port: u16) -> Lossy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().port();
        let faults = Arc::new(Faults::default());
        let shared = faults.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", port)))
                else {
                    continue;
                };
                pass(client, server, shared.clone());
            }
        });
        Lossy { port: own, faults }
    }

    /// Loses the next `count` replies to a COMMIT.
    pub fn lose_commits(&self, count: u32) {
        self.faults.commits.store(count, SeqCst);
    }

    /// How many replies to a COMMIT were lost.
    pub fn lost(&self) -> u32 {
        self.faults.lost.load(SeqCst)
    }

    /// Passes nothing back, or everything again.
    pub fn hang(&self, hang: bool) {
        self.faults.hang.store(hang, SeqCst);
    }
}

fn pass(client: TcpStream, server: TcpStream, faults: Arc<Faults>) {
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let (mut from_client, mut to_client) = (client.try_clone().unwrap(), client);
    let (mut to_server, mut from_server) = (server.try_clone().unwrap(), server);
    let losing = Arc::new(AtomicBool::new(false));
    let (inbound, outbound) = (faults.clone(), faults);
    let lose = losing.clone();
    std::thread::spawn(move || {
        let mut chunk = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from_client.read(&mut chunk) {
            if chunk[..length].windows(6).any(|word| word == b"COMMIT") {
                let left = inbound.commits.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1));
                lose.store(left.is_ok(), SeqCst);
            }
            if to_server.write_all(&chunk[..length]).is_err() {
                break;
            }
        }
        to_server.shutdown(Shutdown::Both).ok();
    });
    std::thread::spawn(move || {
        let mut chunk = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from_server.read(&mut chunk) {
            if losing.load(SeqCst) {
                outbound.lost.fetch_add(1, SeqCst);
                break;
            }
            if outbound.hang.load(SeqCst) {
                continue;
            }
            if to_client.write_all(&chunk[..length]).is_err() {
                break;
            }
        }
        to_client.shutdown(Shutdown::Both).ok();
        from_server.shutdown(Shutdown::Both).ok();
    });
}
