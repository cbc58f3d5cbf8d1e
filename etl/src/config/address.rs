//! Addresses and headers of HTTP sources and sinks: what can be known to be
//! wrong before the first connection. No message repeats the address, because
//! it may come from a variable; the code frame shows what the file says.

use std::net::IpAddr;

use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};

/// An absolute `http` or `https` address with a host.
#[derive(Debug)]
pub(crate) struct Address {
    secure: bool,
    host: String,
}

/// What is wrong with an address or a header.
#[derive(Debug)]
pub(crate) struct Problem {
    pub message: String,
    pub label: &'static str,
}

fn problem(message: impl Into<String>, label: &'static str) -> Problem {
    Problem { message: message.into(), label }
}

/// Headers that the loader sets; a second value would contradict it.
const OWN_HEADERS: [&str; 8] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "idempotency-key",
    "te",
    "transfer-encoding",
];

/// Headers whose value lets somebody in.
const SECRET_HEADERS: [&str; 5] =
    ["authorization", "cookie", "proxy-authorization", "x-api-key", "x-auth-token"];

impl Address {
    /// Parses an absolute address.
    pub fn parse(url: &str) -> Result<Self, Problem> {
        let not_an_address = || {
            problem("is not an http or https address", "for example https://api.example.net/load")
        };
        if url.is_empty() {
            return Err(problem("is empty", "for example https://api.example.net/load"));
        }
        let uri: Uri = url.parse().map_err(|_| not_an_address())?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(not_an_address()),
        };
        let authority = uri.authority().ok_or_else(not_an_address)?;
        if authority.as_str().contains('@') {
            return Err(problem("has a user name or password in it", "use `token` or `headers`"));
        }
        // `Uri` takes `host:` and `host:99999`; a connection would not.
        let port = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
        let port_ok = port.is_empty()
            || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok_and(|p| p > 0));
        if !port_ok {
            return Err(problem("has a wrong port", "1 to 65535"));
        }
        if authority.host().is_empty() {
            return Err(not_an_address());
        }
        Ok(Address { secure, host: authority.host().to_owned() })
    }

    /// Parses an address with `{column}` in it; also gives the columns' names.
    pub fn with_placeholders(url: &str) -> Result<(Self, Vec<String>), Problem> {
        let mut filled = String::new();
        let mut names = Vec::new();
        let mut rest = url;
        while let Some(at) = rest.find(['{', '}']) {
            filled.push_str(&rest[..at]);
            let Some(inner) = rest[at..].strip_prefix('{') else {
                return Err(problem("has a `}` without an opening `{`", "write {column}"));
            };
            let Some(end) = inner.find(['{', '}']).filter(|end| inner[*end..].starts_with('}'))
            else {
                return Err(problem("has a `{` without a closing `}`", "write {column}"));
            };
            if end == 0 {
                return Err(problem("has an empty `{}`", "name a column: {ip}"));
            }
            names.push(inner[..end].to_owned());
            // A digit can stand in a host, in a port and in a path.
            filled.push('1');
            rest = &inner[end + 1..];
        }
        filled.push_str(rest);
        Ok((Address::parse(&filled)?, names))
    }

    /// Whether what is sent there is unencrypted.
    pub fn is_plain(&self) -> bool {
        !self.secure
    }

    /// Whether what is sent there can be read on the way: plain HTTP beyond this machine.
    pub fn is_exposed(&self) -> bool {
        !self.secure && !is_loopback(&self.host)
    }
}

/// Whether what is sent to `host` stays on this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

/// Whether a header carries a secret.
pub(crate) fn sends_a_secret(header: &str) -> bool {
    SECRET_HEADERS.iter().any(|name| header.eq_ignore_ascii_case(name))
}

/// Checks a header that the user wants sent; `has_token`: `Authorization` is taken.
pub(crate) fn check_header(name: &str, value: &str, has_token: bool) -> Result<(), Problem> {
    let shown = super::mask::quoted(name);
    let Ok(header) = HeaderName::try_from(name) else {
        return Err(problem(format!("{shown} is not a header's name"), "letters, digits and -"));
    };
    if OWN_HEADERS.contains(&header.as_str()) {
        return Err(problem(format!("{shown} is set by etl itself"), "remove it"));
    }
    if has_token && header == hyper::header::AUTHORIZATION {
        return Err(problem(format!("{shown} is set by the token"), "keep one of the two"));
    }
    if HeaderValue::try_from(value).is_err() {
        return Err(problem(
            format!("the value of {shown} holds a character that no header can carry"),
            "a line break or another control character?",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Address, check_header};

    fn wrong(url: &str) -> String {
        Address::parse(url).map_or_else(|problem| problem.message, |_| String::new())
    }

    #[test]
    fn only_absolute_http_addresses_pass() {
        for url in ["http://a", "https://a.b:8443/x?y=1", "http://[::1]:80/", "HTTP://A/"] {
            assert_eq!(wrong(url), "", "{url}");
        }
        for url in
            ["", "a", "/load", "ftp://a/", "http://", "http://a b/", "http:///x", "localhost:80"]
        {
            assert_ne!(wrong(url), "", "{url}");
        }
        assert!(wrong("http://u:p@h/").contains("password"));
        for url in ["http://h:/", "http://h:0/", "http://h:99999/"] {
            assert!(wrong(url).contains("port"), "{url}: {}", wrong(url));
        }
    }

    #[test]
    fn placeholders_stand_anywhere_and_are_named() {
        let names = |url| Address::with_placeholders(url).map(|(_, names)| names).ok();
        assert_eq!(
            names("http://{ip}:{port}/a/{x}"),
            Some(vec!["ip".into(), "port".into(), "x".into()])
        );
        assert_eq!(names("{url}"), None);
        for url in ["http://{ip/", "http://ip}/", "http://{}/", "http://{{ip}}/"] {
            assert_eq!(names(url), None, "{url}");
        }
    }

    #[test]
    fn headers_that_contradict_etl_are_refused() {
        assert!(check_header("X-Team", "a b", true).is_ok());
        assert!(check_header("Authorization", "Basic x", false).is_ok());
        assert!(check_header("Authorization", "Basic x", true).is_err());
        assert!(check_header("idempotency-key", "x", false).is_err());
        assert!(check_header("X", "a\nb", false).is_err());
        assert!(check_header("é", "a", false).is_err());
    }
}
