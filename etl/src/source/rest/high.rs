//! The highest value of an incremental field. Numbers are compared as numbers, times
//! by their instant whatever their zone and fraction, other text byte by byte.

use serde::{Deserialize, Serialize};
use serde_json::Number;

/// A value that records grow by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum High {
    /// A number.
    Number(Number),
    /// A time or other text, as the API spells it.
    Text(String),
}

impl High {
    /// The value of a field as it stands in a record; none for null, lists and objects.
    #[must_use]
    pub fn of(json: &str) -> Option<High> {
        match json.as_bytes().first()? {
            b'"' | b'-' | b'0'..=b'9' => serde_json::from_str(json).ok(),
            _ => None,
        }
    }

    /// The higher of two; `self` where they cannot be compared.
    #[must_use]
    pub fn or_higher(self, other: High) -> High {
        if other.is_above(&self) { other } else { self }
    }

    /// As it stands in a request.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            High::Number(number) => number.to_string(),
            High::Text(text) => text.clone(),
        }
    }

    fn is_above(&self, other: &High) -> bool {
        match (self, other) {
            (High::Number(this), High::Number(that)) => match (whole(this), whole(that)) {
                (Some(this), Some(that)) => this > that,
                _ => this.as_f64() > that.as_f64(),
            },
            (High::Text(this), High::Text(that)) => match (instant(this), instant(that)) {
                (Some(this), Some(that)) => this > that,
                _ => this > that,
            },
            _ => false,
        }
    }
}

fn whole(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

/// Nanoseconds since 1970 of an RFC 3339 time, as in `2026-11-21T13:00:00.5+02:00`;
/// a day alone is its beginning.
fn instant(text: &str) -> Option<i128> {
    const DAY: i128 = 86_400;
    let (date, time) = match text.split_at_checked(10)? {
        (date, "") => (date, "00:00:00Z"),
        (date, time) => (date, time.strip_prefix(['T', 't', ' '])?),
    };
    let number = |text: &str| -> Option<i128> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| digits)
    };
    let mut parts = date.splitn(3, '-').map(number);
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let zone_at = time.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = time.split_at(zone_at);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut parts = clock.splitn(3, ':').map(number);
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    let offset = match zone {
        "Z" | "z" => 0,
        _ => {
            let (hours, minutes) = zone[1..].split_once(':')?;
            let seconds = number(hours)? * 3600 + number(minutes)? * 60;
            if zone.starts_with('-') { -seconds } else { seconds }
        }
    };
    let plausible =
        (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 25 && minute < 60;
    if !plausible || second > 60 {
        return None;
    }
    let nanos = number(&format!("{fraction:0<9}")[..9])?;
    number(fraction)?;
    let seconds = days(year, month, day) * DAY + hour * 3600 + minute * 60 + second - offset;
    Some(seconds * 1_000_000_000 + nanos)
}

/// Days from 1970-01-01 in the Gregorian calendar (H. Hinnant, "chrono-Compatible
/// Low-Level Date Algorithms").
fn days(year: i128, month: i128, day: i128) -> i128 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use super::{High, instant};

    fn highest(values: &[&str]) -> String {
        let values = values.iter().filter_map(|json| High::of(json));
        values.reduce(High::or_higher).unwrap().text()
    }

    #[test]
    fn the_highest_is_by_value_and_not_by_spelling() {
        assert_eq!(highest(&["9", "10", "null", "-3"]), "10");
        assert_eq!(
            highest(&["18446744073709551615", "18446744073709551614", "-1"]),
            "18446744073709551615"
        );
        assert_eq!(highest(&["1.5", "1", "1.25"]), "1.5");
        assert_eq!(highest(&[r#""b""#, r#""a""#]), "b");
        let times = [
            r#""2026-11-21T13:00:00Z""#,
            r#""2026-11-21T13:00:00.5Z""#,
            r#""2026-11-21T14:00:00+02:00""#,
        ];
        assert_eq!(highest(&times), "2026-11-21T13:00:00.5Z");
        assert_eq!(
            highest(&[r#""2026-11-21""#, r#""2026-11-20T23:00:00-02:00""#]),
            "2026-11-20T23:00:00-02:00"
        );
        // Another kind of value is passed over, and so are lists.
        assert_eq!(highest(&["5", r#""z""#, "[9]", "7"]), "7");
    }

    #[test]
    fn times_are_instants() {
        assert_eq!(instant("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(instant("2000-02-29T12:30:15.25Z"), Some(951_827_415_250_000_000));
        assert_eq!(instant("1969-12-31T23:59:59+00:00"), Some(-1_000_000_000));
        for no in [
            "",
            "2026",
            "2026-11-21T",
            "2026-13-01T00:00:00Z",
            "2026-11-21T1:00",
            "x026-11-21T00:00:00Z",
            "2026-11-21T00:00:00",
            "é026-11-2100:00:00Z",
            "2026-11-21T00:00:00+0200",
        ] {
            assert_eq!(instant(no), None, "{no}");
        }
    }
}
