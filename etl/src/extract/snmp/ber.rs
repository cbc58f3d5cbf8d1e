//! BER as SNMP uses it (RFC 3417, section 8): definite lengths, low tags, nothing nested
//! but what the caller asks for. The reader takes the slips that agents are known for –
//! long forms of short lengths, counters without their leading zero – and nothing else.

/// Tags of what SNMP sends.
pub(super) mod tag {
    pub const INTEGER: u8 = 0x02;
    pub const OCTETS: u8 = 0x04;
    pub const NULL: u8 = 0x05;
    pub const OID: u8 = 0x06;
    pub const SEQUENCE: u8 = 0x30;
    pub const IP_ADDRESS: u8 = 0x40;
    pub const COUNTER32: u8 = 0x41;
    pub const GAUGE32: u8 = 0x42;
    pub const TIME_TICKS: u8 = 0x43;
    pub const OPAQUE: u8 = 0x44;
    pub const COUNTER64: u8 = 0x46;
    pub const NO_SUCH_OBJECT: u8 = 0x80;
    pub const NO_SUCH_INSTANCE: u8 = 0x81;
    pub const END_OF_MIB_VIEW: u8 = 0x82;
}

/// Why bytes are not what was to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BerError {
    #[error("it ends too early")]
    Short,
    #[error("a length that SNMP does not allow")]
    Length,
    #[error("a part of another type than expected")]
    Tag,
    #[error("a number out of its range")]
    Range,
    #[error("an object identifier that is none")]
    Oid,
    #[error("more bytes than it should have")]
    Trailing,
}

/// Reads one part after the other; knows where in the datagram it is.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    whole: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Reader<'a> {
    pub fn new(whole: &'a [u8]) -> Self {
        Reader { whole, at: 0, end: whole.len() }
    }

    pub fn is_empty(&self) -> bool {
        self.at == self.end
    }

    /// Where in the datagram the next part begins.
    pub fn position(&self) -> usize {
        self.at
    }

    /// What is left, unread.
    pub fn rest(&self) -> &'a [u8] {
        &self.whole[self.at..self.end]
    }

    /// The next part: its tag, and a reader of its content.
    pub fn any(&mut self) -> Result<(u8, Reader<'a>), BerError> {
        let rest = self.rest();
        let [tag, first, more @ ..] = rest else { return Err(BerError::Short) };
        if tag & 0x1f == 0x1f {
            return Err(BerError::Tag);
        }
        let (length, header) = match first {
            0..=0x7f => (usize::from(*first), 2),
            0x81..=0x84 => {
                let digits = usize::from(first & 0x7f);
                let digits = more.get(..digits).ok_or(BerError::Short)?;
                let length = digits.iter().fold(0, |all, digit| all << 8 | usize::from(*digit));
                (length, 2 + digits.len())
            }
            _ => return Err(BerError::Length),
        };
        if length > rest.len() - header {
            return Err(BerError::Short);
        }
        let at = self.at + header;
        self.at = at + length;
        Ok((*tag, Reader { whole: self.whole, at, end: at + length }))
    }

    /// The content of the next part, which has this tag.
    pub fn expect(&mut self, tag: u8) -> Result<Reader<'a>, BerError> {
        match self.any()? {
            (found, content) if found == tag => Ok(content),
            _ => Err(BerError::Tag),
        }
    }

    /// That nothing is left.
    pub fn done(&self) -> Result<(), BerError> {
        if self.is_empty() { Ok(()) } else { Err(BerError::Trailing) }
    }

    pub fn octets(&mut self) -> Result<&'a [u8], BerError> {
        Ok(self.expect(tag::OCTETS)?.rest())
    }

    pub fn integer(&mut self) -> Result<i32, BerError> {
        signed(self.expect(tag::INTEGER)?.rest())
    }

    /// An integer of 0 and more, as ids and clocks are.
    pub fn natural(&mut self) -> Result<u32, BerError> {
        u32::try_from(self.integer()?).map_err(|_| BerError::Range)
    }
}

/// A two's complement number of 32 bits.
pub(super) fn signed(content: &[u8]) -> Result<i32, BerError> {
    let negative = content.first().ok_or(BerError::Short)? & 0x80 != 0;
    if content.len() > 8 {
        return Err(BerError::Range);
    }
    let start = if negative { -1i64 } else { 0 };
    let number = content.iter().fold(start, |number, byte| number << 8 | i64::from(*byte));
    i32::try_from(number).map_err(|_| BerError::Range)
}

/// A number without a sign. Agents that forget the zero before a high bit mean the
/// large number, not a negative one.
pub(super) fn unsigned(content: &[u8]) -> Result<u64, BerError> {
    if content.is_empty() {
        return Err(BerError::Short);
    }
    let zeros = content.iter().take_while(|byte| **byte == 0).count();
    let digits = &content[zeros..];
    if digits.len() > 8 || zeros > 8 {
        return Err(BerError::Range);
    }
    Ok(digits.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// Writes a message from its end to its beginning, so that every length is known when
/// it is written.
#[derive(Debug, Default)]
pub(super) struct Writer {
    reversed: Vec<u8>,
}

impl Writer {
    /// How many bytes there are: to be given to [`Writer::wrap`], or, subtracted from the
    /// length of the whole, where the last part written begins.
    pub fn len(&self) -> usize {
        self.reversed.len()
    }

    /// Puts bytes before what is there.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.reversed.extend(bytes.iter().rev());
    }

    /// Makes all that was written since there were `since` bytes the content of a part.
    pub fn wrap(&mut self, tag: u8, since: usize) {
        let length = self.reversed.len() - since;
        let digits = length.to_be_bytes();
        match length {
            0..=0x7f => self.raw(&digits[digits.len() - 1..]),
            _ => {
                let zeros = length.leading_zeros() as usize / 8;
                self.raw(&digits[zeros..]);
                // At most 8 digits, so that the sum fits.
                self.reversed.push(0x80 | (digits.len() - zeros) as u8);
            }
        }
        self.reversed.push(tag);
    }

    /// A whole part.
    pub fn part(&mut self, tag: u8, content: &[u8]) {
        let since = self.len();
        self.raw(content);
        self.wrap(tag, since);
    }

    pub fn octets(&mut self, content: &[u8]) {
        self.part(tag::OCTETS, content);
    }

    pub fn integer(&mut self, number: i32) {
        let bytes = number.to_be_bytes();
        let spare = |at: &usize| {
            let sign = bytes[at + 1] & 0x80 != 0;
            bytes[*at] == if sign { 0xff } else { 0 }
        };
        let skip = (0..3).take_while(spare).count();
        self.part(tag::INTEGER, &bytes[skip..]);
    }

    pub fn unsigned(&mut self, tag: u8, number: u64) {
        let mut bytes = [0; 9];
        bytes[1..].copy_from_slice(&number.to_be_bytes());
        let skip = (0..8).take_while(|at| bytes[*at] == 0 && bytes[at + 1] & 0x80 == 0).count();
        self.part(tag, &bytes[skip..]);
    }

    /// The message.
    pub fn finish(mut self) -> Vec<u8> {
        self.reversed.reverse();
        self.reversed
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use proptest::prelude::*;

    use super::{BerError, Reader, Writer, signed, tag, unsigned};

    #[test]
    fn numbers_are_as_short_as_the_standard_wants() {
        for (number, expected) in [
            (0, &[0u8][..]),
            (127, &[127]),
            (128, &[0, 128]),
            (-1, &[255]),
            (-128, &[128]),
            (-129, &[255, 127]),
            (i32::MIN, &[128, 0, 0, 0]),
        ] {
            let mut writer = Writer::default();
            writer.integer(number);
            let bytes = writer.finish();
            assert_eq!(&bytes[2..], expected);
            assert_eq!(Reader::new(&bytes).integer(), Ok(number));
        }
        let mut writer = Writer::default();
        writer.unsigned(tag::COUNTER32, u64::from(u32::MAX));
        assert_eq!(writer.finish(), [0x41, 5, 0, 255, 255, 255, 255]);
    }

    #[test]
    fn what_agents_get_wrong_is_understood_and_all_else_refused() {
        assert_eq!(unsigned(&[0xff, 0xff, 0xff, 0xff]), Ok(u64::from(u32::MAX)));
        assert_eq!(Reader::new(&[4, 0x82, 0, 1, 7]).octets(), Ok(&[7][..]));
        assert_eq!(signed(&[0, 0, 0, 0, 0, 5]), Ok(5));
        for bytes in [&[4, 0x80, 1, 0, 0][..], &[4, 0xff, 1], &[4, 0x85, 0, 0, 0, 0, 0]] {
            assert_eq!(Reader::new(bytes).octets(), Err(BerError::Length), "{bytes:?}");
        }
        for bytes in [&[][..], &[4], &[4, 1], &[4, 0x82, 1], &[4, 0x84, 255, 255, 255, 255, 1]] {
            assert_eq!(Reader::new(bytes).octets(), Err(BerError::Short), "{bytes:?}");
        }
        assert_eq!(Reader::new(&[2, 5, 1, 0, 0, 0, 0]).integer(), Err(BerError::Range));
        assert_eq!(Reader::new(&[2, 0]).integer(), Err(BerError::Short));
        assert_eq!(Reader::new(&[0x1f, 1, 1]).any().unwrap_err(), BerError::Tag);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn what_is_written_is_read(number: i32, large: u64, content in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut writer = Writer::default();
            writer.unsigned(tag::COUNTER64, large);
            writer.octets(&content);
            writer.integer(number);
            writer.wrap(tag::SEQUENCE, 0);
            let bytes = writer.finish();
            let mut whole = Reader::new(&bytes);
            let mut inner = whole.expect(tag::SEQUENCE).unwrap();
            whole.done().unwrap();
            prop_assert_eq!(inner.integer(), Ok(number));
            prop_assert_eq!(inner.octets(), Ok(&content[..]));
            prop_assert_eq!(unsigned(inner.expect(tag::COUNTER64).unwrap().rest()), Ok(large));
            inner.done().unwrap();
        }
    }
}
