//! What leads from one page to the next, and whether there is one. Pure.

use std::collections::HashSet;

use http::Uri;
use serde_json::value::RawValue;

use super::address::{resolve, same_origin, without_param};
use super::place::Ask;
use crate::config::{Auth, Pagination, RestSource};
use crate::http::{printable, without_query};
use crate::source::raw::at;

/// Follows an API's pages; knows where it has been.
#[derive(Debug)]
pub struct Pages {
    pagination: Pagination,
    origin: Uri,
    other_origins: bool,
    pages_max: u64,
    /// The parameter that carries a key, which is never remembered.
    key_param: Option<String>,
    asked: HashSet<[u8; 16]>,
    /// Digest of the page before, when it held a record.
    before: Option<blake3::Hash>,
}

/// What a page says about the one after it.
#[derive(Debug)]
pub struct Seen<'a> {
    /// Where it was asked for.
    pub uri: &'a Uri,
    /// Its `Link` header's `next`.
    pub link: Option<&'a str>,
    /// It as JSON; none with ndjson.
    pub root: Option<&'a RawValue>,
    /// Records in it, bad ones too.
    pub records: u64,
    /// Records in the first page.
    pub size: u64,
}

impl Pages {
    /// The pages of `source`, whose address is `origin`.
    #[must_use]
    pub fn new(source: &RestSource, origin: Uri) -> Pages {
        let key_param = match &source.auth {
            Auth::ApiKey(key) => key.query.clone(),
            _ => None,
        };
        Pages {
            pagination: source.pagination.clone(),
            origin,
            other_origins: source.allow_other_origins,
            pages_max: source.max_pages,
            key_param,
            asked: HashSet::new(),
            before: None,
        }
    }

    /// What a run begins with.
    #[must_use]
    pub fn first(&self) -> Ask {
        match &self.pagination {
            Pagination::Page(page) => Ask::Page(page.start),
            Pagination::Offset(_) => Ask::Offset(0),
            _ => Ask::First,
        }
    }

    /// Notes that page `number` (from 0) is asked for by `request`.
    ///
    /// # Errors
    /// When pages lead in circles, or there are more than allowed.
    pub fn enter(&mut self, number: u64, request: [u8; 16]) -> Result<(), String> {
        if number >= self.pages_max {
            return Err(format!(
                "is one more than source.rest.max_pages ({}); the pages before it are loaded, \
                 raise it if there really are more",
                self.pages_max
            ));
        }
        if !self.asked.insert(request) {
            return Err(
                "was asked for before in this run: the API's pages lead in circles".to_owned()
            );
        }
        Ok(())
    }

    /// Notes a page's content.
    ///
    /// # Errors
    /// When numbered pages do not differ: the API does not know the parameter.
    pub fn differs(&mut self, body: &[u8], records: u64) -> Result<(), String> {
        let param = match &self.pagination {
            Pagination::Page(page) => &page.param,
            Pagination::Offset(offset) => &offset.param,
            _ => return Ok(()),
        };
        let digest = (records > 0).then(|| blake3::hash(body));
        if digest.is_some() && digest == self.before {
            return Err(format!(
                "is the same as the page before it, byte for byte: does the API know the \
                 parameter {param}? see source.rest.pagination"
            ));
        }
        self.before = digest;
        Ok(())
    }

    /// What to ask for after `ask`; `None` at the end.
    ///
    /// # Errors
    /// When what the page says is no address, or one that must not be followed.
    pub fn next(&self, ask: &Ask, seen: &Seen<'_>) -> Result<Option<Ask>, String> {
        match &self.pagination {
            Pagination::None => Ok(None),
            Pagination::Link => seen.link.map(|link| self.follow(seen.uri, link)).transpose(),
            Pagination::Next(next) => match said(seen.root, &next.pointer)? {
                Some(Said::Text(link)) => self.follow(seen.uri, &link).map(Some),
                Some(Said::Number(_)) => {
                    Err(format!("has a number instead of an address at {}", shown(&next.pointer)))
                }
                None => Ok(None),
            },
            Pagination::Cursor(cursor) => {
                Ok(said(seen.root, &cursor.pointer)?.map(|said| match said {
                    Said::Text(text) => Ask::Cursor(text),
                    Said::Number(number) => Ask::CursorNumber(number),
                }))
            }
            Pagination::Page(page) => {
                let Ask::Page(number) = ask else { return Ok(None) };
                Ok((!is_last(seen, page.size)).then_some(Ask::Page(number + 1)))
            }
            Pagination::Offset(offset) => {
                let Ask::Offset(passed) = ask else { return Ok(None) };
                // By what came, not by what was asked for: an API may give less at once.
                let next = Ask::Offset(passed + seen.records);
                Ok((!is_last(seen, Some(offset.limit))).then_some(next))
            }
        }
    }

    /// Whether a page that has not changed may still have got another one after it:
    /// its `Link` header is no part of what an `ETag` speaks of.
    #[must_use]
    pub fn end_may_move(&self, next: Option<&Ask>) -> bool {
        self.pagination == Pagination::Link && next.is_none()
    }

    fn follow(&self, from: &Uri, link: &str) -> Result<Ask, String> {
        let Some(uri) = resolve(from, link) else {
            return Err(format!("leads to {}, which is no http address", shown(link)));
        };
        if !self.other_origins && !same_origin(&self.origin, &uri) {
            return Err(format!(
                "leads to another origin, {}; if that is right, allow it: \
                 source.rest.allow_other_origins: true",
                without_query(&uri)
            ));
        }
        let kept = match &self.key_param {
            Some(param) => without_param(&uri, param),
            None => Some(uri),
        };
        Ok(kept.map_or(Ask::First, |uri| Ask::Url(uri.to_string())))
    }
}

/// Whether no page comes after this one: it is empty, or shorter than pages are. The
/// first page is never the measure of itself: an API may give less than it was asked.
fn is_last(seen: &Seen<'_>, asked: Option<u64>) -> bool {
    seen.records == 0 || asked.is_some_and(|asked| seen.records < asked.min(seen.size))
}

enum Said {
    Text(String),
    Number(String),
}

/// What stands at `pointer`; nothing, null, false and an empty text are the end.
fn said(root: Option<&RawValue>, pointer: &str) -> Result<Option<Said>, String> {
    let Some(value) = root.and_then(|root| at(root, pointer)) else { return Ok(None) };
    let wrong = || Err(format!("has neither a text nor a number at {}", shown(pointer)));
    match value.get().as_bytes().first() {
        Some(b'n' | b'f') => Ok(None),
        Some(b'"') => match serde_json::from_str::<String>(value.get()) {
            Ok(text) => Ok((!text.is_empty()).then_some(Said::Text(text))),
            Err(_) => wrong(),
        },
        Some(b'-' | b'0'..=b'9') => Ok(Some(Said::Number(value.get().to_owned()))),
        _ => wrong(),
    }
}

fn shown(text: &str) -> String {
    // What stands behind a question mark may be a key.
    printable(text.split('?').next().unwrap_or_default().as_bytes(), 200)
}
