//! Addresses of pages: references resolved against the page that they stand in
//! (RFC 3986, 5.2), parameters set, `Link` headers read (RFC 8288).

use http::Uri;

/// The address that `reference` means where `base` was asked; none when it is no http
/// address, or has a user name in it.
pub(super) fn resolve(base: &Uri, reference: &str) -> Option<Uri> {
    let reference = reference.trim().split('#').next()?;
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    let whole = if has_scheme(reference) {
        reference.to_owned()
    } else if reference.starts_with("//") {
        format!("{scheme}:{reference}")
    } else if reference.starts_with('/') {
        format!("{scheme}://{authority}{reference}")
    } else if reference.starts_with('?') {
        format!("{scheme}://{authority}{}{reference}", base.path())
    } else if reference.is_empty() {
        return None;
    } else {
        let directory = &base.path()[..base.path().rfind('/').map_or(0, |slash| slash + 1)];
        format!("{scheme}://{authority}{directory}{reference}")
    };
    let uri: Uri = whole.parse().ok()?;
    let plain =
        !uri.authority()?.as_str().contains('@') && uri.host().is_some_and(|host| !host.is_empty());
    if !plain || !matches!(uri.scheme_str(), Some("http" | "https")) {
        return None;
    }
    without_dots(&uri)
}

fn has_scheme(reference: &str) -> bool {
    let end = reference.find([':', '/', '?']).filter(|at| reference[*at..].starts_with(':'));
    end.is_some_and(|end| {
        let scheme = &reference[..end];
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+.-".contains(&byte))
    })
}

/// The address without `.` and `..` in its path.
fn without_dots(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    if !path.split('/').any(|part| part == "." || part == "..") {
        return Some(uri.clone());
    }
    let mut kept: Vec<&str> = Vec::new();
    for part in path.split('/').skip(1) {
        match part {
            "." => {}
            ".." => drop(kept.pop()),
            part => kept.push(part),
        }
    }
    if path.ends_with("/.") || path.ends_with("/..") {
        kept.push("");
    }
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
    format!("{scheme}://{authority}/{}{query}", kept.join("/")).parse().ok()
}

/// Whether scheme, host and port are the same.
pub(super) fn same_origin(one: &Uri, other: &Uri) -> bool {
    let port = |uri: &Uri| match (uri.port_u16(), uri.scheme_str()) {
        (Some(port), _) => port,
        (None, Some("https")) => 443,
        (None, _) => 80,
    };
    let host = |uri: &Uri| uri.host().unwrap_or_default().to_ascii_lowercase();
    one.scheme() == other.scheme() && host(one) == host(other) && port(one) == port(other)
}

/// The address with these parameters, each once, in place of any of the same name.
pub(super) fn with_params(uri: &Uri, params: &[(&str, String)]) -> Option<Uri> {
    if params.is_empty() {
        return Some(uri.clone());
    }
    let encoded: Vec<(String, String)> =
        params.iter().map(|(name, value)| (encode(name), encode(value))).collect();
    let kept = uri.query().unwrap_or_default().split('&').filter(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        !pair.is_empty()
            && !encoded.iter().zip(params).any(|((a, _), (b, _))| name == a || name == *b)
    });
    let mut pairs: Vec<String> = kept.map(str::to_owned).collect();
    pairs.extend(encoded.iter().map(|(name, value)| format!("{name}={value}")));
    with_query(uri, &pairs)
}

/// The address without a parameter.
pub(super) fn without_param(uri: &Uri, param: &str) -> Option<Uri> {
    let encoded = encode(param);
    let Some(query) = uri.query() else { return Some(uri.clone()) };
    let pairs: Vec<String> = query
        .split('&')
        .filter(|pair| {
            let name = pair.split('=').next().unwrap_or_default();
            name != encoded && name != param
        })
        .map(str::to_owned)
        .collect();
    with_query(uri, &pairs)
}

fn with_query(uri: &Uri, pairs: &[String]) -> Option<Uri> {
    let query = if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) };
    let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
    format!("{scheme}://{authority}{}{query}", uri.path()).parse().ok()
}

/// Percent-encodes all but the unreserved characters of RFC 3986.
pub(super) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The target of the first link of a `Link` header with the relation `next`.
pub(super) fn next_link(header: &str) -> Option<&str> {
    let mut rest = header;
    while let Some(open) = rest.find('<') {
        let close = open + rest[open..].find('>')?;
        let target = &rest[open + 1..close];
        let (params, after) = split_params(&rest[close + 1..]);
        if params.iter().any(|param| is_next(param)) {
            return Some(target);
        }
        rest = after;
    }
    None
}

/// A link's parameters, and what follows the comma behind them.
fn split_params(text: &str) -> (Vec<&str>, &str) {
    let (mut params, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b';' | b',' if !quoted => {
                params.push(&text[start..at]);
                start = at + 1;
                if byte == b',' {
                    return (params, &text[start..]);
                }
            }
            _ => {}
        }
    }
    params.push(&text[start..]);
    (params, "")
}

fn is_next(param: &str) -> bool {
    let Some((name, value)) = param.split_once('=') else { return false };
    let mut relations = value.trim().trim_matches('"').split_ascii_whitespace();
    name.trim().eq_ignore_ascii_case("rel") && relations.any(|it| it.eq_ignore_ascii_case("next"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use http::Uri;

    use super::{next_link, resolve, same_origin, with_params, without_param};

    fn uri(text: &str) -> Uri {
        text.parse().unwrap()
    }

    #[test]
    fn references_mean_what_they_mean_to_a_browser() {
        let base = uri("https://api.example.net:8443/v1/posts/list?page=1");
        for (reference, expected) in [
            ("https://other.example/x?y=1#z", "https://other.example/x?y=1"),
            ("//cdn.example/a", "https://cdn.example/a"),
            ("/v2?page=2", "https://api.example.net:8443/v2?page=2"),
            ("?page=2", "https://api.example.net:8443/v1/posts/list?page=2"),
            ("more?page=2", "https://api.example.net:8443/v1/posts/more?page=2"),
            ("../x/./y", "https://api.example.net:8443/v1/x/y"),
            ("../../../..", "https://api.example.net:8443/"),
            (" /a ", "https://api.example.net:8443/a"),
        ] {
            assert_eq!(resolve(&base, reference).unwrap(), uri(expected), "{reference}");
        }
        for reference in [
            "",
            "#top",
            "ftp://x/",
            "javascript:alert(1)",
            "http://a b/",
            "https://u:p@h/",
            "http:///x",
        ] {
            assert_eq!(resolve(&base, reference), None, "{reference}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let one = uri("https://API.example.net/a");
        for (other, same) in [
            ("https://api.example.net:443/b?c", true),
            ("http://api.example.net/a", false),
            ("https://api.example.net:8443/a", false),
            ("https://api.example.net.evil/a", false),
        ] {
            assert_eq!(same_origin(&one, &uri(other)), same, "{other}");
        }
    }

    #[test]
    fn parameters_are_set_once_and_encoded() {
        let base = uri("http://h/p?a=1&b=2&a=3");
        let with = with_params(
            &base,
            &[("a", "x y&z".to_owned()), ("since", "2026-01-01T00:00:00+01:00".to_owned())],
        );
        assert_eq!(
            with.unwrap(),
            uri("http://h/p?b=2&a=x%20y%26z&since=2026-01-01T00%3A00%3A00%2B01%3A00")
        );
        assert_eq!(
            with_params(&uri("http://h"), &[("a", "1".to_owned())]).unwrap(),
            uri("http://h/?a=1")
        );
        assert_eq!(without_param(&base, "a").unwrap(), uri("http://h/p?b=2"));
        assert_eq!(without_param(&uri("http://h/p?a%5B%5D=1"), "a[]").unwrap(), uri("http://h/p"));
    }

    #[test]
    fn the_next_link_is_found_among_others() {
        for (header, expected) in [
            (r#"<http://h/?p=2>; rel="next", <http://h/?p=9>; rel="last""#, Some("http://h/?p=2")),
            (r#"<a>; rel="prev"; title="x, <b>; rel=next", <c>;REL=Next"#, Some("c")),
            (r#"<a>; rel="last next""#, Some("a")),
            (r#"<a>; rel="nextish""#, None),
            (r#"<a,b>; rel=next"#, Some("a,b")),
            ("<a; rel=next", None),
            ("", None),
        ] {
            assert_eq!(next_link(header), expected, "{header}");
        }
    }
}
