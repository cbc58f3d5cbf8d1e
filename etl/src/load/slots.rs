//! Who may have a request in flight: as many as the limit allows, the others
//! wait in order. With fixed concurrency there are as many workers as may ask at
//! once, and nobody waits here.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::answer::{Answer, Failure};
use super::limit::{Attempt, Limit, LoadSign};

/// The places of one sink's requests.
#[derive(Debug)]
pub(super) struct Slots {
    /// `None`: as many as there are workers.
    adaptive: Option<Adaptive>,
}

#[derive(Debug)]
struct Adaptive {
    inner: Mutex<Inner>,
    freed: Notify,
}

#[derive(Debug)]
struct Inner {
    limit: Limit,
    in_flight: usize,
}

/// A request's place; free again when dropped.
#[derive(Debug)]
#[must_use = "the place is taken only while this lives"]
pub(super) struct Slot<'a> {
    adaptive: Option<&'a Adaptive>,
    began: Instant,
    in_flight: usize,
    /// Places that there are more of since this request ended.
    grown: usize,
}

impl Slots {
    /// Places for every worker.
    pub(super) fn fixed() -> Slots {
        Slots { adaptive: None }
    }

    /// As many places as are found right, up to `max`.
    pub(super) fn adaptive(max: usize) -> Slots {
        let inner = Mutex::new(Inner { limit: Limit::new(max), in_flight: 0 });
        Slots { adaptive: Some(Adaptive { inner, freed: Notify::new() }) }
    }

    /// How many may be in flight now; `None` when that is fixed.
    pub(super) fn limit(&self) -> Option<usize> {
        self.adaptive.as_ref().map(|adaptive| adaptive.inner().limit.now())
    }

    /// Waits for a place.
    pub(super) async fn take(&self) -> Slot<'_> {
        let Some(adaptive) = &self.adaptive else {
            return Slot { adaptive: None, began: Instant::now(), in_flight: 0, grown: 0 };
        };
        loop {
            // Before looking, so that a place freed in between is not missed.
            let freed = adaptive.freed.notified();
            if let Some(in_flight) = adaptive.enter() {
                return Slot {
                    adaptive: Some(adaptive),
                    began: Instant::now(),
                    in_flight,
                    grown: 0,
                };
            }
            freed.await;
        }
    }
}

impl Adaptive {
    fn enter(&self) -> Option<usize> {
        let mut inner = self.inner();
        let free = inner.in_flight < inner.limit.now();
        free.then(|| {
            inner.in_flight += 1;
            inner.in_flight
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot<'_> {
    /// The time from which the request's latency counts.
    pub(super) fn begin(&mut self) {
        self.began = Instant::now();
    }

    /// The request ended with `answer`; frees the place.
    pub(super) fn end(mut self, answer: &Answer) {
        let Some(adaptive) = self.adaptive else { return };
        let attempt = Attempt {
            began: self.began,
            ended: Instant::now(),
            in_flight: self.in_flight,
            sign: sign_of(answer),
        };
        let mut inner = adaptive.inner();
        let before = inner.limit.now();
        inner.limit.note(&attempt);
        self.grown = inner.limit.now().saturating_sub(before);
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let Some(adaptive) = self.adaptive else { return };
        adaptive.inner().in_flight -= 1;
        for _ in 0..=self.grown {
            adaptive.freed.notify_one();
        }
    }
}

fn sign_of(answer: &Answer) -> LoadSign {
    match answer {
        Answer::Retry(Failure { timed_out: true, .. })
        | Answer::Retry(Failure { status: Some(408 | 429 | 503 | 504), .. }) => LoadSign::Refused,
        Answer::Retry(_) | Answer::Refused(_) => LoadSign::Unknown,
        Answer::Delivered | Answer::Partial(_) | Answer::TooLarge(_) | Answer::Invalid(_) => {
            LoadSign::Answered
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Answer, Failure, Slots};

    #[tokio::test]
    async fn the_limit_holds_grows_and_shrinks_and_nobody_waits_for_ever() {
        let slots = std::sync::Arc::new(Slots::adaptive(8));
        let peak = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let now = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..400_u32 {
            let (slots, peak, now) = (slots.clone(), peak.clone(), now.clone());
            tasks.spawn(async move {
                use std::sync::atomic::Ordering::SeqCst;
                let slot = slots.take().await;
                peak.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                tokio::time::sleep(Duration::from_millis(2)).await;
                now.fetch_sub(1, SeqCst);
                match n % 40 {
                    // Given up without an answer.
                    0 => drop(slot),
                    1 => {
                        slot.end(&Answer::Retry(Failure { timed_out: true, ..Failure::default() }))
                    }
                    _ => slot.end(&Answer::Delivered),
                }
            });
        }
        while let Some(ended) = tasks.join_next().await {
            assert!(ended.is_ok());
        }
        let peak = peak.load(std::sync::atomic::Ordering::SeqCst);
        assert!((2..=8).contains(&peak), "{peak}");
    }
}
