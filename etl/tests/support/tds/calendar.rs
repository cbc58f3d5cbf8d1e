//! Days since 0001-01-01 and what a calendar makes of them (the proleptic Gregorian one, as
//! SQL Server has it).

/// Days before 1900-01-01, where `datetime` begins.
pub const DAYS_TO_1900: i64 = 693_595;

fn days_before_year(year: i64) -> i64 {
    let before = year - 1;
    before * 365 + before / 4 - before / 100 + before / 400
}

fn month_lengths(year: i64) -> [i64; 12] {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
}

/// The number of the day; `None` when there is no such day in the years 1 to 9999.
pub fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=9999).contains(&year) || !(1..=12).contains(&month) {
        return None;
    }
    let lengths = month_lengths(year);
    let passed = usize::try_from(month - 1).ok()?;
    if !(1..=lengths[passed]).contains(&day) {
        return None;
    }
    Some(days_before_year(year) + lengths[..passed].iter().sum::<i64>() + day - 1)
}

/// Year, month and day of the number.
pub fn date(days: i64) -> (i64, i64, i64) {
    let mut year = days / 366 + 1;
    while days_before_year(year + 1) <= days {
        year += 1;
    }
    let mut left = days - days_before_year(year);
    for (month, length) in month_lengths(year).into_iter().enumerate() {
        if left < length {
            return (year, month as i64 + 1, left + 1);
        }
        left -= length;
    }
    unreachable!("a year has as many days as its months")
}
