//! A proxy between a poller and an agent that loses, delays, doubles and reorders datagrams.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::net::UdpSocket;

/// What is done to datagrams, in either direction.
#[derive(Clone, Copy)]
pub struct Trouble {
    /// The share that is lost.
    pub lose: f64,
    /// The share that is sent twice.
    pub double: f64,
    /// Each waits a random time up to this, so that later ones overtake it.
    pub delay: Duration,
}

/// The proxy; ends with the runtime of its test.
pub struct Datagrams {
    pub port: u16,
    pub lost: Arc<AtomicU64>,
    pub doubled: Arc<AtomicU64>,
}

impl Datagrams {
    /// Stands in front of `agent`.
    pub async fn start(agent: SocketAddr, trouble: Trouble) -> Datagrams {
        let front = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let port = front.local_addr().unwrap().port();
        let (lost, doubled) = (Arc::default(), Arc::default());
        let proxy = Datagrams { port, lost: Arc::clone(&lost), doubled: Arc::clone(&doubled) };
        let pass = Pass { trouble, lost, doubled };
        tokio::spawn(async move {
            let mut backs: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
            let mut buffer = vec![0; 65_535];
            loop {
                let (length, from) = front.recv_from(&mut buffer).await.unwrap();
                if let Entry::Vacant(place) = backs.entry(from) {
                    let back = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
                    let (own, front) = (Arc::clone(&back), Arc::clone(&front));
                    tokio::spawn(answers(own, front, from, pass.clone()));
                    place.insert(back);
                }
                pass.on(&backs[&from], &buffer[..length], agent);
            }
        });
        proxy
    }
}

#[derive(Clone)]
struct Pass {
    trouble: Trouble,
    lost: Arc<AtomicU64>,
    doubled: Arc<AtomicU64>,
}

impl Pass {
    fn on(&self, socket: &Arc<UdpSocket>, datagram: &[u8], to: SocketAddr) {
        let times = if fastrand::f64() < self.trouble.lose {
            self.lost.fetch_add(1, Relaxed);
            0
        } else if fastrand::f64() < self.trouble.double {
            self.doubled.fetch_add(1, Relaxed);
            2
        } else {
            1
        };
        for _ in 0..times {
            let (socket, datagram) = (Arc::clone(socket), datagram.to_vec());
            let delay = self.trouble.delay.mul_f64(fastrand::f64());
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                socket.send_to(&datagram, to).await.unwrap();
            });
        }
    }
}

async fn answers(back: Arc<UdpSocket>, front: Arc<UdpSocket>, to: SocketAddr, pass: Pass) {
    let mut buffer = vec![0; 65_535];
    loop {
        let (length, _) = back.recv_from(&mut buffer).await.unwrap();
        pass.on(&front, &buffer[..length], to);
    }
}
