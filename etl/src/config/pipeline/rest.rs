//! `source.rest:`, records that an HTTP API hands out page by page.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::http::Tls;
use super::load::Retry;
use super::secret::Secret;
use super::{MIB, seconds};
use crate::config::units::{Rate, Size, Span};

/// Records that an HTTP API hands out, page by page.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestSource {
    /// The address of the first page.
    pub url: String,
    /// How it is asked (default: GET).
    #[serde(default)]
    pub method: RestMethod,
    /// More request headers, as the API wants them; sent to `url`'s own origin only.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Secret>,
    /// Parameters added to the address, percent-encoded.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub query: BTreeMap<String, String>,
    /// What a POST sends, as JSON. A parameter below that begins with a slash is a place in
    /// it, as in /variables/after: what stands there is replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// How etl says who it is (default: none).
    #[serde(default)]
    pub auth: Auth,
    /// Lets secrets travel over plain HTTP to other hosts than this one (default: false).
    #[serde(default)]
    pub allow_plain_token: bool,
    /// What a page looks like (default: json).
    #[serde(default)]
    pub format: RestFormat,
    /// JSON Pointer to the records of a page: one object, or an array; absent: the whole page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<String>,
    /// How one page leads to the next (default: none, that is a single page).
    #[serde(default)]
    pub pagination: Pagination,
    /// Follows a page to another scheme, host or port, without headers and credentials (default: false).
    #[serde(default)]
    pub allow_other_origins: bool,
    /// Pages after which a run ends with an error: something leads in circles (default: 100000).
    #[serde(default = "max_pages")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_pages: u64,
    /// Asks only for what is new since the last run whose records were all settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incremental: Option<Incremental>,
    /// Whether a page that has not changed since the last run is not sent again: `ETag`, `Last-Modified` (default: true).
    #[serde(default = "yes")]
    pub conditional: bool,
    /// The most requests a second or a minute, retries included: 2/s, 30/m. Absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// One deadline per attempt over connect, request and answer; with ndjson over the
    /// answer's head, and again over the wait for each part of its body (default: 30s).
    #[serde(default = "timeout")]
    pub timeout: Span,
    /// Time to connect (default: 5s).
    #[serde(default = "connect_timeout")]
    pub connect_timeout: Span,
    /// What happens when a page does not come.
    #[serde(default)]
    pub retry: Retry,
    /// The most that a JSON page may hold, as sent and decompressed (default: 16MiB).
    #[serde(default = "max_body")]
    pub max_body: Size,
    /// The most that a line of ndjson may hold; a longer one is rejected (default: 1MiB).
    #[serde(default = "max_line")]
    pub max_line: Size,
    /// TLS settings.
    #[serde(default)]
    pub tls: Tls,
}

/// How an API is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum RestMethod {
    /// GET.
    #[default]
    Get,
    /// POST, with `body`: a search that changes nothing; it may be sent again.
    Post,
}

/// What a page looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RestFormat {
    /// One JSON document.
    #[default]
    Json,
    /// One JSON object a line, taken as it comes; of any length.
    Ndjson,
}

/// How etl says who it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    /// Not at all.
    #[default]
    None,
    /// A bearer token; better from the environment: `${API_TOKEN:-}`. Empty means none.
    Bearer(Secret),
    /// User name and password.
    Basic(BasicAuth),
    /// A key in a header or in the query.
    ApiKey(ApiKey),
    /// OAuth 2.0 client credentials.
    Oauth2(Oauth2),
}

/// User name and password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BasicAuth {
    /// The user's name.
    pub user: String,
    /// The password.
    pub password: Secret,
}

/// A key in a header or in the query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// The header that carries it, as in `X-API-Key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// The parameter that carries it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// The key. Empty means none.
    pub key: Secret,
}

/// OAuth 2.0 client credentials (RFC 6749, 4.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Oauth2 {
    /// Where tokens are given out.
    pub token_url: String,
    /// The client's name.
    pub client_id: String,
    /// The client's secret.
    pub client_secret: Secret,
    /// What is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Sends name and secret in the request's body instead of a header (default: false).
    #[serde(default)]
    pub in_body: bool,
}

/// How one page leads to the next.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pagination {
    /// It does not: there is one page.
    #[default]
    None,
    /// The answer's `Link` header with `rel="next"`.
    Link,
    /// The next page's address stands in the page.
    Next(NextPage),
    /// Pages have numbers.
    Page(PageNumbers),
    /// Records have numbers.
    Offset(Offsets),
    /// The page holds what the next request has to say.
    Cursor(Cursor),
}

/// The next page's address stands in the page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NextPage {
    /// JSON Pointer to the address; nothing there, null or an empty text ends the run.
    pub pointer: String,
}

/// Pages have numbers; an empty page ends the run, and one that is shorter than the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PageNumbers {
    /// The parameter with the page's number (default: page).
    #[serde(default = "page")]
    pub param: String,
    /// The first page's number (default: 1).
    #[serde(default = "one")]
    pub start: u64,
    /// The parameter with the number of records in a page, as in `per_page`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_param: Option<String>,
    /// Records in a page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub size: Option<u64>,
}

/// Records have numbers; an empty page ends the run, and one that is shorter than the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Offsets {
    /// The parameter with the number of records to pass over (default: offset).
    #[serde(default = "offset")]
    pub param: String,
    /// The parameter with the number of records in a page (default: limit).
    #[serde(default = "limit")]
    pub limit_param: String,
    /// Records in a page (default: 100).
    #[serde(default = "hundred")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub limit: u64,
}

/// The page holds what the next request has to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// JSON Pointer to it; nothing there, null, false or an empty text ends the run.
    pub pointer: String,
    /// The parameter that carries it (default: cursor).
    #[serde(default = "cursor")]
    pub param: String,
}

/// Asks only for what is new.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Incremental {
    /// JSON Pointer to the field of a record that grows: a number, or a time or other text.
    pub field: String,
    /// The parameter that carries the highest value seen.
    pub param: String,
    /// Its value on the first run; absent, the first run asks without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
}

impl RestSource {
    /// Whether a parameter is a place in the body of a POST, a JSON Pointer, and none of
    /// the address.
    #[must_use]
    pub fn is_place_in_body(param: &str) -> bool {
        param.starts_with('/')
    }

    /// Whether pages are left out that have not changed; there is no such question in a POST.
    #[must_use]
    pub fn asks_conditionally(&self) -> bool {
        self.conditional && self.method == RestMethod::Get
    }
}

impl RestMethod {
    /// As it is sent.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            RestMethod::Get => "GET",
            RestMethod::Post => "POST",
        }
    }
}

fn yes() -> bool {
    true
}
fn one() -> u64 {
    1
}
fn hundred() -> u64 {
    100
}
fn max_pages() -> u64 {
    100_000
}
fn timeout() -> Span {
    seconds(30)
}
fn connect_timeout() -> Span {
    seconds(5)
}
fn max_body() -> Size {
    Size(16 * MIB)
}
fn max_line() -> Size {
    Size(MIB)
}
fn page() -> String {
    "page".to_owned()
}
fn offset() -> String {
    "offset".to_owned()
}
fn limit() -> String {
    "limit".to_owned()
}
fn cursor() -> String {
    "cursor".to_owned()
}
