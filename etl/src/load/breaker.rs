//! One circuit breaker per sink. While it is open nobody asks the sink: batches
//! go to the spool at once, and now and then one probe finds out whether the
//! sink is back. Pure: takes the time and the waits as arguments.

use std::time::{Duration, Instant};

/// Failures in a row, over all workers, that open the breaker.
const FAILURES_TO_OPEN: u32 = 5;

/// Whether the sink may be asked.
#[derive(Debug)]
pub struct Breaker {
    base: Duration,
    cap: Duration,
    failures: u32,
    state: State,
}

#[derive(Debug)]
enum State {
    Closed,
    Open(Trouble),
}

/// What is wrong with a sink whose breaker is open.
#[derive(Debug, Clone)]
pub struct Trouble {
    /// When the breaker opened.
    pub since: Instant,
    /// The last failure's text.
    pub why: String,
    /// Whether the sink answered and refused us, rather than being down.
    pub refused: bool,
    /// Failures in a row that opened it.
    pub failures: u32,
    /// Probes made since it opened.
    pub probes: u32,
    /// When the next probe may be made.
    pub probe_at: Instant,
    probing: bool,
}

/// What a caller that wants to ask the sink may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permit {
    /// Ask.
    Go,
    /// Ask: this request is the probe, and its result decides.
    Probe,
    /// Do not ask; a probe may be made at this time.
    No(Instant),
}

impl Breaker {
    /// A closed breaker whose probes are `base`, 2 `base`, … up to `cap` apart.
    #[must_use]
    pub fn new(base: Duration, cap: Duration) -> Self {
        Breaker { base, cap, failures: 0, state: State::Closed }
    }

    /// Whether the sink may be asked now. After [`Permit::Probe`] the caller
    /// must report [`Breaker::success`], [`Breaker::failure`] or [`Breaker::abandon`].
    pub fn permit(&mut self, now: Instant) -> Permit {
        match &mut self.state {
            State::Closed => Permit::Go,
            State::Open(trouble) if !trouble.probing && trouble.probe_at <= now => {
                trouble.probing = true;
                Permit::Probe
            }
            State::Open(trouble) => Permit::No(trouble.probe_at),
        }
    }

    /// Whether the sink may be asked without being a probe.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Lets the next probe be made at once.
    pub fn probe_now(&mut self, now: Instant) {
        if let State::Open(trouble) = &mut self.state {
            trouble.probe_at = now;
        }
    }

    /// The sink accepted something. Gives back what is over, if the breaker was open.
    pub fn success(&mut self) -> Option<Trouble> {
        self.failures = 0;
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Closed => None,
            State::Open(trouble) => Some(trouble),
        }
    }

    /// The request made under `permit` failed or (with `refused`) was turned away;
    /// `after` is what the sink asked us to wait. Gives back the trouble when this
    /// opened the breaker. Late failures of requests sent before it opened change nothing.
    pub fn failure(
        &mut self,
        now: Instant,
        permit: Permit,
        why: &str,
        refused: bool,
        after: Option<Duration>,
    ) -> Option<&Trouble> {
        self.failures = self.failures.saturating_add(1);
        let (base, cap) = (self.base, self.cap);
        match &mut self.state {
            State::Open(trouble) => {
                if permit == Permit::Probe {
                    trouble.probing = false;
                    trouble.probes += 1;
                    let wait = super::backoff::ceiling(base, cap, trouble.probes + 1);
                    trouble.probe_at = now + after.unwrap_or(wait).max(wait);
                    why.clone_into(&mut trouble.why);
                }
                None
            }
            State::Closed if refused || self.failures >= FAILURES_TO_OPEN => {
                let wait = if refused { cap } else { base };
                let trouble = Trouble {
                    since: now,
                    why: why.to_owned(),
                    refused,
                    failures: self.failures,
                    probes: 0,
                    probe_at: now + after.unwrap_or(wait).max(wait),
                    probing: false,
                };
                self.state = State::Open(trouble);
                self.trouble()
            }
            State::Closed => None,
        }
    }

    /// The probe was given up before it had a result.
    pub fn abandon(&mut self) {
        if let State::Open(trouble) = &mut self.state {
            trouble.probing = false;
        }
    }

    /// What is wrong, while the breaker is open.
    #[must_use]
    pub fn trouble(&self) -> Option<&Trouble> {
        match &self.state {
            State::Closed => None,
            State::Open(trouble) => Some(trouble),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Breaker, FAILURES_TO_OPEN, Permit};

    const BASE: Duration = Duration::from_secs(1);
    const CAP: Duration = Duration::from_secs(30);

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::new(BASE, CAP);
        for _ in 0..FAILURES_TO_OPEN {
            assert_eq!(breaker.permit(now), Permit::Go);
            breaker.failure(now, Permit::Go, "down", false, None);
        }
        breaker
    }

    #[test]
    fn opens_after_failures_in_a_row_and_a_success_between_them_counts() {
        let now = Instant::now();
        let mut breaker = Breaker::new(BASE, CAP);
        for _ in 0..3 * FAILURES_TO_OPEN {
            breaker.failure(now, Permit::Go, "down", false, None);
            breaker.success();
        }
        assert!(breaker.is_closed());
        assert!(!opened(now).is_closed());
    }

    #[test]
    fn one_probe_at_a_time_and_its_result_decides() {
        let now = Instant::now();
        let mut breaker = opened(now);
        assert_eq!(breaker.permit(now), Permit::No(now + BASE));
        let later = now + BASE;
        assert_eq!(breaker.permit(later), Permit::Probe);
        assert_eq!(breaker.permit(later), Permit::No(later));
        breaker.failure(later, Permit::Go, "late", false, None);
        breaker.failure(later, Permit::Probe, "still down", false, None);
        assert_eq!(breaker.permit(later), Permit::No(later + 2 * BASE));
        assert_eq!(breaker.trouble().map(|trouble| trouble.why.as_str()), Some("still down"));

        assert_eq!(breaker.permit(later + 2 * BASE), Permit::Probe);
        assert!(breaker.success().is_some());
        assert_eq!(breaker.permit(later), Permit::Go);
    }

    #[test]
    fn an_abandoned_probe_can_be_made_again() {
        let now = Instant::now();
        let mut breaker = opened(now);
        breaker.probe_now(now);
        assert_eq!(breaker.permit(now), Permit::Probe);
        breaker.abandon();
        assert_eq!(breaker.permit(now), Permit::Probe);
    }

    #[test]
    fn a_refusal_opens_at_once_and_a_longer_wait_is_honoured() {
        let now = Instant::now();
        let mut breaker = Breaker::new(BASE, CAP);
        assert!(breaker.failure(now, Permit::Go, "401 Unauthorized", true, None).is_some());
        assert_eq!(breaker.permit(now), Permit::No(now + CAP));

        let mut breaker = Breaker::new(BASE, CAP);
        for _ in 0..FAILURES_TO_OPEN {
            breaker.failure(now, Permit::Go, "503", false, Some(Duration::from_secs(20)));
        }
        assert_eq!(breaker.permit(now), Permit::No(now + Duration::from_secs(20)));
    }
}
