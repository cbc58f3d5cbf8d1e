//! The Nth system call that changes the data directory, for every N: the process is
//! killed there, or the call fails with EIO or ENOSPC. What was in the spool is still
//! there and whole, and a normal run afterwards delivers everything.
//!
//!     cargo test -p etl --test crash_syscalls -- --nocapture
//!     ETL_SYSCALLS=all cargo test --release -p etl --test crash_syscalls -- --nocapture
//!
//! strace injects; `-D` keeps the traced process the test's own child, so that its
//! pid, and with it the name of every temporary file, is known beforehand.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use mock_load_api_server::Faults;
use support::crash::{Case, Kind, require, wait_at_most};
use support::{Bench, down};
use tokio::runtime::Handle;

const BATCH: u64 = 5;
/// Temporary and free files whose names are traced; a run here has fewer.
const TEMPS: u32 = 200;
/// Runs at the same time.
const AT_ONCE: usize = 4;
/// Longer than a run with one failed call takes, pauses included.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a cycle of the spool is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The API is down: batches are written and written again after their attempts.
    Spooling,
    /// It is up: they are replayed and removed, beside new ones.
    Replaying,
}

/// Where calls count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Making the directories, taking the lock.
    Opening,
    /// The spool and the files in it.
    Spool,
    /// Where the run and its checkpoint are kept.
    State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Injection {
    Kill,
    Eio,
    Enospc,
}

/// How many loader workers there are, and batches for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Crew {
    One,
    Ten,
}

impl Crew {
    fn workers(self) -> u32 {
        if self == Crew::One { 1 } else { 10 }
    }

    fn batches(self) -> u64 {
        if self == Crew::One { 3 } else { 20 }
    }
}

/// One injection: what happens at the `nth` (from 1) `call` in `place`.
#[derive(Debug, Clone, Copy)]
struct Point {
    crew: Crew,
    kind: Kind,
    phase: Phase,
    place: Place,
    call: &'static str,
    nth: u32,
    injection: Injection,
}

const CALLS: [&str; 13] = [
    "openat",
    "mkdir",
    "mkdirat",
    "write",
    "pwrite64",
    "fsync",
    "fdatasync",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "ftruncate",
];

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Point { crew, kind, phase, place, call, nth, injection } = self;
        write!(f, "{injection:?} at {call} {nth} in {place:?} while {phase:?} {kind:?} × {crew:?}")
    }
}

impl Point {
    /// What follows `-e inject=CALL:`.
    fn strace(&self) -> String {
        let what = match self.injection {
            Injection::Kill => "signal=SIGKILL",
            Injection::Eio => "error=EIO",
            Injection::Enospc => "error=ENOSPC",
        };
        format!("-e inject={}:{what}:when={}", self.call, self.nth)
    }
}

/// `etl run` under strace, which looks at `place` only and does what `inject` says.
/// The bash that becomes strace that becomes etl keeps one pid.
fn traced(bench: &Bench, place: Place, inject: &str) -> Command {
    let root = std::fs::canonicalize(bench.path("")).unwrap();
    let home = root.join("data/p").display().to_string();
    let temps = |folder: &str| -> Vec<String> {
        (0..TEMPS).map(|n| format!("{folder}/.etl-$$-{n}.tmp")).collect()
    };
    let paths = match place {
        Place::Opening => {
            let root = root.display();
            let data = [format!("{root}"), format!("{root}/data"), home.clone()];
            [&data[..], &[format!("{home}/spool"), format!("{home}/spool/http/.lock")]].concat()
        }
        Place::Spool => {
            let spool = format!("{home}/spool/http");
            let free = (0..TEMPS).map(|n| format!("{spool}/.etl-free-{n}")).collect();
            [vec![spool.clone()], temps(&spool), free].concat()
        }
        Place::State => {
            let state = format!("{home}/state");
            let lock = format!("{state}/.lock");
            [vec![state.clone(), lock, format!("{state}/runs.jsonl")], temps(&state)].concat()
        }
    };
    let paths: String = paths.iter().map(|path| format!(" -P \"{path}\"")).collect();
    let script = format!(
        "exec strace -D -f -qq -o trace -e trace={}{paths} {inject} \"$0\" run p.yaml --json",
        CALLS.join(",")
    );
    let mut command = bench.command(&[]);
    let environment: Vec<_> = command
        .get_envs()
        .map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned)))
        .collect();
    command = Command::new("bash");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_etl")]).current_dir(bench.path(""));
    for (name, value) in environment {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

/// A pipeline at the beginning of `phase`.
async fn at_the_beginning_of(crew: Crew, kind: Kind, phase: Phase) -> Case {
    let records = crew.batches() * BATCH;
    let mut case = Case::new(kind, records, BATCH, crew.workers(), down()).await;
    let pipeline = std::fs::read_to_string(case.bench.path("p.yaml")).unwrap();
    // One attempt, so that a batch is noted as failed without a wait.
    let pipeline = pipeline.replace("attempts: 2, base: 20ms", "attempts: 1, base: 1ms");
    case.bench.write("p.yaml", pipeline);
    if phase == Phase::Replaying {
        let status = case.start(&[]).wait().unwrap();
        assert_eq!(status.code(), Some(75), "{}", case.stderr());
        assert!(case.note_spool() as u64 >= crew.batches());
        case.server.set_faults(Faults::default()).unwrap();
    }
    case
}

/// How often each call is made in `place`, by the thread that makes it most often:
/// strace counts for each thread by itself.
async fn calls_of(
    crew: Crew,
    kind: Kind,
    phase: Phase,
    place: Place,
) -> BTreeMap<&'static str, u32> {
    let case = at_the_beginning_of(crew, kind, phase).await;
    let status = case.spawn(traced(&case.bench, place, "")).wait().unwrap();
    assert!(matches!(status.code(), Some(0 | 75)), "{status}: {}", case.stderr());
    let trace = std::fs::read_to_string(case.bench.path("trace")).unwrap();
    let mut counts: BTreeMap<(&str, &'static str), u32> = BTreeMap::new();
    for line in trace.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let called = |call: &&&str| rest.trim_start().starts_with(&format!("{call}("));
        if let Some(call) = CALLS.iter().find(called) {
            *counts.entry((thread, call)).or_default() += 1;
        }
    }
    let mut most = BTreeMap::new();
    for ((_, call), count) in counts {
        let known: &mut u32 = most.entry(call).or_default();
        *known = (*known).max(count);
    }
    most
}

/// Runs into `point`, looks at what is left, and lets a normal run deliver it.
/// Says whether the injection was reached, and the exit code of a run that ended.
async fn run_into(point: Point) -> (bool, Option<i32>) {
    let mut case = at_the_beginning_of(point.crew, point.kind, point.phase).await;
    let began = Instant::now();
    let mut run = case.spawn(traced(&case.bench, point.place, &point.strace()));
    let Some(status) = wait_at_most(&mut run, began, PATIENCE) else {
        run.kill().unwrap();
        panic!("{point}: still running after {PATIENCE:?}: {}", case.stderr());
    };
    let trace = std::fs::read_to_string(case.bench.path("trace")).unwrap();
    let reached = match point.injection {
        Injection::Kill => status.code().is_none(),
        Injection::Eio | Injection::Enospc => trace.contains("(INJECTED)"),
    };
    if let Some(code) = status.code() {
        ended_as_documented(point, &case, code);
    }
    case.note_spool();
    case.deliver_all(&[]);
    case.nothing_is_lost();
    (reached, status.code())
}

/// A failed call ends in a state that the exit code tells, with books that balance.
fn ended_as_documented(point: Point, case: &Case, code: i32) {
    let stderr = case.stderr();
    assert!(!stderr.contains("panicked"), "{point}: {stderr}");
    match code {
        0 | 75 => assert_eq!(case.json()["balanced"], true, "{point}: {stderr}"),
        // The spool could not be opened: nothing was read or sent, and the reason is said.
        69 => assert!(stderr.contains("spool") || stderr.contains("state"), "{point}: {stderr}"),
        code => panic!("{point}: exit {code}: {stderr}"),
    }
}

/// Every `step`th call of both phases in all places, a few at a time: a run waits more
/// than it works.
async fn sweep(crew: Crew, kind: Kind, injection: Injection, step: usize) {
    let began = Instant::now();
    let mut points = Vec::new();
    for phase in [Phase::Spooling, Phase::Replaying] {
        for place in [Place::Opening, Place::Spool, Place::State] {
            for (call, count) in calls_of(crew, kind, phase, place).await {
                for nth in 1..=count {
                    points.push(Point { crew, kind, phase, place, call, nth, injection });
                }
            }
        }
    }
    let chosen: Vec<Point> = points.iter().copied().step_by(step).collect();
    let ends = at_once(&chosen);
    let reached = ends.iter().filter(|(hit, _)| *hit).count();
    let mut codes: BTreeMap<Option<i32>, u32> = BTreeMap::new();
    for (_, code) in ends {
        *codes.entry(code).or_default() += 1;
    }
    tell(&format!(
        "{injection:?} × {kind:?} × {crew:?}: {reached} injections at {} of {} calls, exit codes {codes:?}, \
         0 lost, {:.0?}",
        chosen.len(),
        points.len(),
        began.elapsed()
    ));
    assert!(points.len() > 40, "a cycle has more calls: {}", points.len());
    // Threads share work differently from run to run, so that a last call may be missed;
    // ten workers' disk threads share all of it.
    let least = if crew == Crew::One { 9 } else { 5 };
    assert!(reached * 10 >= chosen.len() * least, "{reached} of {} were reached", chosen.len());
}

/// Runs into all points, on threads of their own: the runtime's belong to the mocks.
fn at_once(points: &[Point]) -> Vec<(bool, Option<i32>)> {
    let (next, runtime) = (Mutex::new(points.iter()), Handle::current());
    let work = || {
        let mut ends = Vec::new();
        loop {
            let point = next.lock().unwrap().next().copied();
            let Some(point) = point else { return ends };
            ends.push(runtime.block_on(run_into(point)));
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

/// Found by this test: a delivered batch whose file could not be removed was replayed
/// within the same run, counted twice (exit 70), and, while removal went on failing,
/// sent again and again without a pause. Now it waits for the next run.
#[tokio::test(flavor = "multi_thread")]
async fn a_delivered_file_that_cannot_be_removed_is_left_to_the_next_run() {
    strace_is_there();
    for (kind, phase) in [(Kind::Fleet, Phase::Spooling), (Kind::Rows, Phase::Replaying)] {
        let mut case = at_the_beginning_of(Crew::One, kind, phase).await;
        case.server.set_faults(Faults::default()).unwrap();
        // Neither another name nor none; a batch gets its name by renameat2.
        let inject = "-e inject=renameat,rename,unlinkat,unlink:error=EROFS";
        let mut run = case.spawn(traced(&case.bench, Place::Spool, inject));
        let Some(status) = wait_at_most(&mut run, Instant::now(), PATIENCE) else {
            run.kill().unwrap();
            panic!("a run that cannot remove files goes on for ever");
        };
        assert_eq!(status.code(), Some(75), "{}", case.stderr());
        assert_eq!(case.json()["balanced"], true, "{}", case.stderr());
        let (files, stats) = (case.note_spool() as u64, case.server.stats());
        let batches = Crew::One.batches();
        assert_eq!((files, stats.requests), (batches, batches), "{stats:?}");
        case.deliver_all(&[]);
        case.nothing_is_lost();
    }
}

fn strace_is_there() {
    require("strace", "-V", "strace");
}

/// Every call in the long form, every `short`th in the short one.
fn step(short: usize) -> usize {
    if std::env::var("ETL_SYSCALLS").is_ok_and(|text| text == "all") { 1 } else { short }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_call_that_changes_the_spool_loses_nothing() {
    strace_is_there();
    sweep(Crew::One, Kind::Fleet, Injection::Kill, step(2)).await;
    sweep(Crew::One, Kind::Rows, Injection::Kill, step(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_call_of_ten_workers_loses_nothing() {
    strace_is_there();
    sweep(Crew::Ten, Kind::Fleet, Injection::Kill, step(5)).await;
    sweep(Crew::Ten, Kind::Rows, Injection::Kill, step(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_any_call_that_changes_the_spool_ends_clearly_and_loses_nothing() {
    strace_is_there();
    for (injection, kind) in [
        (Injection::Eio, Kind::Fleet),
        (Injection::Enospc, Kind::Fleet),
        (Injection::Eio, Kind::Rows),
        (Injection::Enospc, Kind::Rows),
    ] {
        sweep(Crew::One, kind, injection, step(8)).await;
    }
}

/// Past the test harness, which would keep it back.
fn tell(text: &str) {
    writeln!(std::io::stderr(), "crash_syscalls: {text}").ok();
}
