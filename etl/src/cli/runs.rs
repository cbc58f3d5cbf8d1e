//! `etl runs [PIPELINE]`: the run history as a table.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use super::args::RunsArgs;
use super::run::say;
use crate::exit::Exit;
use crate::history::{self, RunRecord};
use crate::load::unix_seconds;
use crate::telemetry::figures::{count, short_id, span};

/// Runs shown without `--all`.
const SHOWN: usize = 20;

/// Prints the newest runs of one pipeline, or of all.
#[must_use]
pub fn run(args: &RunsArgs) -> Exit {
    let mut runs = match gather(&args.data_dir, args.pipeline.as_deref()) {
        Ok(runs) => runs,
        Err(error) => {
            say(&format!("error: cannot read the run history: {error}"));
            return Exit::Internal;
        }
    };
    // Stable, and newest first also within one second.
    runs.reverse();
    runs.sort_by_key(|run| std::cmp::Reverse(run.began));
    if !args.all {
        runs.truncate(SHOWN);
    }
    let text = if args.json {
        serde_json::json!({ "runs": runs }).to_string() + "\n"
    } else if runs.is_empty() {
        "no runs yet; start one with: etl run PIPELINE.yaml\n".to_owned()
    } else {
        table(&runs, args.pipeline.is_none(), unix_seconds())
    };
    // A closed pipe leaves nobody to tell.
    drop(std::io::stdout().lock().write_all(text.as_bytes()));
    Exit::Delivered
}

fn gather(data_dir: &Path, pipeline: Option<&str>) -> std::io::Result<Vec<RunRecord>> {
    if let Some(pipeline) = pipeline {
        return history::read(data_dir, pipeline);
    }
    let mut runs = Vec::new();
    let Ok(entries) = std::fs::read_dir(data_dir) else { return Ok(runs) };
    for entry in entries {
        let entry = entry?;
        // Of a server there is more than pipelines' directories.
        if entry.path().is_dir()
            && let Some(name) = entry.file_name().to_str()
        {
            runs.extend(history::read(data_dir, name)?);
        }
    }
    Ok(runs)
}

/// The table; `now` in Unix seconds. The pipeline's column shows only where there
/// may be several.
fn table(runs: &[RunRecord], named: bool, now: u64) -> String {
    let head = ["RUN", "WHEN", "TOOK", "RESULT", "EXTRACTED", "DELIVERED", "SPOOLED", "DEAD"];
    let mut rows: Vec<Vec<String>> =
        vec![head.iter().chain(["REJECTED"].iter()).map(|name| (*name).to_owned()).collect()];
    for run in runs {
        rows.push(vec![
            short_id(&run.run_id).to_owned(),
            ago(now.saturating_sub(run.began)),
            span(Duration::try_from_secs_f64(run.seconds).unwrap_or_default()),
            run.result.clone(),
            count(run.extracted),
            count(run.delivered),
            count(run.spooled),
            count(run.dead_lettered),
            count(run.rejected),
        ]);
    }
    if named {
        let names = runs.iter().map(|run| run.pipeline.clone());
        for (row, name) in rows.iter_mut().zip(std::iter::once("PIPELINE".to_owned()).chain(names))
        {
            row.insert(0, name);
        }
    }
    aligned(&rows, if named { 5 } else { 4 })
}

/// Columns side by side; from `numbers` on they are aligned to the right.
pub(super) fn aligned(rows: &[Vec<String>], numbers: usize) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, width))| {
                if column < numbers { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            })
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// How long ago, in its largest unit.
pub(super) fn ago(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s ago"),
        60..3600 => format!("{}m ago", seconds / 60),
        3600..86_400 => format!("{}h ago", seconds / 3600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::table;
    use crate::history::RunRecord;

    #[test]
    fn the_table_is_aligned_and_says_how_long_ago() {
        let run = RunRecord {
            pipeline: "appliances".to_owned(),
            run_id: "9f3a21bc".to_owned(),
            began: 1000,
            seconds: 31.0,
            result: "spooled".to_owned(),
            extracted: 1_000_000,
            delivered: 996_200,
            spooled: 3600,
            dead_lettered: 12,
            rejected: 176,
            ..RunRecord::default()
        };
        assert_eq!(
            table(&[run], false, 1000 + 7300),
            "RUN   WHEN    TOOK  RESULT   EXTRACTED  DELIVERED  SPOOLED  DEAD  REJECTED\n\
             9f3a  2h ago  31s   spooled  1,000,000    996,200    3,600    12       176\n"
        );
    }
}
