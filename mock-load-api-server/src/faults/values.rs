//! The values of settings that are more than a number: spans of time, ranges, a secret.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};

use crate::units;

/// A span of time in which the server is down, counted from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Outage {
    /// When it begins.
    pub from: Duration,
    /// When it ends.
    pub until: Duration,
}

impl FromStr for Outage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (from, until) = text
            .split_once("..")
            .ok_or_else(|| format!("`{text}` is not a span of time: write 5s..15s"))?;
        let (from, until) = (units::parse_duration(from)?, units::parse_duration(until)?);
        if until <= from {
            return Err(format!("`{text}` ends before it begins"));
        }
        Ok(Self { from, until })
    }
}

/// How long something takes: always the same, or spread evenly over a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DelayRange {
    /// The shortest.
    pub min: Duration,
    /// The longest.
    pub max: Duration,
}

impl DelayRange {
    /// Always `delay`.
    pub const fn fixed(delay: Duration) -> Self {
        Self { min: delay, max: delay }
    }

    /// The delay at `share` of the range, 0 to 1.
    pub(crate) fn at(self, share: f64) -> Duration {
        self.min + (self.max - self.min).mul_f64(share)
    }
}

impl FromStr for DelayRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (min, max) = text.split_once("..").unwrap_or((text, text));
        let (min, max) = (units::parse_duration(min)?, units::parse_duration(max)?);
        if max < min {
            return Err(format!("`{text}` ends before it begins"));
        }
        Ok(Self { min, max })
    }
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, until) = (self.from, self.until);
        write!(f, "{}..{}", humantime::format_duration(from), humantime::format_duration(until))
    }
}

impl fmt::Display for DelayRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", humantime::format_duration(self.min))?;
        if self.max != self.min {
            write!(f, "..{}", humantime::format_duration(self.max))?;
        }
        Ok(())
    }
}

macro_rules! as_string {
    ($($name:ident)*) => {$(
        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }
    )*};
}

as_string!(Outage DelayRange);

/// A secret that never shows itself: printed and serialized it is `***`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    /// A token with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether `offered` is this token, in a time that does not depend on where they differ.
    pub(crate) fn matches(&self, offered: &[u8]) -> bool {
        let own = self.0.as_bytes();
        let differences = own.iter().zip(offered).fold(0, |seen, (a, b)| seen | (a ^ b));
        std::hint::black_box(differences) == 0 && own.len() == offered.len()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Token {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str("***")
    }
}
