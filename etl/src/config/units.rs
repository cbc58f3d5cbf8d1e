//! Values with units: `8s`, `1MiB`, `5%`. A bare number is refused, because
//! nobody remembers whether a timeout was in seconds or in milliseconds.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time written with its unit: `250ms`, `8s`, `1m30s`, `2h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A number of bytes written with its unit: `512B`, `64KiB`, `1MiB`, `10MB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A share of a whole, written `5%` or `0.05`; 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Share(pub f64);

/// How often something may happen, written `500/s` or `30/m`; never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Times in one [`Rate::per`]; at least 1.
    pub times: u32,
    /// A second or a minute.
    pub per: Duration,
}

/// Why a value with a unit could not be read; its text says what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not {expected}")]
pub struct UnitError {
    value: String,
    expected: &'static str,
}

impl UnitError {
    /// `value` is not what was expected; `expected` may say after `; ` how it is written.
    pub(crate) fn new(value: &str, expected: &'static str) -> UnitError {
        UnitError { value: value.to_owned(), expected }
    }

    /// What would be right, without the value: for values that may be secrets.
    #[must_use]
    pub fn expected(&self) -> &'static str {
        self.expected
    }
}

const SPAN_EXPECTED: &str = "a duration; write a number with its unit, as in 250ms, 8s, 1m30s";
const SIZE_EXPECTED: &str = "a size; write a number with its unit, as in 64KiB, 1MiB, 10MB";
const RATE_EXPECTED: &str = "a rate; write a number per second or minute, as in 500/s, 30/m";
const SHARE_EXPECTED: &str = "a share; write a percentage or a fraction, as in 5% or 0.05";

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        humantime::parse_duration(text.trim())
            .map(Span)
            .map_err(|_| UnitError { value: text.to_owned(), expected: SPAN_EXPECTED })
    }
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let error = || UnitError { value: text.to_owned(), expected: SIZE_EXPECTED };
        let trimmed = text.trim();
        if !trimmed.ends_with(|c: char| c.is_ascii_alphabetic()) {
            return Err(error());
        }
        trimmed.parse::<bytesize::ByteSize>().map(|size| Size(size.as_u64())).map_err(|_| error())
    }
}

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let error = || UnitError { value: text.to_owned(), expected: RATE_EXPECTED };
        let (number, unit) = text.split_once('/').ok_or_else(error)?;
        let per = match unit.trim() {
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            _ => return Err(error()),
        };
        match number.trim().parse::<u32>() {
            Ok(times) if times > 0 => Ok(Rate { times, per }),
            _ => Err(error()),
        }
    }
}

impl FromStr for Share {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let error = || UnitError { value: text.to_owned(), expected: SHARE_EXPECTED };
        let trimmed = text.trim();
        let (number, scale) = match trimmed.strip_suffix('%') {
            Some(number) => (number.trim_end(), 100.0),
            None => (trimmed, 1.0),
        };
        let share = number.parse::<f64>().map_err(|_| error())? / scale;
        if (0.0..=1.0).contains(&share) { Ok(Share(share)) } else { Err(error()) }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", humantime::format_duration(self.0))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", bytesize::ByteSize(self.0).display().iec())
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = if self.per == Duration::from_secs(1) { "s" } else { "m" };
        write!(f, "{}/{unit}", self.times)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // 0.07 × 100 is not exactly 7 in binary; nine digits are more than anyone writes.
        write!(f, "{}%", (self.0 * 1e11).round() / 1e9)
    }
}

impl Size {
    /// The shortest way to write exactly this size: `4MiB`, `1500B`.
    fn exact(self) -> String {
        for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if self.0 != 0 && self.0.trailing_zeros() >= shift {
                return format!("{}{unit}", self.0 >> shift);
            }
        }
        format!("{}B", self.0)
    }
}

macro_rules! text_with_unit {
    ($type:ident, $name:literal, $types:tt, $pattern:literal, $example:literal, $write:expr) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(&$write(*self))
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": $types,
                    "description": concat!($name, ", written with its unit"),
                    "pattern": $pattern,
                    "examples": [$example],
                })
            }
        }
    };
}

fn itself<T>(value: T) -> T {
    value
}

text_with_unit!(Span, "Duration", "string", r"^\s*([0-9.]+\s*[a-zµ]+\s*)+$", "8s", itself);
text_with_unit!(
    Size,
    "Size",
    "string",
    r"^\s*[0-9.]+\s*([kKmMgGtTpP]i?)?[bB]\s*$",
    "1MiB",
    Size::exact
);
text_with_unit!(Rate, "Rate", "string", r"^\s*[0-9]+\s*/\s*[sm]\s*$", "500/s", itself);
// A fraction such as 0.05 is a number to an editor, whatever it is to us.
text_with_unit!(Share, "Share", ["string", "number"], r"^\s*[0-9.]+\s*%?\s*$", "5%", itself);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Rate, Share, Size, Span};

    #[test]
    fn units_are_read_and_bare_numbers_refused() {
        assert_eq!("8s".parse(), Ok(Span(Duration::from_secs(8))));
        assert_eq!("1m30s".parse(), Ok(Span(Duration::from_secs(90))));
        assert_eq!("250ms".parse(), Ok(Span(Duration::from_millis(250))));
        assert_eq!("1MiB".parse(), Ok(Size(1 << 20)));
        assert_eq!("10MB".parse(), Ok(Size(10_000_000)));
        assert_eq!("5%".parse(), Ok(Share(0.05)));
        assert_eq!("0.25".parse(), Ok(Share(0.25)));
        assert!("8".parse::<Span>().is_err());
        assert!("200".parse::<Size>().is_err());
        assert!("1 lightyear".parse::<Span>().is_err());
        assert!("120%".parse::<Share>().is_err());
        assert!("NaN".parse::<Share>().is_err());
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        assert_eq!("500/s".parse(), Ok(Rate { times: 500, per: second }));
        assert_eq!(" 30 / m".parse(), Ok(Rate { times: 30, per: minute }));
        for wrong in ["0/s", "500", "5/h", "-1/s", "1.5/s", "/s", "99999999999/s"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn values_are_written_so_that_they_read_back_the_same() {
        for bytes in [0, 1, 1023, 1024, 1500, 4 << 20, (4 << 20) + 1, 3 << 40, u64::MAX] {
            assert_eq!(Size(bytes).exact().parse(), Ok(Size(bytes)), "{}", Size(bytes).exact());
        }
        assert_eq!(Size(4 << 20).exact(), "4MiB");
        assert_eq!(Share(0.07).to_string(), "7%");
        for text in ["500/s", "30/m"] {
            assert_eq!(text.parse::<Rate>().map(|rate| rate.to_string()), Ok(text.to_owned()));
        }
        assert_eq!(
            Span(Duration::from_millis(90_250)).to_string().parse(),
            Ok(Span(Duration::from_millis(90_250)))
        );
    }
}
