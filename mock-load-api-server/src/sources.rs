//! Sample source APIs in the shapes of well-known public ones, the same for the same seed:
//! `/posts` (jsonplaceholder), `/users` (randomuser.me) and `/coins/markets` (CoinGecko),
//! with pagination, ETags, a rate limit and failures.

mod coins;
mod posts;
mod users;

use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use hyper::body::Incoming;
use hyper::header::{ETAG, HOST, IF_NONE_MATCH, LINK, RETRY_AFTER};
use hyper::{Request, Response, StatusCode};
use serde_json::Value;
use tokio::time::Instant;

use crate::app::App;
use crate::hash::{self, fingerprint};
use crate::reply::{self, ReplyBody};

/// The paths answered here.
pub(crate) const PATHS: [&str; 3] = ["/posts", "/users", "/coins/markets"];

/// What a page of a source consists of.
struct Page {
    body: Value,
    /// Links to other pages: relation and query.
    links: Vec<(&'static str, String)>,
    total: Option<u32>,
}

/// Why there is no page.
struct BadQuery {
    status: StatusCode,
    why: String,
}

/// Answers a request to one of [`PATHS`].
pub(crate) fn answer(app: &App, request: &Request<Incoming>) -> Response<ReplyBody> {
    /// Keeps these draws apart from those of `/load`.
    const SOURCES: u128 = 0x736f_7572_6365;
    let ordinal = app.ledger.count_source_request();
    let faults = app.faults();
    if let Some(limit) = faults.source_rate
        && !app.source_limit.admits(limit)
    {
        let response = reply::error(StatusCode::TOO_MANY_REQUESTS, "too many requests");
        return reply::with_header(response, RETRY_AFTER, "1".to_owned());
    }
    if hash::draw(faults.seed, SOURCES, ordinal) < faults.source_fail {
        return reply::failure(StatusCode::SERVICE_UNAVAILABLE, &faults);
    }
    let query = Query(request.uri().query().unwrap_or_default());
    let page = match request.uri().path() {
        "/posts" => posts::page(faults.seed, faults.posts, &query),
        "/users" => users::page(faults.seed, &query),
        _ => coins::page(faults.seed, &query),
    };
    match page {
        Ok(page) => show(request, &page),
        Err(BadQuery { status, why }) => reply::error(status, why),
    }
}

fn show(request: &Request<Incoming>, page: &Page) -> Response<ReplyBody> {
    let body = page.body.to_string();
    let tag = format!("\"{:032x}\"", fingerprint(body.as_bytes()));
    let known = request.headers().get_all(IF_NONE_MATCH).iter().any(|known| {
        let known = known.to_str().unwrap_or_default();
        known.split(',').any(
            |one| matches!(one.trim().trim_start_matches("W/"), one if one == tag || one == "*"),
        )
    });
    let mut response = if known {
        reply::with_type(StatusCode::NOT_MODIFIED, "application/json", "")
    } else {
        reply::with_type(StatusCode::OK, "application/json; charset=utf-8", body)
    };
    response = reply::with_header(response, ETAG, tag);
    if let Some(total) = page.total {
        let name = hyper::header::HeaderName::from_static("x-total-count");
        response = reply::with_header(response, name, total.to_string());
    }
    if page.links.is_empty() {
        return response;
    }
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let host = host.or(request.uri().authority().map(|host| host.as_str())).unwrap_or_default();
    let path = request.uri().path();
    let link = |(relation, query): &(&str, String)| {
        format!("<http://{host}{path}?{query}>; rel=\"{relation}\"")
    };
    let links = page.links.iter().map(link).collect::<Vec<_>>().join(", ");
    reply::with_header(response, LINK, links)
}

/// The query string of a request. Values are short words and numbers, so nothing is decoded.
struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        let pairs = self.0.split('&').filter_map(|pair| pair.split_once('='));
        pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// A number between `min` and `max`, or `otherwise` when it is not given.
    fn number<T>(&self, name: &str, min: T, max: T, otherwise: T) -> Result<T, BadQuery>
    where
        T: FromStr + PartialOrd + std::fmt::Display,
    {
        let Some(text) = self.get(name) else {
            return Ok(otherwise);
        };
        match text.parse::<T>() {
            Ok(number) if number >= min && number <= max => Ok(number),
            _ => Err(BadQuery::new(format!("`{name}` must be a number from {min} to {max}"))),
        }
    }
}

impl BadQuery {
    fn new(why: String) -> Self {
        Self { status: StatusCode::BAD_REQUEST, why }
    }
}

/// Counts the requests of each second.
#[derive(Default)]
pub(crate) struct RateLimit(Mutex<Option<(Instant, u32)>>);

impl RateLimit {
    /// Whether one more request is within `limit` a second.
    fn admits(&self, limit: u32) -> bool {
        self.admits_at(Instant::now(), limit)
    }

    fn admits_at(&self, now: Instant, limit: u32) -> bool {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, count) = match &mut *window {
            Some(current) if now.duration_since(current.0).as_secs() == 0 => current,
            expired => expired.insert((now, 0)),
        };
        *count = count.saturating_add(1);
        *count <= limit
    }
}

/// A random generator for one item of one source.
fn random_for(seed: u64, source: &str, item: u32) -> fastrand::Rng {
    fastrand::Rng::with_seed(hash::mix(seed, fingerprint(source.as_bytes()), u64::from(item)))
}

/// One of `choices`, which is not empty.
fn pick<'a>(random: &mut fastrand::Rng, choices: &[&'a str]) -> &'a str {
    choices[random.usize(0..choices.len())]
}

#[cfg(test)]
mod tests;
