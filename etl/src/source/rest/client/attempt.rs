//! One attempt at a page: in its turn, with a token that is renewed where it is refused, and
//! what a refusal comes to.

use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::header::{ETAG, HeaderMap, HeaderValue, LAST_MODIFIED, LINK, LOCATION, RETRY_AFTER};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;

use super::super::address::next_link;
use super::super::auth::Tokens;
use super::super::decode::{BodyReader, Patience, decoded, read_whole};
use super::super::error::Trouble;
use super::super::place::{Ask, Known};
use super::super::wait::Waits;
use super::{Answer, Fetched, RestClient};
use crate::config::Auth;
use crate::http::printable;
use crate::load::answer::{Answer as Verdict, Reply, classify};

/// The most that is read of a refusal, and of a token's answer.
const REFUSAL_BYTES_MAX: u64 = 64 * 1024;
/// The most of a refusal that is shown.
const EXCERPT_BYTES_MAX: usize = 200;

/// What one request asks for, and as whom.
struct Question<'a> {
    uri: &'a Uri,
    ask: &'a Ask,
    token: Option<HeaderValue>,
    known: Option<&'a Known>,
    /// Whether another token may be asked for when this one is refused.
    renewable: bool,
}

impl RestClient {
    pub(super) fn attempt<T>(
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
