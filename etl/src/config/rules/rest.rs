//! Rules of `source.rest`.

use serde_json::value::RawValue;

use super::super::address::{Address, check_header, sends_a_secret};
use super::super::pipeline::{
    ApiKey, Auth, Incremental, Oauth2, Pagination, RestFormat, RestMethod, RestSource,
};
use super::Rules;
use crate::source::raw::at;

const AT: &str = "source.rest";
const ALLOW: &str = "source.rest.allow_plain_token";

impl Rules<'_> {
    pub(super) fn rest(&mut self, rest: &RestSource, extracts: bool) {
        let key = |name: &str| format!("{AT}.{name}");
        if extracts {
            let message = "extract needs an inventory, and source.rest gives records";
            self.fault(&["extract"], message, "remove `extract`, or read the inventory as csv");
        }
        self.rest_address(rest);
        self.rest_auth(rest);
        let has_authorization = matches!(rest.auth, Auth::Basic(_) | Auth::Oauth2(_))
            || matches!(&rest.auth, Auth::Bearer(token) if !token.expose().is_empty());
        for (name, value) in &rest.headers {
            if let Err(problem) = check_header(name, value.expose(), has_authorization) {
                // A name with dots would be taken for steps: point at the list.
                let place = if name.contains('.') { "headers" } else { &format!("headers.{name}") };
                let message = format!("{AT}.headers: {}", problem.message);
                self.fault(&[&key(place)], &message, problem.label);
            }
        }
        self.rest_body(rest);
        self.rest_pages(rest);
        if let Some(incremental) = &rest.incremental {
            self.incremental(incremental);
            let place = format!("{AT}.incremental.param");
            self.place_in_body(rest, &incremental.param, &place);
        }
        self.longer_than_nothing(&key("timeout"), rest.timeout);
        self.longer_than_nothing(&key("connect_timeout"), rest.connect_timeout);
        self.not_empty(&key("max_body"), rest.max_body.0);
        self.not_empty(&key("max_line"), rest.max_line.0);
        self.retry(&rest.retry, AT);
        self.named_file(rest.tls.ca.as_deref(), &key("tls.ca"));
    }

    fn rest_address(&mut self, rest: &RestSource) {
        let url = format!("{AT}.url");
        let secret = match &rest.auth {
            Auth::None => false,
            Auth::Bearer(secret) => !secret.expose().is_empty(),
            Auth::ApiKey(key) => !key.key.expose().is_empty(),
            Auth::Basic(_) | Auth::Oauth2(_) => true,
        };
        let secret = secret || rest.headers.keys().any(|name| sends_a_secret(name));
        match Address::parse(&rest.url) {
            Err(problem) => {
                self.fault(&[&url], &format!("{url} {}", problem.message), problem.label);
            }
            Ok(address) if secret && address.is_exposed() && !rest.allow_plain_token => {
                self.plain_token(&url, ALLOW);
            }
            Ok(_) => {}
        }
        if rest.query.contains_key("") {
            let place = format!("{AT}.query");
            self.fault(&[&place], &format!("{place}: a parameter has no name"), "give it one");
        }
    }

    fn rest_auth(&mut self, rest: &RestSource) {
        match &rest.auth {
            Auth::None => {}
            Auth::Bearer(token) => self.token(Some(token), &format!("{AT}.auth.bearer")),
            Auth::Basic(basic) => {
                if basic.user.contains(':') {
                    let place = format!("{AT}.auth.basic.user");
                    let message = format!("{place} has a colon in it");
                    self.fault(&[&place], &message, "such a name cannot be sent");
                }
            }
            Auth::ApiKey(key) => self.api_key(key),
            Auth::Oauth2(oauth2) => self.oauth2(oauth2, rest.allow_plain_token),
        }
    }

    fn api_key(&mut self, key: &ApiKey) {
        let at = format!("{AT}.auth.api_key");
        match (&key.header, &key.query) {
            (Some(header), None) => {
                if let Err(problem) = check_header(header, key.key.expose(), false) {
                    let place = format!("{at}.header");
                    self.fault(&[&place], &format!("{at}: {}", problem.message), problem.label);
                }
            }
            (None, Some(name)) if !name.is_empty() => {}
            _ => {
                let message = format!("{at} names not exactly one place for the key");
                let places = [&format!("{at}.query")[..], &format!("{at}.header"), &at];
                self.fault(&places, &message, "set `header` or `query`");
            }
        }
    }

    fn oauth2(&mut self, oauth2: &Oauth2, allow_plain: bool) {
        let at = format!("{AT}.auth.oauth2");
        let url = format!("{at}.token_url");
        match Address::parse(&oauth2.token_url) {
            Err(problem) => {
                self.fault(&[&url], &format!("{url} {}", problem.message), problem.label);
            }
            Ok(address) if address.is_exposed() && !allow_plain => self.plain_token(&url, ALLOW),
            Ok(_) => {}
        }
        let secret = oauth2.client_secret.expose();
        for (name, value) in [("client_id", &oauth2.client_id[..]), ("client_secret", secret)] {
            if value.is_empty() {
                let place = format!("{at}.{name}");
                let message = format!("{place} is empty");
                self.fault(&[&place], &message, "as the API's operator gave it");
            }
        }
    }

    fn rest_body(&mut self, rest: &RestSource) {
        let place = format!("{AT}.body");
        match &rest.body {
            Some(_) if rest.method == RestMethod::Get => {
                let message = format!("{place}: a GET has no body");
                let keys = [&place[..], "source.rest.method"];
                self.fault(&keys, &message, "set `method: POST`, or remove it");
            }
            Some(body) if serde_json::from_str::<serde::de::IgnoredAny>(body).is_err() => {
                let message = format!("{place} is not JSON");
                self.fault(&[&place], &message, "as in '{\"state\": \"open\"}'");
            }
            _ => {}
        }
    }

    fn rest_pages(&mut self, rest: &RestSource) {
        let at = format!("{AT}.pagination");
        self.pointer(rest.records.as_deref(), &format!("{AT}.records"));
        let lines = rest.format == RestFormat::Ndjson;
        if lines && rest.records.is_some() {
            let message = format!("{AT}.records: with ndjson every line is a record");
            let keys = ["source.rest.records", "source.rest.format"];
            self.fault(&keys, &message, "remove it");
        }
        let mut params = Vec::new();
        let mut pointer = None;
        match &rest.pagination {
            Pagination::None | Pagination::Link => {}
            Pagination::Next(next) => pointer = Some(("next.pointer", &next.pointer)),
            Pagination::Cursor(cursor) => {
                pointer = Some(("cursor.pointer", &cursor.pointer));
                params.push(("cursor.param", &cursor.param));
            }
            Pagination::Page(page) => {
                params.push(("page.param", &page.param));
                params.extend(page.size_param.as_ref().map(|param| ("page.size_param", param)));
                if page.size_param.is_some() && page.size.is_none() {
                    let message = format!("{at}.page: size_param without size");
                    let place = format!("{at}.page.size_param");
                    self.fault(&[&place], &message, "set `size`, the records in a page");
                }
            }
            Pagination::Offset(offset) => {
                params.push(("offset.param", &offset.param));
                params.push(("offset.limit_param", &offset.limit_param));
            }
        }
        if let Some((name, pointer)) = pointer {
            let place = format!("{at}.{name}");
            self.pointer(Some(pointer), &place);
            if lines {
                let message = format!("{at}: ndjson has no place for what leads to the next page");
                self.fault(&[&place], &message, "use link, page or offset");
            }
        }
        for (name, param) in params {
            let place = format!("{at}.{name}");
            if param.is_empty() {
                self.fault(&[&place], &format!("{place} is empty"), "a parameter's name");
            }
            self.place_in_body(rest, param, &place);
        }
    }

    /// A parameter that is a place in the body must be there to be replaced.
    fn place_in_body(&mut self, rest: &RestSource, param: &str, place: &str) {
        if !RestSource::is_place_in_body(param) {
            return;
        }
        let Some(body) = &rest.body else {
            let message = format!("{place} is a place in the body, and there is none");
            let label = "set `method: POST` and `body`, or a parameter's name without a slash";
            return self.fault(&[place], &message, label);
        };
        // A body that is not JSON is a fault of its own.
        if let Ok(whole) = serde_json::from_str::<&RawValue>(body)
            && at(whole, param).is_none()
        {
            let message = format!("{place}: nothing stands at {param} in source.rest.body");
            self.fault(&[place], &message, "put a value there to be replaced, null for one");
        }
    }

    fn incremental(&mut self, incremental: &Incremental) {
        let field = format!("{AT}.incremental.field");
        self.pointer(Some(&incremental.field), &field);
        if incremental.field.is_empty() {
            self.fault(&[&field], &format!("{field} is empty"), "as in /updated_at");
        }
        if incremental.param.is_empty() {
            let place = format!("{AT}.incremental.param");
            self.fault(&[&place], &format!("{place} is empty"), "a parameter's name, as in since");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::environment::Environment;
    use super::super::super::from_str;

    /// The one error of a pipeline with these settings; empty when it has none.
    fn only_error(rest: &str, more: &str) -> String {
        let text = format!(
            "name: x\nsource:\n  rest: {{ {rest} }}\n{more}load:\n  - http: {{ url: 'https://h/' }}\n"
        );
        match from_str("p.yaml", &text, &[], &Environment::empty()) {
            Ok(_) => String::new(),
            Err(report) => {
                assert_eq!(report.error_count(), 1, "{report}");
                report.errors()[0].message.clone()
            }
        }
    }

    #[test]
    fn each_rule_of_an_api_refuses_its_mistake() {
        for (rest, message) in [
            ("url: 'ftp://h/'", "is not an http or https address"),
            ("url: 'http://h/', auth: { bearer: abc }", "unencrypted"),
            ("url: 'http://h/', auth: { basic: { user: a, password: b } }", "unencrypted"),
            ("url: 'http://h/', headers: { X-API-Key: abc }", "unencrypted"),
            ("url: 'https://h/', auth: { bearer: 'a b' }", "no header can carry"),
            ("url: 'https://h/', auth: { basic: { user: 'a:b', password: b } }", "colon"),
            ("url: 'https://h/', auth: { api_key: { key: abc } }", "not exactly one place"),
            (
                "url: 'https://h/', auth: { api_key: { key: a, header: X, query: x } }",
                "not exactly one",
            ),
            (
                "url: 'https://h/', auth: { api_key: { key: a, header: 'a b' } }",
                "not a header's name",
            ),
            (
                "url: 'https://h/', auth: { oauth2: { token_url: 'http://h/', client_id: a, client_secret: b } }",
                "unencrypted",
            ),
            (
                "url: 'https://h/', auth: { oauth2: { token_url: 'https://h/', client_id: '', client_secret: b } }",
                "client_id is empty",
            ),
            (
                "url: 'https://h/', auth: { bearer: a }, headers: { Authorization: b }",
                "set by the token",
            ),
            ("url: 'https://h/', body: '{}'", "a GET has no body"),
            ("url: 'https://h/', method: POST, body: '{'", "is not JSON"),
            ("url: 'https://h/', records: a", "not a JSON Pointer"),
            ("url: 'https://h/', format: ndjson, records: /a", "every line is a record"),
            (
                "url: 'https://h/', format: ndjson, pagination: { next: { pointer: /a } }",
                "no place",
            ),
            ("url: 'https://h/', pagination: { cursor: { pointer: a } }", "not a JSON Pointer"),
            (
                "url: 'https://h/', pagination: { page: { size_param: n } }",
                "size_param without size",
            ),
            ("url: 'https://h/', pagination: { offset: { param: '' } }", "is empty"),
            ("url: 'https://h/', incremental: { field: a, param: b }", "not a JSON Pointer"),
            (
                "url: 'https://h/', pagination: { cursor: { pointer: /a, param: /after } }",
                "is a place in the body, and there is none",
            ),
            (
                "url: 'https://h/', method: POST, body: '{\"x\": null}', \
                 pagination: { offset: { param: /x, limit_param: /y } }",
                "nothing stands at /y in source.rest.body",
            ),
            (
                "url: 'https://h/', method: POST, body: '{\"x\": null}', \
                 incremental: { field: /a, param: /since }",
                "nothing stands at /since",
            ),
            ("url: 'https://h/', retry: { base: 31s }", "longer than the longest"),
            ("url: 'https://h/', timeout: 0s", "no time at all"),
            ("url: 'https://h/', max_body: 0B", "is zero"),
        ] {
            let found = only_error(rest, "");
            assert!(found.contains(message) && !found.is_empty(), "{rest}: {found}");
        }
    }

    #[test]
    fn an_api_is_no_inventory_and_a_token_may_stay_on_this_machine() {
        let fine = "url: 'http://127.0.0.1:1/', auth: { bearer: abc }";
        assert_eq!(only_error(fine, ""), "");
        let found = only_error(fine, "extract:\n  http: { url: 'http://127.0.0.1/{ip}' }\n");
        assert!(found.contains("extract needs an inventory"), "{found}");
    }
}
