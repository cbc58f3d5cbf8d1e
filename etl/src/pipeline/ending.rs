//! What a run leaves when it has ended: its result, in one value, and its line in the
//! history. The same for a run by hand and one on a schedule.

use std::path::Path;
use std::time::Duration;

use super::RunEnd;
use crate::config::Pipeline;
use crate::exit::Exit;
use crate::history::{self, RunRecord, SinkRecord};
use crate::http::printable;
use crate::load::unix_seconds;
use crate::spool::inspect::{self, Kind};
use crate::telemetry::figures::counted;
use crate::telemetry::{RunFiles, RunResult, SinkSnapshot, SpoolRemaining, Stop};

/// The most of one error that the history keeps.
const ERROR_BYTES_MAX: usize = 500;

/// Puts together what report, JSON object, history and exit code are made of, and
/// writes the run into the history. `asked` is the signal that ended it, if one did.
/// Reads the spool's directory; not for async tasks.
#[must_use]
pub fn conclude(
    pipeline: &Pipeline,
    data_dir: &Path,
    end: RunEnd,
    asked: Option<Stop>,
    files: RunFiles,
    keep_runs: Duration,
) -> (RunResult, RunRecord) {
    let began = unix_seconds().saturating_sub(end.took.as_secs());
    let too_many = end.sinks.iter().any(|sink| sink.too_many_rejected);
    let result = RunResult {
        pipeline: pipeline.name.clone(),
        run_id: end.run_id.to_string(),
        seconds: end.took.as_secs_f64(),
        warnings: warnings(&end),
        books: end.books,
        spool_remaining: still_waiting(data_dir, &pipeline.name),
        stopped: asked.or(too_many.then_some(Stop::TooManyRejected)),
        source_error: end.source_error,
        input: end.input,
        resumed_from: end.resumed_from,
        files,
    };
    let record = record(&result, began);
    note(data_dir, &record, keep_runs);
    (result, record)
}

/// The history's line for a run that could not begin, written down too.
#[must_use]
pub fn not_begun(
    pipeline: &str,
    data_dir: &Path,
    error: &str,
    exit: Exit,
    keep_runs: Duration,
) -> RunRecord {
    let record = RunRecord {
        pipeline: pipeline.to_owned(),
        began: unix_seconds(),
        result: "failed".to_owned(),
        exit: exit.code(),
        errors: vec![printable(error.as_bytes(), ERROR_BYTES_MAX)],
        ..RunRecord::default()
    };
    note(data_dir, &record, keep_runs);
    record
}

fn note(data_dir: &Path, record: &RunRecord, keep_runs: Duration) {
    if let Err(error) = history::append(data_dir, record, keep_runs) {
        tracing::warn!(pipeline = record.pipeline, %error, "the run is missing from the history");
    }
}

fn warnings(end: &RunEnd) -> Vec<String> {
    let mut warnings = Vec::new();
    for sink in &end.sinks {
        if let Some(trouble) = &sink.disk_trouble {
            warnings.push(format!("error: spool of {}: {trouble}", sink.name));
        }
        if sink.corrupt > 0 {
            warnings.push(format!(
                "warning: {} unreadable spool files of {} were set aside in corrupt/; look with: \
                 etl spool verify",
                sink.corrupt, sink.name
            ));
        }
    }
    if end.rejects_unwritten > 0 {
        let some = match end.rejects_unwritten {
            u64::MAX => "rejected records".to_owned(),
            known => counted(known, "rejected record"),
        };
        warnings.push(format!(
            "error: {some} could not be written down before the run had to end, and the books \
             count them as unaccounted; see the log"
        ));
    }
    warnings
}

/// The run as its line in the history.
fn record(result: &RunResult, began: u64) -> RunRecord {
    let sum = |column: fn(&SinkSnapshot) -> u64| result.books.sinks.iter().map(column).sum();
    let word = match result.exit() {
        Exit::Delivered => "complete",
        Exit::Spooled => "spooled",
        Exit::Rejected => "rejected",
        Exit::SourceUnavailable => "incomplete",
        Exit::Interrupted | Exit::Terminated => "stopped",
        Exit::Internal | Exit::Usage | Exit::Config => "bug",
    };
    let errors = result.source_error.iter().chain(&result.warnings);
    let firsts = result.books.first_failure.iter().chain(&result.books.first_rejection);
    let errors = errors.chain(firsts);
    RunRecord {
        pipeline: result.pipeline.clone(),
        run_id: result.run_id.clone(),
        began,
        seconds: result.seconds,
        result: word.to_owned(),
        exit: result.exit().code(),
        extracted: result.books.extracted,
        delivered: sum(|sink| sink.delivered),
        spooled: sum(|sink| sink.spooled),
        dead_lettered: sum(|sink| sink.dead_lettered),
        rejected: result.books.rejected,
        filtered: result.books.filtered,
        replayed: sum(|sink| sink.replayed),
        errors: errors.map(|text| printable(text.as_bytes(), ERROR_BYTES_MAX)).collect(),
        sinks: result.books.sinks.iter().map(sink_record).collect(),
    }
}

fn sink_record(sink: &SinkSnapshot) -> (String, SinkRecord) {
    let record = SinkRecord {
        delivered: sink.delivered,
        spooled: sink.spooled,
        dead_lettered: sink.dead_lettered,
        replayed_earlier: sink.replayed_earlier,
    };
    (sink.name.clone(), record)
}

/// What waits in the spools of `pipeline` now, whichever run put it there. Records
/// are counted by the files' headers; an unreadable one still counts as a file.
fn still_waiting(data_dir: &Path, pipeline: &str) -> Vec<SpoolRemaining> {
    let views = inspect::sinks_of(data_dir, pipeline).unwrap_or_default();
    let remaining = views.into_iter().map(|view| {
        let files = view.files().unwrap_or_default();
        let waiting: Vec<_> = files
            .iter()
            .filter(|file| matches!(file.kind, Kind::Pending | Kind::Spooled))
            .collect();
        let lines = waiting.iter().filter_map(|file| view.headline(file).ok());
        let records = lines.map(|line| line.records).sum();
        SpoolRemaining { sink: view.sink, records, batches: waiting.len() as u64 }
    });
    remaining.filter(|remaining| remaining.batches > 0).collect()
}
