//! Durations, sizes and rates as people write them: `2s`, `10MiB`, `0.2` or `20%`, on the
//! command line and in `POST /faults`.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Deserializer, Serializer, de::Error};

/// A share of requests, `0.2` or `20%`, as a fraction between 0 and 1.
pub(crate) fn parse_rate(text: &str) -> Result<f64, String> {
    let text = text.trim();
    let (digits, scale) = match text.strip_suffix('%') {
        Some(percent) => (percent, 100.0),
        None => (text, 1.0),
    };
    let wrong = || format!("`{text}` is not a rate: write 0.2 or 20%");
    let rate = digits.trim().parse::<f64>().map_err(|_| wrong())? / scale;
    check_rate(rate)
}

fn check_rate(rate: f64) -> Result<f64, String> {
    if (0.0..=1.0).contains(&rate) {
        Ok(rate)
    } else {
        Err(format!("rate {rate} is not between 0 and 1"))
    }
}

/// A duration with its unit, such as `250ms`, `2s` or `1m 30s`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text.trim())
        .map_err(|error| format!("`{text}` is not a duration ({error}): write 250ms or 2s"))
}

/// A size in bytes, with or without a unit: `10MiB`, `64kB`, `4096`.
pub(crate) fn parse_size(text: &str) -> Result<usize, String> {
    let size: ByteSize =
        text.trim().parse().map_err(|_| format!("`{text}` is not a size: write 10MiB or 4096"))?;
    usize::try_from(size.as_u64()).map_err(|_| format!("`{text}` is too large"))
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a number or a string with a unit")]
enum Written {
    Number(f64),
    Text(String),
}

/// A rate in JSON: a number, or a string like `"20%"`.
pub(crate) fn rate<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    match Written::deserialize(from)? {
        Written::Number(rate) => check_rate(rate),
        Written::Text(text) => parse_rate(&text),
    }
    .map_err(D::Error::custom)
}

/// A size in JSON: a number of bytes, or a string like `"10MiB"`.
pub(crate) fn size<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    match Written::deserialize(from)? {
        Written::Number(bytes) if bytes >= 0.0 && bytes.fract() == 0.0 => Ok(bytes as usize),
        Written::Number(bytes) => Err(format!("{bytes} is not a number of bytes")),
        Written::Text(text) => parse_size(&text),
    }
    .map_err(D::Error::custom)
}

/// Rates by status in JSON: `{"503": 0.2}`.
pub(crate) mod rates {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer};

    #[derive(Deserialize)]
    struct Rate(#[serde(deserialize_with = "super::rate")] f64);

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<u16, f64>, D::Error> {
        let rates = BTreeMap::<u16, Rate>::deserialize(from)?;
        Ok(rates.into_iter().map(|(status, rate)| (status, rate.0)).collect())
    }
}

/// A duration in JSON: a string with a unit.
pub(crate) mod duration {
    use super::{Deserialize, Deserializer, Duration, Error, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_duration(*value))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        super::parse_duration(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

/// A duration in JSON, or `null`.
pub(crate) mod duration_or_none {
    use super::{Deserialize, Deserializer, Duration, Error, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(duration) => to.collect_str(&humantime::format_duration(*duration)),
            None => to.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        match Option::<String>::deserialize(from)? {
            Some(text) => super::parse_duration(&text).map(Some).map_err(D::Error::custom),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_fractions_or_percentages() {
        assert_eq!(parse_rate("0.2"), Ok(0.2));
        assert_eq!(parse_rate("20%"), Ok(0.2));
        assert_eq!(parse_rate("0"), Ok(0.0));
        for wrong in ["", "x", "1.5", "-0.1", "101%", "NaN", "inf"] {
            assert!(parse_rate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_and_durations_carry_units() {
        assert_eq!(parse_size("10MiB"), Ok(10 << 20));
        assert_eq!(parse_size("4096"), Ok(4096));
        assert!(parse_size("ten").is_err());
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert!(parse_duration("2").is_err());
    }
}
