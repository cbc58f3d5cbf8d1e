//! The URL of a target: a template whose `{column}` parts are filled from its row.
//!
//! An inventory is data, not configuration: whatever a field holds, it stays inside
//! the part of the URL where the template puts it. Host and port are checked, path
//! and query are percent-encoded, and no field may be a path segment `.` or `..`.

use hyper::Uri;

use super::error::UrlError;
use super::place::Place;
use super::target::Fields;
use crate::http::printable;

/// The most of a value that an error shows.
const VALUE_MAX: usize = 64;

/// A URL with places to fill.
#[derive(Debug)]
pub(super) struct UrlTemplate {
    parts: Vec<Part>,
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field { column: String, place: Place },
}

impl UrlTemplate {
    /// Parses a template such as `http://{ip}:9100/metrics`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let Some(scheme) =
            ["http://", "https://"].into_iter().find(|scheme| text.starts_with(scheme))
        else {
            let problem = "it must begin with http:// or https://, as in http://{ip}:9100/metrics";
            return Err(problem.to_owned());
        };
        Self::after(scheme, &text[scheme.len()..])
    }

    /// Parses what stands for a host and perhaps a port, such as `{ip}` or `{name}.lan:161`.
    pub(super) fn agent(text: &str) -> Result<Self, String> {
        if text.contains(['/', '?']) {
            return Err("a host, or host:port, is wanted, as in {ip}".to_owned());
        }
        Self::after("snmp://", text)
    }

    fn after(scheme: &str, mut rest: &str) -> Result<Self, String> {
        let refuse = |problem: &str| Err(problem.to_owned());
        let mut parts = vec![Part::Text(scheme.to_owned())];
        let mut place = Place::Host;
        while let Some(next) = rest.chars().next() {
            if next == '{' {
                let Some((column, after)) = rest[1..].split_once('}') else {
                    return refuse("a { is not closed; a column is written {column}");
                };
                if column.is_empty() || column.contains('{') {
                    return refuse("a column is written {column}");
                }
                parts.push(Part::Field { column: column.to_owned(), place });
                rest = after;
                continue;
            }
            place = match (next, place) {
                ('}', _) => return refuse("a } has no {; a column is written {column}"),
                ('#', _) => return refuse("a fragment (#) is never sent; leave it out"),
                ('@', Place::Host | Place::Port) => {
                    return refuse("user and password do not belong into a URL; use token");
                }
                ('/', Place::Host | Place::Port) => Place::Path,
                ('?', Place::Host | Place::Port | Place::Path) => Place::Query,
                // A colon within brackets belongs to an IPv6 address.
                (':', Place::Host) if !open_bracket(&parts) => Place::Port,
                (_, place) => place,
            };
            match parts.last_mut() {
                Some(Part::Text(text)) => text.push(next),
                _ => parts.push(Part::Text(next.to_string())),
            }
            rest = &rest[next.len_utf8()..];
        }
        settle_host(&mut parts, scheme);
        let template = UrlTemplate { parts };
        template
            .fill(|_, place| Ok(place.example().to_owned()))
            .map_err(|error| error.to_string())?;
        Ok(template)
    }

    /// The columns it needs.
    pub(super) fn columns(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Field { column, .. } => Some(column.as_str()),
            Part::Text(_) => None,
        })
    }

    /// The URL for a row.
    pub(super) fn url(&self, fields: &Fields<'_>) -> Result<Uri, UrlError> {
        self.fill(|column, place| {
            let value = fields.iter().rev().find(|(name, _)| name == column);
            let Some((_, value)) = value else {
                return Err(UrlError::Missing { column: column.to_owned() });
            };
            place.encode(*value).map_err(|problem| UrlError::Value {
                column: column.to_owned(),
                value: printable(value.0.as_bytes(), VALUE_MAX),
                problem,
            })
        })
    }

    fn fill(
        &self,
        mut value: impl FnMut(&str, Place) -> Result<String, UrlError>,
    ) -> Result<Uri, UrlError> {
        let mut url = String::with_capacity(64);
        let mut filled_path = None;
        for part in &self.parts {
            match part {
                Part::Text(text) => url.push_str(text),
                Part::Field { column, place } => {
                    url.push_str(&value(column, *place)?);
                    if *place == Place::Path {
                        filled_path = Some(column);
                    }
                }
            }
        }
        let uri = Uri::try_from(url).map_err(|error| UrlError::Whole(error.to_string()))?;
        if uri.host().is_none_or(str::is_empty) {
            return Err(UrlError::Whole("it has no host".to_owned()));
        }
        // Servers and proxies resolve such segments, which would lead elsewhere.
        if let Some(column) = filled_path
            && uri.path().split('/').any(|segment| matches!(segment, "." | ".."))
        {
            return Err(UrlError::Value {
                column: column.clone(),
                value: String::new(),
                problem: "would make a path segment of dots",
            });
        }
        Ok(uri)
    }
}

/// Whether the template is within `[` and `]` of its host.
fn open_bracket(parts: &[Part]) -> bool {
    let last = parts.iter().rev().find_map(|part| match part {
        Part::Text(text) => text.rfind(['[', ']']).map(|at| text.as_bytes()[at]),
        Part::Field { .. } => None,
    });
    last == Some(b'[')
}

/// Tells a field that is the whole host, or host and port, from one that is a part.
fn settle_host(parts: &mut [Part], scheme: &str) {
    let is_host = |part: &Part| matches!(part, Part::Field { place: Place::Host, .. });
    for at in 0..parts.len() {
        if !is_host(&parts[at]) {
            continue;
        }
        let first = at == 1 && parts[0] == Part::Text(scheme.to_owned());
        let after = match parts.get(at + 1) {
            None => None,
            Some(Part::Text(text)) => text.chars().next(),
            Some(Part::Field { .. }) => Some('{'),
        };
        let settled = match after {
            Some(':') if first => Place::Host,
            None | Some('/' | '?') if first => Place::Authority,
            _ => Place::HostPart,
        };
        if let Part::Field { place, .. } = &mut parts[at] {
            *place = settled;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use proptest::prelude::*;

    use super::UrlTemplate;
    use crate::source::fields::all;

    fn url(template: &str, row: &serde_json::Value) -> Result<String, String> {
        let row = row.to_string();
        let fields = all(row.as_bytes()).unwrap();
        let template = UrlTemplate::parse(template).map_err(|error| error.to_string())?;
        template.url(&fields).map(|url| url.to_string()).map_err(|error| error.to_string())
    }

    fn with(template: &str, x: &str) -> Result<String, String> {
        url(template, &serde_json::json!({ "x": x }))
    }

    #[test]
    fn fields_go_where_the_template_says() {
        for (template, x, expected) in [
            ("http://{x}:9100/metrics", "10.0.0.1", "http://10.0.0.1:9100/metrics"),
            ("http://{x}:9100/metrics", "fe80::1", "http://[fe80::1]:9100/metrics"),
            ("http://{x}:9100/metrics", "[fe80::1]", "http://[fe80::1]:9100/metrics"),
            ("http://{x}/metrics", "node-1.example.net:81", "http://node-1.example.net:81/metrics"),
            ("http://{x}/metrics", "[::1]:81", "http://[::1]:81/metrics"),
            ("http://{x}/metrics", "::1", "http://[::1]/metrics"),
            ("https://{x}.mgmt.example.net/", "sw-1", "https://sw-1.mgmt.example.net/"),
            ("http://localhost:{x}/a", "8080", "http://localhost:8080/a"),
            ("http://[::1]:{x}/a", "8080", "http://[::1]:8080/a"),
            (
                "http://h/a/{x}/b?c={x}",
                "a/b?c#d&e=f ä",
                "http://h/a/a%2Fb%3Fc%23d%26e%3Df%20%C3%A4/b?c=a%2Fb%3Fc%23d%26e%3Df%20%C3%A4",
            ),
            ("http://h/{x}", "..%2f", "http://h/..%252f"),
            ("http://h/?q={x}", "", "http://h/?q="),
        ] {
            assert_eq!(with(template, x).as_deref(), Ok(expected), "{template} {x}");
        }
        let numbers = serde_json::json!({"ip": "::1", "port": 80, "id": 7});
        assert_eq!(url("http://{ip}:{port}/{id}", &numbers).as_deref(), Ok("http://[::1]:80/7"));
    }

    #[test]
    fn a_hostile_inventory_cannot_leave_its_place() {
        for host in [
            "",
            "a/b",
            "a@b",
            "user:pass@evil",
            "a?b",
            "a#b",
            "a:80",
            "a\\b",
            "a b",
            "a\r\nX: y",
            "ä.net",
            "a..b",
            "%2e",
            "[::1",
            "fe80::1%eth0",
            "-\u{0}",
            "http://evil",
            "evil/..",
            "1.2.3.4:80@x",
        ] {
            let error = with("http://{x}:9100/metrics", host).unwrap_err();
            assert!(error.starts_with("x \""), "{error}");
        }
        for (template, value, problem) in [
            ("http://{x}/", "a:b", "is not a host name or address"),
            ("http://{x}/", "a:0", "is not a host name or address"),
            ("http://{x}/", "a:99999", "is not a host name or address"),
            ("http://h:{x}/", "80@evil", "is not a port"),
            ("http://h:{x}/", "+80", "is not a port"),
            ("http://{x}.good.net/", "evil.com/", "is not part of a host name"),
            ("http://h/a/{x}/b", "..", "would make a path segment of dots"),
            ("http://h/a/.{x}", ".", "would make a path segment of dots"),
            ("http://h/a/{x}", "", "is empty"),
        ] {
            let error = with(template, value).unwrap_err();
            assert!(error.ends_with(problem), "{error}");
        }
        let error = url("http://h/{x}", &serde_json::json!({"x": null})).unwrap_err();
        assert_eq!(error, "x null is neither text nor number");
        let error = url("http://{ip}/", &serde_json::json!({"x": "1"})).unwrap_err();
        assert_eq!(error, "the source has no column ip, which the address needs");
    }

    #[test]
    fn a_template_that_cannot_work_is_refused_before_it_is_used() {
        for (template, problem) in [
            ("{x}/metrics", "must begin with http://"),
            ("ftp://{x}/", "must begin with http://"),
            ("http://{x/", "is not closed"),
            ("http://x}/", "has no {"),
            ("http://{}/", "a column is written"),
            ("http://user@{x}/", "use token"),
            ("http://{x}/#a", "fragment"),
            ("http:///path", "not a URL"),
            ("http://{x}/a b", "not a URL"),
        ] {
            let error = with(template, "a").unwrap_err();
            assert!(error.contains(problem), "{template}: {error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..Default::default() })]

        #[test]
        fn whatever_the_field_the_rest_of_the_url_stays(x in "[a:/@?#%.\\[\\]\\\\ é\r\n0-9-]{0,12}") {
            if let Ok(url) = with("http://{x}:9100/metrics", &x) {
                prop_assert!(url.starts_with("http://") && url.ends_with(":9100/metrics"));
                prop_assert_eq!(url.matches('/').count(), 3);
                prop_assert!(!url.contains('@'));
            }
            if let Ok(url) = with("http://good.net/a/{x}/b?c={x}&d", &x) {
                let uri: hyper::Uri = url.parse().unwrap();
                prop_assert_eq!(uri.authority().unwrap().as_str(), "good.net");
                prop_assert_eq!(uri.path().split('/').count(), 4);
                prop_assert!(uri.path().ends_with("/b"));
                prop_assert_eq!(uri.query().unwrap().split('&').count(), 2);
            }
        }
    }
}
