//! A schedule in the words of systemd's `OnCalendar=`.

use std::time::Duration;

use crate::schedule::{Timing, Zone};

const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const DAY: u64 = 24 * 3600;

/// The lines that together mean `timing`; none for an interval that no clock's grid has.
#[must_use]
pub(super) fn lines(timing: &Timing) -> Option<Vec<String>> {
    match timing {
        Timing::Every(interval) => every(*interval).map(|line| vec![line]),
        Timing::Cron { cron, zone } => Some(cron_lines(cron.as_str(), zone)),
    }
}

/// Intervals that divide the next larger unit keep their beat by the clock.
fn every(interval: Duration) -> Option<String> {
    let seconds = interval.as_secs();
    if interval.subsec_nanos() > 0 || seconds == 0 {
        return None;
    }
    let time = match (seconds, seconds / 60, seconds / 3600) {
        (1, ..) => "*:*:*".to_owned(),
        (60, ..) => "*:*:00".to_owned(),
        (3600, ..) => "*:00:00".to_owned(),
        (DAY, ..) => "00:00:00".to_owned(),
        (n, ..) if n < 60 && 60 % n == 0 => format!("*:*:0/{n}"),
        (s, n, _) if s % 60 == 0 && n < 60 && 60 % n == 0 => format!("*:0/{n}:00"),
        (s, _, n) if s % 3600 == 0 && n < 24 && 24 % n == 0 => format!("0/{n}:00:00"),
        _ => return None,
    };
    Some(format!("*-*-* {time} UTC"))
}

/// Five cron fields. A day of the month and a day of the week that are both given mean
/// either of them, which takes two lines.
fn cron_lines(fields: &str, zone: &Zone) -> Vec<String> {
    let fields: Vec<String> = fields.split_whitespace().map(str::to_lowercase).collect();
    let [minute, hour, day, month, weekday] = fields.as_slice() else { return Vec::new() };
    let months =
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let time = format!("{}:{}:00 {zone}", list(hour, 0, 23, &[]), list(minute, 0, 59, &[]));
    let month = list(month, 1, 12, &months);
    let line = |weekdays: &str, day: &str| {
        let days = if weekdays.is_empty() { String::new() } else { format!("{weekdays} ") };
        format!("{days}*-{month}-{day} {time}")
    };
    let names = DAYS.map(str::to_lowercase);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let weekdays = values(weekday, 0, 7, &names).map(|mut days| {
        days.iter_mut().for_each(|day| *day %= 7);
        days.sort_unstable();
        days.dedup();
        days.iter().map(|day| DAYS[*day as usize]).collect::<Vec<_>>().join(",")
    });
    let days = list(day, 1, 31, &[]);
    match weekdays {
        None => vec![line("", &days)],
        Some(weekdays) if days == "*" => vec![line(&weekdays, "*")],
        Some(weekdays) => vec![line("", &days), line(&weekdays, "*")],
    }
}

fn list(field: &str, min: u32, max: u32, names: &[&str]) -> String {
    match values(field, min, max, names) {
        None => "*".to_owned(),
        Some(values) => {
            let two = |value: &u32| format!("{value:02}");
            values.iter().map(two).collect::<Vec<_>>().join(",")
        }
    }
}

/// The values of a field; none for all of them.
fn values(field: &str, min: u32, max: u32, names: &[&str]) -> Option<Vec<u32>> {
    if field == "*" {
        return None;
    }
    let number = |text: &str| {
        let named = names.iter().position(|name| *name == text);
        named.map(|at| at as u32 + min).or_else(|| text.parse().ok())
    };
    let mut values = Vec::new();
    for part in field.split(',') {
        let (range, step) = part.split_once('/').unwrap_or((part, ""));
        let (from, to) = match range.split_once('-') {
            Some((from, to)) => (number(from), number(to)),
            None if range == "*" => (Some(min), Some(max)),
            // `5/10` goes on from 5.
            None => (number(range), if step.is_empty() { number(range) } else { Some(max) }),
        };
        let step = step.parse().unwrap_or(1).max(1);
        if let (Some(from), Some(to)) = (from, to) {
            values.extend((from..=to.min(max)).step_by(step));
        }
    }
    values.sort_unstable();
    values.dedup();
    Some(values)
}
