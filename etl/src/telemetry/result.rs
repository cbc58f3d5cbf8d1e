//! How a run ended: one value from which the report, the JSON object, the run
//! history and the exit code are all taken, so that they cannot disagree.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::profile::ProfileFiles;
use super::{BooksSnapshot, SinkSnapshot};
use crate::exit::Exit;

/// A run that has ended, well or not.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunResult {
    /// The pipeline's name.
    pub pipeline: String,
    /// The run's whole identity.
    pub run_id: String,
    /// How long it took.
    pub seconds: f64,
    /// Every record of this run, and where it went.
    pub books: BooksSnapshot,
    /// What is in the spools now, whichever run put it there; sinks with nothing may be left out.
    pub spool_remaining: Vec<SpoolRemaining>,
    /// Why it ended before its source did.
    pub stopped: Option<Stop>,
    /// The source as a whole could not be read, or not to its end.
    pub source_error: Option<String>,
    /// What was already done of its input, in words.
    pub input: Option<String>,
    /// The record that it went on from, or the targets that were already done.
    pub resumed_from: Option<u64>,
    /// What people should know besides, one line each.
    pub warnings: Vec<String>,
    /// What it left to look at.
    pub files: RunFiles,
}

/// What waits in one sink's spool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpoolRemaining {
    /// The sink's name.
    pub sink: String,
    /// Records, as far as the files say how many they hold.
    pub records: u64,
    /// Batches, that is files.
    pub batches: u64,
}

/// Why a run ended before its source did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Ctrl-C.
    Interrupted,
    /// SIGTERM.
    Terminated,
    /// More records were refused than `max_rejected` allows.
    TooManyRejected,
}

/// What a run left to look at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunFiles {
    /// The spool's directory.
    pub spool: Option<PathBuf>,
    /// The log.
    pub log: Option<PathBuf>,
    /// Its profiles, with `--profile`.
    pub profile: Option<ProfileFiles>,
}

impl RunResult {
    /// The exit code: of everything that holds, the worst.
    #[must_use]
    pub fn exit(&self) -> Exit {
        let mut exit = Exit::Delivered;
        let mut holds = |condition: bool, outcome: Exit| {
            if condition {
                exit = exit.worst(outcome);
            }
        };
        holds(!self.books.balanced(), Exit::Internal);
        holds(self.stopped == Some(Stop::Interrupted), Exit::Interrupted);
        holds(self.stopped == Some(Stop::Terminated), Exit::Terminated);
        holds(self.stopped == Some(Stop::TooManyRejected), Exit::Rejected);
        let targets_missed = self.books.targets_failed + self.targets_left();
        let source_missed = self.source_error.is_some() || targets_missed > 0;
        holds(source_missed, Exit::SourceUnavailable);
        holds(self.anything_spooled(), Exit::Spooled);
        holds(self.books.rejected + self.dead_lettered() > 0, Exit::Rejected);
        exit
    }

    /// Whether everything the source has was read and delivered, and nothing waits.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.exit() == Exit::Delivered
    }

    /// How long it took.
    #[must_use]
    pub fn took(&self) -> Duration {
        Duration::try_from_secs_f64(self.seconds).unwrap_or_default()
    }

    /// The run as one JSON object, the one that `--json` prints.
    #[must_use]
    pub fn json(&self) -> String {
        // Maps with text keys and numbers that are finite always serialize.
        serde_json::to_string(&self.summary()).unwrap_or_default()
    }

    /// Targets that the run knew of and did not get to.
    #[must_use]
    pub fn targets_left(&self) -> u64 {
        self.books.targets_total.saturating_sub(self.books.targets_done)
    }

    /// Records that ended as dead letters in this run, whichever run read them.
    #[must_use]
    pub fn dead_lettered(&self) -> u64 {
        self.books.sinks.iter().map(|sink| sink.dead_lettered + sink.replay_dead_lettered).sum()
    }

    /// Records in the spools now, by what the files say and by this run's own books.
    #[must_use]
    pub fn still_spooled(&self) -> u64 {
        let mut by_sink = BTreeMap::<&str, u64>::new();
        for sink in &self.books.sinks {
            by_sink.insert(&sink.name, sink.spooled);
        }
        for remaining in &self.spool_remaining {
            let records = by_sink.entry(&remaining.sink).or_default();
            *records = (*records).max(remaining.records);
        }
        by_sink.values().sum()
    }

    fn anything_spooled(&self) -> bool {
        self.still_spooled() > 0
            || self.spool_remaining.iter().any(|remaining| remaining.batches > 0)
    }

    fn summary(&self) -> Summary<'_> {
        let thousandths = (self.took().as_millis()) as f64;
        Summary {
            pipeline: &self.pipeline,
            run_id: &self.run_id,
            seconds: thousandths / 1000.0,
            extracted: self.books.extracted,
            rejected: self.books.rejected,
            filtered: self.books.filtered,
            balanced: self.books.balanced(),
            complete: self.complete(),
            targets: TargetSummary {
                total: self.books.targets_total,
                failed: self.books.targets_failed,
            },
            resumed_from: self.resumed_from,
            input: self.input.as_deref(),
            sinks: SinkSummaries(&self.books.sinks),
        }
    }
}

#[derive(Serialize)]
struct Summary<'a> {
    pipeline: &'a str,
    run_id: &'a str,
    seconds: f64,
    extracted: u64,
    rejected: u64,
    filtered: u64,
    balanced: bool,
    complete: bool,
    targets: TargetSummary,
    #[serde(skip_serializing_if = "Option::is_none")]
    resumed_from: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<&'a str>,
    sinks: SinkSummaries<'a>,
}

#[derive(Serialize)]
struct TargetSummary {
    total: u64,
    failed: u64,
}

#[derive(Serialize)]
struct SinkSummary {
    delivered: u64,
    spooled: u64,
    dead_lettered: u64,
    replayed: u64,
    batches: u64,
    retries: u64,
    /// Records of tables that go to other sinks.
    #[serde(skip_serializing_if = "is_zero")]
    elsewhere: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Sinks by name, in the order of the pipeline file.
struct SinkSummaries<'a>(&'a [SinkSnapshot]);

impl Serialize for SinkSummaries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for sink in self.0 {
            let summary = SinkSummary {
                delivered: sink.delivered,
                spooled: sink.spooled,
                dead_lettered: sink.dead_lettered,
                replayed: sink.replayed,
                batches: sink.batches,
                retries: sink.retries,
                elsewhere: sink.elsewhere,
            };
            map.serialize_entry(&sink.name, &summary)?;
        }
        map.end()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot be set up should fail loudly")]
pub(super) mod tests {
    use super::{RunResult, SpoolRemaining, Stop};
    use crate::exit::Exit;
    use crate::telemetry::{BooksSnapshot, SinkInput, SinkSnapshot};

    pub fn sink(name: &str, accepted: u64) -> SinkSnapshot {
        SinkSnapshot {
            name: name.to_owned(),
            input: SinkInput::Transformed,
            accepted,
            delivered: accepted,
            batches: accepted / 200,
            ..SinkSnapshot::default()
        }
    }

    /// A run of `records`, all delivered.
    pub fn all_delivered(records: u64) -> RunResult {
        RunResult {
            pipeline: "appliances".to_owned(),
            run_id: "9f3a61c0".to_owned(),
            seconds: 31.0,
            books: BooksSnapshot {
                extracted: records,
                sinks: vec![sink("http", records)],
                ..BooksSnapshot::default()
            },
            ..RunResult::default()
        }
    }

    #[test]
    fn the_exit_code_is_the_worst_of_everything_that_holds() {
        let mut run = all_delivered(1_000);
        assert_eq!((run.exit(), run.complete()), (Exit::Delivered, true));

        run.books.rejected = 1;
        run.books.sinks[0].delivered -= 1;
        assert_eq!((run.exit(), run.complete()), (Exit::Rejected, false));
        run.spool_remaining = vec![SpoolRemaining { sink: "http".into(), records: 0, batches: 1 }];
        assert_eq!(run.exit(), Exit::Spooled);
        run.books.targets_failed = 1;
        assert_eq!(run.exit(), Exit::SourceUnavailable);
        run.stopped = Some(Stop::TooManyRejected);
        assert_eq!(run.exit(), Exit::SourceUnavailable);
        run.stopped = Some(Stop::Terminated);
        assert_eq!(run.exit(), Exit::Terminated);
        run.stopped = Some(Stop::Interrupted);
        assert_eq!(run.exit(), Exit::Interrupted);
        run.books.sinks[0].delivered -= 1;
        assert_eq!(run.exit(), Exit::Internal);
    }

    #[test]
    fn each_outcome_alone_has_its_code() {
        let with = |change: fn(&mut RunResult)| {
            let mut run = all_delivered(10);
            change(&mut run);
            (run.exit(), run.complete())
        };
        assert_eq!(
            with(|run| run.source_error = Some("gone".into())),
            (Exit::SourceUnavailable, false)
        );
        assert_eq!(with(|run| run.stopped = Some(Stop::TooManyRejected)), (Exit::Rejected, false));
        assert_eq!(
            with(|run| run.books.sinks[0].replay_dead_lettered = 1),
            (Exit::Rejected, false)
        );
        let earlier = SpoolRemaining { sink: "http".into(), records: 7, batches: 1 };
        let mut run = all_delivered(10);
        run.spool_remaining.push(earlier);
        assert_eq!((run.exit(), run.still_spooled()), (Exit::Spooled, 7));
    }

    #[test]
    fn a_fleet_is_complete_when_every_target_was_asked() {
        let mut run = all_delivered(10);
        run.books.targets_total = 10;
        run.books.targets_done = 10;
        assert!(run.complete());
        run.books.targets_done = 9;
        assert_eq!((run.exit(), run.complete()), (Exit::SourceUnavailable, false));
    }

    #[test]
    fn filtered_records_were_asked_for() {
        let mut run = all_delivered(10);
        run.books.filtered = 10;
        run.books.sinks[0].delivered = 0;
        assert_eq!(run.exit(), Exit::Delivered);
    }

    #[test]
    fn the_json_object_has_exactly_the_keys_of_the_contract() {
        let mut run = all_delivered(1_000);
        run.seconds = 31.000_4;
        run.books.sinks.push(sink("archive", 1_000));
        let json = run.json();
        assert!(!json.contains('\n'));
        let expected = concat!(
            r#"{"pipeline":"appliances","run_id":"9f3a61c0","seconds":31.0,"extracted":1000,"#,
            r#""rejected":0,"filtered":0,"balanced":true,"complete":true,"#,
            r#""targets":{"total":0,"failed":0},"sinks":{"#,
            r#""http":{"delivered":1000,"spooled":0,"dead_lettered":0,"replayed":0,"batches":5,"retries":0},"#,
            r#""archive":{"delivered":1000,"spooled":0,"dead_lettered":0,"replayed":0,"batches":5,"retries":0}}}"#,
        );
        assert_eq!(json, expected);
        assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
        run.resumed_from = Some(7);
        run.input = Some("resumed: run 9f3a at record 7".to_owned());
        let more = r#","resumed_from":7,"input":"resumed: run 9f3a at record 7","sinks":"#;
        assert!(run.json().contains(more), "{}", run.json());
    }
}
