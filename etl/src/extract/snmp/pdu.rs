//! What is asked and answered: a request or answer with its bindings of object
//! identifiers to values (RFC 3416).

use super::ber::{BerError, Reader, Writer, signed, tag, unsigned};
use super::oid::Oid;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Get,
    Response,
    GetBulk,
    Report,
}

impl Kind {
    fn tag(self) -> u8 {
        match self {
            Kind::Get => 0xa0,
            Kind::Response => 0xa2,
            Kind::GetBulk => 0xa5,
            Kind::Report => 0xa8,
        }
    }

    fn of(tag: u8) -> Option<Kind> {
        [Kind::Get, Kind::Response, Kind::GetBulk, Kind::Report]
            .into_iter()
            .find(|kind| kind.tag() == tag)
    }
}

/// A value as it was sent.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Integer(i32),
    Octets(Vec<u8>),
    Null,
    Oid(Oid),
    IpAddress([u8; 4]),
    Counter32(u32),
    Gauge32(u32),
    TimeTicks(u32),
    Opaque(Vec<u8>),
    Counter64(u64),
    NoSuchObject,
    NoSuchInstance,
    EndOfMibView,
}

impl Value {
    fn decode(part: u8, content: &[u8]) -> Result<Value, BerError> {
        let number32 = || u32::try_from(unsigned(content)?).map_err(|_| BerError::Range);
        let nothing = |value| if content.is_empty() { Ok(value) } else { Err(BerError::Trailing) };
        match part {
            tag::INTEGER => Ok(Value::Integer(signed(content)?)),
            tag::OCTETS => Ok(Value::Octets(content.to_vec())),
            tag::NULL => nothing(Value::Null),
            tag::OID => Ok(Value::Oid(Oid::decode(content)?)),
            tag::IP_ADDRESS => {
                Ok(Value::IpAddress(content.try_into().map_err(|_| BerError::Length)?))
            }
            tag::COUNTER32 => Ok(Value::Counter32(number32()?)),
            tag::GAUGE32 => Ok(Value::Gauge32(number32()?)),
            tag::TIME_TICKS => Ok(Value::TimeTicks(number32()?)),
            tag::OPAQUE => Ok(Value::Opaque(content.to_vec())),
            tag::COUNTER64 => Ok(Value::Counter64(unsigned(content)?)),
            tag::NO_SUCH_OBJECT => nothing(Value::NoSuchObject),
            tag::NO_SUCH_INSTANCE => nothing(Value::NoSuchInstance),
            tag::END_OF_MIB_VIEW => nothing(Value::EndOfMibView),
            _ => Err(BerError::Tag),
        }
    }

    fn encode(&self, writer: &mut Writer) {
        match self {
            Value::Integer(number) => writer.integer(*number),
            Value::Octets(bytes) => writer.octets(bytes),
            Value::Null => writer.part(tag::NULL, &[]),
            Value::Oid(oid) => oid.encode(writer),
            Value::IpAddress(address) => writer.part(tag::IP_ADDRESS, address),
            Value::Counter32(number) => writer.unsigned(tag::COUNTER32, u64::from(*number)),
            Value::Gauge32(number) => writer.unsigned(tag::GAUGE32, u64::from(*number)),
            Value::TimeTicks(number) => writer.unsigned(tag::TIME_TICKS, u64::from(*number)),
            Value::Opaque(bytes) => writer.part(tag::OPAQUE, bytes),
            Value::Counter64(number) => writer.unsigned(tag::COUNTER64, *number),
            Value::NoSuchObject => writer.part(tag::NO_SUCH_OBJECT, &[]),
            Value::NoSuchInstance => writer.part(tag::NO_SUCH_INSTANCE, &[]),
            Value::EndOfMibView => writer.part(tag::END_OF_MIB_VIEW, &[]),
        }
    }
}

/// An object identifier and its value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Binding {
    pub oid: Oid,
    pub value: Value,
}

/// A request or an answer. What is error status and index in an answer is, in a
/// GETBULK, the non-repeaters and max-repetitions.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pdu {
    pub kind: Kind,
    pub request: i32,
    pub status: i32,
    pub index: i32,
    pub bindings: Vec<Binding>,
}

impl Pdu {
    /// A request for these objects.
    pub fn asking(kind: Kind, request: i32, repetitions: i32, oids: &[Oid]) -> Pdu {
        let bindings =
            oids.iter().map(|oid| Binding { oid: oid.clone(), value: Value::Null }).collect();
        Pdu { kind, request, status: 0, index: repetitions, bindings }
    }

    pub fn decode(reader: &mut Reader<'_>) -> Result<Pdu, BerError> {
        let (part, mut content) = reader.any()?;
        let kind = Kind::of(part).ok_or(BerError::Tag)?;
        let request = content.integer()?;
        let status = content.integer()?;
        let index = content.integer()?;
        let mut list = content.expect(tag::SEQUENCE)?;
        content.done()?;
        let mut bindings = Vec::new();
        while !list.is_empty() {
            let mut binding = list.expect(tag::SEQUENCE)?;
            let oid = Oid::decode(binding.expect(tag::OID)?.rest())?;
            let (part, value) = binding.any()?;
            let value = Value::decode(part, value.rest())?;
            binding.done()?;
            bindings.push(Binding { oid, value });
        }
        Ok(Pdu { kind, request, status, index, bindings })
    }

    /// Puts it before what is in the writer.
    pub fn encode(&self, writer: &mut Writer) {
        let since = writer.len();
        for binding in self.bindings.iter().rev() {
            let since = writer.len();
            binding.value.encode(writer);
            binding.oid.encode(writer);
            writer.wrap(tag::SEQUENCE, since);
        }
        writer.wrap(tag::SEQUENCE, since);
        writer.integer(self.index);
        writer.integer(self.status);
        writer.integer(self.request);
        writer.wrap(self.kind.tag(), since);
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use proptest::prelude::*;

    use super::super::ber::{Reader, Writer};
    use super::super::oid::tests::oids;
    use super::{Binding, Kind, Pdu, Value};

    fn values() -> impl Strategy<Value = Value> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..200);
        prop_oneof![
            any::<i32>().prop_map(Value::Integer),
            bytes().prop_map(Value::Octets),
            Just(Value::Null),
            oids().prop_map(Value::Oid),
            any::<[u8; 4]>().prop_map(Value::IpAddress),
            any::<u32>().prop_map(Value::Counter32),
            any::<u32>().prop_map(Value::Gauge32),
            any::<u32>().prop_map(Value::TimeTicks),
            bytes().prop_map(Value::Opaque),
            any::<u64>().prop_map(Value::Counter64),
            Just(Value::NoSuchObject),
            Just(Value::NoSuchInstance),
            Just(Value::EndOfMibView),
        ]
    }

    /// Any request or answer.
    pub fn pdus() -> impl Strategy<Value = Pdu> {
        let kinds = prop_oneof![
            Just(Kind::Get),
            Just(Kind::Response),
            Just(Kind::GetBulk),
            Just(Kind::Report)
        ];
        let binding = (oids(), values()).prop_map(|(oid, value)| Binding { oid, value });
        let bindings = proptest::collection::vec(binding, 0..8);
        (kinds, any::<i32>(), any::<i32>(), any::<i32>(), bindings).prop_map(
            |(kind, request, status, index, bindings)| Pdu {
                kind,
                request,
                status,
                index,
                bindings,
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn every_pdu_comes_back_as_it_was(pdu in pdus()) {
            let mut writer = Writer::default();
            pdu.encode(&mut writer);
            let bytes = writer.finish();
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(Pdu::decode(&mut reader).unwrap(), pdu);
            reader.done().unwrap();
            for cut in 0..bytes.len() {
                prop_assert!(Pdu::decode(&mut Reader::new(&bytes[..cut])).is_err());
            }
        }
    }
}
