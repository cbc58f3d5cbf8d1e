//! Object identifiers.

use std::fmt;

use super::ber::{BerError, Writer, tag};

/// The most numbers that one has (RFC 2578, section 3.5).
const LENGTH_MAX: usize = 128;

/// An object identifier such as `1.3.6.1.2.1.1.3.0`; ordered as agents walk.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Oid(Vec<u32>);

impl Oid {
    /// Reads the dotted form, with or without a leading dot.
    ///
    /// # Errors
    /// In words that go on after "is".
    pub fn parse(text: &str) -> Result<Oid, &'static str> {
        let text = text.strip_prefix('.').unwrap_or(text);
        let number = |part: &str| {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            if digits { part.parse().ok() } else { None }
        };
        let numbers: Option<Vec<u32>> = text.split('.').map(number).collect();
        let Some(numbers) = numbers else {
            return Err("not an object identifier in numbers, as in 1.3.6.1.2.1.1.3.0");
        };
        match numbers.as_slice() {
            [0 | 1, 0..=39, ..] | [2, _, ..] if numbers.len() <= LENGTH_MAX => Ok(Oid(numbers)),
            _ if numbers.len() > LENGTH_MAX => Err("longer than 128 numbers"),
            _ => Err("not an object identifier; most begin with 1.3.6.1"),
        }
    }

    /// The numbers behind `prefix`, when it lies below it.
    pub(super) fn below(&self, prefix: &Oid) -> Option<&[u32]> {
        self.0.strip_prefix(prefix.0.as_slice())
    }

    /// With more numbers at its end.
    pub(super) fn child(&self, numbers: &[u32]) -> Oid {
        Oid([self.0.as_slice(), numbers].concat())
    }

    /// How much memory it takes, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.0.len() * size_of::<u32>()
    }

    /// From the content of a part.
    pub(super) fn decode(content: &[u8]) -> Result<Oid, BerError> {
        let mut numbers = Vec::with_capacity(content.len() + 1);
        let (mut number, mut within) = (0u64, false);
        for byte in content {
            if *byte == 0x80 && !within {
                return Err(BerError::Oid);
            }
            number = number << 7 | u64::from(byte & 0x7f);
            if number > u64::from(u32::MAX) + 80 {
                return Err(BerError::Oid);
            }
            within = byte & 0x80 != 0;
            if within {
                continue;
            }
            if numbers.is_empty() {
                let first = (number / 40).min(2);
                numbers.push(first as u32);
                number -= first * 40;
            }
            numbers.push(u32::try_from(number).map_err(|_| BerError::Oid)?);
            number = 0;
        }
        if within || numbers.is_empty() || numbers.len() > LENGTH_MAX {
            return Err(BerError::Oid);
        }
        Ok(Oid(numbers))
    }

    /// Puts it before what is in the writer.
    pub(super) fn encode(&self, writer: &mut Writer) {
        let since = writer.len();
        let (head, tail) = self.0.split_at(2.min(self.0.len()));
        for number in tail.iter().rev() {
            push_base128(writer, u64::from(*number));
        }
        if let [first, second] = head {
            push_base128(writer, u64::from(*first) * 40 + u64::from(*second));
        }
        writer.wrap(tag::OID, since);
    }
}

fn push_base128(writer: &mut Writer, mut number: u64) {
    let mut more = 0;
    loop {
        // Seven bits fit.
        writer.raw(&[(number & 0x7f) as u8 | more]);
        number >>= 7;
        more = 0x80;
        if number == 0 {
            return;
        }
    }
}

/// Numbers with dots between them.
pub(super) fn dotted(numbers: &[u32]) -> String {
    let texts: Vec<String> = numbers.iter().map(u32::to_string).collect();
    texts.join(".")
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&dotted(&self.0))
    }
}

impl fmt::Debug for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use proptest::prelude::*;

    use super::super::ber::{Reader, Writer, tag};
    use super::Oid;

    /// Any identifier.
    pub fn oids() -> impl Strategy<Value = Oid> {
        let start = prop_oneof![(0u32..2, 0u32..40), (Just(2u32), any::<u32>())];
        (start, proptest::collection::vec(any::<u32>(), 0..20)).prop_map(|((a, b), mut tail)| {
            tail.splice(0..0, [a, b]);
            Oid(tail)
        })
    }

    fn encoded(oid: &Oid) -> Vec<u8> {
        let mut writer = Writer::default();
        oid.encode(&mut writer);
        writer.finish()
    }

    #[test]
    fn text_that_is_no_identifier_is_refused() {
        assert_eq!(Oid::parse(".1.3.6.1").unwrap().to_string(), "1.3.6.1");
        for text in
            ["", "1", "sysDescr.0", "1.40.1", "3.1.1", "1..3", "1.3.", "1.3.4294967296", "1.+3"]
        {
            assert!(Oid::parse(text).is_err(), "{text}");
        }
        assert!(Oid::parse(&vec!["1"; 129].join(".")).is_err());
    }

    #[test]
    fn bytes_that_are_no_identifier_are_refused() {
        let known = Oid::parse("1.3.6.1.4.1.2021").unwrap();
        assert_eq!(encoded(&known), [6, 7, 0x2b, 6, 1, 4, 1, 0x8f, 0x65]);
        for content in [
            &[][..],
            &[0x2b, 0x80],
            &[0x2b, 0x80, 1],
            &[0x2b, 0x8f],
            &[0x2b, 0x9f, 0xff, 0xff, 0xff, 0x7f],
        ] {
            assert!(Oid::decode(content).is_err(), "{content:?}");
        }
        assert!(Oid::decode(&[1; 200]).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn identifiers_come_back(oid in oids()) {
            let bytes = encoded(&oid);
            let content = Reader::new(&bytes).expect(tag::OID).unwrap().rest().to_vec();
            prop_assert_eq!(Oid::decode(&content).unwrap(), oid.clone());
            prop_assert_eq!(Oid::parse(&oid.to_string()).unwrap(), oid);
        }
    }
}
