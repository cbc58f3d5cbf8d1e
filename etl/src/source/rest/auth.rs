//! How etl says who it is: what goes into a request's head, and OAuth tokens.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::Full;
use serde::Deserialize;

use super::address::encode;
use super::error::{RestSetupError, Trouble};
use crate::config::Oauth2;
use crate::http::{printable, without_query};
use crate::source::sql::values::push_base64;

/// A token is renewed this long before it runs out, or after 9/10 of its life.
const EARLY: Duration = Duration::from_secs(30);
/// How long a token is used whose answer does not say.
const LIFE: Duration = Duration::from_secs(300);

/// A value for `Authorization` that no log shows.
pub(super) fn authorization(text: &str) -> Result<HeaderValue, RestSetupError> {
    secret_value(text).ok_or_else(|| RestSetupError::Header("Authorization".to_owned()))
}

/// A header's value that no log shows.
pub(super) fn secret_value(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// `Basic` credentials (RFC 7617).
pub(super) fn basic(user: &str, password: &str) -> String {
    let mut text = b"Basic ".to_vec();
    push_base64(&mut text, format!("{user}:{password}").as_bytes());
    String::from_utf8_lossy(&text).into_owned()
}

/// Gets and keeps the token of OAuth client credentials.
#[derive(Debug)]
pub(super) struct Tokens {
    config: Oauth2,
    uri: Uri,
    kept: Option<(HeaderValue, Instant)>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    expires_in: Option<serde_json::Value>,
    token_type: Option<String>,
}

#[derive(Deserialize)]
struct TokenRefusal {
    error: String,
}

impl Tokens {
    pub(super) fn new(config: &Oauth2) -> Result<Tokens, RestSetupError> {
        let uri = config.token_url.parse().map_err(|_| RestSetupError::Url)?;
        Ok(Tokens { config: config.clone(), uri, kept: None })
    }

    /// The token that is at hand, unless it has run out.
    pub(super) fn kept(&self, now: Instant) -> Option<HeaderValue> {
        self.kept.as_ref().filter(|(_, until)| now < *until).map(|(token, _)| token.clone())
    }

    /// Forgets a token that was refused.
    pub(super) fn forget(&mut self) {
        self.kept = None;
    }

    /// What is asked, for messages.
    pub(super) fn target(&self) -> String {
        format!("POST {}", without_query(&self.uri))
    }

    /// The request for a token (RFC 6749, 4.4.2).
    pub(super) fn request(&self) -> Result<Request<Full<Bytes>>, Trouble> {
        let config = &self.config;
        let (id, secret) = (encode(&config.client_id), encode(config.client_secret.expose()));
        let mut form = "grant_type=client_credentials".to_owned();
        if let Some(scope) = &config.scope {
            form.push_str(&format!("&scope={}", encode(scope)));
        }
        if config.in_body {
            form.push_str(&format!("&client_id={id}&client_secret={secret}"));
        }
        let mut request = Request::new(Full::new(Bytes::from(form)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static(super::request::AGENT));
        if !config.in_body {
            let value = authorization(&basic(&id, &secret))
                .map_err(|error| Trouble::Final(error.to_string()))?;
            headers.insert(AUTHORIZATION, value);
        }
        Ok(request)
    }

    /// Keeps the token of a good answer; `None` where it has none.
    pub(super) fn keep(&mut self, body: &[u8], now: Instant) -> Option<HeaderValue> {
        let answer: TokenAnswer = serde_json::from_slice(body).ok()?;
        let bearer =
            answer.token_type.as_deref().unwrap_or("bearer").eq_ignore_ascii_case("bearer");
        let token = Some(&answer.access_token).filter(|token| bearer && !token.is_empty())?;
        let value = secret_value(&format!("Bearer {token}"))?;
        let seconds = answer.expires_in.and_then(|it| match it {
            serde_json::Value::String(text) => text.parse().ok(),
            other => other.as_f64().map(|seconds| seconds.clamp(0.0, 1e9) as u64),
        });
        let life = seconds.map_or(LIFE, |seconds: u64| Duration::from_secs(seconds.min(1 << 30)));
        let life = life.saturating_sub(EARLY).max(life.mul_f64(0.9).min(EARLY));
        self.kept = Some((value.clone(), now + life));
        Some(value)
    }

    /// Why no token was given.
    pub(super) fn refused(&self, status: StatusCode, body: &[u8]) -> String {
        let said = serde_json::from_slice::<TokenRefusal>(body).ok();
        let said = said
            .map_or_else(String::new, |it| format!(" ({})", printable(it.error.as_bytes(), 60)));
        format!(
            "no token: {} answered {status}{said}; check source.rest.auth.oauth2",
            self.target()
        )
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Tokens, basic};
    use crate::config::{Oauth2, Secret};

    #[test]
    fn basic_credentials_are_as_in_the_rfc() {
        assert_eq!(basic("Aladdin", "open sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(basic("test", "123£"), "Basic dGVzdDoxMjPCow==");
        assert_eq!(basic("a", ""), "Basic YTo=");
        assert_eq!(basic("a", "b"), "Basic YTpi");
    }

    #[test]
    fn a_token_is_used_until_shortly_before_it_runs_out() {
        let oauth2 = Oauth2 {
            token_url: "https://h/token?x=1".to_owned(),
            client_id: "me".to_owned(),
            client_secret: Secret::new("s"),
            scope: None,
            in_body: false,
        };
        let mut tokens = Tokens::new(&oauth2).unwrap();
        let now = Instant::now();
        assert_eq!(tokens.kept(now), None);
        let seconds = |seconds| now + Duration::from_secs(seconds);
        for (answer, good, bad) in [
            (r#"{"access_token":"t","token_type":"Bearer","expires_in":3600}"#, 3569, 3571),
            (r#"{"access_token":"t","expires_in":"100"}"#, 69, 71),
            (r#"{"access_token":"t","expires_in":10}"#, 8, 10),
            (r#"{"access_token":"t"}"#, 269, 271),
        ] {
            assert_eq!(tokens.keep(answer.as_bytes(), now).unwrap(), "Bearer t");
            assert!(tokens.kept(seconds(good)).is_some(), "{answer}");
            assert!(tokens.kept(seconds(bad)).is_none(), "{answer}");
        }
        for answer in
            ["", "{}", r#"{"access_token":""}"#, r#"{"access_token":"t","token_type":"mac"}"#]
        {
            assert_eq!(tokens.keep(answer.as_bytes(), now), None, "{answer}");
        }
        let why = tokens.refused(http::StatusCode::UNAUTHORIZED, br#"{"error":"invalid_client"}"#);
        assert!(
            why.contains("POST https://h/token answered 401 Unauthorized (invalid_client)"),
            "{why}"
        );
    }
}
