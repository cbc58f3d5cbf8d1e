//! The requests of a source: which address a page has, and what travels with it. Keys
//! and headers go to the configured address's own origin only.

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, USER_AGENT,
};
use http::{Method, Request, Uri};
use http_body_util::Full;
use serde_json::value::RawValue;

use super::address::{same_origin, with_params};
use super::auth::{authorization, basic, secret_value};
use super::decode::ACCEPTED;
use super::error::RestSetupError;
use super::high::High;
use super::place::{Ask, Known};
use crate::config::{Auth, Pagination, RestFormat, RestMethod, RestSource};
use crate::source::raw::at;

pub(super) const AGENT: &str = concat!("etl/", env!("CARGO_PKG_VERSION"));
/// A shorter secret would be found in texts that have nothing to do with it.
const SECRET_LENGTH_MIN: usize = 4;

/// Makes the requests of one run.
#[derive(Debug)]
pub(super) struct Requests {
    method: RestMethod,
    /// With everything that stays the same from page to page.
    uri: Uri,
    pagination: Pagination,
    headers: HeaderMap,
    body: Bytes,
    /// A key that travels in the query: its parameter and value.
    key: Option<(String, crate::config::Secret)>,
    /// Values that no message may repeat.
    secrets: Vec<crate::config::Secret>,
}

impl Requests {
    /// The requests of `source`, for what is new since `since`.
    pub(super) fn new(
        source: &RestSource,
        since: Option<&High>,
    ) -> Result<Requests, RestSetupError> {
        let uri: Uri = source.url.parse().map_err(|_| RestSetupError::Url)?;
        let query = source.query.iter().map(|(name, value)| (&**name, value.clone()));
        let mut query: Vec<(&str, String)> = query.collect();
        let mut body = source.body.clone().unwrap_or_default().into_bytes();
        if let Some(incremental) = &source.incremental
            && let Some(value) = since.cloned().or_else(|| incremental.start.as_deref().map(start))
        {
            let since = [match value {
                High::Number(number) => Param::number(&incremental.param, number.to_string()),
                High::Text(text) => Param::text(&incremental.param, text),
            }];
            query.extend(in_query(&since));
            body = filled(&body, &in_body(&since));
        }
        let uri = with_params(&uri, &query).ok_or(RestSetupError::Url)?;
        let key = match &source.auth {
            Auth::ApiKey(key) if !key.key.expose().is_empty() => {
                key.query.clone().map(|param| (param, key.key.clone()))
            }
            _ => None,
        };
        Ok(Requests {
            method: source.method,
            uri,
            pagination: source.pagination.clone(),
            headers: headers(source)?,
            body: body.into(),
            key,
            secrets: secrets(source),
        })
    }

    /// The configured address.
    pub(super) fn origin(&self) -> &Uri {
        &self.uri
    }

    /// The address of a page, without a key.
    pub(super) fn uri(&self, ask: &Ask) -> Option<Uri> {
        if let Ask::Url(url) = ask {
            return url.parse().ok();
        }
        with_params(&self.uri, &in_query(&self.params(ask)))
    }

    /// What a page's request sends.
    fn body(&self, ask: &Ask) -> Bytes {
        let params = self.params(ask);
        match in_body(&params).is_empty() {
            true => self.body.clone(),
            false => Bytes::from(filled(&self.body, &in_body(&params))),
        }
    }

    /// What changes from page to page.
    fn params(&self, ask: &Ask) -> Vec<Param<'_>> {
        let number = |name, number: u64| Param::number(name, number.to_string());
        match (ask, &self.pagination) {
            (Ask::Page(page), Pagination::Page(pages)) => {
                let size = pages.size_param.iter().map(|it| number(it, pages.size.unwrap_or(0)));
                [number(&pages.param, *page)].into_iter().chain(size).collect()
            }
            (Ask::Offset(passed), Pagination::Offset(offset)) => {
                vec![number(&offset.param, *passed), number(&offset.limit_param, offset.limit)]
            }
            (Ask::Cursor(text), Pagination::Cursor(cursor)) => {
                vec![Param::text(&cursor.param, text.clone())]
            }
            (Ask::CursorNumber(json), Pagination::Cursor(cursor)) => {
                vec![Param::number(&cursor.param, json.clone())]
            }
            _ => Vec::new(),
        }
    }

    /// What tells a page's request, which goes to `uri`, apart from any other.
    pub(super) fn identity(&self, uri: &Uri, ask: &Ask) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.method.name().as_bytes());
        hasher.update(uri.to_string().as_bytes());
        hasher.update(&[0]);
        hasher.update(&self.body(ask));
        let mut digest = [0; 16];
        digest.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        digest
    }

    /// The request itself for a page, which goes to `uri`; `token` is an OAuth one, `known`
    /// what is known of the page.
    pub(super) fn make(
        &self,
        uri: &Uri,
        ask: &Ask,
        token: Option<HeaderValue>,
        known: Option<&Known>,
    ) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body(ask)));
        *request.method_mut() = match self.method {
            RestMethod::Get => Method::GET,
            RestMethod::Post => Method::POST,
        };
        let own = same_origin(&self.uri, uri);
        let keyed = match &self.key {
            Some((param, key)) if own => with_params(uri, &[(param, key.expose().to_owned())]),
            _ => None,
        };
        *request.uri_mut() = keyed.unwrap_or_else(|| uri.clone());
        let headers = request.headers_mut();
        if own {
            headers.clone_from(&self.headers);
            if let Some(token) = token {
                headers.insert(AUTHORIZATION, token);
            }
        } else {
            headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(ACCEPTED));
        }
        let mut condition = |name: HeaderName, value: Option<&String>| {
            if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
                headers.insert(name, value);
            }
        };
        if let Some(known) = known {
            condition(IF_NONE_MATCH, known.etag.as_ref());
            condition(IF_MODIFIED_SINCE, known.modified.as_ref());
        }
        request
    }

    /// A foreign text without any of our secrets in it.
    pub(super) fn masked(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.secrets {
            text = text.replace(secret.expose(), "***");
        }
        text
    }
}

/// A parameter of the configuration with its value.
struct Param<'a> {
    name: &'a str,
    text: String,
    json: String,
}

impl Param<'_> {
    fn text(name: &str, text: String) -> Param<'_> {
        let json = serde_json::Value::from(&*text).to_string();
        Param { name, text, json }
    }

    /// A number as it is written.
    fn number(name: &str, text: String) -> Param<'_> {
        Param { name, json: text.clone(), text }
    }
}

/// What a text of the configuration means to an API: a number where it is one.
fn start(text: &str) -> High {
    match High::of(text) {
        Some(High::Number(number)) => High::Number(number),
        _ => High::Text(text.to_owned()),
    }
}

/// The parameters of the address.
fn in_query<'a>(params: &[Param<'a>]) -> Vec<(&'a str, String)> {
    let params = params.iter().filter(|param| !RestSource::is_place_in_body(param.name));
    params.map(|param| (param.name, param.text.clone())).collect()
}

/// The places in the body, each with the JSON that comes there.
fn in_body<'a>(params: &[Param<'a>]) -> Vec<(&'a str, String)> {
    let params = params.iter().filter(|param| RestSource::is_place_in_body(param.name));
    params.map(|param| (param.name, param.json.clone())).collect()
}

/// `body` with these places filled; all else stays as it is written.
fn filled(body: &[u8], places: &[(&str, String)]) -> Vec<u8> {
    let mut text = String::from_utf8_lossy(body).into_owned();
    for (place, json) in places {
        let range = serde_json::from_str::<&RawValue>(&text).ok().and_then(|whole| {
            let found = at(whole, place)?.get();
            // Both stand in one text: the place begins that far behind its beginning.
            let start = (found.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
            Some(start..start + found.len())
        });
        if let Some(range) = range {
            text.replace_range(range, json);
        }
    }
    text.into_bytes()
}

fn secrets(source: &RestSource) -> Vec<crate::config::Secret> {
    let own = match &source.auth {
        Auth::None => None,
        Auth::Bearer(secret) => Some(secret),
        Auth::Basic(basic) => Some(&basic.password),
        Auth::ApiKey(key) => Some(&key.key),
        Auth::Oauth2(oauth2) => Some(&oauth2.client_secret),
    };
    let all = own.into_iter().chain(source.headers.values());
    all.filter(|secret| secret.expose().len() >= SECRET_LENGTH_MIN).cloned().collect()
}

fn headers(source: &RestSource) -> Result<HeaderMap, RestSetupError> {
    let mut headers = HeaderMap::new();
    let accept = match source.format {
        RestFormat::Json => "application/json",
        RestFormat::Ndjson => "application/x-ndjson, application/jsonl, application/json;q=0.5",
    };
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    headers.insert(ACCEPT, HeaderValue::from_static(accept));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(ACCEPTED));
    if source.method == RestMethod::Post {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    let mut insert = |name: &str, value: &str| -> Result<(), RestSetupError> {
        let error = || RestSetupError::Header(name.to_owned());
        let header = HeaderName::try_from(name).map_err(|_| error())?;
        headers.insert(header, secret_value(value).ok_or_else(error)?);
        Ok(())
    };
    for (name, value) in &source.headers {
        insert(name, value.expose())?;
    }
    match &source.auth {
        Auth::ApiKey(key) if !key.key.expose().is_empty() => {
            if let Some(header) = &key.header {
                insert(header, key.key.expose())?;
            }
        }
        Auth::Bearer(token) if !token.expose().is_empty() => {
            headers.insert(AUTHORIZATION, authorization(&format!("Bearer {}", token.expose()))?);
        }
        Auth::Basic(it) => {
            headers.insert(AUTHORIZATION, authorization(&basic(&it.user, it.password.expose()))?);
        }
        _ => {}
    }
    Ok(headers)
}
