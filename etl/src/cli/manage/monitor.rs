//! `etl monitor`: one screen for all pipelines, drawn again in place on a terminal.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::json;

use super::args::MonitorArgs;
use super::list::{gather, head, last, next, waiting};
use super::print;
use crate::cli::runs::aligned;
use crate::exit::Exit;
use crate::http::printable;
use crate::load::unix_seconds;
use crate::manage::status::{ServerView, Status};
use crate::telemetry::figures::{bytes, count, counted, running_span};
use crate::telemetry::{Terminal, Tone};

/// How often it is drawn again.
const DRAW_EVERY: Duration = Duration::from_secs(1);
/// The cursor to the top left, and nothing behind it.
const CLEAR: &str = "\x1b[H\x1b[J";
/// The first column of figures.
const FIGURES: usize = 4;

pub(super) fn run(args: &MonitorArgs) -> Result<Exit, Exit> {
    let terminal = Terminal::stdout();
    if args.json {
        let (statuses, server) = gather(&args.places)?;
        let server = server.map(|server| json!({ "pid": server.pid, "paths": server.paths }));
        print(&(json!({ "server": server, "pipelines": statuses }).to_string() + "\n"));
        return Ok(Exit::Delivered);
    }
    if args.once || !terminal.interactive {
        let (statuses, server) = gather(&args.places)?;
        print(&screen(&statuses, server.as_ref(), &terminal));
        return Ok(Exit::Delivered);
    }
    loop {
        let (statuses, server) = gather(&args.places)?;
        let text = screen(&statuses, server.as_ref(), &Terminal::stdout());
        let mut out = io::stdout().lock();
        // A terminal that is gone ends it.
        if write!(out, "{CLEAR}{text}").and_then(|()| out.flush()).is_err() {
            return Ok(Exit::Delivered);
        }
        drop(out);
        std::thread::sleep(DRAW_EVERY);
    }
}

fn screen(statuses: &[Status], server: Option<&ServerView>, terminal: &Terminal) -> String {
    let mut text = match server.and_then(|server| server.pid) {
        Some(pid) => {
            let memory =
                statuses.iter().find(|it| it.pid == Some(pid)).and_then(|it| it.memory_bytes);
            let memory = memory.map_or_else(String::new, |memory| format!(", {}", bytes(memory)));
            let served = server.map_or(0, |server| server.names().count() as u64);
            format!("etl serve, pid {pid}{memory}, {}\n", counted(served, "pipeline"))
        }
        None => "no etl serve is at work here\n".to_owned(),
    };
    let names = [
        "NAME",
        "STATE",
        "NEXT",
        "LAST RUN",
        "EXTRACTED",
        "DELIVERED",
        "OLDEST",
        "MEMORY",
        "SPOOL",
    ];
    let mut rows = vec![head(&names)];
    rows.extend(statuses.iter().map(row));
    let mut table = aligned(&rows, FIGURES);
    if !terminal.color && !terminal.interactive {
        text.push_str(&table);
    } else {
        // A longer line would wrap, and the screen be one no more.
        table = table.lines().map(|line| cut(line, terminal.width) + "\n").collect();
        text.push_str(&table);
    }
    for status in statuses {
        if let Some(error) = &status.error {
            let tone = if status.state == "wrong" { Tone::Bad } else { Tone::Warn };
            let line = format!("{}: {}", status.name, printable(error.as_bytes(), 300));
            let width = if terminal.interactive { terminal.width } else { usize::MAX };
            text.push_str(&format!("{}\n", terminal.paint(tone, &cut(&line, width))));
        }
    }
    text
}

fn row(status: &Status) -> Vec<String> {
    let figure = |name: &str, last: fn(&crate::history::RunRecord) -> u64| {
        let now = status.run.as_ref().and_then(|run| run[name].as_u64());
        now.or(status.last_run.as_ref().map(last)).map_or_else(|| "-".to_owned(), count)
    };
    let oldest = status
        .spool
        .oldest_since
        .map(|since| running_span(Duration::from_secs(unix_seconds().saturating_sub(since))));
    vec![
        status.name.clone(),
        status.state.clone(),
        next(status),
        last(status),
        figure("extracted", |run| run.extracted),
        figure("delivered", |run| run.delivered),
        oldest.unwrap_or_else(|| "-".to_owned()),
        status.memory_bytes.map_or_else(|| "-".to_owned(), bytes),
        waiting(&status.spool),
    ]
}

fn cut(line: &str, width: usize) -> String {
    line.chars().take(width).collect()
}
