//! One request and its answer: sent again until the answer comes, checked before it is
//! believed, and in version 3 with the agent's engine found and its clock kept.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::engine::{Engine, Engines};
use super::error::SnmpError;
use super::message::{Envelope, Scoped, community_message, flag, read_community_message};
use super::oid::Oid;
use super::pdu::{Kind, Pdu};
use super::report::Report;
use super::socket::{Arrival, DATAGRAM_MAX, Sockets, Ticket};
use super::usm::User;
use crate::config::{Extract, SnmpExtract};
use crate::extract::progress::{Phase, Progress};

/// The longest message that we take; IPv4 carries no longer one.
const MESSAGE_MAX: u32 = 65_507;
/// What an engine's identity may be long (RFC 3411).
const ENGINE_ID: std::ops::RangeInclusive<usize> = 5..=32;
/// How often one request may find the clock wrong: once, and once for a restart just then.
const CLOCK_TRIES: u32 = 2;

/// How often the wait for an answer doubles.
const DOUBLINGS_MAX: u32 = 3;

/// Asks agents.
#[derive(Debug)]
pub(super) struct Client {
    sockets: Sockets,
    security: Security,
    attempts: u32,
    resend: Duration,
    engines: Engines,
    salt: AtomicU64,
}

/// One request: what an agent is asked, and who hears how far that is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    pub agent: SocketAddr,
    pub kind: Kind,
    /// Objects behind each of `oids` that GETBULK asks for; 0 for a GET.
    pub repetitions: i32,
    pub oids: &'a [Oid],
    pub progress: &'a Progress,
}

impl Question<'_> {
    fn pdu(&self, id: i32) -> Pdu {
        Pdu::asking(self.kind, id, self.repetitions, self.oids)
    }
}

enum Security {
    Community(Vec<u8>),
    User(User),
}

impl std::fmt::Debug for Security {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Security::Community(_) => "Community",
            Security::User(_) => "User",
        })
    }
}

/// What came back in version 3.
enum Said {
    Answer(Pdu),
    Report(Report),
}

impl Client {
    pub fn new(snmp: &SnmpExtract, config: &Extract) -> Client {
        let community = snmp.community.as_ref().map_or("public", |community| community.expose());
        Client {
            sockets: Sockets::default(),
            security: match &snmp.v3 {
                Some(user) => Security::User(User::new(user)),
                None => Security::Community(community.as_bytes().to_vec()),
            },
            attempts: config.attempts.max(1),
            resend: snmp.resend.0,
            engines: Engines::default(),
            salt: AtomicU64::new(fastrand::u64(..)),
        }
    }

    /// The answer to one request, whatever it says; comes in its own time, so that the
    /// caller's deadline is the only one.
    pub async fn ask(&self, question: Question<'_>) -> Result<Pdu, SnmpError> {
        question.progress.enter(Phase::Agent(self.silence()));
        match &self.security {
            Security::User(user) => self.ask_as(user, question).await,
            Security::Community(community) => {
                let mut ticket = self.sockets.ticket(question.agent);
                let id = ticket.id;
                let message = community_message(community, &question.pdu(id));
                let accept = |datagram: &[u8]| {
                    let (from, pdu) = read_community_message(datagram).ok()?;
                    let ours = from == community.as_slice()
                        && pdu.kind == Kind::Response
                        && pdu.request == id;
                    ours.then_some(pdu)
                };
                self.exchange(&mut ticket, &message, question.progress, accept).await
            }
        }
    }

    /// What silence may mean.
    fn silence(&self) -> &'static str {
        match &self.security {
            Security::Community(_) => {
                "no answer from the agent; a wrong community is not answered either"
            }
            Security::User(user) if user.flags() & flag::PRIV != 0 => {
                "no answer from the agent; a wrong privacy password or protocol is not answered either"
            }
            Security::User(_) => "no answer from the agent",
        }
    }

    async fn ask_as(&self, user: &User, question: Question<'_>) -> Result<Pdu, SnmpError> {
        let Question { agent, progress, .. } = question;
        let mut engine = match self.engines.get(agent) {
            Some(engine) => engine,
            None => self.discover(user, agent, progress).await?,
        };
        let (mut clocks, mut discovered) = (0, false);
        loop {
            match self.once(user, &engine, question).await? {
                Said::Answer(pdu) => return Ok(pdu),
                Said::Report(Report::NotInTimeWindows) if clocks < CLOCK_TRIES => clocks += 1,
                Said::Report(Report::UnknownEngineIds) if !discovered => {
                    self.engines.forget(agent);
                    engine = self.discover(user, agent, progress).await?;
                    discovered = true;
                }
                Said::Report(report) => return Err(report.refusal(user)),
            }
        }
    }

    /// Asks an agent for its engine, which it tells everybody.
    async fn discover(
        &self,
        user: &User,
        agent: SocketAddr,
        progress: &Progress,
    ) -> Result<Arc<Engine>, SnmpError> {
        let mut ticket = self.sockets.ticket(agent);
        let pdu = Pdu::asking(Kind::Get, ticket.id, 0, &[]);
        let data = Scoped { engine: &[], context: &[], pdu }.encode();
        let id = ticket.id.unsigned_abs();
        let message = Envelope {
            id,
            size_max: MESSAGE_MAX,
            flags: flag::REPORTABLE,
            engine: &[],
            boots: 0,
            time: 0,
            user: &[],
            digest: &[],
            salt: &[],
            data: &data,
        };
        let accept = |datagram: &[u8]| {
            let (envelope, _) = Envelope::decode(datagram).ok()?;
            let is_report = Scoped::decode(envelope.data).ok()?.pdu.kind == Kind::Report;
            let fits = envelope.id == id && is_report && ENGINE_ID.contains(&envelope.engine.len());
            // Its clock is a guess until a signed message says so.
            fits.then(|| Engine::new(user, envelope.engine, envelope.boots, envelope.time))
        };
        let engine = self.exchange(&mut ticket, &message.encode().0, progress, accept).await?;
        let engine = Arc::new(engine);
        self.engines.keep(agent, &engine);
        Ok(engine)
    }

    async fn once(
        &self,
        user: &User,
        engine: &Engine,
        question: Question<'_>,
    ) -> Result<Said, SnmpError> {
        let mut ticket = self.sockets.ticket(question.agent);
        let id = ticket.id;
        let pdu = question.pdu(id);
        let mut data = Scoped { engine: &engine.id, context: &user.context, pdu }.encode();
        let (boots, time) = engine.clock();
        let salt = self.salt.fetch_add(1, Relaxed);
        let Some(salt) = engine.keys.encrypt(&mut data, boots, time, salt) else {
            let text = "the request could not be encrypted, and was not sent";
            return Err(SnmpError::Refused(text.to_owned()));
        };
        let envelope = Envelope {
            id: id.unsigned_abs(),
            size_max: MESSAGE_MAX,
            flags: user.flags() | flag::REPORTABLE,
            engine: &engine.id,
            boots,
            time,
            user: &user.name,
            digest: &engine.keys.blank(),
            salt: &salt,
            data: &data,
        };
        let (mut message, digest) = envelope.encode();
        engine.keys.sign(&mut message, digest);
        let accept = |datagram: &[u8]| read_secured(user, engine, id, datagram);
        self.exchange(&mut ticket, &message, question.progress, accept).await
    }

    /// Sends a message until something comes that `accept` takes. The waits double, a few
    /// times; after the last message only the caller's deadline ends it.
    async fn exchange<T>(
        &self,
        ticket: &mut Ticket,
        message: &[u8],
        progress: &Progress,
        mut accept: impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<T, SnmpError> {
        let mut sent = 0;
        loop {
            let delivered = self.sockets.send(message, ticket.agent).await;
            sent += 1;
            let last = sent == self.attempts;
            if let Err(error) = delivered
                && last
            {
                return Err(error);
            }
            // Requests that were lost together do not come back together.
            let wait = self.resend.saturating_mul(1 << (sent - 1).min(DOUBLINGS_MAX));
            let again = Instant::now() + wait.mul_f64(0.75 + fastrand::f64() / 2.0);
            loop {
                let arrival = if last {
                    ticket.arrivals.recv().await
                } else if let Ok(arrival) = timeout_at(again, ticket.arrivals.recv()).await {
                    arrival
                } else {
                    break;
                };
                match arrival {
                    Some(Arrival::Datagram(datagram)) => match accept(&datagram) {
                        Some(accepted) => return Ok(accepted),
                        None => ticket.ignore(),
                    },
                    Some(Arrival::Stray(from)) => progress.note(format!(
                        "an answer came from {from} instead of {}, and was not taken",
                        ticket.agent
                    )),
                    // The place that holds the other end is the ticket's own.
                    None => std::future::pending().await,
                }
            }
        }
    }
}

/// What a datagram says, if it is from this engine for this user and answers `id`.
fn read_secured(user: &User, engine: &Engine, id: i32, datagram: &[u8]) -> Option<Said> {
    debug_assert!(datagram.len() <= DATAGRAM_MAX);
    let (envelope, at) = Envelope::decode(datagram).ok()?;
    let level = envelope.flags & (flag::AUTH | flag::PRIV);
    let signed = level & flag::AUTH != 0;
    let from_engine = *envelope.engine == *engine.id;
    if envelope.id != id.unsigned_abs()
        || (signed && !(from_engine && engine.keys.is_signed(datagram, at, envelope.digest)))
        || (level & flag::PRIV != 0 && !signed)
    {
        return None;
    }
    let plain;
    let data = if level & flag::PRIV == 0 {
        envelope.data
    } else {
        plain = engine.keys.decrypt(envelope.data, envelope.boots, envelope.time, envelope.salt)?;
        &plain
    };
    let pdu = Scoped::decode(data).ok()?.pdu;
    let said = match pdu.kind {
        Kind::Response => {
            let ours = level == user.flags()
                && from_engine
                && envelope.user == user.name
                && pdu.request == id;
            ours.then_some(Said::Answer(pdu))?
        }
        Kind::Report => {
            let report = Report::of(&pdu)?;
            // A clock is believed only when it is signed for.
            if report == Report::NotInTimeWindows && !signed {
                return None;
            }
            Said::Report(report)
        }
        Kind::Get | Kind::GetBulk => return None,
    };
    if signed {
        engine.set_clock(envelope.boots, envelope.time);
    }
    Some(said)
}
