//! What a field may be, depending on where in a URL it stands.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::source::fields::Value;

/// Where in the URL a field stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The whole of host and port.
    Authority,
    /// The whole host.
    Host,
    /// A part of the host.
    HostPart,
    Port,
    Path,
    Query,
}

impl Place {
    /// What a template is tried with when it is parsed.
    pub(super) fn example(self) -> &'static str {
        match self {
            Place::Authority => "example.net:8080",
            Place::Host | Place::HostPart | Place::Path | Place::Query => "example",
            Place::Port => "8080",
        }
    }

    /// A field's value as it may stand here, or what is wrong with it.
    pub(super) fn encode(self, value: Value<'_>) -> Result<String, &'static str> {
        const HOST: &str = "is not a host name or address";
        let text = value.text().ok_or("is neither text nor number")?;
        if text.is_empty() && self != Place::Query {
            return Err("is empty");
        }
        match self {
            Place::Authority => match text.rsplit_once(':') {
                Some((host, port)) if text.parse::<Ipv6Addr>().is_err() && is_port(port) => {
                    Ok(format!("{}:{port}", host_text(host).ok_or(HOST)?))
                }
                _ => host_text(&text).ok_or(HOST),
            },
            Place::Host => host_text(&text).ok_or(HOST),
            Place::HostPart if is_name(&text) => Ok(text.into_owned()),
            Place::HostPart => Err("is not part of a host name"),
            Place::Port if is_port(&text) => Ok(text.into_owned()),
            Place::Port => Err("is not a port"),
            Place::Path | Place::Query => Ok(percent_encoded(&text)),
        }
    }
}

/// A host name or address as URLs spell it.
fn host_text(text: &str) -> Option<String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if bare.parse::<Ipv6Addr>().is_ok() {
        return Some(format!("[{bare}]"));
    }
    (text.parse::<Ipv4Addr>().is_ok() || is_name(text)).then(|| text.to_owned())
}

/// Letters, digits, `-` and `_` in labels of at most 63, as names are in practice.
fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    text.len() <= 253 && text.strip_suffix('.').unwrap_or(text).split('.').all(label)
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

/// Encodes everything but RFC 3986's unreserved characters.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            write!(encoded, "%{byte:02X}").ok();
        }
    }
    encoded
}
