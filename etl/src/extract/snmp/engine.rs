//! What is known of each agent of version 3: its engine, keys and clock.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use super::usm::{Keys, User};

/// Agents that are remembered, at some 200 bytes each. Beyond it an agent is asked for
/// its engine in every poll.
const KEPT_MAX: usize = 250_000;

/// An agent's engine with this user's keys for it.
#[derive(Debug)]
pub(super) struct Engine {
    pub id: Box<[u8]>,
    pub keys: Keys,
    clock: Mutex<Clock>,
}

/// How often the agent has started, and the seconds since, at a moment of ours.
#[derive(Debug, Clone, Copy)]
struct Clock {
    boots: u32,
    time: u32,
    at: Instant,
}

impl Engine {
    pub fn new(user: &User, id: &[u8], boots: u32, time: u32) -> Engine {
        let clock = Mutex::new(Clock { boots, time, at: Instant::now() });
        Engine { id: id.into(), keys: user.keys(id), clock }
    }

    /// Starts and seconds of the agent's clock now.
    pub fn clock(&self) -> (u32, u32) {
        let clock = *self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = u32::try_from(clock.at.elapsed().as_secs()).unwrap_or(u32::MAX);
        (clock.boots, clock.time.saturating_add(passed).min(i32::MAX as u32))
    }

    /// Sets the clock by a signed message. It answers a number that was made up for it, so
    /// it cannot be an old one; an agent that has forgotten its starts is believed, too.
    pub fn set_clock(&self, boots: u32, time: u32) {
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        *clock = Clock { boots, time, at: Instant::now() };
    }
}

/// The engines by address.
#[derive(Debug, Default)]
pub(super) struct Engines(Mutex<HashMap<SocketAddr, Arc<Engine>>>);

impl Engines {
    pub fn get(&self, agent: SocketAddr) -> Option<Arc<Engine>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&agent).cloned()
    }

    pub fn keep(&self, agent: SocketAddr, engine: &Arc<Engine>) {
        let mut engines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if engines.len() < KEPT_MAX || engines.contains_key(&agent) {
            engines.insert(agent, Arc::clone(engine));
        }
    }

    pub fn forget(&self, agent: SocketAddr) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&agent);
    }
}
