//! Asks for a page: in turn with the rate, as often as is allowed, with a token that
//! is renewed where it is refused. What an answer's status means is decided where it is
//! for sinks, see [`classify`].

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::header::{ETAG, HeaderMap, HeaderValue, LAST_MODIFIED, LINK, LOCATION, RETRY_AFTER};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use tracing::{debug, warn};

use super::address::next_link;
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
use crate::http::{ClientOptions, HttpClient, printable, without_query};
use crate::load::answer::{Answer as Verdict, AnswerRules, Reply, classify};
use crate::load::backoff::full_jitter;
use crate::load::rate::Pace;
use crate::telemetry::Books;

/// The longest `Retry-After` that is honoured, whatever the API says.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// The most that is read of a refusal, and of a token's answer.
const REFUSAL_BYTES_MAX: u64 = 64 * 1024;
/// The most of a refusal that is shown.
const EXCERPT_BYTES_MAX: usize = 200;

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

/// What one request asks for, and as whom.
struct Question<'a> {
    uri: &'a Uri,
    ask: &'a Ask,
    token: Option<HeaderValue>,
    known: Option<&'a Known>,
    /// Whether another token may be asked for when this one is refused.
    renewable: bool,
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

    fn attempt<T>(
        &mut self,
        uri: &Uri,
        ask: &Ask,
        known: Option<&Known>,
        read: &impl Fn(&Waits, Response<Incoming>, Instant) -> Result<T, Trouble>,
    ) -> Result<Fetched<T>, Trouble> {
        let mut renewable = self.tokens.is_some();
        loop {
            let deadline = self.turn()?;
            let token = self.token(deadline)?;
            let asked = Instant::now();
            let question = Question { uri, ask, token, known, renewable };
            let fetched = self.request(question, read, deadline);
            self.count(asked, &fetched, Option::is_some);
            match (fetched?, &mut self.tokens) {
                (Some(fetched), _) => return Ok(fetched),
                (None, Some(tokens)) => tokens.forget(),
                (None, None) => {}
            }
            renewable = false;
        }
    }

    /// Sends one request; `None` when its token is refused and may be renewed.
    fn request<T>(
        &self,
        question: Question<'_>,
        read: &impl Fn(&Waits, Response<Incoming>, Instant) -> Result<T, Trouble>,
        deadline: Instant,
    ) -> Result<Option<Fetched<T>>, Trouble> {
        let Question { uri, ask, token, known, renewable } = question;
        let response = self.send(self.requests.make(uri, ask, token, known), deadline)?;
        if response.status() == StatusCode::UNAUTHORIZED && renewable {
            return Ok(None);
        }
        if response.status() == StatusCode::NOT_MODIFIED && known.is_some() {
            return Ok(Some(Fetched::NotModified(answer(uri, response.headers(), ()))));
        }
        if !response.status().is_success() {
            return Err(self.refusal(response, deadline));
        }
        let head = answer(uri, response.headers(), ());
        let content = read(&self.waits, response, deadline)?;
        let Answer { uri, link, known, content: () } = head;
        Ok(Some(Fetched::New(Answer { uri, link, known, content })))
    }

    /// Counts a request that was sent at `asked`, and whether its answer was of use.
    fn count<T>(&self, asked: Instant, came: &Result<T, Trouble>, well: impl Fn(&T) -> bool) {
        if let (Some(books), false) = (&self.books, matches!(came, Err(Trouble::Stopped))) {
            books.requests.count(asked.elapsed(), came.as_ref().is_ok_and(well));
        }
    }

    /// Waits for the next turn of the rate; gives the attempt's deadline.
    fn turn(&mut self) -> Result<Instant, Trouble> {
        if let Some(pace) = &mut self.pace {
            let wait = pace.take(Instant::now());
            self.waits.sleep(wait)?;
        }
        Ok(Instant::now() + self.source.timeout.0)
    }

    fn send(
        &self,
        request: Request<Full<Bytes>>,
        deadline: Instant,
    ) -> Result<Response<Incoming>, Trouble> {
        let late = || format!("no answer within {}", self.source.timeout);
        self.waits
            .before(deadline, self.client.send(request), late)?
            .map_err(|error| Trouble::retry(error.to_string()))
    }

    /// An OAuth token, where one is needed.
    fn token(&mut self, deadline: Instant) -> Result<Option<HeaderValue>, Trouble> {
        let Some(tokens) = &self.tokens else { return Ok(None) };
        if let Some(token) = tokens.kept(Instant::now()) {
            return Ok(Some(token));
        }
        let asked = Instant::now();
        let body = self.ask_for_token(tokens, deadline);
        self.count(asked, &body, |_| true);
        let (body, target) = (body?, tokens.target());
        let kept = self.tokens.as_mut().and_then(|tokens| tokens.keep(&body, Instant::now()));
        kept.map(Some).ok_or_else(|| {
            Trouble::Final(format!("no token: the answer of {target} has no bearer token in it"))
        })
    }

    /// The answer to a request for a token.
    fn ask_for_token(&self, tokens: &Tokens, deadline: Instant) -> Result<Vec<u8>, Trouble> {
        let asked = |trouble| match trouble {
            Trouble::Retry { why, after } => {
                Trouble::Retry { why: format!("no token: {}: {why}", tokens.target()), after }
            }
            other => other,
        };
        let response = self.send(tokens.request()?, deadline).map_err(asked)?;
        let (status, retry_after) = (response.status(), header(response.headers(), RETRY_AFTER));
        let (head, body) = response.into_parts();
        let waits = self.waits.clone();
        let body = BodyReader::new(body, waits, Patience::Until(deadline), REFUSAL_BYTES_MAX);
        let body =
            decoded(&head.headers, body).and_then(|body| read_whole(body, REFUSAL_BYTES_MAX));
        if !status.is_success() {
            let why = tokens.refused(status, &body.unwrap_or_default());
            return Err(self.judge(status, retry_after.as_deref(), why));
        }
        body.map_err(asked)
    }

    /// What a status other than success comes to, with what the API says about it.
    fn refusal(&self, response: Response<Incoming>, deadline: Instant) -> Trouble {
        let (head, body) = response.into_parts();
        let status = head.status;
        let body =
            BodyReader::new(body, self.waits.clone(), Patience::Until(deadline), REFUSAL_BYTES_MAX);
        let body =
            decoded(&head.headers, body).and_then(|body| read_whole(body, REFUSAL_BYTES_MAX));
        let said = match body {
            Err(Trouble::Stopped) => return Trouble::Stopped,
            // The status counts although its text did not come.
            Err(_) => String::new(),
            Ok(body) if body.is_empty() => String::new(),
            Ok(body) => format!(": {}", printable(&body, EXCERPT_BYTES_MAX)),
        };
        let remedy = match (status.as_u16(), head.headers.get(LOCATION)) {
            (300..=399, Some(location)) => format!(
                "; it redirects to {}, which is not followed: set source.rest.url to the final address",
                printable(
                    location.as_bytes().split(|byte| *byte == b'?').next().unwrap_or_default(),
                    200
                )
            ),
            (401 | 403, _) if self.source.auth == Auth::None => {
                "; the API wants to know who asks: set source.rest.auth".to_owned()
            }
            (401 | 403, _) => "; the API refuses us: check source.rest.auth".to_owned(),
            (404 | 410, _) => "; check source.rest.url".to_owned(),
            (400 | 422, _) => "; check source.rest.query and pagination".to_owned(),
            _ => String::new(),
        };
        let retry_after = header(&head.headers, RETRY_AFTER);
        self.judge(status, retry_after.as_deref(), format!("answered {status}{said}{remedy}"))
    }

    fn judge(&self, status: StatusCode, retry_after: Option<&str>, why: String) -> Trouble {
        let reply = Reply { status, retry_after, content_type: None, body: b"", excerpt: "" };
        match classify(&reply, &self.rules, SystemTime::now()) {
            Verdict::Retry(failure) => Trouble::Retry { why, after: failure.after },
            _ => Trouble::Final(why),
        }
    }
}

fn header(headers: &HeaderMap, name: http::HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

fn answer(uri: &Uri, headers: &HeaderMap, content: ()) -> Answer<()> {
    let links = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    let link = links.filter_map(next_link).next().map(str::to_owned);
    let known = Known {
        etag: header(headers, ETAG),
        modified: header(headers, LAST_MODIFIED),
        ..Known::default()
    };
    Answer { uri: uri.clone(), link, known, content }
}
