//! Runs a program to its end and says what it cost.
//!
//! Peak memory is `VmHWM`, read while the program runs: `ru_maxrss` would carry
//! this process's own memory across `exec`. CPU time is read when the program has
//! ended but is not yet reaped, so that it is complete.

use std::fs;
use std::io;
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

/// Short against every scenario, long enough to cost nothing that shows.
const SAMPLE_EVERY: Duration = Duration::from_millis(5);

/// No scenario takes as long; whatever does is stuck.
const KILLED_AFTER: Duration = Duration::from_secs(900);

/// What one run of a program cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// From before the start to after the end.
    pub(crate) wall: Duration,
    /// User and system time of all its threads, to the clock tick (10 ms).
    pub(crate) cpu: Duration,
    /// Peak resident bytes; a peak of the last 5 ms may be missed.
    pub(crate) rss_bytes_max: u64,
    /// How it ended.
    pub(crate) status: ExitStatus,
}

impl Usage {
    /// As if it had been done so many times, one after the other.
    pub(crate) fn times(self, times: u32) -> Usage {
        Usage { wall: self.wall * times, cpu: self.cpu * times, ..self }
    }
}

/// Runs `command` to its end.
pub(crate) fn measure(command: &mut Command) -> io::Result<Usage> {
    let start = Instant::now();
    let mut child = command.spawn()?;
    let pid = Pid::from_child(&child);
    let ended = AtomicBool::new(false);
    let (wall, cpu, rss_bytes_max) = thread::scope(|scope| {
        let sampler = scope.spawn(|| sample_memory(pid, start, &ended));
        let waited = wait_without_reaping(pid);
        let wall = start.elapsed();
        let cpu = cpu_time(pid);
        ended.store(true, Ordering::Relaxed);
        let rss = sampler.join().unwrap_or(0);
        waited.and(cpu).map(|cpu| (wall, cpu, rss))
    })?;
    Ok(Usage { wall, cpu, rss_bytes_max, status: child.wait()? })
}

fn wait_without_reaping(pid: Pid) -> io::Result<()> {
    waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)?;
    Ok(())
}

fn sample_memory(pid: Pid, start: Instant, ended: &AtomicBool) -> u64 {
    let file = format!("/proc/{}/status", pid.as_raw_nonzero());
    let mut peak = 0;
    while !ended.load(Ordering::Relaxed) {
        let status = fs::read_to_string(&file).unwrap_or_default();
        peak = peak.max(high_water_mark(&status).unwrap_or(0));
        if start.elapsed() > KILLED_AFTER {
            // It may have ended this instant, which is what we want.
            kill_process(pid, Signal::KILL).ok();
        }
        thread::sleep(SAMPLE_EVERY);
    }
    peak
}

/// `VmHWM` in bytes out of `/proc/PID/status`; a zombie has none.
fn high_water_mark(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn cpu_time(pid: Pid) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()))?;
    let ticks = cpu_ticks(&stat)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("stat: {stat}")))?;
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_millis(ticks * 1_000 / per_second.max(1)))
}

/// `utime + stime` out of `/proc/PID/stat`: fields 14 and 15, counted behind the
/// program's name, which may contain spaces and brackets (proc(5)).
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use super::{cpu_ticks, high_water_mark, measure};

    #[test]
    fn fields_are_found_behind_any_program_name() {
        let stat = "77 (a) b (c) S 1 77 77 0 -1 4194560 100 0 0 0 123 45 0 0 20 0 1 0 5 0 0";
        assert_eq!(cpu_ticks(stat), Some(168));
        assert_eq!(cpu_ticks("nonsense"), None);
    }

    #[test]
    fn the_high_water_mark_is_in_bytes() {
        assert_eq!(high_water_mark("VmPeak:\t 9 kB\nVmHWM:\t    2048 kB\n"), Some(2_097_152));
        assert_eq!(high_water_mark("State:\tZ (zombie)\n"), None);
    }

    #[test]
    fn a_busy_child_is_charged_and_a_sleeping_one_is_not() {
        let busy = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        let busy = measure(Command::new("sh").args(["-c", busy])).unwrap();
        assert!(busy.cpu >= Duration::from_millis(50), "{busy:?}");
        assert!(busy.rss_bytes_max > 100_000, "{busy:?}");

        let idle = measure(Command::new("sleep").arg("0.2")).unwrap();
        assert!(idle.cpu < Duration::from_millis(50), "{idle:?}");
        assert!(idle.wall >= Duration::from_millis(200), "{idle:?}");
        assert!(idle.status.success());
    }
}
