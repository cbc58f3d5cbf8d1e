//! `stages`: counts the instructions of every stage under valgrind and holds them to those
//! that are kept in the repository. Instructions do not depend on what else the machine
//! does, so that a step backwards of a few percent shows.
//!
//!     cargo run --release -p stages               compare
//!     cargo run --release -p stages -- --renew    keep today's
//!
//! Exits 1 when a stage is off by more than 3 %, either way: what became faster is to be
//! kept too, or a later step backwards would hide behind it. Exits 2 when nothing could be
//! counted. With another compiler than the kept ones are of it only tells.

mod callgrind;
mod kept;

use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, ExitCode};

use clap::Parser;
use stages::{Desk, STAGES, Stage};

use crate::kept::{Counts, Kept, Tools};

/// How often each stage is counted, behind once that is not.
const TIMES: u64 = 5;

/// Counts the instructions of every stage of a record's journey under valgrind.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Keep what is counted now.
    #[arg(long)]
    renew: bool,
    /// Do the work that is counted; called under valgrind.
    #[arg(long, hide = true)]
    work: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.work {
        work();
        return ExitCode::SUCCESS;
    }
    match compare(arguments.renew) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            writeln!(io::stderr(), "error: {error}").ok();
            ExitCode::from(2)
        }
    }
}

fn work() {
    let mut desk = Desk::new();
    for stage in STAGES {
        // What is set up once, such as compressors and what the processor can do.
        (stage.run)(&mut desk);
        for _ in 0..TIMES {
            counted(&stage, &mut desk);
        }
    }
}

/// Calls from here are those that count.
#[inline(never)]
fn counted(stage: &Stage, desk: &mut Desk) {
    (stage.run)(desk);
    std::hint::black_box(desk);
}

/// Counts and compares; true when all is as it was, or is kept from now on.
fn compare(renew: bool) -> Result<bool, String> {
    let file = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../instructions.json"));
    let kept = Kept::read(file);
    let now = Kept { tools: Tools::here()?, stages: count()? };
    if renew {
        now.write(file)?;
        tell(&now.table(None));
        tell(&format!("kept in {}\n", file.display()));
        return Ok(true);
    }
    let kept = kept?;
    tell(&now.table(Some(&kept)));
    let off = now.off(&kept);
    if off.is_empty() {
        return Ok(true);
    }
    tell(&format!(
        "off by more than 3 %: {}\nto keep today's: cargo run --release -p stages -- --renew\n",
        off.join(", ")
    ));
    if now.tools != kept.tools {
        let (then, now) = (&kept.tools, &now.tools);
        tell(&format!("held against nobody, for the tools are others: {then}; now {now}\n"));
        return Ok(true);
    }
    Ok(false)
}

/// A result, on stdout.
fn tell(text: &str) {
    // With stdout gone, the exit code still tells.
    io::stdout().write_all(text.as_bytes()).ok();
}

/// Instructions of every stage for one unit.
fn count() -> Result<Counts, String> {
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let out = directory.path().join("callgrind.out");
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let done = Command::new("valgrind")
        .args(["--tool=callgrind", "--error-exitcode=3"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(own)
        .arg("--work")
        .output()
        .map_err(|error| format!("valgrind: {error}; to install it: apt-get install valgrind"))?;
    if !done.status.success() {
        let words = String::from_utf8_lossy(&done.stderr);
        return Err(format!("valgrind: {}:\n{words}", done.status));
    }
    let profile = std::fs::read_to_string(&out).map_err(|error| error.to_string())?;
    let called = callgrind::calls_from(&profile, "stages::counted");
    let of = |stage: &Stage| {
        let name = format!("::{}", stage.name);
        let mut costs = called.iter().filter(|(callee, _)| callee.ends_with(&name));
        let (_, cost) = costs.next().ok_or_else(|| {
            format!("the profile has no calls of {}, only of {called:?}", stage.name)
        })?;
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
        let each = *cost as f64 / (TIMES * stage.units) as f64;
        Ok((stage.name.to_owned(), (each * 10.0).round() / 10.0))
    };
    STAGES.iter().map(of).collect()
}
