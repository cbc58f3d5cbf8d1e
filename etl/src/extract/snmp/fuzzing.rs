//! What must hold for any datagram: the body of the fuzz target `snmp`.
#![allow(clippy::expect_used, reason = "only fuzzers and tests build this")]

use super::message::{Envelope, Scoped, answered, community_message, read_community_message};
use super::render::{push_value, type_name};

/// It is refused, or means the same when it is written and read again, and its values are
/// JSON on one line.
pub fn datagram(data: &[u8]) {
    if let Ok((community, pdu)) = read_community_message(data) {
        assert_eq!(answered(data), Some(pdu.request), "found under another number");
        for binding in &pdu.bindings {
            for hex in [false, true] {
                let mut json = Vec::new();
                push_value(&mut json, &binding.value, hex);
                let whole = serde_json::from_slice::<serde_json::Value>(&json);
                whole.unwrap_or_else(|error| panic!("{}: {error}", type_name(&binding.value)));
                assert!(!json.contains(&b'\n'));
            }
        }
        let again = community_message(community, &pdu);
        let read = read_community_message(&again).expect("our own message is read");
        assert_eq!(read, (community, pdu));
    }
    let Ok((envelope, digest)) = Envelope::decode(data) else { return };
    assert_eq!(answered(data).map(i32::unsigned_abs), Some(envelope.id));
    assert_eq!(&data[digest..digest + envelope.digest.len()], envelope.digest);
    let (again, at) = envelope.encode();
    assert_eq!(Envelope::decode(&again).expect("our own message is read"), (envelope.clone(), at));
    if let Ok(scoped) = Scoped::decode(envelope.data) {
        let again = scoped.encode();
        assert_eq!(Scoped::decode(&again).expect("our own scope is read"), scoped);
    }
}
