//! Whether a schedule can be one: `@every 60s`, `@hourly` and its like, or five
//! cron fields with plausible numbers. When it falls due is the scheduler's matter.

use std::time::Duration;

use super::suggest::{did_you_mean, nearest};
use super::units::Span;

/// What is wrong with a schedule, and what would be right.
pub(crate) struct Problem {
    pub message: String,
    pub label: String,
}

const WORDS: [&str; 4] = ["@hourly", "@daily", "@weekly", "@monthly"];
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

/// Checks a schedule's form. No message repeats the text, which may come from a variable.
pub(crate) fn check(text: &str) -> Result<(), Problem> {
    let text = text.trim();
    if let Some(every) = text.strip_prefix("@every") {
        return match every.trim().parse::<Span>() {
            Ok(span) if span.0 >= Duration::from_secs(1) && every.starts_with(' ') => Ok(()),
            _ => Err(wrong("schedule: @every needs a duration of at least 1s", "@every 60s")),
        };
    }
    if text.starts_with('@') {
        if WORDS.contains(&text) {
            return Ok(());
        }
        let near = nearest(text, WORDS);
        let label = match near.as_slice() {
            [] => "@every 60s, @hourly, @daily, @weekly, @monthly or five cron fields".to_owned(),
            near => did_you_mean(near),
        };
        return Err(Problem { message: "schedule is not a known word".to_owned(), label });
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        let message = format!("schedule has {} fields; cron has five", fields.len());
        return Err(wrong(&message, "minute hour day month weekday, as in `0 3 * * *`"));
    }
    for (text, field) in fields.iter().zip(&FIELDS) {
        if !text.split(',').all(|part| part_fits(part, field)) {
            let message = format!("schedule: the {} field cannot be read", field.name);
            let label = format!("{} to {}, `*`, lists, ranges and `*/n`", field.min, field.max);
            return Err(Problem { message, label });
        }
    }
    Ok(())
}

fn wrong(message: &str, label: &str) -> Problem {
    Problem { message: message.to_owned(), label: label.to_owned() }
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
    use super::check;

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
        ] {
            assert!(check(text).is_err(), "{text}");
        }
        assert_eq!(check("@dayly").err().map(|p| p.label), Some("did you mean `@daily`?".into()));
    }
}
