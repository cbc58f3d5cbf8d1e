//! A schedule's text made into its times: `@every 60s`, `@hourly` and its like, or
//! five cron fields. What passes here is what the scheduler runs by.

use std::time::Duration;

use chrono::Utc;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

use super::pipeline::Schedule;
use super::suggest::{did_you_mean, nearest};
use super::units::Span;
use crate::schedule::{Timing, Zone};

/// What is wrong with a schedule, and what would be right.
#[derive(Debug)]
pub(crate) struct Problem {
    /// The setting that is wrong, below `schedule`.
    pub key: &'static str,
    pub message: String,
    pub label: String,
}

const SHORTEST: Duration = Duration::from_secs(1);
/// Words with the cron fields that they stand for.
const WORDS: [(&str, &str); 4] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
];
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

struct Field {
    name: &'static str,
    min: u32,
    max: u32,
    words: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", min: 0, max: 59, words: &[] },
    Field { name: "hour", min: 0, max: 23, words: &[] },
    Field { name: "day of month", min: 1, max: 31, words: &[] },
    Field { name: "month", min: 1, max: 12, words: &MONTHS },
    Field { name: "day of week", min: 0, max: 7, words: &DAYS },
];

/// The times of a schedule. No message repeats a text, which may come from a variable.
pub(crate) fn timing(schedule: &Schedule) -> Result<Timing, Problem> {
    let zone = zone(&schedule.timezone)?;
    let timing = match (&schedule.every, &schedule.cron) {
        (Some(Span(every)), _) if *every >= SHORTEST => Timing::Every(*every),
        (Some(_), _) => {
            let message = "schedule.every needs a duration of at least 1s";
            return Err(wrong("every", message, "every: 60s"));
        }
        (None, Some(text)) => from_text(text.trim(), zone)?,
        (None, None) => {
            return Err(wrong("cron", "schedule says neither every nor cron", "every: 60s"));
        }
    };
    match timing.interval() {
        Some(interval) if schedule.jitter.0 >= interval => {
            let message = "schedule.jitter is not shorter than the time between two starts";
            Err(wrong("jitter", message, "a part of it, for example a tenth"))
        }
        _ => Ok(timing),
    }
}

fn from_text(text: &str, zone: Zone) -> Result<Timing, Problem> {
    if let Some(every) = text.strip_prefix("@every") {
        return match every.trim().parse::<Span>() {
            Ok(Span(span)) if span >= SHORTEST && every.starts_with(' ') => Ok(Timing::Every(span)),
            _ => {
                let message = "schedule: @every needs a duration of at least 1s";
                Err(wrong("cron", message, "@every 60s"))
            }
        };
    }
    if !text.starts_with('@') {
        return fields(text, zone);
    }
    if let Some((_, fields)) = WORDS.iter().find(|(word, _)| *word == text) {
        return cron(fields, zone);
    }
    let near = nearest(text, WORDS.map(|(word, _)| word));
    let label = match near.as_slice() {
        [] => "@every 60s, @hourly, @daily, @weekly, @monthly or five cron fields".to_owned(),
        near => did_you_mean(near),
    };
    Err(wrong("cron", "schedule is not a known word", &label))
}

fn fields(text: &str, zone: Zone) -> Result<Timing, Problem> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        let message = format!("schedule has {} fields; cron has five", fields.len());
        return Err(wrong("cron", &message, "minute hour day month weekday, as in `0 3 * * *`"));
    }
    for (text, field) in fields.iter().zip(&FIELDS) {
        if !text.split(',').all(|part| part_fits(part, field)) {
            let message = format!("schedule: the {} field cannot be read", field.name);
            let label = format!("{} to {}, `*`, lists, ranges and `*/n`", field.min, field.max);
            return Err(wrong("cron", &message, &label));
        }
    }
    cron(text, zone)
}

fn cron(text: &str, zone: Zone) -> Result<Timing, Problem> {
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    let cron: Cron = parser.parse(text).map_err(|_| {
        wrong("cron", "schedule cannot be read", "five cron fields, as in `0 3 * * *`")
    })?;
    let timing = Timing::Cron { cron: Box::new(cron), zone };
    match timing.next(Utc::now()) {
        Some(_) => Ok(timing),
        None => Err(wrong("cron", "schedule never falls due", "there is no such day")),
    }
}

fn zone(name: &str) -> Result<Zone, Problem> {
    Zone::named(name).ok_or_else(|| {
        let names = Zone::names();
        let near = nearest(name, names.iter().map(String::as_str));
        let label = match near.as_slice() {
            [] => "a name of the IANA list, as in Europe/Berlin or UTC".to_owned(),
            near => did_you_mean(near),
        };
        wrong("timezone", "schedule.timezone is not a known time zone", &label)
    })
}

fn wrong(key: &'static str, message: &str, label: &str) -> Problem {
    Problem { key, message: message.to_owned(), label: label.to_owned() }
}

fn part_fits(part: &str, field: &Field) -> bool {
    let (range, step) = match part.split_once('/') {
        Some((range, step)) => (range, Some(step)),
        None => (part, None),
    };
    let step_fits =
        step.is_none_or(|step| step.parse::<u32>().is_ok_and(|n| n > 0 && n <= field.max));
    let range_fits = match range.split_once('-') {
        _ if range == "*" => true,
        Some((from, to)) => match (value(from, field), value(to, field)) {
            (Some(from), Some(to)) => from <= to,
            _ => false,
        },
        None => value(range, field).is_some(),
    };
    step_fits && range_fits
}

fn value(text: &str, field: &Field) -> Option<u32> {
    let word = text.to_ascii_lowercase();
    if let Some(position) = field.words.iter().position(|known| *known == word) {
        return Some(field.min + position as u32);
    }
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|n| digits && (field.min..=field.max).contains(n))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::pipeline::{Missed, Overlap, Schedule};
    use super::super::units::Span;
    use super::{Problem, timing};
    use crate::schedule::Timing;

    fn settings(cron: &str) -> Schedule {
        Schedule {
            every: None,
            cron: Some(cron.to_owned()),
            timezone: "UTC".to_owned(),
            jitter: Span(Duration::ZERO),
            overlap: Overlap::Skip,
            missed: Missed::Skip,
        }
    }

    fn check(text: &str) -> Result<Timing, Problem> {
        timing(&settings(text))
    }

    #[test]
    fn the_settings_are_checked_too() {
        let problem = |change: fn(&mut Schedule)| {
            let mut schedule = settings("@daily");
            change(&mut schedule);
            timing(&schedule).err().map(|problem| (problem.key, problem.label))
        };
        assert_eq!(problem(|it| it.timezone = "America/New_York".to_owned()), None);
        let near = problem(|it| it.timezone = "Europe/Berln".to_owned());
        assert_eq!(near, Some(("timezone", "did you mean `Europe/Berlin`?".to_owned())));
        assert_eq!(
            problem(|it| it.every = Some(Span(Duration::ZERO))).map(|it| it.0),
            Some("every")
        );
        let jitter = problem(|it| {
            it.every = Some(Span(Duration::from_secs(5)));
            it.jitter = Span(Duration::from_secs(5));
        });
        assert_eq!(jitter.map(|it| it.0), Some("jitter"));
        assert_eq!(problem(|it| it.cron = None).map(|it| it.0), Some("cron"));
    }

    #[test]
    fn plausible_schedules_pass() {
        for text in [
            "@every 60s",
            "@every 1h 30m",
            "@hourly",
            "@daily",
            "@weekly",
            "@monthly",
            "* * * * *",
            "*/5 0-6,12 1,15 jan-mar MON-fri",
            "0 3 * * 7",
            "1-59/2 * * * *",
        ] {
            assert!(check(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn impossible_schedules_are_refused() {
        for text in [
            "",
            "@every",
            "@every 60",
            "@every60s",
            "@every 1ms",
            "@dayly",
            "@",
            "60 * * * *",
            "* * * *",
            "* * * * * *",
            "a * * * *",
            "5-1 * * * *",
            "*/0 * * * *",
            "* * 0 * *",
            "+1 * * * *",
            "1,,2 * * * *",
            "0 0 31 2 *",
        ] {
            assert!(check(text).is_err(), "{text}");
        }
        assert_eq!(check("@dayly").err().map(|p| p.label), Some("did you mean `@daily`?".into()));
    }
}
