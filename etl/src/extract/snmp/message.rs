//! What goes around a request or answer: version and community (RFC 1901), or the
//! header, security parameters and scope of version 3 (RFC 3412, RFC 3414).

use super::ber::{BerError, Reader, Writer, tag};
use super::pdu::Pdu;

const V2C: i32 = 1;
const V3: i32 = 3;
/// The user-based security model, the only one in use.
const USM: i32 = 3;

/// Flags of a message of version 3.
pub(super) mod flag {
    /// It is signed.
    pub const AUTH: u8 = 1;
    /// It is encrypted.
    pub const PRIV: u8 = 2;
    /// A report may answer it.
    pub const REPORTABLE: u8 = 4;
}

/// The number by which an answer is matched with its request: the request's, or in
/// version 3 the message's. Reads no further than that, so that garbage costs little.
pub(super) fn answered(datagram: &[u8]) -> Option<i32> {
    let mut message = Reader::new(datagram).expect(tag::SEQUENCE).ok()?;
    match message.integer().ok()? {
        V2C => {
            message.octets().ok()?;
            message.any().ok()?.1.integer().ok()
        }
        V3 => message.expect(tag::SEQUENCE).ok()?.integer().ok(),
        _ => None,
    }
}

/// A message of version 2c.
pub(super) fn community_message(community: &[u8], pdu: &Pdu) -> Vec<u8> {
    let mut writer = Writer::default();
    pdu.encode(&mut writer);
    writer.octets(community);
    writer.integer(V2C);
    writer.wrap(tag::SEQUENCE, 0);
    writer.finish()
}

/// Reads a message of version 2c: its community and what it says.
pub(super) fn read_community_message(datagram: &[u8]) -> Result<(&[u8], Pdu), BerError> {
    let mut outer = Reader::new(datagram);
    let mut message = outer.expect(tag::SEQUENCE)?;
    outer.done()?;
    if message.integer()? != V2C {
        return Err(BerError::Range);
    }
    let community = message.octets()?;
    let pdu = Pdu::decode(&mut message)?;
    message.done()?;
    Ok((community, pdu))
}

/// A message of version 3 as it travels: what is in `data` may be encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Envelope<'a> {
    pub id: u32,
    /// The longest message that its sender takes.
    pub size_max: u32,
    pub flags: u8,
    pub engine: &'a [u8],
    pub boots: u32,
    pub time: u32,
    pub user: &'a [u8],
    pub digest: &'a [u8],
    pub salt: &'a [u8],
    /// The scoped request or answer, whole; what is encrypted comes without its tag.
    pub data: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// The bytes, and where in them the digest is.
    pub fn encode(&self) -> (Vec<u8>, usize) {
        let mut writer = Writer::default();
        if self.flags & flag::PRIV == 0 {
            writer.raw(self.data);
        } else {
            writer.octets(self.data);
        }
        let parameters = writer.len();
        writer.octets(self.salt);
        writer.raw(self.digest);
        let digest = writer.len();
        writer.wrap(tag::OCTETS, digest - self.digest.len());
        writer.octets(self.user);
        writer.unsigned(tag::INTEGER, u64::from(self.time));
        writer.unsigned(tag::INTEGER, u64::from(self.boots));
        writer.octets(self.engine);
        writer.wrap(tag::SEQUENCE, parameters);
        writer.wrap(tag::OCTETS, parameters);
        let header = writer.len();
        writer.integer(USM);
        writer.octets(&[self.flags]);
        writer.unsigned(tag::INTEGER, u64::from(self.size_max));
        writer.unsigned(tag::INTEGER, u64::from(self.id));
        writer.wrap(tag::SEQUENCE, header);
        writer.integer(V3);
        writer.wrap(tag::SEQUENCE, 0);
        let bytes = writer.finish();
        let digest = bytes.len() - digest;
        (bytes, digest)
    }

    /// Reads a message, and says where in it the digest is.
    pub fn decode(datagram: &'a [u8]) -> Result<(Envelope<'a>, usize), BerError> {
        let mut outer = Reader::new(datagram);
        let mut message = outer.expect(tag::SEQUENCE)?;
        outer.done()?;
        if message.integer()? != V3 {
            return Err(BerError::Range);
        }
        let mut header = message.expect(tag::SEQUENCE)?;
        let id = header.natural()?;
        let size_max = header.natural()?;
        let [flags] = header.octets()? else { return Err(BerError::Length) };
        if header.integer()? != USM {
            return Err(BerError::Range);
        }
        header.done()?;
        let mut packed = message.expect(tag::OCTETS)?;
        let mut parameters = packed.expect(tag::SEQUENCE)?;
        packed.done()?;
        let engine = parameters.octets()?;
        let boots = parameters.natural()?;
        let time = parameters.natural()?;
        let user = parameters.octets()?;
        let found = parameters.expect(tag::OCTETS)?;
        let (at, digest) = (found.position(), found.rest());
        let salt = parameters.octets()?;
        parameters.done()?;
        let whole = message.rest();
        let (part, content) = message.any()?;
        message.done()?;
        let encrypted = flags & flag::PRIV != 0;
        let data = match part {
            tag::OCTETS if encrypted => content.rest(),
            tag::SEQUENCE if !encrypted => whole,
            _ => return Err(BerError::Tag),
        };
        let flags = *flags;
        let envelope =
            Envelope { id, size_max, flags, engine, boots, time, user, digest, salt, data };
        Ok((envelope, at))
    }
}

/// What a message of version 3 is about: whose data, and the request or answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scoped<'a> {
    pub engine: &'a [u8],
    pub context: &'a [u8],
    pub pdu: Pdu,
}

impl<'a> Scoped<'a> {
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        self.pdu.encode(&mut writer);
        writer.octets(self.context);
        writer.octets(self.engine);
        writer.wrap(tag::SEQUENCE, 0);
        writer.finish()
    }

    /// Reads what was decrypted: some ciphers leave padding behind it.
    pub fn decode(data: &'a [u8]) -> Result<Scoped<'a>, BerError> {
        let mut inner = Reader::new(data).expect(tag::SEQUENCE)?;
        let engine = inner.octets()?;
        let context = inner.octets()?;
        let pdu = Pdu::decode(&mut inner)?;
        inner.done()?;
        Ok(Scoped { engine, context, pdu })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::pdu::tests::pdus;
    use super::{Envelope, Scoped, answered, community_message, flag, read_community_message};

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn a_community_message_comes_back(community in vec(any::<u8>(), 0..40), pdu in pdus()) {
            let bytes = community_message(&community, &pdu);
            prop_assert_eq!(answered(&bytes), Some(pdu.request));
            prop_assert_eq!(read_community_message(&bytes).unwrap(), (&community[..], pdu));
            prop_assert!(Envelope::decode(&bytes).is_err());
            for cut in 0..bytes.len() {
                prop_assert!(read_community_message(&bytes[..cut]).is_err());
            }
        }

        #[test]
        fn a_message_of_version_3_comes_back(
            numbers in [0..1u32 << 31, 0..1u32 << 31, 0..1u32 << 31, 0..1u32 << 31],
            flags in 0u8..8,
            texts in [vec(any::<u8>(), 0..33), vec(any::<u8>(), 0..33), vec(any::<u8>(), 0..48), vec(any::<u8>(), 0..9)],
            pdu in pdus(),
        ) {
            let [engine, user, digest, salt] = &texts;
            let scoped = Scoped { engine, context: user, pdu };
            let data = scoped.encode();
            prop_assert_eq!(Scoped::decode(&data).unwrap(), scoped);
            let [id, size_max, boots, time] = numbers;
            let sent = Envelope { id, size_max, flags, engine, boots, time, user, digest, salt, data: &data };
            let (bytes, at) = sent.encode();
            prop_assert_eq!(answered(&bytes).unwrap() as u32, id);
            let (read, found) = Envelope::decode(&bytes).unwrap();
            prop_assert_eq!(&read, &sent);
            prop_assert_eq!(at, found);
            prop_assert_eq!(&bytes[at..at + digest.len()], &digest[..]);
            prop_assert_eq!(flags & flag::PRIV != 0, bytes.len() > at && read.flags & flag::PRIV != 0);
            for cut in 0..bytes.len() {
                prop_assert!(Envelope::decode(&bytes[..cut]).is_err());
            }
        }
    }
}
