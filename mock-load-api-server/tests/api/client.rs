//! A client that sends one request at a time and shows everything that came back.

use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{HeaderMap, Method, Request};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use mock_load_api_server::Server;
use serde_json::Value;

/// A client of one server.
pub struct Client {
    http: HyperClient<HttpConnector, Full<Bytes>>,
    url: String,
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl Client {
    pub fn of(server: &Server) -> Self {
        Self::with_protocol(server, false)
    }

    pub fn with_protocol(server: &Server, http2: bool) -> Self {
        let http = HyperClient::builder(TokioExecutor::new())
            .retry_canceled_requests(false)
            .http2_only(http2)
            .build_http();
        Self { http, url: server.url() }
    }

    pub async fn get(&self, path: &str) -> Result<Reply, String> {
        self.send(Method::GET, path, &[], Bytes::new()).await
    }

    pub async fn post(&self, path: &str, body: &str) -> Result<Reply, String> {
        self.send(Method::POST, path, &[], Bytes::copy_from_slice(body.as_bytes())).await
    }

    /// Loads `body` under `key`.
    pub async fn load(&self, key: &str, body: &str) -> Result<Reply, String> {
        let body = Bytes::copy_from_slice(body.as_bytes());
        self.send(Method::POST, "/load", &[("idempotency-key", key)], body).await
    }

    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Reply, String> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).map_err(|error| error.to_string())?;
        let exchange = async {
            let response =
                self.http.request(request).await.map_err(|error| format!("{error:?}"))?;
            let (head, body) = response.into_parts();
            let body = body.collect().await.map_err(|error| format!("body: {error:?}"))?;
            Ok(Reply { status: head.status.as_u16(), headers: head.headers, body: body.to_bytes() })
        };
        tokio::time::timeout(Duration::from_secs(5), exchange)
            .await
            .unwrap_or_else(|_| Err("no answer within 5 s".to_owned()))
    }
}
