//! What the server does wrong, and when: the settings, and the one decision per request.
//!
//! The decision is a pure function of the seed, the request's `Idempotency-Key` and how
//! often that key has been seen, so concurrency and order don't change it. A request without
//! a key is decided by its ordinal.

mod values;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::SettingsError;
use crate::{hash, units};

pub use values::{DelayRange, Outage, Token};

/// All settings that may change while the server runs. The default has no fault and no delay.
///
/// Rates are shares of the requests to `/load`, between 0 and 1. Of one request at most one
/// fault is chosen, so `fail`, `reset`, `hang`, `lose_reply`, `truncate` and `lie` together
/// must not exceed 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Faults {
    /// How long each answer of `/load` is held back. What was sent is stored before that, so
    /// a client that gives up earlier finds its batch stored when it comes again.
    #[serde(with = "units::duration")]
    pub delay: Duration,
    /// Status → share of requests answered with it and not stored. 300 to 599; 3xx answers
    /// point to `/health`.
    #[serde(deserialize_with = "units::rates::deserialize")]
    pub fail: BTreeMap<u16, f64>,
    /// Sent as `Retry-After` with 429 and 503, in whole seconds, rounded up.
    #[serde(with = "units::duration_or_none")]
    pub retry_after: Option<Duration>,
    /// Writes `Retry-After` as an HTTP date instead of seconds.
    pub retry_after_date: bool,
    /// Share of requests whose connection is reset, nothing stored.
    #[serde(deserialize_with = "units::rate")]
    pub reset: f64,
    /// Share of requests never answered (the connection is reset after 5 minutes), nothing
    /// stored.
    #[serde(deserialize_with = "units::rate")]
    pub hang: f64,
    /// Share of requests stored, and then reset instead of answered.
    #[serde(deserialize_with = "units::rate")]
    pub lose_reply: f64,
    /// Share of requests stored, and then answered with a body that ends early.
    #[serde(deserialize_with = "units::rate")]
    pub truncate: f64,
    /// Share of requests answered 200 `{"errors": true}`, nothing stored.
    #[serde(deserialize_with = "units::rate")]
    pub lie: f64,
    /// Spans of time since the server's start in which it is down.
    pub outage: Vec<Outage>,
    /// Down until set to false. While down, every request but `/faults` and `/stats` is
    /// answered with a connection reset, and open connections are reset at once.
    pub down: bool,
    /// The bearer token that `/load` asks for.
    pub token: Option<Token>,
    /// The largest request body in bytes, as sent; decompressed it may have 8 times as much.
    #[serde(deserialize_with = "units::size")]
    pub max_body: usize,
    /// The most records in a batch; more are answered 413.
    pub max_records: Option<usize>,
    /// A record that contains this text is refused with 422.
    pub poison: Option<String>,
    /// Accept the other records of a batch with poison, and list the refused ones.
    pub partial: bool,
    /// The status of such an answer.
    pub partial_status: u16,
    /// What the faults and the sample sources are derived from.
    pub seed: u64,
    /// How long `GET /appliances/{ip}/…` takes; in a range, each appliance has its own delay.
    pub appliance_delay: DelayRange,
    /// Share of appliances that always answer 503.
    #[serde(deserialize_with = "units::rate")]
    pub appliance_fail: f64,
    /// Requests a second to the sample sources before they answer 429.
    pub source_rate: Option<u32>,
    /// Share of requests to the sample sources answered 503.
    #[serde(deserialize_with = "units::rate")]
    pub source_fail: f64,
    /// How many posts `GET /posts` has.
    pub posts: u32,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            fail: BTreeMap::new(),
            retry_after: None,
            retry_after_date: false,
            reset: 0.0,
            hang: 0.0,
            lose_reply: 0.0,
            truncate: 0.0,
            lie: 0.0,
            outage: Vec::new(),
            down: false,
            token: None,
            max_body: 10 << 20,
            max_records: None,
            poison: None,
            partial: false,
            partial_status: 207,
            seed: 42,
            appliance_delay: DelayRange::fixed(Duration::ZERO),
            appliance_fail: 0.0,
            source_rate: None,
            source_fail: 0.0,
            posts: 100,
        }
    }
}

/// What is done to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    Status(u16),
    Reset,
    Hang,
    LoseReply,
    Truncate,
    Lie,
}

impl Faults {
    /// Refuses rates outside 0 to 1 or together above 1, statuses that are no failure, and
    /// outages that end before they begin.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let single = [("appliance_fail", self.appliance_fail), ("source_fail", self.source_fail)];
        for (key, rate) in single.into_iter().chain(self.slices().map(|(_, key, rate)| (key, rate)))
        {
            if !(0.0..=1.0).contains(&rate) {
                return Err(SettingsError::invalid(
                    key,
                    format!("rate {rate} is not between 0 and 1"),
                ));
            }
        }
        let sum: f64 = self.slices().map(|(_, _, rate)| rate).sum();
        if sum > 1.0 + 1e-9 {
            return Err(SettingsError::RatesAboveOne { sum });
        }
        if let Some(status) = self.fail.keys().find(|status| !(300..600).contains(*status)) {
            let why = format!("status {status} is not a failure: use 300 to 599");
            return Err(SettingsError::invalid("fail", why));
        }
        if !(200..300).contains(&self.partial_status) {
            return Err(SettingsError::invalid("partial_status", "use 200 or 207".to_owned()));
        }
        if self.poison.as_deref() == Some("") {
            return Err(SettingsError::invalid(
                "poison",
                "an empty text is in every record".to_owned(),
            ));
        }
        Ok(())
    }

    /// What to do to the request whose draw is `draw`, a number in `[0, 1)`.
    pub(crate) fn decide(&self, draw: f64) -> Fault {
        let mut edge = 0.0;
        for (fault, _, rate) in self.slices() {
            edge += rate;
            if draw < edge {
                return fault;
            }
        }
        Fault::None
    }

    /// The slices that the faults take of one draw, in a fixed order.
    fn slices(&self) -> impl Iterator<Item = (Fault, &'static str, f64)> {
        let fail = self.fail.iter().map(|(status, rate)| (Fault::Status(*status), "fail", *rate));
        fail.chain([
            (Fault::Reset, "reset", self.reset),
            (Fault::Hang, "hang", self.hang),
            (Fault::LoseReply, "lose_reply", self.lose_reply),
            (Fault::Truncate, "truncate", self.truncate),
            (Fault::Lie, "lie", self.lie),
        ])
    }

    /// Whether the server is down `elapsed` after its start, and when that changes next.
    pub(crate) fn down_at(&self, elapsed: Duration) -> (bool, Option<Duration>) {
        let down = self.down || self.outage.iter().any(|o| o.from <= elapsed && elapsed < o.until);
        let edges = self.outage.iter().flat_map(|o| [o.from, o.until]);
        (down, edges.filter(|edge| *edge > elapsed).min())
    }
}

/// The draw of the `attempt`-th request (from 0) with the key of this fingerprint.
pub(crate) fn draw_for_key(seed: u64, key: u128, attempt: u32) -> f64 {
    hash::draw(seed, key, u64::from(attempt))
}

/// The draw of the `ordinal`-th request (from 0) without a key.
pub(crate) fn draw_for_ordinal(seed: u64, ordinal: u64) -> f64 {
    hash::draw(seed, 0, ordinal)
}

#[cfg(test)]
mod tests;
