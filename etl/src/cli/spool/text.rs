//! Numbers as people read them, and columns.

/// `3,788`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `3 files`, `1 file`.
pub(super) fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(number))
}

/// `309 KiB`, `6.9 MiB`, `1 GiB`: two or three digits.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut value, mut unit) = (bytes as f64 / 1024.0, 0);
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        (value, unit) = (value / 1024.0, unit + 1);
    }
    let tenths = (value * 10.0).round() / 10.0;
    if tenths < 10.0 && tenths.fract() != 0.0 {
        format!("{tenths:.1} {}", UNITS[unit])
    } else {
        format!("{:.0} {}", value.round(), UNITS[unit])
    }
}

/// `12s`, `4m12s`, `3h05m`, `2d07h`: the two largest units.
pub(super) fn age(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if days > 0 => format!("{days}d{:02}h", hours % 24),
        () if hours > 0 => format!("{hours}h{:02}m", minutes % 60),
        () if minutes > 0 => format!("{minutes}m{:02}s", seconds % 60),
        () => format!("{seconds}s"),
    }
}

/// How a column stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    /// Numbers right, their heading too.
    Right,
    /// Numbers right under a heading that stands left.
    RightLeft,
}

/// Lines of a table with two spaces between columns and none at the end.
pub(super) fn table(columns: &[(&str, Align)], rows: &[Vec<String>]) -> Vec<String> {
    let width = |index: usize| {
        let cells = rows.iter().filter_map(|row| row.get(index)).map(|cell| cell.chars().count());
        cells.max().unwrap_or(0).max(columns[index].0.len())
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let heading: Vec<String> = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
    let line = |row: &[String], is_heading: bool| {
        let cells =
            row.iter().zip(columns).zip(&widths).map(|((cell, (_, align)), width)| match align {
                Align::Right => format!("{cell:>width$}"),
                Align::RightLeft if !is_heading => format!("{cell:>width$}"),
                _ => format!("{cell:<width$}"),
            });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(&heading, true)];
    lines.extend(rows.iter().map(|row| line(row, false)));
    lines
}

#[cfg(test)]
mod tests {
    use super::{Align, age, count, counted, size, table};

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!(
            [0, 999, 1000, 3788, 1_000_000].map(count),
            ["0", "999", "1,000", "3,788", "1,000,000"]
        );
        assert_eq!(counted(1, "file") + " " + &counted(1200, "file"), "1 file 1,200 files");
        assert_eq!(
            [0, 1023, 1024, 316_416, 7_235_174, 1 << 30, 1_048_575, 9_990 << 10].map(size),
            ["0 B", "1023 B", "1 KiB", "309 KiB", "6.9 MiB", "1 GiB", "1 MiB", "9.8 MiB"]
        );
        assert_eq!([5, 252, 11_100, 200_000].map(age), ["5s", "4m12s", "3h05m", "2d07h"]);
    }

    #[test]
    fn columns_line_up_and_lines_have_no_tail() {
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["bb".to_owned(), "22".to_owned()]];
        let lines = table(&[("N", Align::Left), ("SUM", Align::Right)], &rows);
        assert_eq!(lines, ["N   SUM", "a     1", "bb   22"]);
    }
}
