//! Instants as file names and directories have them, and as records may spell them.
//! Pure; all in UTC, by the proleptic Gregorian calendar.

const SECONDS_PER_DAY: i64 = 86_400;
const MICROS_PER_SECOND: i64 = 1_000_000;

/// A day of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::load) struct Day {
    pub year: i64,
    pub month: i64,
    pub day: i64,
}

impl std::fmt::Display for Day {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl Day {
    /// The day that is so many days after 1970-01-01.
    ///
    /// After Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
    pub fn from_days(days: i64) -> Day {
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let of_era = shifted.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * of_year + 2) / 153;
        let day = of_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        Day { year: year_of_era + era * 400 + i64::from(month <= 2), month, day }
    }

    /// Days since 1970-01-01; `None` for a day that no calendar has.
    pub fn days(self) -> Option<i64> {
        let year = if self.month <= 2 { self.year - 1 } else { self.year };
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let from_march = if self.month > 2 { self.month - 3 } else { self.month + 9 };
        let of_year = (153 * from_march + 2) / 5 + self.day - 1;
        let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
        let days = era * 146_097 + of_era - 719_468;
        ((1..=12).contains(&self.month) && Day::from_days(days) == self).then_some(days)
    }

    /// The day of an instant, in microseconds since 1970.
    pub fn of_micros(micros: i64) -> Day {
        Day::from_days(micros.div_euclid(MICROS_PER_SECOND * SECONDS_PER_DAY))
    }

    /// `2026-11-21`, and nothing else.
    pub fn parse(text: &str) -> Option<Day> {
        let bytes = text.as_bytes();
        if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
            return None;
        }
        let (year, month) = (digits(&bytes[..4])?, digits(&bytes[5..7])?);
        let day = Day { year, month, day: digits(&bytes[8..])? };
        day.days().map(|_| day)
    }
}

/// `20261121T122530Z` for Unix seconds.
pub(super) fn compact(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(0);
    let day = Day::from_days(seconds.div_euclid(SECONDS_PER_DAY));
    let second = seconds.rem_euclid(SECONDS_PER_DAY);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{:04}{:02}{:02}T{hour:02}{minute:02}{second:02}Z", day.year, day.month, day.day)
}

/// Microseconds since 1970 of an instant in RFC 3339: `2026-11-21T12:25:30.5+01:00`, also
/// with a blank for the `T`. Without a zone it is UTC; a mere day is its beginning. `None`
/// for anything else, and for more than six digits of a second unless they are zeros.
pub(in crate::load) fn parse(text: &str) -> Option<i64> {
    let (date, rest) = text.split_at_checked(10)?;
    let days = Day::parse(date)?.days()?;
    let midnight = days.checked_mul(SECONDS_PER_DAY)?.checked_mul(MICROS_PER_SECOND)?;
    if rest.is_empty() {
        return Some(midnight);
    }
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (clock, rest) = rest.split_at_checked(8)?;
    let clock = clock.as_bytes();
    if clock[2] != b':' || clock[5] != b':' {
        return None;
    }
    let (hour, minute) = (digits(&clock[..2])?, digits(&clock[3..5])?);
    let second = digits(&clock[6..])?;
    // A leap second is the beginning of the next one, as Unix time has it.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (fraction, zone) = match rest.strip_prefix('.') {
        None => (0, rest),
        Some(rest) => {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let (fraction, zone) = rest.split_at(end);
            (micros_of(fraction)?, zone)
        }
    };
    let seconds = hour * 3600 + minute * 60 + second - offset_seconds(zone)?;
    Some(midnight + seconds * MICROS_PER_SECOND + fraction)
}

/// The microseconds in the digits after the point.
fn micros_of(fraction: &str) -> Option<i64> {
    let kept = &fraction[..fraction.len().min(6)];
    let lost = &fraction[kept.len()..];
    if fraction.is_empty() || lost.bytes().any(|digit| digit != b'0') {
        return None;
    }
    Some(digits(kept.as_bytes())? * 10_i64.pow(u32::try_from(6 - kept.len()).ok()?))
}

/// How far a zone is ahead of UTC.
fn offset_seconds(zone: &str) -> Option<i64> {
    if matches!(zone, "" | "Z" | "z") {
        return Some(0);
    }
    let sign = match zone.as_bytes()[0] {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let bytes = &zone.as_bytes()[1..];
    let (hours, minutes) = match bytes.len() {
        2 => (digits(bytes)?, 0),
        4 => (digits(&bytes[..2])?, digits(&bytes[2..])?),
        5 if bytes[2] == b':' => (digits(&bytes[..2])?, digits(&bytes[3..])?),
        _ => return None,
    };
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3600 + minutes * 60))
}

fn digits(text: &[u8]) -> Option<i64> {
    let digit = |sum: i64, c: &u8| c.is_ascii_digit().then(|| sum * 10 + i64::from(c - b'0'));
    text.iter().try_fold(0, digit)
}

#[cfg(test)]
mod tests {
    use super::{Day, compact, parse};

    #[test]
    fn days_and_numbers_are_one_another_for_a_thousand_years() {
        for days in -100_000..300_000 {
            let day = Day::from_days(days);
            assert_eq!(day.days(), Some(days), "{day}");
        }
        assert_eq!(Day::from_days(0).to_string(), "1970-01-01");
        assert_eq!(Day::parse("2000-02-29").and_then(Day::days), Some(11_016));
        for wrong in
            ["2026-02-29", "1900-02-29", "2026-13-01", "2026-00-10", "2026-04-31", "26-1-1"]
        {
            assert_eq!(Day::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn instants_are_read_in_every_zone() {
        assert_eq!(compact(1_795_263_930), "20261121T122530Z");
        let seconds = Some(1_795_263_930_000_000);
        for text in [
            "2026-11-21T12:25:30Z",
            "2026-11-21 12:25:30",
            "2026-11-21t12:25:30.000z",
            "2026-11-21T13:25:30+01:00",
            "2026-11-21T07:55:30-0430",
            "2026-11-21T14:25:30.000000000+02",
        ] {
            assert_eq!(parse(text), seconds, "{text}");
        }
        assert_eq!(parse("2026-11-21T12:25:30.25Z"), Some(1_795_263_930_250_000));
        assert_eq!(parse("1970-01-01"), Some(0));
        for wrong in [
            "",
            "2026-11-21T",
            "2026-11-21T24:00:00Z",
            "2026-11-21T12:25",
            "2026-11-21T12:25:30.Z",
            "2026-11-21T12:25:30.0000001Z",
            "2026-11-21T12:25:30+25:00",
            "2026-11-21T12:25:30é",
            "20261121éé",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
