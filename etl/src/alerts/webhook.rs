//! Posts a message as JSON. The address is a secret: messages name its host only.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;

use super::message::Message;
use crate::config::{AlertWebhook, HttpVersion};
use crate::http::{ClientOptions, HttpClient, printable, read_body};

/// The most that is read of an answer, and shown of it.
const ANSWER_BYTES_MAX: usize = 4096;
const SHOWN_BYTES_MAX: usize = 200;
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const AGENT: &str = concat!("etl/", env!("CARGO_PKG_VERSION"));

/// An address that takes messages.
pub(super) struct Webhook {
    client: HttpClient,
    settings: AlertWebhook,
    uri: Uri,
    headers: HeaderMap,
    shown: String,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Webhook").field(&self.shown).finish()
    }
}

impl Webhook {
    pub(super) fn new(settings: &AlertWebhook, timeout: Duration) -> Result<Webhook, String> {
        let unusable = || "alerts.webhook.url is no address".to_owned();
        let uri: Uri = settings.url.expose().parse().map_err(|_| unusable())?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(unusable());
        };
        let shown = format!("{scheme}://{authority}");
        let client = HttpClient::new(&ClientOptions {
            connect_timeout: timeout.min(CONNECT_WITHIN),
            version: HttpVersion::Auto,
            tls: settings.tls.clone(),
            idle_per_host: 0,
        })
        .map_err(|error| error.to_string())?;
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in &settings.headers {
            let unusable = |_| format!("alerts.webhook.headers: {name} cannot be sent");
            let key = HeaderName::try_from(name).map_err(|error| unusable(error.to_string()))?;
            let mut value = HeaderValue::try_from(value.expose())
                .map_err(|error| unusable(error.to_string()))?;
            value.set_sensitive(true);
            headers.insert(key, value);
        }
        Ok(Webhook { client, settings: settings.clone(), uri, headers, shown })
    }

    pub(super) async fn send(&self, message: &Message) -> Result<(), String> {
        let body = Bytes::from(message.json().to_string());
        let response = self.ask(Method::POST, body).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let said = self.said(response).await;
        Err(format!("POST {} answered {status}{said}{}", self.shown, remedy(status)))
    }

    /// Asks without a message. What the address says to that is no matter: most take
    /// nothing but messages.
    pub(super) async fn probe(&self) -> Result<String, String> {
        let status = self.ask(Method::HEAD, Bytes::new()).await?.status();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(format!("{} answered {status}{}", self.shown, remedy(status)))
            }
            _ => Ok(format!("{} answers; --alert sends a message", self.shown)),
        }
    }

    async fn ask(&self, method: Method, body: Bytes) -> Result<Response<Incoming>, String> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = self.uri.clone();
        request.headers_mut().clone_from(&self.headers);
        let sent = self.client.send(request).await;
        sent.map_err(|error| format!("{}: {error}", self.shown))
    }

    /// What an answer says, without our secrets in it.
    async fn said(&self, response: Response<Incoming>) -> String {
        let Ok(body) = read_body(response.into_body(), ANSWER_BYTES_MAX).await else {
            return String::new();
        };
        let mut text = String::from_utf8_lossy(&body).into_owned();
        let path = self.uri.path_and_query().map_or("", |path| path.as_str());
        let secrets = self.settings.headers.values().map(crate::config::Secret::expose);
        for secret in secrets.chain([path]).filter(|secret| secret.len() > 1) {
            text = text.replace(secret, "***");
        }
        match text.trim() {
            "" => String::new(),
            text => format!(": {}", printable(text.as_bytes(), SHOWN_BYTES_MAX)),
        }
    }
}

fn remedy(status: StatusCode) -> &'static str {
    match status.as_u16() {
        300..=399 => "; redirects are not followed: set alerts.webhook.url to the final address",
        401 | 403 => "; check alerts.webhook.url and headers",
        404 | 410 => "; is alerts.webhook.url still right?",
        _ => "",
    }
}
