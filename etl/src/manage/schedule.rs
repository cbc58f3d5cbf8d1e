//! `etl schedule`: another schedule in a pipeline's file. Only the bytes of the schedule
//! change; comments, layout and everything else stay as they are, which is checked before
//! the file is written.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use clap::Subcommand;

use crate::config::{self, Environment, NotEdited, Report, ScheduleEdit, Span, edit_schedule};
use crate::history::sync_directory;

/// When a pipeline is to run.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Wanted {
    /// Every day at a time, as in 00:00
    Daily {
        /// The time of day.
        #[arg(value_name = "HH:MM")]
        at: TimeOfDay,
    },
    /// Every N hours, on the hour
    Hourly {
        /// How many hours from one run to the next.
        #[arg(value_parser = clap::value_parser!(u32).range(1..=24), default_value_t = 1)]
        hours: u32,
    },
    /// Every week on a day at a time, as in mon 00:00
    Weekly {
        /// The day of the week.
        day: Weekday,
        /// The time of day.
        #[arg(value_name = "HH:MM")]
        at: TimeOfDay,
    },
    /// Every month on a day at a time, as in 1 00:00
    Monthly {
        /// The day of the month; a month without it has no run.
        #[arg(value_parser = clap::value_parser!(u32).range(1..=31))]
        day: u32,
        /// The time of day.
        #[arg(value_name = "HH:MM")]
        at: TimeOfDay,
    },
    /// At a fixed interval, as in 90s
    Every {
        /// From one start to the next, at least 1s.
        interval: Span,
    },
    /// Without a schedule: once, or by hand
    Remove,
}

/// A time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeOfDay {
    hour: u32,
    minute: u32,
}

impl std::str::FromStr for TimeOfDay {
    type Err = String;

    fn from_str(text: &str) -> Result<TimeOfDay, String> {
        let wrong = || "a time of day is written as in 00:00 or 23:59".to_owned();
        let number = |text: &str, below: u32| {
            let digits = text.len() <= 2 && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u32>().ok().filter(|number| digits && *number < below).ok_or_else(wrong)
        };
        let (hour, minute) = text.split_once(':').ok_or_else(wrong)?;
        if minute.len() != 2 {
            return Err(wrong());
        }
        Ok(TimeOfDay { hour: number(hour, 24)?, minute: number(minute, 60)? })
    }
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[allow(missing_docs, reason = "their names say it")]
pub enum Weekday {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl Wanted {
    /// As `schedule:` takes it; none to have none.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        let at = |at: &TimeOfDay, days: &str| format!("{} {} {days}", at.minute, at.hour);
        Some(match self {
            Wanted::Daily { at: time } => at(time, "* * *"),
            Wanted::Hourly { hours: 1 } => "0 * * * *".to_owned(),
            Wanted::Hourly { hours } if 24 % hours == 0 && *hours < 24 => {
                format!("0 */{hours} * * *")
            }
            // Hours that do not divide a day would come unevenly by the clock.
            Wanted::Hourly { hours } => format!("@every {hours}h"),
            Wanted::Weekly { day, at: time } => {
                at(time, &format!("* * {}", format!("{day:?}").to_lowercase()))
            }
            Wanted::Monthly { day, at: time } => at(time, &format!("{day} * *")),
            Wanted::Every { interval } => {
                format!("@every {}", humantime::format_duration(interval.0))
            }
            Wanted::Remove => return None,
        })
    }
}

/// Why the schedule is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RescheduleError {
    /// The file would be wrong with it.
    #[error("{0}")]
    Wrong(Box<Report>),
    /// The file cannot be read.
    #[error("cannot read {file}: {source}")]
    Read {
        /// The file.
        file: String,
        /// Why not.
        source: io::Error,
    },
    /// The file is written in a way that is not edited here.
    #[error("{file}:{line}: {why}; nothing was changed, change it by hand: schedule: {wanted}")]
    ByHand {
        /// The file.
        file: String,
        /// The line of its schedule.
        line: usize,
        /// What stands in the way.
        why: &'static str,
        /// What would be right.
        wanted: String,
    },
    /// The system refused.
    #[error("cannot write {file}: {source}")]
    Write {
        /// The file.
        file: String,
        /// Why not.
        source: std::io::Error,
    },
}

/// Puts `wanted` into `file`, and gives what stood there before.
///
/// # Errors
/// When the file cannot be read, edited or written, or would be wrong; it is then as it was.
pub fn reschedule(file: &Path, wanted: &Wanted) -> Result<Option<String>, RescheduleError> {
    let shown = file.display().to_string();
    let unread = |source| RescheduleError::Read { file: shown.clone(), source };
    // A link stays one; what it leads to is written.
    let real = file.canonicalize().map_err(unread)?;
    let text = std::fs::read_to_string(&real).map_err(unread)?;
    let new = wanted.text();
    let ScheduleEdit { text: edited, before } =
        edit_schedule(&text, new.as_deref()).map_err(|NotEdited { line, why }| {
            let wanted = new.clone().unwrap_or_else(|| "(none)".to_owned());
            RescheduleError::ByHand { file: shown.clone(), line, why, wanted }
        })?;
    // What is wrong elsewhere, such as a variable that is not set yet, is no obstacle.
    let environment = Environment::for_pipeline(file).unwrap_or_default();
    if let Err(report) = config::from_str(&shown, &edited, &[], &environment)
        && report.errors().iter().any(|error| is_about_schedule(error.key.as_deref()))
    {
        return Err(RescheduleError::Wrong(Box::new(report)));
    }
    if edited != text {
        let unwritten = |source| RescheduleError::Write { file: shown.clone(), source };
        replace(&real, edited.as_bytes()).map_err(unwritten)?;
    }
    Ok(before)
}

fn is_about_schedule(key: Option<&str>) -> bool {
    key.is_some_and(|key| key == "schedule" || key.starts_with("schedule."))
}

/// Puts `content` in the place of a file, whole or not at all, with its owner and mode.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let about = std::fs::metadata(path)?;
    let mut temp = path.as_os_str().to_owned();
    temp.push(".tmp");
    let mut options = File::options();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&temp)?;
    let written = (|| {
        file.write_all(content)?;
        if about.uid() != rustix::process::geteuid().as_raw() {
            std::os::unix::fs::fchown(&file, Some(about.uid()), Some(about.gid()))?;
        }
        file.set_permissions(PermissionsExt::from_mode(about.mode() & 0o7777))?;
        file.sync_all()?;
        std::fs::rename(&temp, path)
    })();
    if let Err(error) = written {
        std::fs::remove_file(&temp).ok();
        return Err(error);
    }
    sync_directory(path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use clap::Parser;

    use super::Wanted;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        wanted: Wanted,
    }

    #[test]
    fn words_become_cron_fields() {
        let text = |words: &str| {
            let line = Line::try_parse_from([""].into_iter().chain(words.split(' ')));
            line.map(|line| line.wanted.text())
        };
        for (words, fields) in [
            ("daily 00:00", Some("0 0 * * *")),
            ("daily 7:05", Some("5 7 * * *")),
            ("hourly", Some("0 * * * *")),
            ("hourly 1", Some("0 * * * *")),
            ("hourly 2", Some("0 */2 * * *")),
            ("hourly 5", Some("@every 5h")),
            ("hourly 24", Some("@every 24h")),
            ("weekly mon 00:00", Some("0 0 * * mon")),
            ("weekly sun 23:59", Some("59 23 * * sun")),
            ("monthly 1 00:00", Some("0 0 1 * *")),
            ("every 90s", Some("@every 1m 30s")),
            ("remove", None),
        ] {
            assert_eq!(text(words).unwrap().as_deref(), fields, "{words}");
        }
        for wrong in [
            "daily",
            "daily 24:00",
            "daily 0:0",
            "daily 1:60",
            "daily +1:00",
            "hourly 0",
            "hourly 25",
            "weekly 00:00",
            "weekly foo 00:00",
            "monthly 32 00:00",
            "yearly",
        ] {
            assert!(text(wrong).is_err(), "{wrong}");
        }
    }
}
