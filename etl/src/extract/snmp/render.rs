//! Values as JSON: numbers as numbers, addresses and object identifiers as text, bytes as
//! text where they are text and else as hex.

use rows::json::push_string;

use super::pdu::Value;

/// How net-snmp packs a floating point number into opaque bytes.
const OPAQUE_FLOAT: [u8; 3] = [0x9f, 0x78, 4];
const OPAQUE_DOUBLE: [u8; 3] = [0x9f, 0x79, 8];

/// Appends a value; `hex` wants bytes as hex whatever they are.
pub(super) fn push_value(out: &mut Vec<u8>, value: &Value, hex: bool) {
    match value {
        Value::Integer(number) => push_text(out, &number.to_string()),
        Value::Counter32(number) | Value::Gauge32(number) | Value::TimeTicks(number) => {
            push_text(out, &number.to_string());
        }
        Value::Counter64(number) => push_text(out, &number.to_string()),
        Value::IpAddress(address) => {
            push_string(out, &std::net::Ipv4Addr::from(*address).to_string())
        }
        Value::Oid(oid) => push_string(out, &oid.to_string()),
        Value::Octets(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) if !hex && is_text(text) => push_string(out, text),
            _ => push_string(out, &hexed(bytes)),
        },
        Value::Opaque(bytes) => match packed_float(bytes) {
            Some(number) => push_text(out, &number),
            None => push_string(out, &hexed(bytes)),
        },
        Value::Null | Value::NoSuchObject | Value::NoSuchInstance | Value::EndOfMibView => {
            push_text(out, "null");
        }
    }
}

/// What a walk's record calls the value's type, as net-snmp prints it.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Integer(_) => "INTEGER",
        Value::Octets(_) => "STRING",
        Value::Null => "NULL",
        Value::Oid(_) => "OID",
        Value::IpAddress(_) => "IpAddress",
        Value::Counter32(_) => "Counter32",
        Value::Gauge32(_) => "Gauge32",
        Value::TimeTicks(_) => "Timeticks",
        Value::Opaque(_) => "Opaque",
        Value::Counter64(_) => "Counter64",
        Value::NoSuchObject => "noSuchObject",
        Value::NoSuchInstance => "noSuchInstance",
        Value::EndOfMibView => "endOfMibView",
    }
}

/// Why an agent does not have an object, if this stands for that.
pub(super) fn absence(value: &Value) -> Option<&'static str> {
    let absent = matches!(value, Value::NoSuchObject | Value::NoSuchInstance | Value::EndOfMibView);
    absent.then(|| type_name(value))
}

/// Appends `"name":value`, behind a comma if there is something before it.
pub(super) fn push_field(out: &mut Vec<u8>, name: &str, value: &Value, hex: bool) {
    push_name(out, name);
    push_value(out, value, hex);
}

/// Appends `"name":"text"`, behind a comma if there is something before it.
pub(super) fn push_text_field(out: &mut Vec<u8>, name: &str, text: &str) {
    push_name(out, name);
    push_string(out, text);
}

fn push_name(out: &mut Vec<u8>, name: &str) {
    if !matches!(out.last(), None | Some(b'{')) {
        out.push(b',');
    }
    push_string(out, name);
    out.push(b':');
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// Whether a person wrote it: line breaks and tabs, but no other control characters.
fn is_text(text: &str) -> bool {
    text.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t'))
}

fn hexed(bytes: &[u8]) -> String {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    pairs.join(":")
}

fn packed_float(bytes: &[u8]) -> Option<String> {
    if let Some(float) = bytes.strip_prefix(&OPAQUE_FLOAT) {
        let number = f32::from_be_bytes(float.try_into().ok()?);
        return number.is_finite().then(|| number.to_string());
    }
    let double = bytes.strip_prefix(&OPAQUE_DOUBLE)?;
    let number = f64::from_be_bytes(double.try_into().ok()?);
    // Far from one, the shortest spelling would be hundreds of digits.
    (number.is_finite() && (number == 0.0 || (1e-9..1e15).contains(&number.abs())))
        .then(|| number.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use super::super::oid::Oid;
    use super::super::pdu::Value;
    use super::push_value;

    fn shown(value: &Value, hex: bool) -> String {
        let mut out = Vec::new();
        push_value(&mut out, value, hex);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_type_has_its_json() {
        for (value, expected) in [
            (Value::Integer(-7), "-7"),
            (Value::Counter32(u32::MAX), "4294967295"),
            (Value::Gauge32(0), "0"),
            (Value::TimeTicks(360_000), "360000"),
            (Value::Counter64(u64::MAX), "18446744073709551615"),
            (Value::IpAddress([10, 0, 0, 1]), "\"10.0.0.1\""),
            (Value::Oid(Oid::parse("1.3.6.1.4.1.8072").unwrap()), "\"1.3.6.1.4.1.8072\""),
            (Value::Octets("Köln \"1\"\n".into()), r#""Köln \"1\"\n""#),
            (Value::Octets(vec![0, 0x1b, 0x21]), "\"00:1b:21\""),
            (Value::Octets(vec![b'a', 0xff]), "\"61:ff\""),
            (Value::Octets(Vec::new()), "\"\""),
            (Value::Opaque(vec![0x9f, 0x78, 4, 0x3f, 0x80, 0, 0]), "1"),
            (Value::Opaque(vec![0x9f, 0x78, 4, 0x3e, 0x4c, 0xcc, 0xcd]), "0.2"),
            (Value::Opaque(vec![0x9f, 0x78, 4, 0x7f, 0x80, 0, 0]), "\"9f:78:04:7f:80:00:00\""),
            (Value::Null, "null"),
        ] {
            assert_eq!(shown(&value, false), expected);
            serde_json::from_str::<serde_json::Value>(expected).unwrap();
        }
        assert_eq!(shown(&Value::Octets(b"ABCDEF".to_vec()), true), "\"41:42:43:44:45:46\"");
    }
}
