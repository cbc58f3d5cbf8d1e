//! The books at the end, letter by letter, and what must hold for any numbers.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up should fail loudly")]

use proptest::prelude::*;

use super::{outcome, report};
use crate::telemetry::result::tests::{all_delivered, sink};
use crate::telemetry::{
    ProfileFiles, RunFiles, RunResult, SinkInput, SpoolRemaining, Stop, Terminal,
};

fn plain(result: &RunResult) -> String {
    report(result, &Terminal::plain())
}

fn in_spool(records: u64, batches: u64) -> SpoolRemaining {
    SpoolRemaining { sink: "http".to_owned(), records, batches }
}

/// The run that MANNERS.md shows.
fn still_spooled() -> RunResult {
    let mut run = all_delivered(1_000_000);
    run.books.rejected = 176;
    run.books.filtered = 12;
    run.books.first_rejection = Some(r#"rows.csv:4711 pidle "n/a" is not a number"#.to_owned());
    let http = &mut run.books.sinks[0];
    http.delivered = 996_200;
    http.spooled = 3_600;
    http.dead_lettered = 12;
    run.spool_remaining = vec![in_spool(3_600, 18)];
    run
}

#[test]
fn a_run_that_leaves_records_in_the_spool() {
    let expected = r#"FINISHED, 3,600 STILL SPOOLED   run 9f3a   31s   32,258/s
  extracted      1,000,000
  delivered        996,200
  spooled            3,600   goes out on the next run, or now: etl spool replay
  dead-lettered         12   needs you: etl spool ls --dead
  rejected             176   first: rows.csv:4711 pidle "n/a" is not a number
  filtered              12
  unaccounted            0   the books balance
"#;
    assert_eq!(plain(&still_spooled()), expected);
}

#[test]
fn a_complete_run_with_its_files() {
    let mut run = all_delivered(4_000);
    run.seconds = 9.37;
    run.books.sinks[0].replayed = 600;
    run.files = RunFiles {
        spool: Some("data/appliances/spool".into()),
        log: Some("logs/etl.log".into()),
        profile: Some(ProfileFiles {
            cpu: "data/appliances/profile/cpu.prof".into(),
            flamegraph: "data/appliances/profile/flamegraph.svg".into(),
            heap: None,
            note: Some("mem.prof not written: build with --features heap-profile".to_owned()),
        }),
    };
    let expected = "COMPLETE   run 9f3a   9.4s   427/s
  extracted          4,000
  delivered          4,000
  spooled                0
  dead-lettered          0
  rejected               0
  filtered               0
  unaccounted            0   the books balance
  replayed             600   delivered from the spool, of this run and earlier ones
  spool          data/appliances/spool
  log            logs/etl.log
  flamegraph     data/appliances/profile/flamegraph.svg
  cpu profile    data/appliances/profile/cpu.prof
  note           mem.prof not written: build with --features heap-profile
";
    assert_eq!(plain(&run), expected);
}

#[test]
fn a_fleet_of_which_some_failed() {
    let mut run = all_delivered(3_988);
    run.books.targets_total = 4_000;
    run.books.targets_done = 4_000;
    run.books.targets_failed = 12;
    run.books.first_failure = Some("device-7 (10.0.0.7): timed out after 8s".to_owned());
    let expected = "INCOMPLETE, 12 of 4,000 appliances failed   run 9f3a   31s   129/s
  appliances         4,000   failed 12   first: device-7 (10.0.0.7): timed out after 8s
  extracted          3,988
  delivered          3,988
  spooled                0
  dead-lettered          0
  rejected               0
  filtered               0
  unaccounted            0   the books balance
";
    assert_eq!(plain(&run), expected);
    run.books.targets_done = 1_650;
    run.stopped = Some(Stop::Interrupted);
    assert!(plain(&run).contains("  appliances         4,000   done 1,650   failed 12   first: "));
}

#[test]
fn several_sinks_have_a_block_each() {
    let mut run = still_spooled();
    let mut raw = sink("archive", 999_900);
    raw.input = SinkInput::Raw;
    run.books.sinks.push(raw);
    let expected = r#"FINISHED, 3,600 STILL SPOOLED   run 9f3a   31s   32,258/s
  extracted      1,000,000
  rejected             176   first: rows.csv:4711 pidle "n/a" is not a number
  filtered              12
http
  delivered        996,200
  spooled            3,600   goes out on the next run, or now: etl spool replay
  dead-lettered         12   needs you: etl spool ls --dead
  unaccounted            0   the books balance
archive
  handed over      999,900   as extracted, before any transform
  delivered        999,900
  spooled                0
  dead-lettered          0
  unaccounted            0   the books balance
"#;
    assert_eq!(plain(&run), expected);
}

#[test]
fn what_earlier_runs_left_is_said_apart() {
    let mut run = still_spooled();
    run.spool_remaining = vec![in_spool(5_000, 25)];
    let text = plain(&run);
    assert!(text.starts_with("FINISHED, 5,000 STILL SPOOLED   "), "{text}");
    assert!(text.contains("  in the spool       5,000   with 1,400 of earlier runs\n"), "{text}");

    let mut run = all_delivered(10);
    run.spool_remaining = vec![in_spool(0, 3)];
    run.books.sinks[0].replay_dead_lettered = 2;
    let text = plain(&run);
    assert!(text.starts_with("FINISHED, 3 FILES STILL SPOOLED   "), "{text}");
    assert!(text.contains("  in the spool           ?   3 files of earlier runs"), "{text}");
    assert!(text.contains("  replayed               2   of earlier runs dead-lettered"), "{text}");
}

#[test]
fn the_headline_says_how_it_ended() {
    let headline = |change: fn(&mut RunResult)| {
        let mut run = all_delivered(10);
        change(&mut run);
        outcome(&run)
    };
    assert_eq!(headline(|_| ()), "COMPLETE");
    let lose = |run: &mut RunResult, records: u64| run.books.sinks[0].delivered -= records;
    assert_eq!(
        headline(|run| {
            run.books.rejected = 6;
            run.books.sinks[0].delivered -= 6;
        }),
        "FINISHED, 6 REJECTED"
    );
    assert_eq!(
        headline(|run| {
            run.books.sinks[0].dead_lettered = 1;
            run.books.sinks[0].delivered -= 1;
        }),
        "FINISHED, 1 DEAD-LETTERED"
    );
    assert_eq!(headline(|run| run.stopped = Some(Stop::Interrupted)), "STOPPED, everything safe");
    assert_eq!(headline(|run| run.stopped = Some(Stop::Terminated)), "STOPPED, everything safe");
    assert_eq!(
        headline(|run| run.stopped = Some(Stop::TooManyRejected)),
        "STOPPED, TOO MANY REJECTED"
    );
    assert_eq!(
        headline(|run| run.books.targets_total = 7),
        "INCOMPLETE, 7 of 7 appliances not asked"
    );
    assert_eq!(
        headline(|run| run.source_error = Some("gone".to_owned())),
        "INCOMPLETE, the source failed"
    );
    let mut run = all_delivered(10);
    run.stopped = Some(Stop::Interrupted);
    lose(&mut run, 3);
    assert_eq!(outcome(&run), "BUG: the books do not balance");
    assert!(plain(&run).contains("  unaccounted            3   a bug in etl; please report it"));
}

#[test]
fn reasons_without_a_number_have_a_line() {
    let mut run = all_delivered(10);
    run.source_error = Some("rows.csv.gz: truncated\x1b[2J after row 10".to_owned());
    run.stopped = Some(Stop::TooManyRejected);
    let text = plain(&run);
    assert!(text.contains("  source         rows.csv.gz: truncated [2J after row 10\n"), "{text}");
    assert!(text.contains("  stopped        more records were refused than `max_rejected` allows"));
}

#[test]
fn colour_repeats_what_the_words_say() {
    let colored = Terminal { color: true, ..Terminal::plain() };
    let text = report(&still_spooled(), &colored);
    assert!(text.starts_with("\x1b[33mFINISHED, 3,600 STILL SPOOLED\x1b[0m   run 9f3a"), "{text}");
    let mut stripped = text.clone();
    for code in ["\x1b[0m", "\x1b[2m", "\x1b[33m", "\x1b[1;31m"] {
        stripped = stripped.replace(code, "");
    }
    assert_eq!(stripped, plain(&still_spooled()));
}

proptest! {
    #[test]
    fn the_report_never_lies(
        extracted in 0u64..10_000, rejected in 0u64..50, filtered in 0u64..50,
        delivered in 0u64..10_000, spooled in 0u64..50, dead in 0u64..50, exact: bool,
    ) {
        let mut run = all_delivered(extracted);
        run.books.rejected = rejected;
        run.books.filtered = filtered;
        let http = &mut run.books.sinks[0];
        http.spooled = spooled;
        http.dead_lettered = dead;
        let elsewhere = rejected + filtered + spooled + dead;
        http.delivered = if exact { extracted.saturating_sub(elsewhere) } else { delivered };
        let missing = i128::from(extracted) - i128::from(elsewhere + run.books.sinks[0].delivered);

        let text = plain(&run);
        prop_assert!(!text.contains('\x1b'));
        let line = text.lines().find(|line| line.contains("unaccounted")).unwrap();
        let shown = line.split_whitespace().nth(1).unwrap().replace(',', "");
        prop_assert_eq!(shown.parse::<i128>().unwrap(), missing);
        prop_assert_eq!(text.contains("the books balance\n"), missing == 0);
        prop_assert_eq!(text.starts_with("BUG"), missing != 0);
        prop_assert_eq!(text.starts_with("COMPLETE"), run.complete());
    }
}
