//! Days and times as SQL Server counts them, as ISO 8601.

use chrono::{Datelike, NaiveDate};

use super::columns::base;
use crate::source::sql::client::{Column, Kind};

/// Days from 0001-01-01 to 1900-01-01, where `datetime` begins.
pub(super) const DAYS_TO_1900: i64 = 693_595;
const NANOSECONDS_A_DAY: i128 = 86_400_000_000_000;

/// Nanoseconds since 0001-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(pub i128);

impl Moment {
    /// Out of days since 0001-01-01, and a time of day in units of ten to the power of `-scale`
    /// seconds.
    pub(super) fn new(days: i64, units: u64, scale: u8) -> Moment {
        let nanoseconds = i128::from(units) * 10i128.pow(9 - u32::from(scale.min(9)));
        Moment(i128::from(days) * NANOSECONDS_A_DAY + nanoseconds)
    }

    /// `minutes` later.
    pub(super) fn minutes(self, minutes: i64) -> Moment {
        Moment(self.0 + i128::from(minutes) * 60_000_000_000)
    }

    /// So much earlier.
    pub(super) fn back(self, duration: std::time::Duration) -> Moment {
        Moment(self.0 - i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX / 2))
    }

    /// `2026-11-21T08:30:00.125` with `scale` digits behind the point, the others cut.
    pub(super) fn push(self, out: &mut Vec<u8>, scale: u8) {
        // A moment before the year 1, which no column has, shows as the beginning of it.
        let (days, time) = (self.0.max(0) / NANOSECONDS_A_DAY, self.0.max(0) % NANOSECONDS_A_DAY);
        push_date(out, days as i64);
        out.push(b'T');
        push_time(out, time as u64, scale);
    }
}

/// A moment as a value of the column is written; one with a zone is taken for UTC.
pub(super) fn push_moment_of(out: &mut Vec<u8>, moment: Moment, column: &Column) {
    let digits = || column.declared.split(['(', ')']).nth(1).and_then(|scale| scale.parse().ok());
    let scale = match base(&column.declared) {
        "datetime" => 3,
        "smalldatetime" => 0,
        _ => digits().unwrap_or(7),
    };
    moment.push(out, scale);
    if column.kind == Kind::Instant {
        push_offset(out, 0);
    }
}

/// `2026-11-21`, of days since 0001-01-01.
pub(super) fn push_date(out: &mut Vec<u8>, days: i64) {
    let day = i32::try_from(days + 1).ok().and_then(NaiveDate::from_num_days_from_ce_opt);
    let day = day.unwrap_or_default();
    let text = format!("{:04}-{:02}-{:02}", day.year(), day.month(), day.day());
    out.extend_from_slice(text.as_bytes());
}

/// `08:30:00.125` with `scale` digits, of nanoseconds since midnight.
pub(super) fn push_time(out: &mut Vec<u8>, nanoseconds: u64, scale: u8) {
    let seconds = nanoseconds / 1_000_000_000;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    out.extend_from_slice(format!("{hours:02}:{minutes:02}:{:02}", seconds % 60).as_bytes());
    if scale > 0 {
        let digits = format!("{:09}", nanoseconds % 1_000_000_000);
        out.push(b'.');
        out.extend_from_slice(&digits.as_bytes()[..usize::from(scale.min(9))]);
    }
}

/// `+05:30`, or `Z` without an offset.
pub(super) fn push_offset(out: &mut Vec<u8>, minutes: i16) {
    match minutes {
        0 => out.push(b'Z'),
        _ => {
            let sign = if minutes < 0 { '-' } else { '+' };
            let minutes = minutes.unsigned_abs();
            out.extend_from_slice(
                format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60).as_bytes(),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{DAYS_TO_1900, Moment, push_date, push_offset};

    fn text(push: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        push(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn the_calendar_is_that_of_sql_server_from_its_first_day_to_its_last() {
        let days = [(0, "0001-01-01"), (DAYS_TO_1900, "1900-01-01"), (3_652_058, "9999-12-31")];
        for (days, day) in days {
            assert_eq!(text(|out| push_date(out, days)), day);
        }
    }

    #[test]
    fn moments_have_as_many_digits_as_their_columns() {
        let moment = Moment::new(DAYS_TO_1900, 1_234_567, 7);
        assert_eq!(text(|out| moment.push(out, 7)), "1900-01-01T00:00:00.1234567");
        assert_eq!(text(|out| moment.push(out, 3)), "1900-01-01T00:00:00.123");
        assert_eq!(text(|out| moment.minutes(-1).push(out, 0)), "1899-12-31T23:59:00");
        assert_eq!(text(|out| push_offset(out, -210)), "-03:30");
        assert_eq!(text(|out| push_offset(out, 0)), "Z");
    }
}
