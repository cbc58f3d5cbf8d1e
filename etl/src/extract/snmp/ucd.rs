//! CPU percentages from net-snmp's raw counters (UCD-SNMP-MIB, ssCpuRaw…): the counters of
//! this poll against those of the last one, or of a moment before. Agents renew them every
//! few seconds only, so a first poll waits until they move.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::client::Client;
use super::error::SnmpError;
use super::oid::Oid;
use super::pdu::Value;
use crate::config::Span;
use crate::extract::cpu::{Incomparable, percentages};
use crate::extract::exposition::{Mode, Seconds};
use crate::extract::progress::{Phase, Progress};
use crate::extract::samples::{Key, Samples};

const UPTIME: &str = "1.3.6.1.2.1.1.3.0";
const SYSTEM_STATS: &str = "1.3.6.1.4.1.2021.11";
/// Counters below [`SYSTEM_STATS`], and whether every agent that has any has this one.
/// ssCpuRawKernel is within System; guests are within User.
const COUNTERS: [(u32, &str, Mode, bool); 8] = [
    (53, "ssCpuRawIdle", Mode::Idle, true),
    (51, "ssCpuRawNice", Mode::Nice, true),
    (50, "ssCpuRawUser", Mode::User, true),
    (52, "ssCpuRawSystem", Mode::System, true),
    (56, "ssCpuRawInterrupt", Mode::Irq, false),
    (61, "ssCpuRawSoftIRQ", Mode::SoftIrq, false),
    (54, "ssCpuRawWait", Mode::IoWait, false),
    (64, "ssCpuRawSteal", Mode::Steal, false),
];
/// Linux lets idle and iowait go back a little: 3 s of some CPUs, in hundredths.
const JITTER_TICKS: i32 = 3_000;
/// After longer than that, the counters of hundreds of CPUs could have gone round.
const AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Polls the counters.
#[derive(Debug)]
pub(super) struct UcdCpu {
    oids: Vec<Oid>,
    interval: Duration,
    last: Samples<Sample>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    taken: Instant,
    /// Hundredths of a second since the agent started.
    uptime: u32,
    /// Hundredths of a second by [`Mode`], of all CPUs together; they wrap.
    ticks: [u32; 8],
}

impl UcdCpu {
    pub fn new(interval: Duration) -> Result<UcdCpu, &'static str> {
        let mut oids = vec![Oid::parse(UPTIME)?];
        let stats = Oid::parse(SYSTEM_STATS)?;
        oids.extend(COUNTERS.iter().map(|(number, ..)| stats.child(&[*number, 0])));
        Ok(UcdCpu { oids, interval, last: Samples::default() })
    }

    /// Percentages in the order of [`crate::extract::cpu::COLUMNS`].
    pub async fn poll(
        &self,
        client: &Client,
        agent: SocketAddr,
        progress: &Progress,
    ) -> Result<[f64; 7], SnmpError> {
        let key = Key::of(&agent.to_string());
        let mut base =
            self.last.last(key, |last| *last).filter(|last| last.taken.elapsed() < AGE_MAX);
        let mut still = Duration::ZERO;
        loop {
            let sample = self.sample(client, agent, progress).await?;
            match base.as_ref().map(|base| compare(base, &sample, self.interval)) {
                Some(Ok(percent)) => {
                    self.last.keep(key, sample);
                    return Ok(percent);
                }
                // The same counters as before: newer ones are worth waiting for.
                Some(Err(Incomparable::Still)) => {
                    progress.note(format!(
                        "the CPU counters did not move in {}; many agents renew them every 5s or \
                         more, so extract.timeout should be 15s",
                        Span(still)
                    ));
                }
                _ => {
                    self.last.keep(key, sample);
                    (base, still) = (Some(sample), Duration::ZERO);
                }
            }
            progress.enter(Phase::BetweenSamples);
            tokio::time::sleep(self.interval).await;
            still += self.interval;
        }
    }

    async fn sample(
        &self,
        client: &Client,
        agent: SocketAddr,
        progress: &Progress,
    ) -> Result<Sample, SnmpError> {
        let values = client.get(agent, &self.oids, progress).await?;
        let mut sample = Sample { taken: Instant::now(), uptime: 0, ticks: [0; 8] };
        if let Some(Value::TimeTicks(uptime)) = values.first() {
            sample.uptime = *uptime;
        }
        for ((value, oid), (_, name, mode, needed)) in
            values.iter().zip(&self.oids).skip(1).zip(COUNTERS)
        {
            let why = match value {
                Value::Counter32(ticks) | Value::Gauge32(ticks) => {
                    sample.ticks[mode as usize] = *ticks;
                    continue;
                }
                _ if !needed => continue,
                Value::NoSuchObject => "noSuchObject",
                Value::NoSuchInstance => "noSuchInstance",
                _ => "not a Counter32",
            };
            return Err(SnmpError::Missing { what: format!("{name}, {oid}"), why });
        }
        Ok(sample)
    }
}

/// Percentages between two samples.
fn compare(before: &Sample, now: &Sample, interval: Duration) -> Result<[f64; 7], Incomparable> {
    // An agent that has just started knows no counters yet.
    if now.uptime < before.uptime || before.ticks == [0; 8] {
        return Err(Incomparable::Restarted);
    }
    let mut passed: Seconds = [0.0; 8];
    for (passed, (now, before)) in passed.iter_mut().zip(now.ticks.iter().zip(before.ticks)) {
        // Read as a signed number, the difference is right across a wrap and tells a step back.
        let ticks = now.wrapping_sub(before).cast_signed();
        if ticks < -JITTER_TICKS {
            return Err(Incomparable::Restarted);
        }
        *passed = f64::from(ticks.max(0));
    }
    // Closer samples would say little.
    let close = (now.taken - before.taken) * 2 < interval;
    match percentages(&passed) {
        Some(percent) if !close => Ok(percent),
        _ => Err(Incomparable::Still),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Incomparable, Sample, compare};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn counters_wrap_and_agents_restart() {
        let taken = Instant::now();
        let idle = |uptime, idle: u32, user| Sample {
            taken,
            uptime,
            ticks: [idle, 0, user, 0, 0, 0, 0, 0],
        };
        let later = |sample: Sample| Sample { taken: taken + SECOND, ..sample };
        let compare = |before, now| compare(&before, &later(now), SECOND);
        let percent = compare(idle(0, u32::MAX - 49, 5), idle(100, 50, 105)).unwrap();
        assert_eq!((percent[0], percent[2]), (50.0, 50.0));
        assert_eq!(compare(idle(100, 50, 5), idle(5, 100, 9)), Err(Incomparable::Restarted));
        assert_eq!(compare(idle(0, 0, 0), idle(9, 100, 9)), Err(Incomparable::Restarted));
        assert_eq!(compare(idle(0, 900_000, 9), idle(9, 7, 9)), Err(Incomparable::Restarted));
        assert_eq!(compare(idle(0, 7, 9), idle(9, 7, 9)), Err(Incomparable::Still));
        // A step back as Linux takes them.
        let percent = compare(idle(0, 500, 0), idle(9, 400, 100)).unwrap();
        assert_eq!((percent[0], percent[2]), (0.0, 100.0));
    }

    #[test]
    fn samples_that_are_too_close_say_nothing() {
        let before = Sample { taken: Instant::now(), uptime: 0, ticks: [1; 8] };
        let now = Sample { taken: before.taken + SECOND / 10, uptime: 9, ticks: [2; 8] };
        assert_eq!(compare(&before, &now, SECOND), Err(Incomparable::Still));
    }
}
