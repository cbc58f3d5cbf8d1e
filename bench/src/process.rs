//! Runs a program to its end and says what it cost.
//!
//! Peak memory is `VmHWM`, read while the program runs: `ru_maxrss` would carry
//! this process's own memory across `exec`. CPU time is read when the program has
//! ended but is not yet reaped, so that it is complete. A program that serves has no
//! end: it is looked at while it runs.

use std::fs;
use std::io;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

/// Short against every scenario, long enough to cost nothing that shows.
const SAMPLE_EVERY: Duration = Duration::from_millis(5);

/// No scenario takes as long; whatever does is stuck.
const KILLED_AFTER: Duration = Duration::from_secs(900);

/// Drains, closes files and says goodbye within this.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

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

/// A program that runs until it is told to end; killed when this is dropped.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(command: &mut Command) -> io::Result<Running> {
        command.spawn().map(Running)
    }

    /// User and system time of all its threads so far, to the clock tick (10 ms).
    pub(crate) fn cpu(&self) -> io::Result<Duration> {
        cpu_time(Pid::from_child(&self.0))
    }

    /// Peak resident bytes so far.
    pub(crate) fn rss_bytes_max(&self) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        high_water_mark(&status).ok_or_else(|| io::Error::other("no VmHWM: it has ended"))
    }

    /// Whether it has ended by itself, and how.
    pub(crate) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.0.try_wait()
    }

    /// Tells it to end (SIGTERM) and waits for that.
    pub(crate) fn stop(mut self) -> io::Result<ExitStatus> {
        kill_process(Pid::from_child(&self.0), Signal::TERM)?;
        let start = Instant::now();
        while start.elapsed() < ENDS_WITHIN {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status);
            }
            thread::sleep(SAMPLE_EVERY);
        }
        Err(io::Error::other(format!("still there {} s after SIGTERM", ENDS_WITHIN.as_secs())))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After `stop` there is nothing left to kill.
        if matches!(self.0.try_wait(), Ok(None)) {
            self.0.kill().ok();
            self.0.wait().ok();
        }
    }
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
    use std::time::{Duration, Instant};

    use super::{Running, cpu_ticks, high_water_mark, measure};

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

    #[test]
    fn what_runs_is_looked_at_and_told_to_end() {
        let mut sleeper = Running::start(Command::new("sleep").arg("600")).unwrap();
        assert!(sleeper.cpu().unwrap() < Duration::from_millis(50));
        let began = Instant::now();
        // At first it is not loaded yet.
        while sleeper.rss_bytes_max().unwrap() < 100_000 {
            assert!(began.elapsed() < Duration::from_secs(30));
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(sleeper.ended().unwrap().is_none());
        let status = sleeper.stop().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(15));
    }
}
