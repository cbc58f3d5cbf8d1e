//! One batch's way to its end: attempts, waits, splitting, until every record is
//! delivered, found to be wrong, or left for the spool.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tracing::{Instrument, Span, info};

use super::answer::{Answer, FailedRecord, Failure};
use super::backoff::full_jitter;
use super::breaker::Permit;
use super::gate::{Change, Gate};
use super::sink::Sink;
use super::slots::Slot;
use crate::batch::Payload;
use crate::config::Retry;
use crate::spool::{Attempts, DeadLetter};
use crate::stop::{Stop, Urgency};
use crate::telemetry::{SinkBooks, traces};

/// Carries batches to one sink.
pub(super) struct Courier<'a> {
    /// The sink's name.
    pub(super) name: &'a str,
    /// The run's.
    pub(super) span: &'a Span,
    pub(super) sink: &'a dyn Sink,
    pub(super) gate: &'a Gate,
    pub(super) retry: &'a Retry,
    pub(super) books: &'a SinkBooks,
    pub(super) stop: &'a Stop,
}

/// How the records of one batch ended.
#[derive(Debug, Default)]
#[must_use = "what is left must be spooled and what is dead must be written down"]
pub(super) struct Ended {
    /// Records that the sink acknowledged.
    pub(super) delivered: u64,
    /// Records that the sink will never take.
    pub(super) dead: Vec<DeadLetter>,
    /// What must wait: the whole batch under its own key, or parts of it.
    pub(super) left: Vec<Payload>,
}

impl Ended {
    /// Whether nothing came of it and the whole batch must wait.
    pub(super) fn is_whole(&self, batch: &Payload) -> bool {
        self.delivered == 0
            && self.dead.is_empty()
            && matches!(&*self.left, [left] if left.key == batch.key)
    }
}

/// What came of asking about one payload until it was decided.
enum Decision {
    Delivered,
    Partial(Vec<FailedRecord>),
    Split(Failure),
    Left,
}

impl Courier<'_> {
    /// Delivers `payload` as far as possible. `earlier` of its attempts were made by
    /// earlier runs and are no retries of this one.
    pub(super) async fn carry(
        &self,
        payload: Payload,
        attempts: &mut Attempts,
        earlier: u32,
    ) -> Ended {
        let span = traces::batch(self.span, self.name, &payload);
        let ended = self.carry_on(payload, attempts, earlier).instrument(span.clone()).await;
        let left: usize = ended.left.iter().map(Payload::records).sum();
        span.record("delivered", ended.delivered)
            .record("left", left)
            .record("dead_lettered", ended.dead.len());
        if left + ended.dead.len() > 0 {
            span.record("otel.status_code", "ERROR");
        }
        ended
    }

    async fn carry_on(&self, payload: Payload, attempts: &mut Attempts, earlier: u32) -> Ended {
        let mut ended = Ended::default();
        let mut open = vec![payload];
        while let Some(payload) = open.pop() {
            match self.decide(&payload, attempts, earlier).await {
                Decision::Delivered => ended.delivered += payload.records() as u64,
                Decision::Partial(failed) => {
                    ended.delivered += (payload.records() - failed.len()) as u64;
                    ended.dead.extend(letters(&payload, &failed));
                }
                Decision::Split(failure) => match payload.halves() {
                    Some([left, right]) => open.extend([right, left]),
                    None => ended.dead.extend(letter(&payload, 0, &failure)),
                },
                Decision::Left => {
                    // Records before this one keep their place: the parts are
                    // spooled in the order in which they would have been sent.
                    ended.left.push(payload);
                    ended.left.extend(open.drain(..).rev());
                }
            }
        }
        ended
    }

    /// Asks about one payload until there is a decision.
    async fn decide(&self, payload: &Payload, attempts: &mut Attempts, earlier: u32) -> Decision {
        let mut failures = 0;
        loop {
            let Some((permit, slot)) = self.permit().await else {
                return Decision::Left;
            };
            if attempts.tried > earlier {
                self.books.retries.fetch_add(1, Relaxed);
            }
            attempts.tried = attempts.tried.saturating_add(1);
            let span = traces::request(self.sink.target(), attempts.tried, payload);
            let asked = self.ask(payload, permit, slot).instrument(span.clone()).await;
            let Some((answer, latency)) = asked else {
                return Decision::Left;
            };
            note(&span, &answer);
            let failure = match answer {
                Answer::Retry(failure) => failure,
                Answer::Refused(failure) => {
                    self.failed(permit, &failure, true, attempts);
                    return Decision::Left;
                }
                decided => return self.decided(payload, decided, latency, attempts),
            };
            failures += 1;
            self.failed(permit, &failure, false, attempts);
            let give_up =
                failures >= self.retry.attempts || !self.gate.is_closed() || self.stop.asked();
            if give_up || !self.wait(self.pause(failures, &failure)).await {
                return Decision::Left;
            }
        }
    }

    /// Waits for leave to ask and for a place; `None` when this batch should not be
    /// asked about now.
    async fn permit(&self) -> Option<(Permit, Slot<'_>)> {
        let slot = tokio::select! {
            slot = self.gate.slots.take() => slot,
            () = self.stop.reached(Urgency::Now) => return None,
        };
        if let Some(until) = self.gate.hold_until() {
            // Only the probe may wait out a long hold; with an open breaker the
            // others leave at once.
            if !self.wait(until.saturating_duration_since(Instant::now())).await {
                return None;
            }
        }
        // Nobody waits for a turn that an open breaker would not give.
        if (self.gate.is_closed() || self.gate.probe_is_due())
            && let Some(wait) = self.gate.pace()
            && !self.wait(wait).await
        {
            return None;
        }
        if self.stop.urgency() == Urgency::Now {
            return None;
        }
        match self.gate.permit() {
            Permit::No(_) => None,
            permit => Some((permit, slot)),
        }
    }

    /// One attempt; `None` when the run ended before there was an answer.
    async fn ask(
        &self,
        payload: &Payload,
        permit: Permit,
        mut slot: Slot<'_>,
    ) -> Option<(Answer, Duration)> {
        slot.begin();
        let asked = Instant::now();
        let bytes = payload.body.len() as u64;
        self.books.in_flight_bytes.fetch_add(bytes, Relaxed);
        if self.books.in_flight.fetch_add(1, Relaxed) == 0 {
            self.gate.asked_after_rest();
        }
        let answer = tokio::select! {
            answer = self.sink.deliver(payload) => Some(answer),
            () = self.stop.reached(Urgency::Now) => None,
        };
        self.books.in_flight.fetch_sub(1, Relaxed);
        self.books.in_flight_bytes.fetch_sub(bytes, Relaxed);
        match &answer {
            Some(answer) => slot.end(answer),
            None => self.gate.abandon(permit),
        }
        answer.map(|answer| (answer, asked.elapsed()))
    }

    /// The sink is up and has said what it thinks of the payload.
    fn decided(
        &self,
        payload: &Payload,
        answer: Answer,
        latency: Duration,
        attempts: &mut Attempts,
    ) -> Decision {
        self.announce(self.gate.success(latency));
        match answer {
            Answer::Delivered => {
                self.books.batches.fetch_add(1, Relaxed);
                Decision::Delivered
            }
            Answer::Partial(failed)
                if failed.iter().all(|record| record.index < payload.records()) =>
            {
                self.books.batches.fetch_add(1, Relaxed);
                Decision::Partial(failed)
            }
            Answer::Partial(_) => {
                attempts.last_answer =
                    "listed failed records that were not in the batch".to_owned();
                Decision::Left
            }
            Answer::TooLarge(failure) | Answer::Invalid(failure) => {
                attempts.last_answer.clone_from(&failure.reason);
                Decision::Split(failure)
            }
            Answer::Retry(_) | Answer::Refused(_) => Decision::Left,
        }
    }

    fn failed(&self, permit: Permit, failure: &Failure, refused: bool, attempts: &mut Attempts) {
        attempts.last_answer.clone_from(&failure.reason);
        self.books.failed.fetch_add(1, Relaxed);
        // Fewer failures than open the breaker are announced nowhere else.
        info!(
            target = self.sink.target(),
            why = failure.reason,
            tried = attempts.tried,
            "load failed"
        );
        self.announce(self.gate.failure(permit, failure, refused));
    }

    fn announce(&self, change: Option<Change>) {
        match change {
            Some(Change::Opened(trouble)) => {
                info!(target = self.sink.target(), why = trouble.why, "sink down, spooling");
            }
            Some(Change::Closed(trouble)) => {
                let seconds = trouble.since.elapsed().as_secs();
                info!(target = self.sink.target(), seconds, "sink back, replaying");
            }
            None => {}
        }
    }

    fn pause(&self, failures: u32, failure: &Failure) -> Duration {
        failure.after.unwrap_or_else(|| {
            full_jitter(self.retry.base.0, self.retry.cap.0, failures, fastrand::f64())
        })
    }

    /// Waits; false when the run was asked to end meanwhile.
    async fn wait(&self, pause: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(pause) => true,
            () = self.stop.reached(Urgency::Drain) => false,
        }
    }
}

/// Writes down in the span of an attempt what came of it.
fn note(span: &Span, answer: &Answer) {
    let failure = match answer {
        Answer::Delivered | Answer::Partial(_) => return,
        Answer::Retry(failure)
        | Answer::Refused(failure)
        | Answer::TooLarge(failure)
        | Answer::Invalid(failure) => failure,
    };
    span.record("otel.status_code", "ERROR").record("otel.status_description", &*failure.reason);
    if let Some(status) = failure.status {
        span.record("http.response.status_code", status);
    }
}

fn letters(payload: &Payload, failed: &[FailedRecord]) -> Vec<DeadLetter> {
    let letter_of = |record: &FailedRecord| {
        let failure = Failure::without_answer(record.reason.clone());
        letter(payload, record.index, &failure)
    };
    failed.iter().filter_map(letter_of).collect()
}

/// The dead letter of the record at `index`; `None` when there is no such record.
fn letter(payload: &Payload, index: usize, failure: &Failure) -> Option<DeadLetter> {
    payload.rows().nth(index).map(|record| DeadLetter {
        record: Bytes::copy_from_slice(record),
        reason: failure.reason.clone(),
        status: failure.status,
        response: failure.response.clone(),
        batch_key: payload.key.to_string(),
        time: unix_seconds(),
    })
}

/// Seconds since 1970; 0 for a clock set before.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
