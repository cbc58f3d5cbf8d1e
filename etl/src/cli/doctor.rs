//! `etl doctor PIPELINE.yaml`: can everything be reached? Each line says what was
//! tried and, when it failed, what to do. No record is read into the pipeline or sent.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::json;

use super::args::DoctorArgs;
use super::run::say;
use crate::alerts::{self, Channel};
use crate::batch::Rows;
use crate::config::{
    self, Alerts, CsvSource, Load, Loaded, Pipeline, RestSource, Retry, SqlSource,
};
use crate::exit::Exit;
use crate::extract::{Extractor, Target};
use crate::load::{self, Probe, Reach, SinkHome};
use crate::source::rest::{RestClient, Waits};
use crate::source::sql;
use crate::source::{CsvRows, Next};
use crate::stop::stop_signal;
use crate::telemetry::figures::{bytes, counted, span};
use crate::telemetry::{SinkInput, Terminal, Tone};

/// A difference between the clocks that is worth a warning.
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(5);

/// What one look came to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    level: Level,
    what: String,
    text: String,
    remedy: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Ok,
    Warn,
    Fail,
}

/// Probes everything the pipeline of `args` needs.
#[must_use]
pub fn run(args: &DoctorArgs) -> Exit {
    let loaded = match config::load(&args.file, &args.set, None) {
        Ok(loaded) => loaded,
        Err(report) => {
            say(&report.render(Terminal::stderr().color));
            return Exit::Config;
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&format!("error: {error}"));
            return Exit::Internal;
        }
    };
    let findings = runtime.block_on(examine(&loaded, &args.data_dir, args.alert));
    show(&findings, args.json);
    if findings.iter().any(|finding| finding.level == Level::Fail) {
        Exit::SourceUnavailable
    } else {
        Exit::Delivered
    }
}

async fn examine(loaded: &Loaded, data_dir: &Path, alert: bool) -> Vec<Finding> {
    let pipeline = &loaded.pipeline;
    let secrets = counted(loaded.secrets as u64, "secret");
    let variables = counted(loaded.variables as u64, "variable");
    let mut findings = vec![ok("config", format!("{variables} set, {secrets} (hidden)"))];
    let mut first_row = None;
    if let Some(csv) = &pipeline.source.csv {
        findings.push(source(csv, &mut first_row));
    }
    if let Some(rest) = &pipeline.source.rest {
        findings.push(api(rest).await);
    }
    if let Some(sql) = &pipeline.source.sql {
        findings.extend(shards(sql, &data_dir.join(&pipeline.name)).await);
    }
    if pipeline.extract.is_some() {
        findings.push(extraction(pipeline, first_row).await);
    }
    let directory = data_dir.join(&pipeline.name);
    let mut clock = None;
    for (input, loads) in
        [(SinkInput::Raw, &pipeline.raw), (SinkInput::Transformed, &pipeline.load)]
    {
        let home = SinkHome { pipeline: &pipeline.name, directory: &directory, input };
        for load in loads {
            findings.push(sink(load, &home, &mut clock).await);
        }
    }
    if let Some(settings) = &pipeline.alerts {
        findings.extend(receivers(&pipeline.name, settings, alert).await);
    } else if alert {
        findings.push(warn("alerts", "the pipeline has none: set `alerts`".to_owned()));
    }
    findings.push(state(&directory));
    findings.extend(clock.map(clocks));
    findings
}

fn source(csv: &CsvSource, first_row: &mut Option<Vec<u8>>) -> Finding {
    let name = csv.path.display();
    let mut rows = match CsvRows::open(csv) {
        Ok(rows) => rows,
        Err(error) => return fail("source", error.to_string(), None),
    };
    let columns = counted(rows.columns().len() as u64, "column");
    let size = rows.bytes_total().map_or_else(String::new, |total| format!("{}, ", bytes(total)));
    let mut row = Vec::new();
    match rows.next_row(&mut row) {
        Ok(Next::Row) => *first_row = Some(row),
        Ok(Next::End) => return warn("source", format!("{name}, {size}{columns}, no rows")),
        Ok(Next::Rejected(rejection)) => {
            let text = format!("{name}: the first row is bad: {}", rejection.reason);
            return warn("source", text);
        }
        Err(error) => return fail("source", error.to_string(), None),
    }
    ok("source", format!("{name}, {size}{columns}"))
}

/// Asks for the first page, once.
async fn api(rest: &RestSource) -> Finding {
    let once = RestSource { retry: Retry { attempts: 1, ..rest.retry.clone() }, ..rest.clone() };
    let (_handle, stop) = stop_signal();
    let waits = Waits::new(tokio::runtime::Handle::current(), stop);
    let mut client = match RestClient::new(&once, None, waits) {
        Ok(client) => client,
        Err(error) => return fail("source", error.to_string(), None),
    };
    match tokio::task::spawn_blocking(move || client.look()).await {
        Ok(Ok(text)) => ok("source", text),
        Ok(Err(error)) => fail("source", error.to_string(), None),
        Err(error) => fail("source", format!("the reading thread ended in a panic: {error}"), None),
    }
}

/// Connects to every shard, all at once, and looks at its tables.
async fn shards(source: &SqlSource, home: &Path) -> Vec<Finding> {
    let shards = match sql::shards(source) {
        Ok(shards) => shards,
        Err(error) => return vec![fail("source", error.to_string(), None)],
    };
    let mut looking = Vec::new();
    for shard in shards {
        let connector = match sql::connector(source, &shard, home) {
            Ok(connector) => connector,
            Err(error) => return vec![fail("source", error.to_string(), None)],
        };
        let source = source.clone();
        let looks = async move { (shard.name, sql::look(&source, &*connector).await) };
        looking.push(tokio::spawn(looks));
    }
    let mut findings = Vec::new();
    for looks in looking {
        let (name, seen) = match looks.await {
            Ok(looked) => looked,
            Err(error) => {
                findings.push(fail("source", format!("a task ended in a panic: {error}"), None));
                continue;
            }
        };
        findings.extend(seen.into_iter().map(|seen| {
            let table = seen.table.map_or_else(String::new, |table| format!(", {table}"));
            let level = match (seen.fine, &seen.advice) {
                (true, None) => Level::Ok,
                (true, Some(_)) => Level::Warn,
                (false, _) => Level::Fail,
            };
            let text = format!("shard {name}{table}: {}", seen.text);
            Finding { level, what: "source".to_owned(), text, remedy: seen.advice }
        }));
    }
    findings
}

/// Polls the first target, as a run would.
async fn extraction(pipeline: &Pipeline, first_row: Option<Vec<u8>>) -> Finding {
    let Some(extract) = &pipeline.extract else {
        return ok("extract", "none".to_owned());
    };
    let extractor = match Extractor::new(extract) {
        Ok(extractor) => extractor,
        Err(error) => return fail("extract", error.to_string(), None),
    };
    let target = match first_row.map(|row| Target::new(0, row)) {
        Some(Ok(target)) => target,
        Some(Err(error)) => return fail("extract", error.to_string(), None),
        None => return warn("extract", "not tried: there is no appliance to ask".to_owned()),
    };
    let mut rows = Rows::default();
    match extractor.extract(&target, &mut rows).await {
        Ok(()) => {
            let records = counted(rows.len() as u64, "record");
            ok("extract", format!("{} answered with {records}", target.label()))
        }
        Err(error) => fail(
            "extract",
            format!("{}: {error}", target.label()),
            Some(error.remedy().unwrap_or(match extractor.address_key() {
                "extract.snmp.host" => {
                    "tried the first appliance only; check host, port, community or user, and that \
                     its agent lets this machine in"
                }
                _ => "tried the first appliance only; check extract.http.url, or the appliance",
            })),
        ),
    }
}

async fn sink(load: &Load, home: &SinkHome<'_>, clock: &mut Option<SystemTime>) -> Finding {
    let what = format!("load {}", load.sink_name());
    let sink = match load::build(load, home) {
        Ok(sink) => sink,
        Err(error) => return fail(&what, error.to_string(), None),
    };
    let Probe { reach, text, remedy, clock: theirs } = sink.probe().await;
    *clock = clock.or(theirs);
    let level = match reach {
        Reach::Ready => Level::Ok,
        Reach::NotNow => Level::Warn,
        Reach::Refused | Reach::Unreachable => Level::Fail,
    };
    Finding { level, what, text, remedy }
}

/// Whether alerts would arrive; with `alert` by sending one.
async fn receivers(pipeline: &str, settings: &Alerts, alert: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    if alert {
        for (kind, sent) in alerts::test(pipeline, settings).await {
            let what = kind.name();
            findings.push(match sent {
                Ok(()) => ok(what, "a test message was taken; did it arrive?".to_owned()),
                Err(error) => fail(what, error, None),
            });
        }
    } else {
        for (kind, channel) in Channel::all(settings) {
            let what = kind.name();
            let probed = match channel {
                Ok(channel) => channel.probe().await,
                Err(error) => Err(error),
            };
            findings.push(match probed {
                Ok(text) => ok(what, text),
                Err(error) => fail(what, error, None),
            });
        }
    }
    if findings.is_empty() {
        findings.push(warn("alerts", "nobody is told: `to` and `url` are empty".to_owned()));
    }
    findings
}

/// Whether spool and state can be written, tried without leaving anything behind.
fn state(home: &Path) -> Finding {
    let existing = home.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    let existing = if existing.as_os_str().is_empty() { Path::new(".") } else { existing };
    let probe = existing.join(format!(".etl-doctor-{}", std::process::id()));
    let written = std::fs::File::create_new(&probe)
        .and_then(|mut file| file.write_all(b"x"))
        .and_then(|()| std::fs::remove_file(&probe));
    if let Err(error) = written {
        let remedy = "give this user the right to write there, or choose --data-dir";
        return fail("state", format!("{}: {error}", existing.display()), Some(remedy));
    }
    match rustix::fs::statvfs(existing) {
        Ok(disk) => {
            let free = bytes(disk.f_bavail.saturating_mul(disk.f_frsize));
            ok("state", format!("{}/ writable, {free} free", home.display()))
        }
        Err(error) => warn("state", format!("{}/ writable, {error}", home.display())),
    }
}

fn clocks(theirs: SystemTime) -> Finding {
    let ours = SystemTime::now();
    let (difference, direction) = match ours.duration_since(theirs) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    if difference < CLOCK_DIFFERENCE {
        return ok("clock", "agrees with the API's".to_owned());
    }
    warn("clock", format!("{} {direction} the API", span(difference)))
}

fn show(findings: &[Finding], as_json: bool) {
    let terminal = Terminal::stdout();
    let mut text = String::new();
    if as_json {
        let checks: Vec<_> = findings
            .iter()
            .map(|finding| {
                json!({
                    "check": finding.what,
                    "result": finding.level.word(),
                    "text": finding.text,
                    "remedy": finding.remedy,
                })
            })
            .collect();
        let fine = findings.iter().all(|finding| finding.level != Level::Fail);
        text = format!("{}\n", json!({ "ok": fine, "checks": checks }));
    } else {
        for finding in findings {
            let word =
                terminal.paint(finding.level.tone(), &format!("{:<6}", finding.level.word()));
            text.push_str(&format!("{word}{:<13}{}\n", finding.what, finding.text));
            if let Some(remedy) = &finding.remedy {
                text.push_str(&format!("{:19}{remedy}\n", ""));
            }
        }
    }
    // A closed pipe leaves nobody to tell; the exit code still does.
    drop(std::io::stdout().lock().write_all(text.as_bytes()));
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "FAIL",
        }
    }

    fn tone(self) -> Tone {
        match self {
            Level::Ok => Tone::Good,
            Level::Warn => Tone::Warn,
            Level::Fail => Tone::Bad,
        }
    }
}

fn ok(what: &str, text: String) -> Finding {
    Finding { level: Level::Ok, what: what.to_owned(), text, remedy: None }
}

fn warn(what: &str, text: String) -> Finding {
    Finding { level: Level::Warn, what: what.to_owned(), text, remedy: None }
}

fn fail(what: &str, text: String, remedy: Option<&str>) -> Finding {
    let remedy = remedy.map(str::to_owned);
    Finding { level: Level::Fail, what: what.to_owned(), text, remedy }
}
