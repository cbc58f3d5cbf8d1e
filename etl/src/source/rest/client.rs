//! Asks for a page: in turn with the rate, as often as is allowed, with a token that
//! is renewed where it is refused. What an answer's status means is decided where it is
//! for sinks, see [`crate::load::answer::classify`].

mod attempt;

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Response, StatusCode, Uri};
use hyper::body::Incoming;
use tracing::{debug, warn};

use super::auth::Tokens;
use super::decode::{BodyReader, Patience, decoded, read_whole};
use super::error::{RestError, RestSetupError, Trouble};
use super::high::High;
use super::lines::{Line, Lines};
use super::pages::Pages;
use super::place::{Ask, Known, Page};
use super::records;
use super::request::Requests;
use super::wait::Waits;
use crate::config::{Auth, HttpVersion, RestFormat, RestSource};
use crate::http::{ClientOptions, HttpClient, without_query};
use crate::load::answer::AnswerRules;
use crate::load::backoff::full_jitter;
use crate::load::rate::Pace;
use crate::telemetry::Books;

/// The longest `Retry-After` that is honoured, whatever the API says.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// Asks one API for its pages, on a thread that may block.
#[derive(Debug)]
pub struct RestClient {
    source: RestSource,
    client: HttpClient,
    requests: Requests,
    tokens: Option<Tokens>,
    pace: Option<Pace>,
    rules: AnswerRules,
    waits: Waits,
    /// Where requests are counted.
    books: Option<Arc<Books>>,
}

/// What came back.
#[derive(Debug)]
pub enum Fetched<T> {
    /// The page is as it was.
    NotModified(Answer<()>),
    /// The page.
    New(Answer<T>),
}

/// A page with what its head says.
#[derive(Debug)]
pub struct Answer<T> {
    /// Where it was asked for.
    pub uri: Uri,
    /// The address of its `Link` header's `next`.
    pub link: Option<String>,
    /// Its `ETag` and `Last-Modified`.
    pub known: Known,
    /// What it holds.
    pub content: T,
}

impl RestClient {
    /// A client of `source` that asks for what is new since `since`.
    ///
    /// # Errors
    /// When the address, a header or the TLS settings are unusable.
    pub fn new(
        source: &RestSource,
        since: Option<&High>,
        waits: Waits,
    ) -> Result<RestClient, RestSetupError> {
        let client = HttpClient::new(&ClientOptions {
            connect_timeout: source.connect_timeout.0,
            version: HttpVersion::Auto,
            tls: source.tls.clone(),
            idle_per_host: 2,
        })?;
        let tokens = match &source.auth {
            Auth::Oauth2(oauth2) => Some(Tokens::new(oauth2)?),
            _ => None,
        };
        Ok(RestClient {
            client,
            requests: Requests::new(source, since)?,
            tokens,
            pace: source.rate.map(Pace::new),
            rules: AnswerRules {
                failed_records: String::new(),
                retry_also: source.retry.also.clone(),
                retry_after_max: RETRY_AFTER_MAX,
            },
            source: source.clone(),
            waits,
            books: None,
        })
    }

    /// Counts its requests in `books`.
    #[must_use]
    pub fn counted_in(self, books: Arc<Books>) -> RestClient {
        RestClient { books: Some(books), ..self }
    }

    /// What it waits with.
    #[must_use]
    pub fn waits(&self) -> &Waits {
        &self.waits
    }

    /// The pages from here on.
    #[must_use]
    pub fn pages(&self) -> Pages {
        Pages::new(&self.source, self.requests.origin().clone())
    }

    /// What tells the request for a page apart from any other.
    #[must_use]
    pub fn identity(&self, ask: &Ask) -> [u8; 16] {
        self.requests.uri(ask).map_or([0; 16], |uri| self.requests.identity(&uri, ask))
    }

    /// A page's address as shown to people: `GET https://api.example.net/posts`.
    #[must_use]
    pub fn target(&self, ask: &Ask) -> String {
        let uri = self.requests.uri(ask);
        let shown = without_query(uri.as_ref().unwrap_or(self.requests.origin()));
        format!("{} {shown}", self.source.method.name())
    }

    /// The error that page `page` has this problem.
    #[must_use]
    pub fn error(&self, page: &Page, problem: &str) -> RestError {
        RestError::Page {
            target: self.target(&page.ask),
            page: page.number + 1,
            problem: self.requests.masked(problem),
        }
    }

    /// The body of a JSON page; empty when the API says that there is no content.
    ///
    /// # Errors
    /// When it does not come, is too large or not JSON, after all attempts.
    pub fn json(
        &mut self,
        page: &Page,
        known: Option<&Known>,
    ) -> Result<Fetched<Vec<u8>>, RestError> {
        let cap = self.source.max_body.0;
        self.ask(page, known, |waits, response, deadline| {
            let empty = response.status() == StatusCode::NO_CONTENT;
            let (head, body) = response.into_parts();
            let body = BodyReader::new(body, waits.clone(), Patience::Until(deadline), cap);
            let body = read_whole(decoded(&head.headers, body)?, cap)?;
            if !empty {
                // What is not JSON may not have come from the API at all: asked again.
                records::whole(&body).map_err(|why| Trouble::retry(format!("the page {why}")))?;
            }
            Ok(body)
        })
    }

    /// The lines of a page, to be read as they come.
    ///
    /// # Errors
    /// When its head does not come, after all attempts.
    pub fn lines(
        &mut self,
        page: &Page,
        known: Option<&Known>,
    ) -> Result<Fetched<Lines>, RestError> {
        let cap = usize::try_from(self.source.max_line.0).unwrap_or(usize::MAX - 1);
        let patience = Patience::Each(self.source.timeout.0);
        self.ask(page, known, |waits, response, _| {
            let (head, body) = response.into_parts();
            let body = BodyReader::new(body, waits.clone(), patience, u64::MAX);
            Ok(Lines::new(decoded(&head.headers, body)?, cap))
        })
    }

    /// The next line of a page, or the page's trouble as an error. `Ok(None)`: the
    /// page broke off and may be asked for again, `breaks` times in a row so far.
    ///
    /// # Errors
    /// When it broke off too often, or for good.
    pub fn line(
        &self,
        page: &Page,
        lines: &mut Lines,
        line: &mut Vec<u8>,
        breaks: u32,
    ) -> Result<Option<Line>, RestError> {
        match lines.next(line) {
            Ok(kind) => Ok(Some(kind)),
            Err(trouble) => self.after(page, trouble, breaks).map(|()| None),
        }
    }

    /// The incremental value of a record, where one is wanted.
    #[must_use]
    pub fn high(&self, record: &str) -> Option<High> {
        let incremental = self.source.incremental.as_ref()?;
        records::high(record, &incremental.field)
    }

    /// Whether pages are lines.
    #[must_use]
    pub fn reads_lines(&self) -> bool {
        self.source.format == RestFormat::Ndjson
    }

    /// The configured pointer to the records.
    #[must_use]
    pub fn pointer(&self) -> &str {
        self.source.records.as_deref().unwrap_or_default()
    }

    fn ask<T>(
        &mut self,
        page: &Page,
        known: Option<&Known>,
        read: impl Fn(&Waits, Response<Incoming>, Instant) -> Result<T, Trouble>,
    ) -> Result<Fetched<T>, RestError> {
        let Some(uri) = self.requests.uri(&page.ask) else {
            return Err(self.error(page, "has no address that can be asked"));
        };
        let mut failures = 0;
        loop {
            match self.attempt(&uri, &page.ask, known, &read) {
                Ok(fetched) => return Ok(fetched),
                Err(trouble) => {
                    failures += 1;
                    self.after(page, trouble, failures)?;
                }
            }
        }
    }

    /// Waits after a failed attempt, or gives up.
    fn after(&self, page: &Page, trouble: Trouble, failures: u32) -> Result<(), RestError> {
        let (why, after) = match trouble {
            Trouble::Stopped => return Err(RestError::Stopped),
            Trouble::Final(why) => return Err(self.error(page, &why)),
            Trouble::Retry { why, after } => (why, after),
        };
        let retry = &self.source.retry;
        if failures >= retry.attempts {
            return Err(self.error(page, &format!("{why} ({failures} attempts)")));
        }
        let jitter = full_jitter(retry.base.0, retry.cap.0, failures, fastrand::f64());
        let wait = after.unwrap_or(jitter);
        let (target, why) = (self.target(&page.ask), self.requests.masked(&why));
        if wait > Duration::from_secs(10) {
            warn!(target, page = page.number + 1, why, ?wait, "the source asks to wait");
        } else {
            debug!(target, page = page.number + 1, why, failures, ?wait, "page failed, retrying");
        }
        self.waits.sleep(wait).map_err(|_| RestError::Stopped)
    }
}
