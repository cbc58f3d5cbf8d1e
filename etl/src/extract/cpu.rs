//! CPU percentages from two samples of the counters. Pure: takes time as an argument.
//!
//! A CPU's time is idle + iowait + user + nice + system + irq + softirq + steal (guest
//! time is within user). `pidle` is idle alone, so that utilization, 100 − `pidle`,
//! counts waiting for disks as in `top`; `piowait` and `psteal` are columns of their
//! own, so that all seven add up to 100.

use std::io::Write;
use std::time::Duration;

use super::exposition::{CpuSeconds, Mode, Seconds};

/// Linux lets idle and iowait go back a little at times; node_exporter allows as much.
const JITTER_SECONDS: f64 = 3.0;

/// How far the moments that two samples are of may be from when they arrived.
const REQUEST_SECONDS: f64 = 5.0;

/// A column of the result with the modes it adds up.
pub(super) const COLUMNS: [(&str, &[Mode]); 7] = [
    ("pidle", &[Mode::Idle]),
    ("pnice", &[Mode::Nice]),
    ("puser", &[Mode::User]),
    ("psys", &[Mode::System]),
    ("pirq", &[Mode::Irq, Mode::SoftIrq]),
    ("piowait", &[Mode::IoWait]),
    ("psteal", &[Mode::Steal]),
];

/// One CPU's percentages, in the order of [`COLUMNS`].
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CpuShares {
    pub(super) cpu: Box<str>,
    pub(super) percent: [f64; 7],
}

/// Why two samples do not tell percentages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Incomparable {
    /// CPUs came or went.
    OtherCpus,
    /// The counters began anew, or moved by more than the time between the samples.
    Restarted,
    /// No counter moved.
    Still,
}

/// Percentages between two samples that are `elapsed` apart. A CPU whose counters
/// stand still is offline and left out.
pub(super) fn shares(
    before: &[CpuSeconds],
    now: &[CpuSeconds],
    elapsed: Duration,
) -> Result<Vec<CpuShares>, Incomparable> {
    if before.len() != now.len()
        || before.iter().zip(now).any(|(before, now)| before.cpu != now.cpu)
    {
        return Err(Incomparable::OtherCpus);
    }
    // Counters are of some moment within each request, and a request may be slow.
    let total_max = elapsed.as_secs_f64() * 1.5 + REQUEST_SECONDS;
    let mut cpus = Vec::with_capacity(now.len());
    for (before, now) in before.iter().zip(now) {
        let mut passed: Seconds = [0.0; 8];
        for (passed, (now, before)) in passed.iter_mut().zip(now.seconds.iter().zip(before.seconds))
        {
            *passed = now - before;
            if *passed < -JITTER_SECONDS {
                return Err(Incomparable::Restarted);
            }
            *passed = passed.max(0.0);
        }
        if passed.iter().sum::<f64>() > total_max {
            return Err(Incomparable::Restarted);
        }
        if let Some(percent) = percentages(&passed) {
            cpus.push(CpuShares { cpu: now.cpu.clone(), percent });
        }
    }
    if cpus.is_empty() { Err(Incomparable::Still) } else { Ok(cpus) }
}

/// The share of each column in the time that passed, in whatever unit; nothing when none did.
pub(super) fn percentages(passed: &Seconds) -> Option<[f64; 7]> {
    let total: f64 = passed.iter().sum();
    let share = |(_, modes): (_, &[Mode])| {
        modes.iter().map(|mode| passed[*mode as usize]).sum::<f64>() * 100.0 / total
    };
    (total > 0.0).then(|| COLUMNS.map(share))
}

/// Appends the columns, each behind a comma, to a record that is being written.
pub(super) fn push_percentages(row: &mut Vec<u8>, percent: [f64; 7]) {
    for ((column, _), percent) in COLUMNS.iter().zip(percent) {
        // Writing to memory cannot fail.
        write!(row, ",\"{column}\":\"{percent:.2}\"").ok();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use std::time::Duration;

    use super::{CpuSeconds, Incomparable, shares};

    const SECOND: Duration = Duration::from_secs(1);

    fn cpu(name: &str, seconds: [f64; 8]) -> CpuSeconds {
        CpuSeconds { cpu: name.into(), seconds }
    }

    #[test]
    fn every_column_is_its_share_of_all_the_time() {
        let before = [cpu("0", [100.0, 1.0, 10.0, 5.0, 1.0, 1.0, 7.0, 0.5])];
        let now = [cpu("0", [100.5, 1.05, 10.1, 5.1, 1.02, 1.03, 7.15, 0.55])];
        let cpus = shares(&before, &now, SECOND).unwrap();
        let expected = [50.0, 5.0, 10.0, 10.0, 5.0, 15.0, 5.0];
        for (percent, expected) in cpus[0].percent.iter().zip(expected) {
            assert!((percent - expected).abs() < 1e-9, "{percent} {expected}");
        }
    }

    #[test]
    fn what_does_not_compare_is_said_and_not_guessed() {
        let zero = cpu("0", [0.0; 8]);
        let busy = |name: &str| cpu(name, [10.0, 0.0, 10.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        let later = |name: &str| cpu(name, [10.5, 0.0, 10.5, 0.0, 0.0, 0.0, 0.0, 0.0]);
        let compare = |before: &[CpuSeconds], now: &[CpuSeconds]| shares(before, now, SECOND);
        assert_eq!(
            compare(&[busy("0")], std::slice::from_ref(&zero)),
            Err(Incomparable::Restarted)
        );
        assert_eq!(compare(&[zero], &[busy("0")]), Err(Incomparable::Restarted));
        assert_eq!(compare(&[busy("0")], &[busy("0")]), Err(Incomparable::Still));
        assert_eq!(compare(&[busy("0")], &[later("1")]), Err(Incomparable::OtherCpus));
        assert_eq!(compare(&[busy("0")], &[later("0"), busy("1")]), Err(Incomparable::OtherCpus));
        // One CPU offline, the other not.
        let cpus = compare(&[busy("0"), busy("1")], &[later("0"), busy("1")]).unwrap();
        assert_eq!((cpus.len(), &*cpus[0].cpu), (1, "0"));
        // iowait goes back a little on Linux.
        let back = cpu("0", [10.5, 0.0, 10.4, 0.0, 0.0, 0.0, 0.0, 0.0]);
        let jitter = cpu("0", [10.0, 0.0, 10.0, 0.0, 0.0, 0.0, 0.1, 0.0]);
        let cpus = compare(&[jitter], &[back]).unwrap();
        assert!((cpus[0].percent.iter().sum::<f64>() - 100.0).abs() < 1e-9);
    }
}
