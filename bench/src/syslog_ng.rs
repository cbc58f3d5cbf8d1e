//! The peer of `outage`: syslog-ng with its reliable disk buffer, rows as lines, batches of
//! 200 to an HTTP destination that is down and then back. It writes every line to its
//! buffer before it takes the next, and does not sync it: a killed process loses nothing,
//! a power cut may.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::BenchError;
use crate::bulk::generate;
use crate::loader::Loader;
use crate::process::{Running, Usage};
use crate::report::Run;
use crate::sink::{Sink, SinkOptions};

/// Its name on PATH and in the report.
pub(crate) const NAME: &str = "syslog-ng";

/// The most rows it is given: it would take minutes for more, and no longer for each.
const ROWS_MAX: u64 = 1_000_000;

/// Slower is stuck.
const ROWS_PER_SECOND_MIN: u64 = 5_000;

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Buffers at most a million of `rows` while nobody listens on `port`, which is measured;
/// then counts what arrives when somebody does.
pub(crate) fn spool_and_deliver(
    program: &Loader,
    directory: &Path,
    rows: u64,
    port: u16,
) -> Result<Run, BenchError> {
    let directory = tempfile::tempdir_in(directory).map_err(BenchError::io("directory"))?;
    let directory = directory.path();
    let rows = rows.min(ROWS_MAX);
    generate(directory, rows)?;
    // The header is a line as any other.
    let lines = rows + 1;
    let file = directory.join("syslog-ng.conf");
    fs::write(&file, configuration(directory, port)).map_err(BenchError::io("syslog-ng.conf"))?;
    let mut command = program.command(directory)?;
    command.args(["--foreground", "--no-caps", "--cfgfile", "syslog-ng.conf"]);
    command.args(["--persist-file", "persist", "--pidfile", "pid", "--control", "control"]);
    let began = Instant::now();
    let mut process = Running::start(&mut command).map_err(BenchError::io(NAME))?;
    let waiting = Waiting { program, directory, began, lines };
    waiting.until(&mut process, "every line is buffered", |stats| stats.queued == lines)?;
    let wall = began.elapsed();
    let cpu = process.cpu().map_err(BenchError::io("CPU time of syslog-ng"))?;
    let rss_bytes_max = process.rss_bytes_max().map_err(BenchError::io("memory of syslog-ng"))?;

    let options = SinkOptions { port, ..SinkOptions::default() };
    let sink = Sink::start_with(options).map_err(BenchError::io("sink"))?;
    let waiting = Waiting { began: Instant::now(), ..waiting };
    waiting.until(&mut process, "every line is delivered", |stats| {
        stats.queued == 0 && stats.written >= lines
    })?;
    let status = process.stop().map_err(BenchError::io(NAME))?;
    let usage = Usage { wall, cpu, rss_bytes_max, status };
    Ok(Run::new(NAME, &usage, sink.take(), lines))
}

/// What is waited for with.
struct Waiting<'a> {
    program: &'a Loader,
    directory: &'a Path,
    began: Instant,
    lines: u64,
}

impl Waiting<'_> {
    fn until(
        &self,
        process: &mut Running,
        what: &str,
        reached: impl Fn(&Stats) -> bool,
    ) -> Result<(), BenchError> {
        let patience = Duration::from_secs(60 + self.lines / ROWS_PER_SECOND_MIN);
        loop {
            let stats = Stats::ask(&self.directory.join("control"));
            if stats.as_ref().is_ok_and(&reached) {
                return Ok(());
            }
            let ended = process.ended().map_err(BenchError::io(NAME))?;
            if ended.is_some() || self.began.elapsed() > patience {
                return Err(BenchError::Failed(format!(
                    "syslog-ng, until {what}: {ended:?}, {stats:?}:\n{}",
                    self.program.last_words(self.directory)
                )));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// What its destination has done.
#[derive(Debug, Default, PartialEq, Eq)]
struct Stats {
    queued: u64,
    written: u64,
}

impl Stats {
    /// Asks as `syslog-ng-ctl stats` does.
    fn ask(control: &PathBuf) -> io::Result<Stats> {
        let mut socket = UnixStream::connect(control)?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket.write_all(b"STATS\n")?;
        let mut answer = Vec::new();
        let mut piece = [0; 4096];
        // Its answer ends with a dot on a line of its own, the connection stays.
        while !answer.ends_with(b"\n.\n") {
            match socket.read(&mut piece)? {
                0 => break,
                length => answer.extend_from_slice(&piece[..length]),
            }
        }
        Ok(Stats::parse(&String::from_utf8_lossy(&answer)))
    }

    /// Reads lines such as `dst.http;d_sink#0;http,http://…;a;queued;200000`.
    fn parse(text: &str) -> Stats {
        let of = |counter: &str| {
            let mut values = text.lines().filter_map(|line| {
                let mut fields = line.strip_prefix("dst.http;")?.rsplit(';');
                let value = fields.next()?.parse::<u64>().ok()?;
                (fields.next()? == counter).then_some(value)
            });
            values.next().unwrap_or(0)
        };
        Stats { queued: of("queued"), written: of("written") }
    }
}

fn configuration(directory: &Path, port: u16) -> String {
    let directory = directory.display();
    format!(
        "@version: 3.35\n\
         options {{ stats-level(1); time-reopen(1); use-dns(no); dns-cache(no); }};\n\
         source rows {{ file(\"{directory}/rows.csv\" flags(no-parse) log-iw-size(100000) \
         log-fetch-limit(10000)); }};\n\
         destination sink {{ http(\n  url(\"http://127.0.0.1:{port}/load\") method(\"POST\")\n  \
           headers(\"Content-Type: application/json\")\n  \
           body(\"$(format-json row=\\\"${{MESSAGE}}\\\")\")\n  \
           body-prefix(\"[\") delimiter(\",\") body-suffix(\"]\")\n  \
           batch-lines(200) batch-timeout(1000) workers(10) timeout(15) persist-name(\"sink\")\n  \
           disk-buffer(reliable(yes) disk-buf-size(8589934592) mem-buf-size(10485760) \
         dir(\"{directory}\"))\n); }};\n\
         log {{ source(rows); destination(sink); flags(flow-control); }};\n"
    )
}

#[cfg(test)]
mod tests {
    use super::Stats;

    #[test]
    fn the_counters_of_the_destination_are_read() {
        let text = "SourceName;SourceId;SourceInstance;State;Type;Number\n\
            dst.http;sink#0;http,http://127.0.0.1:1/load;a;dropped;0\n\
            dst.http;sink#0;http,http://127.0.0.1:1/load;a;queued;78916\n\
            src.file;rows#0;/tmp/rows.csv;a;written;5\n\
            dst.http;sink#0;http,http://127.0.0.1:1/load;a;written;17\n.\n";
        assert_eq!(Stats::parse(text), Stats { queued: 78_916, written: 17 });
        assert_eq!(Stats::parse(""), Stats::default());
    }
}
