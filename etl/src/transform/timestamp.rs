//! `timestamp`: times as people and systems write them, as UTC in ISO 8601. What can be
//! read in two ways, such as 01/02/2026, is refused unless the pipeline says how.

use jiff::civil::DateTime;
use jiff::fmt::rfc2822;
use jiff::fmt::strtime::BrokenDownTime;
use jiff::fmt::temporal::DateTimeParser;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use rows::json::push_string;

use super::error::StepError;
use super::path::{Node, Path};
use super::record::{Fate, edit};
use super::scan::{text, text_of};

/// Numbers up to this are seconds where nothing is said, larger ones milliseconds: the
/// year 5138 in the one, March 1973 in the other.
const SECONDS_MAX: i128 = 100_000_000_000;
const NANOS: i128 = 1_000_000_000;
/// Longer than any time.
const TEXT_MAX: usize = 128;
/// The forms that are recognised besides ISO 8601, RFC 2822 and numbers.
const PATTERNS: [&str; 11] = [
    "%Y/%m/%d %H:%M:%S%.f",
    "%Y/%m/%d %H:%M",
    "%Y/%m/%d",
    "%d.%m.%Y %H:%M:%S%.f",
    "%d.%m.%Y %H:%M",
    "%d.%m.%Y",
    "%d %b %Y %H:%M:%S",
    "%d %b %Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%d/%b/%Y:%H:%M:%S %z",
];

/// How a time is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Form {
    /// Anything that can be read in one way only.
    Auto,
    /// ISO 8601 with its offset.
    Rfc3339,
    /// As in mails.
    Rfc2822,
    /// Seconds since 1970.
    Epoch,
    /// Milliseconds since 1970.
    EpochMs,
    /// Conversion specifiers of `strftime`.
    Pattern(String),
}

impl Form {
    /// The names of forms that are no pattern.
    pub(crate) const NAMES: [&str; 5] = ["auto", "rfc3339", "rfc2822", "epoch", "epoch_ms"];

    /// Reads a form's name, or a pattern, and tries that out.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Form, String> {
        Ok(match text {
            "auto" => Form::Auto,
            "rfc3339" => Form::Rfc3339,
            "rfc2822" => Form::Rfc2822,
            "epoch" => Form::Epoch,
            "epoch_ms" => Form::EpochMs,
            pattern if pattern.contains('%') => {
                try_out(pattern)?;
                Form::Pattern(pattern.to_owned())
            }
            _ => return Err("is neither a known form nor a pattern with `%`".to_owned()),
        })
    }
}

/// Writes a time with the pattern and reads it again.
fn try_out(pattern: &str) -> Result<(), String> {
    let database = TimeZoneDatabase::bundled();
    let sample = jiff::Timestamp::constant(1_763_728_998, 0).to_zoned(TimeZone::UTC);
    let written = BrokenDownTime::from(&sample).to_string(pattern);
    let written = written.map_err(|error| format!("is no pattern: {error}"))?;
    by_pattern(pattern, &written, &TimeZone::UTC, &database)
        .map(drop)
        .ok_or_else(|| "is no pattern that a date can be read with".to_owned())
}

/// The zone of a name such as Europe/Berlin or an offset such as +02:00, from the zones
/// that are part of this program: the same on every machine.
pub(crate) fn zone(name: &str) -> Option<TimeZone> {
    let database = TimeZoneDatabase::bundled();
    DateTimeParser::new().parse_time_zone_with(&database, name).ok()
}

/// The names of all zones.
pub(crate) fn zone_names() -> Vec<String> {
    TimeZoneDatabase::bundled().available().map(|name| name.as_str().to_owned()).collect()
}

/// Fields with the form and the zone of their times.
#[derive(Debug)]
pub(super) struct Timestamp {
    fields: Vec<Times>,
    tree: Node,
    database: TimeZoneDatabase,
}

/// A field of times.
#[derive(Debug)]
pub(super) struct Times {
    pub(super) path: Path,
    pub(super) form: Form,
    /// Of times that name none.
    pub(super) zone: TimeZone,
}

impl Timestamp {
    pub(super) fn new(fields: Vec<Times>) -> Self {
        let tree = Node::of_sources(fields.iter().map(|field| &field.path));
        Timestamp { fields, tree, database: TimeZoneDatabase::bundled() }
    }

    /// A null stays null, and an empty text becomes one, as with `cast`.
    pub(super) fn apply(&self, row: &[u8], out: &mut Vec<u8>) -> Result<(), StepError> {
        Ok(edit(text(row)?, &self.tree, out, &mut |number, value, out| {
            let Times { path, form, zone } = &self.fields[number];
            if value == "null" {
                return Ok(Fate::Same);
            }
            let written = match value.as_bytes().first() {
                Some(b'"') => text_of(value),
                Some(b'-' | b'0'..=b'9') => Some(value.into()),
                _ => None,
            };
            let written = written.as_deref().map(str::trim);
            if written == Some("") {
                out.extend_from_slice(b"null");
                return Ok(Fate::Changed);
            }
            let time = written
                .filter(|written| written.len() <= TEXT_MAX)
                .and_then(|written| read(form, written, zone, &self.database));
            match time {
                Some(time) => push_string(out, &time.to_string()),
                None => return Err(StepError::of(path.as_str(), value, refusal(form))),
            }
            Ok(Fate::Changed)
        })?)
    }
}

fn refusal(form: &Form) -> String {
    match form {
        Form::Auto => "is no time that can be read in one way only".to_owned(),
        Form::Rfc3339 => "is no time as in 2026-11-21T12:43:18Z".to_owned(),
        Form::Rfc2822 => "is no time as in Sat, 21 Nov 2026 12:43:18 +0000".to_owned(),
        Form::Epoch => "is no time in seconds since 1970".to_owned(),
        Form::EpochMs => "is no time in milliseconds since 1970".to_owned(),
        Form::Pattern(pattern) => format!("is no time as in {pattern}"),
    }
}

fn read(
    form: &Form,
    written: &str,
    zone: &TimeZone,
    database: &TimeZoneDatabase,
) -> Option<jiff::Timestamp> {
    match form {
        Form::Auto => auto(written, zone, database),
        Form::Rfc3339 => written.parse().ok(),
        Form::Rfc2822 => rfc2822::parse(written).ok().map(|time| time.timestamp()),
        Form::Epoch => epoch(written, NANOS),
        Form::EpochMs => epoch(written, NANOS / 1000),
        Form::Pattern(pattern) => by_pattern(pattern, written, zone, database),
    }
}

fn auto(written: &str, zone: &TimeZone, database: &TimeZoneDatabase) -> Option<jiff::Timestamp> {
    if let Some(number) = whole(written) {
        let unit = if number.abs() < SECONDS_MAX { NANOS } else { NANOS / 1000 };
        return epoch(written, unit);
    }
    if let Ok(time) = written.parse() {
        return Some(time);
    }
    let plain = |byte: u8| matches!(byte, b'0'..=b'9' | b'-' | b':' | b'.' | b'T' | b't' | b' ');
    if written.bytes().all(plain)
        && let Ok(time) = written.parse()
    {
        return in_zone(time, zone);
    }
    if let Ok(time) = rfc2822::parse(written) {
        return Some(time.timestamp());
    }
    PATTERNS.iter().find_map(|pattern| by_pattern(pattern, written, zone, database))
}

/// The whole part of a decimal.
fn whole(written: &str) -> Option<i128> {
    let (whole, fraction) = written.split_once('.').unwrap_or((written, "0"));
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    let decimal = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (decimal(digits) && decimal(fraction) && digits.len() <= 20)
        .then(|| whole.parse().ok())
        .flatten()
}

/// A decimal of a unit that has `nanos` nanoseconds; what is finer than one is cut off.
fn epoch(written: &str, nanos: i128) -> Option<jiff::Timestamp> {
    let whole = whole(written)?.checked_mul(nanos)?;
    let (mut fraction, mut worth) = (0, nanos / 10);
    for digit in written.split_once('.').map_or("", |(_, fraction)| fraction).bytes() {
        fraction += i128::from(digit - b'0') * worth;
        worth /= 10;
    }
    let fraction = if written.starts_with('-') { -fraction } else { fraction };
    jiff::Timestamp::from_nanosecond(whole + fraction).ok()
}

fn by_pattern(
    pattern: &str,
    written: &str,
    zone: &TimeZone,
    database: &TimeZoneDatabase,
) -> Option<jiff::Timestamp> {
    let time = BrokenDownTime::parse(pattern, written).ok()?;
    if time.offset().is_some() || time.iana_time_zone().is_some() {
        return time.to_zoned_with(database).ok().map(|time| time.timestamp());
    }
    if let Some(time) = time.timestamp() {
        return Some(time);
    }
    let civil = time.to_datetime().ok();
    let civil = civil.or_else(|| {
        // A date alone is its beginning; half a time is none.
        let dated = time.hour().is_none() && time.minute().is_none();
        time.to_date().ok().filter(|_| dated).map(|date| date.at(0, 0, 0, 0))
    })?;
    in_zone(civil, zone)
}

/// A time that a change of clocks has twice is the earlier one; one that it skips is as
/// much later.
fn in_zone(time: DateTime, zone: &TimeZone) -> Option<jiff::Timestamp> {
    zone.to_timestamp(time).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use jiff::tz::TimeZoneDatabase;

    use super::{Form, read, zone, zone_names};

    fn time(form: &str, written: &str, in_zone: &str) -> String {
        let (form, zone) = (Form::parse(form).unwrap(), zone(in_zone).unwrap());
        let time = read(&form, written, &zone, &TimeZoneDatabase::bundled());
        time.map_or_else(|| "none".to_owned(), |time| time.to_string())
    }

    #[test]
    fn common_forms_are_recognised() {
        for (written, utc) in [
            ("2026-11-21T12:43:18Z", "2026-11-21T12:43:18Z"),
            ("2026-11-21T12:43:18.120+02:00", "2026-11-21T10:43:18.12Z"),
            ("2026-11-21 12:43:18-05:00", "2026-11-21T17:43:18Z"),
            ("20261121T124318Z", "2026-11-21T12:43:18Z"),
            ("2026-11-21 12:43:18.5", "2026-11-21T12:43:18.5Z"),
            ("2026-11-21T12:43", "2026-11-21T12:43:00Z"),
            ("2026-11-21", "2026-11-21T00:00:00Z"),
            ("2026/11/21 12:43:18", "2026-11-21T12:43:18Z"),
            ("2026/11/21", "2026-11-21T00:00:00Z"),
            ("21.11.2026 12:43", "2026-11-21T12:43:00Z"),
            ("21.11.2026", "2026-11-21T00:00:00Z"),
            ("Sat, 21 Nov 2026 12:43:18 +0100", "2026-11-21T11:43:18Z"),
            ("Sat, 21 Nov 2026 12:43:18 GMT", "2026-11-21T12:43:18Z"),
            ("21 Nov 2026", "2026-11-21T00:00:00Z"),
            ("Nov 21, 2026", "2026-11-21T00:00:00Z"),
            ("21/Nov/2026:12:43:18 +0200", "2026-11-21T10:43:18Z"),
            ("1795264998", "2026-11-21T12:43:18Z"),
            ("1795264998.25", "2026-11-21T12:43:18.25Z"),
            ("1795264998250", "2026-11-21T12:43:18.25Z"),
            ("0", "1970-01-01T00:00:00Z"),
            ("-1.5", "1969-12-31T23:59:58.5Z"),
        ] {
            assert_eq!(time("auto", written, "UTC"), utc, "{written}");
        }
        for bad in [
            "01/02/2026",
            "soon",
            "2026-13-01",
            "2026-02-30",
            "12:43",
            "1e9",
            "999999999999999999",
            "2026-11-21T12:43:18[Nowhere/City]",
            "2026-11-21T25:00:00Z",
        ] {
            assert_eq!(time("auto", bad, "UTC"), "none", "{bad}");
        }
    }

    #[test]
    fn what_is_said_is_what_counts() {
        assert_eq!(time("epoch", "100000000000", "UTC"), "5138-11-16T09:46:40Z");
        assert_eq!(time("epoch_ms", "1000", "UTC"), "1970-01-01T00:00:01Z");
        assert_eq!(time("epoch_ms", "1.5", "UTC"), "1970-01-01T00:00:00.0015Z");
        assert_eq!(time("epoch", "2026-11-21", "UTC"), "none");
        assert_eq!(time("rfc3339", "2026-11-21 12:00", "UTC"), "none");
        assert_eq!(time("rfc2822", "2026-11-21T12:00:00Z", "UTC"), "none");
        assert_eq!(time("%d/%m/%Y", "01/02/2026", "UTC"), "2026-02-01T00:00:00Z");
        assert_eq!(time("%m/%d/%Y %I:%M %p", "01/02/2026 03:04 PM", "UTC"), "2026-01-02T15:04:00Z");
        assert_eq!(time("%d/%m/%Y", "01/02/2026 10:00", "UTC"), "none");
        assert_eq!(time("%s", "60", "Europe/Berlin"), "1970-01-01T00:01:00Z");
        assert_eq!(
            time("%Y-%m-%d %H:%M %z", "2026-01-01 00:00 +0100", "America/New_York"),
            "2025-12-31T23:00:00Z"
        );
    }

    #[test]
    fn times_without_a_zone_get_the_one_that_is_said() {
        assert_eq!(time("auto", "2026-07-01 12:00:00", "Europe/Berlin"), "2026-07-01T10:00:00Z");
        assert_eq!(time("auto", "2026-01-01 12:00:00", "Europe/Berlin"), "2026-01-01T11:00:00Z");
        assert_eq!(time("auto", "2026-01-01 12:00:00", "+05:30"), "2026-01-01T06:30:00Z");
        assert_eq!(time("auto", "2026-01-01T12:00:00Z", "Europe/Berlin"), "2026-01-01T12:00:00Z");
        // Twice there: the earlier. Not there at all: as much later.
        assert_eq!(time("auto", "2026-10-25 02:30:00", "Europe/Berlin"), "2026-10-25T00:30:00Z");
        assert_eq!(time("auto", "2026-03-29 02:30:00", "Europe/Berlin"), "2026-03-29T01:30:00Z");
    }

    #[test]
    fn patterns_and_zones_are_tried_out_first() {
        for bad in ["epoc", "", "%", "%H:%M", "%Y-%m", "%!", "iso"] {
            assert!(Form::parse(bad).is_err(), "{bad}");
        }
        assert!(zone("Europe/Berlni").is_none() && zone("").is_none());
        assert!(zone_names().iter().any(|name| name == "Europe/Berlin"));
    }
}
