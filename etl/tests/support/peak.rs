//! Runs a command to its end and says how much memory it had at most.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test file uses a part of this, and a failed step is a failed test"
)]

use std::process::{Child, Output};
use std::time::Duration;

/// What a child came to, and its largest resident size in MiB (`VmHWM`).
pub fn to_the_end(child: Child) -> (Output, u64) {
    let status = format!("/proc/{}/status", child.id());
    let sampler = std::thread::spawn(move || {
        let mut peak_kib = 0;
        // A zombie has no such line any more.
        while let Some(now) = high_water_kib(&status) {
            peak_kib = now;
            std::thread::sleep(Duration::from_millis(3));
        }
        peak_kib
    });
    let output = child.wait_with_output().unwrap();
    let peak_kib = sampler.join().unwrap();
    assert!(peak_kib > 0, "the process was gone before it was measured");
    (output, peak_kib / 1024)
}

fn high_water_kib(status: &str) -> Option<u64> {
    let text = std::fs::read_to_string(status).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}
