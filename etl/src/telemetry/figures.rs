//! Figures as people read them: `1,000,000`, `34,300/s`, `2m04s`, `309 KiB`,
//! `41 %`. Pure; every screen and report writes its numbers through here, so
//! that one quantity looks the same everywhere.

use std::time::Duration;

const BAR_CELLS: u64 = 20;
const KIB: f64 = 1024.0;

/// A count with thousands separated: `1,000,000`.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count that a bug could have made negative: `-12`.
#[must_use]
pub fn signed_count(number: i128) -> String {
    let sign = if number < 0 { "-" } else { "" };
    let size = u64::try_from(number.unsigned_abs()).unwrap_or(u64::MAX);
    format!("{sign}{}", count(size))
}

/// A rate to the last digit, for a result: `32,258/s`; below ten, `0.4/s`.
#[must_use]
pub fn rate(per_second: f64) -> String {
    if !per_second.is_finite() || per_second <= 0.0 {
        return "0/s".to_owned();
    }
    if per_second < 9.95 {
        return format!("{per_second:.1}/s");
    }
    format!("{}/s", count(whole(per_second)))
}

/// A rate to three digits, for a display that should not flicker: `34,300/s`.
#[must_use]
pub fn steady_rate(per_second: f64) -> String {
    if !per_second.is_finite() || per_second < 1000.0 {
        return rate(per_second);
    }
    let step = 10f64.powf(per_second.log10().floor() - 2.0);
    rate((per_second / step).round() * step)
}

/// A length of time in its two largest units: `340ms`, `4.2s`, `31s`, `2m04s`, `3h07m`, `2d05h`.
#[must_use]
pub fn span(time: Duration) -> String {
    let tenths = time.as_millis().saturating_add(50) / 100;
    match time.as_millis() {
        0 => "0s".to_owned(),
        1..=949 => format!("{}ms", time.as_millis()),
        _ if tenths < 100 && !tenths.is_multiple_of(10) => {
            format!("{}.{}s", tenths / 10, tenths % 10)
        }
        _ => whole_span(rounded_seconds(time)),
    }
}

/// A length of time that is still growing, in whole seconds: `0s`, `12s`, `2m04s`.
#[must_use]
pub fn running_span(time: Duration) -> String {
    whole_span(time.as_secs())
}

/// Time to go: `~17s left`.
#[must_use]
pub fn left(time: Duration) -> String {
    format!("~{} left", whole_span(rounded_seconds(time).max(1)))
}

/// A forecast in one unit: `about 40 min`.
#[must_use]
pub fn about(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..=89 => format!("about {} s", seconds.max(1)),
        90..=5_399 => format!("about {} min", (seconds + 30) / 60),
        5_400..=172_799 => format!("about {} h", (seconds + 1_800) / 3_600),
        _ => format!("about {} days", count((seconds + 43_200) / 86_400)),
    }
}

/// An amount of data: `309 KiB`, `6.9 MiB`, `1 GiB`, `79.7 MiB`.
#[must_use]
pub fn bytes(amount: u64) -> String {
    if amount < 1024 {
        return format!("{amount} B");
    }
    let mut value = as_f64(amount);
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
        // 1023.5 would round to 1024 of this unit; it is 1 of the next.
        if value < KIB - 0.5 {
            break;
        }
        value /= KIB;
        unit = larger;
    }
    let text = if value < 99.95 { format!("{value:.1}") } else { format!("{value:.0}") };
    format!("{} {unit}", text.strip_suffix(".0").unwrap_or(&text))
}

/// A share rounded down, so that `100 %` means all of it: `41 %`.
#[must_use]
pub fn share(done: u64, total: u64) -> String {
    let percent = if total == 0 { 100 } else { part(done, total, 100) };
    format!("{percent} %")
}

/// A bar of twenty cells: `[########............]`; full only when all is done.
#[must_use]
pub fn bar(done: u64, total: u64) -> String {
    let filled = if total == 0 { BAR_CELLS } else { part(done, total, BAR_CELLS) };
    let (filled, empty) = (to_usize(filled), to_usize(BAR_CELLS - filled));
    format!("[{}{}]", "#".repeat(filled), ".".repeat(empty))
}

/// An answer time: `84 ms`, `1.2 s`.
#[must_use]
pub fn answer_time(milliseconds: f64) -> String {
    if !milliseconds.is_finite() || milliseconds < 0.0 {
        return "?".to_owned();
    }
    match milliseconds {
        ms if ms < 9.95 => format!("{ms:.1} ms"),
        ms if ms < 999.5 => format!("{ms:.0} ms"),
        ms if ms < 9_950.0 => format!("{:.1} s", ms / 1000.0),
        ms => format!("{:.0} s", ms / 1000.0),
    }
}

/// A noun with its count: `1 record`, `2 records`, `3 retries`.
#[must_use]
pub fn counted(number: u64, noun: &str) -> String {
    match (number, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{} {stem}ies", count(number)),
        (_, None) => format!("{} {noun}s", count(number)),
    }
}

/// The part of a run's identity that people see and type: its first four characters.
#[must_use]
pub fn short_id(run_id: &str) -> &str {
    run_id.char_indices().nth(4).map_or(run_id, |(end, _)| &run_id[..end])
}

/// Text from outside on one line, with nothing a terminal would obey.
#[must_use]
pub fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}

fn whole_span(seconds: u64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3_600);
    match seconds {
        0..=59 => format!("{seconds}s"),
        60..=3_599 => format!("{minutes}m{:02}s", seconds % 60),
        3_600..=86_399 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{}d{:02}h", hours / 24, hours % 24),
    }
}

fn rounded_seconds(time: Duration) -> u64 {
    time.saturating_add(Duration::from_millis(500)).as_secs()
}

fn part(done: u64, total: u64, cells: u64) -> u64 {
    let cell = u128::from(done.min(total)) * u128::from(cells) / u128::from(total);
    u64::try_from(cell).unwrap_or(cells)
}

/// A non-negative number without its fraction; what is too large becomes the maximum.
fn whole(number: f64) -> u64 {
    // A float-to-integer `as` saturates, and the rounding is wanted.
    number.round() as u64
}

fn as_f64(number: u64) -> f64 {
    // Past 2^53 the last digits are lost, and are not shown anyway.
    number as f64
}

fn to_usize(cells: u64) -> usize {
    usize::try_from(cells).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn counts_have_their_thousands_separated() {
        let shown = [0, 12, 999, 1_000, 84_200, 1_000_000, u64::MAX].map(count);
        assert_eq!(
            shown,
            ["0", "12", "999", "1,000", "84,200", "1,000,000", "18,446,744,073,709,551,615"]
        );
        assert_eq!(signed_count(-1_234), "-1,234");
        assert_eq!(signed_count(0), "0");
        assert_eq!(
            (counted(1, "record"), counted(0, "record")),
            ("1 record".into(), "0 records".into())
        );
        assert_eq!((counted(1, "try"), counted(2, "retry")), ("1 try".into(), "2 retries".into()));
    }

    #[test]
    fn rates_are_exact_in_results_and_steady_on_the_display() {
        assert_eq!(
            [32_258.06, 12.4, 0.44, 0.0, f64::NAN].map(rate),
            ["32,258/s", "12/s", "0.4/s", "0/s", "0/s"]
        );
        assert_eq!(
            [34_337.0, 999.4, 1_234.0, 99_960.0, f64::INFINITY].map(steady_rate),
            ["34,300/s", "999/s", "1,230/s", "100,000/s", "0/s"]
        );
    }

    #[test]
    fn times_use_their_two_largest_units() {
        let shown = [
            0,
            340,
            949,
            950,
            4_200,
            4_000,
            9_960,
            31_000,
            59_600,
            124_000,
            11_220_000,
            190_800_000,
        ]
        .map(|ms| span(Duration::from_millis(ms)));
        assert_eq!(
            shown,
            [
                "0s", "340ms", "949ms", "1s", "4.2s", "4s", "10s", "31s", "1m00s", "2m04s",
                "3h07m", "2d05h"
            ]
        );
        assert_eq!(running_span(Duration::from_millis(12_900)), "12s");
        assert_eq!(left(Duration::from_millis(17_200)), "~17s left");
        assert_eq!(left(Duration::ZERO), "~1s left");
        let forecasts = [20, 2_400, 7_200, 864_000].map(|s| about(Duration::from_secs(s)));
        assert_eq!(forecasts, ["about 20 s", "about 40 min", "about 2 h", "about 10 days"]);
    }

    #[test]
    fn sizes_carry_binary_units() {
        let shown = [0, 1_023, 1_024, 316_416, 7_235_174, 1 << 30, 83_571_507, 1_048_570, u64::MAX]
            .map(bytes);
        assert_eq!(
            shown,
            [
                "0 B", "1023 B", "1 KiB", "309 KiB", "6.9 MiB", "1 GiB", "79.7 MiB", "1 MiB",
                "16 EiB"
            ]
        );
    }

    #[test]
    fn a_share_is_full_only_when_everything_is_done() {
        assert_eq!(share(412, 1_000), "41 %");
        assert_eq!(share(999_999, 1_000_000), "99 %");
        assert_eq!(
            (share(5, 5), share(0, 0), share(7, 5)),
            ("100 %".into(), "100 %".into(), "100 %".into())
        );
        assert_eq!(bar(412, 1_000), "[########............]");
        assert_eq!(bar(999, 1_000), "[###################.]");
        assert_eq!(bar(0, 0), "[####################]");
    }

    #[test]
    fn answer_times_and_outside_text_are_tamed() {
        assert_eq!(
            [84.2, 3.12, 1_234.0, 15_000.0].map(answer_time),
            ["84 ms", "3.1 ms", "1.2 s", "15 s"]
        );
        assert_eq!(one_line("bad\x1b[2J\nnews\t"), "bad [2J news");
        assert_eq!((short_id("9f3a77"), short_id("9f"), short_id("")), ("9f3a", "9f", ""));
    }
}
