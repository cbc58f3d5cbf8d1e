//! One UDP socket of each address family for all agents. A request waits under a number
//! of its own; what arrives is handed to it if the number and the sender are right, and
//! is else counted and forgotten, at the price of reading a few bytes.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::net::sockopt::set_socket_recv_buffer_size;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::error::SnmpError;
use super::message::answered;

/// The longest datagram.
pub(super) const DATAGRAM_MAX: usize = 65_535;
/// What is asked of the system for datagrams that wait to be read; it may give less.
const WAITING_BYTES: usize = 4 << 20;
/// Datagrams that wait for one request: an answer, and what pretends to be one.
const ARRIVALS_MAX: usize = 4;
/// The pause after a socket has failed to receive.
const PAUSE: Duration = Duration::from_millis(50);

/// The sockets, opened when they are first needed, in the runtime that needs them; opened
/// anew when that one has ended.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    v4: Mutex<Option<Arc<Open>>>,
    v6: Mutex<Option<Arc<Open>>>,
    waiting: Arc<Waiting>,
}

#[derive(Debug)]
struct Open {
    socket: Arc<UdpSocket>,
    receiving: JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.receiving.abort();
    }
}

/// Requests that wait for their answer.
#[derive(Debug, Default)]
struct Waiting {
    by_id: Mutex<HashMap<i32, Slot>>,
    ignored: AtomicU64,
}

#[derive(Debug)]
struct Slot {
    agent: SocketAddr,
    arrivals: mpsc::Sender<Arrival>,
}

/// What came for a request.
#[derive(Debug)]
pub(super) enum Arrival {
    /// A datagram from the agent.
    Datagram(Vec<u8>),
    /// A datagram with the right number, from elsewhere.
    Stray(SocketAddr),
}

/// A request's place; given up when it is dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    /// The request's number, not negative.
    pub id: i32,
    pub agent: SocketAddr,
    pub arrivals: mpsc::Receiver<Arrival>,
    waiting: Arc<Waiting>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.waiting.by_id.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

impl Ticket {
    /// Counts a datagram that was no answer after all.
    pub fn ignore(&self) {
        self.waiting.ignored.fetch_add(1, Relaxed);
    }
}

impl Sockets {
    /// A place for a request to an agent.
    pub fn ticket(&self, agent: SocketAddr) -> Ticket {
        let (sender, arrivals) = mpsc::channel(ARRIVALS_MAX);
        let slot = Slot { agent, arrivals: sender };
        let mut waiting = self.waiting.by_id.lock().unwrap_or_else(PoisonError::into_inner);
        // Random, so that nobody who does not see the request can answer it.
        let mut id = fastrand::i32(1..);
        while waiting.contains_key(&id) {
            id = fastrand::i32(1..);
        }
        waiting.insert(id, slot);
        Ticket { id, agent, arrivals, waiting: Arc::clone(&self.waiting) }
    }

    /// Sends a datagram to an agent.
    pub async fn send(&self, datagram: &[u8], to: SocketAddr) -> Result<(), SnmpError> {
        let open = self.open(to).map_err(SnmpError::Socket)?;
        let sent = open.socket.send_to(datagram, to).await;
        sent.map(drop).map_err(|source| SnmpError::Send { to, source })
    }

    /// Datagrams that were no answer: late, doubled, foreign, garbage.
    pub fn ignored(&self) -> u64 {
        self.waiting.ignored.load(Relaxed)
    }

    fn open(&self, to: SocketAddr) -> std::io::Result<Arc<Open>> {
        let (lane, any) = match to {
            SocketAddr::V4(_) => (&self.v4, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            SocketAddr::V6(_) => (&self.v6, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        };
        let mut lane = lane.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = lane.as_ref().filter(|open| !open.receiving.is_finished()) {
            return Ok(Arc::clone(open));
        }
        let socket = std::net::UdpSocket::bind((any, 0))?;
        socket.set_nonblocking(true)?;
        if let Err(error) = set_socket_recv_buffer_size(&socket, WAITING_BYTES) {
            tracing::debug!(%error, "the receive buffer keeps its size");
        }
        let socket = Arc::new(UdpSocket::from_std(socket)?);
        let receiving = tokio::spawn(receive(Arc::clone(&socket), Arc::clone(&self.waiting)));
        let open = Arc::new(Open { socket, receiving });
        *lane = Some(Arc::clone(&open));
        Ok(open)
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        let ignored = self.ignored();
        if ignored > 0 {
            tracing::info!(ignored, "datagrams that were no answer: late, doubled or foreign");
        }
    }
}

async fn receive(socket: Arc<UdpSocket>, waiting: Arc<Waiting>) {
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, from)) => waiting.deliver(&buffer[..length], from),
            Err(error) => {
                tracing::debug!(%error, "nothing could be received");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

impl Waiting {
    fn deliver(&self, datagram: &[u8], from: SocketAddr) {
        let taken = answered(datagram).is_some_and(|id| {
            let waiting = self.by_id.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(slot) = waiting.get(&id) else { return false };
            let is_agent = slot.agent.ip() == from.ip() && slot.agent.port() == from.port();
            if is_agent {
                slot.arrivals.try_send(Arrival::Datagram(datagram.to_vec())).is_ok()
            } else {
                slot.arrivals.try_send(Arrival::Stray(from)).ok();
                false
            }
        });
        if !taken {
            self.ignored.fetch_add(1, Relaxed);
        }
    }
}
