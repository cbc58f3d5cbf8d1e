//! The requests of a source: which address a page has, and what travels with it. Keys
//! and headers go to the configured address's own origin only.

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, USER_AGENT,
};
use http::{Method, Request, Uri};
use http_body_util::Full;

use super::address::{same_origin, with_params};
use super::auth::{authorization, basic, secret_value};
use super::decode::ACCEPTED;
use super::error::RestSetupError;
use super::high::High;
use super::place::{Ask, Known};
use crate::config::{Auth, Pagination, RestFormat, RestMethod, RestSource};

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
        let mut params: Vec<(&str, &str)> =
            source.query.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let since = since.map(High::text);
        if let Some(incremental) = &source.incremental
            && let Some(since) = since.as_ref().or(incremental.start.as_ref())
        {
            params.push((&incremental.param, since));
        }
        let uri = with_params(&uri, &params).ok_or(RestSetupError::Url)?;
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
            body: Bytes::from(source.body.clone().unwrap_or_default()),
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
        let uri = &self.uri;
        match (ask, &self.pagination) {
            (Ask::Url(url), _) => url.parse().ok(),
            (Ask::Page(number), Pagination::Page(page)) => {
                let (number, size) = (number.to_string(), page.size.unwrap_or(0).to_string());
                let mut params = vec![(page.param.as_str(), number.as_str())];
                params
                    .extend(page.size_param.as_ref().map(|param| (param.as_str(), size.as_str())));
                with_params(uri, &params)
            }
            (Ask::Offset(passed), Pagination::Offset(offset)) => {
                let (passed, limit) = (passed.to_string(), offset.limit.to_string());
                with_params(uri, &[(&offset.param, &passed), (&offset.limit_param, &limit)])
            }
            (Ask::Cursor(text), Pagination::Cursor(cursor)) => {
                with_params(uri, &[(&cursor.param, text)])
            }
            _ => Some(uri.clone()),
        }
    }

    /// What tells this request apart from any other.
    pub(super) fn identity(&self, uri: &Uri) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.method.name().as_bytes());
        hasher.update(uri.to_string().as_bytes());
        hasher.update(&[0]);
        hasher.update(&self.body);
        let mut digest = [0; 16];
        digest.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        digest
    }

    /// The request itself; `token` is an OAuth one, `known` what is known of the page.
    pub(super) fn make(
        &self,
        uri: &Uri,
        token: Option<HeaderValue>,
        known: Option<&Known>,
    ) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = match self.method {
            RestMethod::Get => Method::GET,
            RestMethod::Post => Method::POST,
        };
        let own = same_origin(&self.uri, uri);
        let keyed = match &self.key {
            Some((param, key)) if own => with_params(uri, &[(param, key.expose())]),
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
