//! `etl schedule NAME …`: edits the pipeline's file and says when it runs then.

use chrono::SecondsFormat;

use super::args::{Places, ScheduleArgs};
use super::{print, refuse};
use crate::cli::run::say;
use crate::exit::Exit;
use crate::http::printable;
use crate::manage::find::{DIRECTORY, Found};
use crate::manage::schedule::{RescheduleError, Wanted, reschedule};
use crate::manage::{status, units};
use crate::telemetry::Terminal;

/// Days that not every month has.
const DAYS_ALWAYS: u32 = 28;

pub(super) fn run(args: &ScheduleArgs) -> Result<Exit, Exit> {
    let places =
        Places { dir: args.dir.clone().unwrap_or_else(|| DIRECTORY.into()), data_dir: None };
    let found = places.find(&args.pipeline)?;
    let before = reschedule(&found.file, &args.when).map_err(|error| match error {
        RescheduleError::Wrong(report) => {
            say(report.render_errors(Terminal::stderr().color).trim_end());
            say("nothing was changed");
            Exit::Config
        }
        RescheduleError::ByHand { .. } => refuse(&error, Exit::Config),
        RescheduleError::Read { .. } | RescheduleError::Write { .. } => {
            refuse(&error, Exit::Config)
        }
    })?;
    let shown = |text: &str| printable(text.as_bytes(), 200);
    let after = args.when.text().unwrap_or_else(|| "none".to_owned());
    let before = before.map_or_else(|| "none".to_owned(), |before| shown(&before));
    let mut text = format!("{}  schedule: {after}   (before: {before})\n", found.name);
    let found = Found::at(&found.file);
    let timing = found.loaded.as_ref().ok().and_then(|loaded| {
        status::next_runs(&loaded.pipeline, &places.data_dir(&found.name), 1).pop()
    });
    if let Some(next) = timing {
        let next = next.to_rfc3339_opts(SecondsFormat::Secs, true);
        text.push_str(&format!("next run  {next}\n"));
    }
    print(&text);
    if let Wanted::Monthly { day, .. } = args.when
        && day > DAYS_ALWAYS
    {
        say(&format!("note: a month without a day {day} has no run"));
    }
    if units::is_installed(&found.name) {
        say(&format!("systemd still goes by the old one: etl service install {}", found.name));
    }
    Ok(Exit::Delivered)
}
