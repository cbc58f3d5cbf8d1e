//! An API run: its pages are read one after the other, on a thread that may block.
//! Records are numbered in the API's order, and only records and bytes fill batches,
//! so that pages that come again give the same batches under the same keys.
//!
//! A resumed run asks for the page of its first unsettled record again and passes over
//! the settled ones, comparing them: an API may have changed in between. Then the page
//! is taken from its beginning, under numbers that no record has had: rather twice
//! than not at all.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::value::RawValue;
use tokio::runtime::Handle;
use tracing::{info, warn};

use super::intake::{Intake, Sealed, Workspace};
use super::rejects::Reject;
use crate::batch::Rows;
use crate::checkpoint::{Place, Places, RestState};
use crate::config::RestSource;
use crate::http::printable;
use crate::source::rest::{
    Answer, Ask, Fetched, Found, High, Known, Line, Page, Pages, Records, RestClient, RestError,
    Seen, Spot, Trace, Waits,
};
use crate::stop::Stop;
use crate::telemetry::Books;
use crate::telemetry::figures::{counted, short_id};

/// Pages whose validators are remembered: the first ones.
const KNOWN_MAX: usize = 256;
/// The most of a bad record that is written down.
const BAD_BYTES_MAX: usize = 1024;

/// What a run of an API begins with.
#[derive(Debug)]
pub(super) struct RestRun {
    /// The page that it goes on with; none: the first.
    pub(super) begins: Option<Page>,
    /// The number of the first record that is handed in.
    pub(super) next: u64,
    /// Ascending numbers of records, each with the trace of all before it as an earlier
    /// process saw them.
    pub(super) marks: VecDeque<(u64, Trace)>,
    /// No record from this number on was ever handed in.
    pub(super) numbered: u64,
    /// What it asks from.
    pub(super) since: Option<High>,
    /// By request, pages that have been loaded as they were.
    pub(super) known: BTreeMap<String, Known>,
    /// The run that has.
    pub(super) known_by: String,
    pub(super) places: Arc<Places<Spot>>,
    pub(super) outcome: Arc<RestOutcome>,
}

/// What a run has found out, to be kept once all of it is settled.
#[derive(Debug, Default)]
pub(super) struct RestOutcome(Mutex<Findings>);

#[derive(Debug, Default)]
struct Findings {
    high: Option<High>,
    known: BTreeMap<String, Known>,
    said: Option<String>,
}

impl RestOutcome {
    /// What people should know about what there was to read.
    pub(super) fn said(&self) -> Option<String> {
        self.inner().said.clone()
    }

    /// Keeps what the next run may leave out.
    pub(super) fn settle(&self, state: &mut RestState) {
        let found = self.inner();
        state.high = match (state.high.take(), found.high.clone()) {
            (Some(before), Some(now)) => Some(before.or_higher(now)),
            (before, now) => now.or(before),
        };
        state.known.clone_from(&found.known);
        state.cuts.clear();
    }

    fn inner(&self) -> MutexGuard<'_, Findings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What follows a page.
enum Step {
    /// Another one.
    Next(Page),
    /// None: everything is read.
    End,
    /// What was settled is not what it was.
    Changed,
}

struct Reader<'a> {
    run: RestRun,
    client: RestClient,
    pages: Pages,
    intake: &'a Intake,
    conditional: bool,
    /// The page that is being read.
    page: Page,
    /// The page to begin again with when what was settled has changed.
    restart: Page,
    /// The number after the last record that was looked at.
    number: u64,
    /// Of all records before `number`.
    trace: Trace,
    high: Option<High>,
    /// Sinks of which a batch ends at `run.next`.
    ends: Vec<usize>,
    known: BTreeMap<String, Known>,
    unmodified: u64,
    rows: Rows,
    workspace: Workspace,
}

impl RestRun {
    /// Reads all pages; says whether it came to the end.
    pub(super) async fn read_on_thread(
        self,
        source: &RestSource,
        intake: Arc<Intake>,
        books: Arc<Books>,
        stop: Stop,
    ) -> Result<bool, String> {
        let waits = Waits::new(Handle::current(), stop);
        let client = RestClient::new(source, self.since.as_ref(), waits)
            .map_err(|error| error.to_string())?
            .counted_in(books);
        let conditional = source.asks_conditionally();
        let reading = tokio::task::spawn_blocking(move || {
            Reader::new(self, client, &intake, conditional).read()
        });
        match reading.await {
            Ok(Ok(())) => Ok(true),
            Ok(Err(RestError::Stopped)) => Ok(false),
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(format!("the reading thread ended in a panic: {error}")),
        }
    }
}

impl<'a> Reader<'a> {
    fn new(run: RestRun, client: RestClient, intake: &'a Intake, conditional: bool) -> Self {
        let pages = client.pages();
        let first = Page { ask: pages.first(), ..Page::default() };
        let page = run.begins.clone().unwrap_or(first);
        Reader {
            pages,
            intake,
            conditional,
            restart: page.clone(),
            number: page.first_record,
            trace: page.trace,
            high: page.high.clone(),
            page,
            ends: Vec::new(),
            known: BTreeMap::new(),
            unmodified: 0,
            rows: Rows::default(),
            workspace: Workspace::default(),
            run,
            client,
        }
    }

    fn read(mut self) -> Result<(), RestError> {
        let read = self.read_pages();
        self.note_ends(&self.spot());
        if self.number == self.run.next {
            // Wherever reading ended, the last batches are cut off here.
            let place = Place { records: self.run.next, position: self.spot() };
            self.run.places.note_all(&place);
        }
        if read.is_ok() {
            let said = (self.unmodified > 0).then(|| self.not_modified());
            let mut found = self.run.outcome.inner();
            (found.high, found.known, found.said) = (self.high, self.known, said);
        }
        read
    }

    fn read_pages(&mut self) -> Result<(), RestError> {
        loop {
            let entered = self.pages.enter(self.page.number, self.client.identity(&self.page.ask));
            entered.map_err(|why| self.client.error(&self.page, &why))?;
            match self.read_page()? {
                Step::Next(page) => self.turn_to(page),
                Step::End if self.run.marks.is_empty() => return Ok(()),
                Step::End | Step::Changed => self.begin_again(),
            }
        }
    }

    fn turn_to(&mut self, page: Page) {
        // What ends with a page goes on with the next one, not with its last record.
        self.note_ends(&Spot { page: page.clone(), trace: page.trace });
        self.page = page;
        if self.run.marks.is_empty() {
            self.restart = self.page.clone();
        }
    }

    /// Reads the restart page and all after it under new numbers.
    fn begin_again(&mut self) {
        let target = self.client.target(&self.restart.ask);
        let page = self.restart.number + 1;
        warn!(target, page, "what was read before has changed, reading this page anew");
        self.run.marks.clear();
        let numbered = self.run.next.max(self.run.numbered);
        let sealed = self.intake.pass_to(numbered);
        self.client.waits().to_the_end(sealed.send());
        self.run.next = numbered;
        self.ends.clear();
        self.pages = self.client.pages();
        self.page = Page { first_record: numbered, ..self.restart.clone() };
        self.restart = self.page.clone();
        self.rewind();
    }

    /// Goes back to the page's beginning.
    fn rewind(&mut self) {
        (self.number, self.trace) = (self.page.first_record, self.page.trace);
        self.high.clone_from(&self.page.high);
    }

    fn read_page(&mut self) -> Result<Step, RestError> {
        let key = hex(self.client.identity(&self.page.ask));
        let known = self.run.known.get(&key).cloned();
        // The end of linked pages may move without a change of the last page.
        let asks = known.as_ref().filter(|known| !self.pages.end_may_move(known.next.as_ref()));
        let (step, kept) = if self.client.reads_lines() {
            match self.client.lines(&self.page, asks)? {
                Fetched::New(answer) if !is_same(known.as_ref(), &answer.known) => {
                    self.read_lines(answer)?
                }
                Fetched::New(Answer { uri, link, known: now, .. }) => {
                    self.pass(&Answer { uri, link, known: now, content: () }, known)?
                }
                Fetched::NotModified(answer) => self.pass(&answer, known)?,
            }
        } else {
            match self.client.json(&self.page, asks)? {
                Fetched::New(answer) if !is_same(known.as_ref(), &answer.known) => {
                    self.read_json(answer)?
                }
                Fetched::New(Answer { uri, link, known: now, .. }) => {
                    self.pass(&Answer { uri, link, known: now, content: () }, known)?
                }
                Fetched::NotModified(answer) => self.pass(&answer, known)?,
            }
        };
        let validates = kept.etag.is_some() || kept.modified.is_some();
        if self.conditional && validates && self.known.len() < KNOWN_MAX {
            self.known.insert(key, kept);
        }
        Ok(step)
    }

    fn read_json(&mut self, answer: Answer<Vec<u8>>) -> Result<(Step, Known), RestError> {
        let Answer { uri, link, known, content } = answer;
        let wrong = |reader: &Self, why: &str| reader.client.error(&reader.page, why);
        let records = Records::of(&content, self.client.pointer());
        let records = records.map_err(|why| wrong(self, &format!("the page {why}")))?;
        let count = records.found.len() as u64;
        self.pages.differs(&content, count).map_err(|why| wrong(self, &why))?;
        for record in &records.found {
            if !self.record(record.get().as_bytes())? {
                return Ok((Step::Changed, known));
            }
        }
        self.after(&uri, link.as_deref(), Some(records.root), count, known)
    }

    fn read_lines(
        &mut self,
        answer: Answer<crate::source::rest::Lines>,
    ) -> Result<(Step, Known), RestError> {
        let Answer { mut uri, mut link, mut known, content: mut lines } = answer;
        let (mut line, mut breaks, mut count) = (Vec::new(), 0, 0);
        loop {
            let before = self.run.next;
            match self.client.line(&self.page, &mut lines, &mut line, breaks + 1)? {
                None => {
                    breaks += 1;
                    if self.number == self.run.next {
                        self.note_ends(&self.spot());
                        self.run.marks.push_front((self.number, self.trace));
                    }
                    self.rewind();
                    count = 0;
                    let Fetched::New(again) = self.client.lines(&self.page, None)? else {
                        return Err(self
                            .client
                            .error(&self.page, "was not asked for conditionally"));
                    };
                    Answer { uri, link, known, content: lines } = again;
                    continue;
                }
                Some(Line::End) => break,
                Some(Line::Whole) => {
                    if count == 0 && serde_json::from_slice::<&RawValue>(&line).is_err() {
                        return Err(self.not_lines(&line));
                    }
                    if !self.record(&line)? {
                        return Ok((Step::Changed, known));
                    }
                }
                Some(Line::TooLong) => {
                    if count == 0 && line.trim_ascii().starts_with(b"[") {
                        return Err(self.not_lines(&line));
                    }
                    let why = "is longer than source.rest.max_line".to_owned();
                    if !self.bad(&line, why)? {
                        return Ok((Step::Changed, known));
                    }
                }
            }
            count += 1;
            if self.run.next > before {
                breaks = 0;
            }
        }
        self.after(&uri, link.as_deref(), None, count, known)
    }

    fn not_lines(&self, line: &[u8]) -> RestError {
        let begins = printable(&line[..line.len().min(60)], 60);
        let why =
            format!("the page is not ndjson, it begins with {begins}; check source.rest.format");
        self.client.error(&self.page, &why)
    }

    /// A page that has not changed since it was loaded.
    fn pass(
        &mut self,
        answer: &Answer<()>,
        known: Option<Known>,
    ) -> Result<(Step, Known), RestError> {
        let known = known.unwrap_or_default();
        self.unmodified += 1;
        if answer.link.is_some() {
            return self.after(&answer.uri, answer.link.as_deref(), None, known.records, known);
        }
        let next = known.next.clone();
        Ok((self.step(next, known.records), known))
    }

    /// What follows a page of `count` records.
    fn after(
        &mut self,
        uri: &http::Uri,
        link: Option<&str>,
        root: Option<&RawValue>,
        count: u64,
        known: Known,
    ) -> Result<(Step, Known), RestError> {
        let size = self.page.size.unwrap_or(count);
        let seen = Seen { uri, link, root, records: count, size };
        let next = self.pages.next(&self.page.ask, &seen);
        let next = next.map_err(|why| self.client.error(&self.page, &format!("the page {why}")))?;
        if !self.is_unchanged() {
            return Ok((Step::Changed, known));
        }
        let known = Known { next: next.clone(), records: count, ..known };
        Ok((self.step(next, count), known))
    }

    fn step(&self, next: Option<Ask>, count: u64) -> Step {
        let Some(ask) = next else { return Step::End };
        Step::Next(Page {
            number: self.page.number + 1,
            ask,
            first_record: self.number,
            trace: self.trace,
            high: self.high.clone(),
            size: Some(self.page.size.unwrap_or(count)),
        })
    }

    /// Takes one record, good or bad; `false` when what was settled before it has changed.
    fn record(&mut self, json: &[u8]) -> Result<bool, RestError> {
        let Ok(text) = std::str::from_utf8(json) else {
            return self.bad(json, "is not UTF-8".to_owned());
        };
        let text = text.trim();
        self.rows.clear();
        let mut found = Found::Record;
        self.rows.push_with(|out| found = Found::look(text, out));
        if let Found::Bad(why) = found {
            return self.bad(text.as_bytes(), why);
        }
        if !self.enter()? {
            return Ok(false);
        }
        let before = self.advance(text.as_bytes());
        if let Some(high) = self.client.high(text) {
            self.high = Some(match self.high.take() {
                Some(highest) => highest.or_higher(high),
                None => high,
            });
        }
        if self.number > self.run.next {
            let (client, page, number) = (&self.client, &self.page, self.number);
            let place = || place(client, page, number);
            let taking = self.intake.take(&self.rows, &place, &mut self.workspace);
            let sealed = self.client.waits().to_the_end(taking);
            self.hand_over(sealed, before);
        }
        Ok(true)
    }

    /// Rejects one record that is none.
    fn bad(&mut self, bytes: &[u8], why: String) -> Result<bool, RestError> {
        if !self.enter()? {
            return Ok(false);
        }
        let before = self.advance(bytes);
        if self.number > self.run.next {
            let place = place(&self.client, &self.page, self.number);
            warn!(place, reason = why, "record rejected");
            let reject = Reject { place, reason: why, record: written(bytes) };
            let sealed = self.client.waits().to_the_end(self.intake.reject(reject));
            self.hand_over(sealed, before);
        }
        Ok(true)
    }

    /// Before each record: whether the run goes on, and all is as it was.
    fn enter(&mut self) -> Result<bool, RestError> {
        if self.client.waits().over() {
            return Err(RestError::Stopped);
        }
        if !self.ends.is_empty() {
            self.note_ends(&self.spot());
        }
        Ok(self.is_unchanged())
    }

    /// Passes a record; gives the trace before it.
    fn advance(&mut self, record: &[u8]) -> Trace {
        let before = self.trace;
        self.trace = before.and(record);
        self.number += 1;
        before
    }

    /// Notes where batches ended, before or after the record, and sends them.
    fn hand_over(&mut self, sealed: Sealed, before: Trace) {
        let (first, after) = (self.run.next, self.run.next + 1);
        for (sink, end) in sealed.ends() {
            if *end == first {
                let position = Spot { page: self.page.clone(), trace: before };
                self.run.places.note(*sink, Place { records: first, position });
            } else if *end == after {
                self.ends.push(*sink);
            }
        }
        self.run.next = after;
        if !sealed.is_empty() {
            self.client.waits().to_the_end(sealed.send());
        }
    }

    fn note_ends(&mut self, spot: &Spot) {
        for sink in self.ends.drain(..) {
            let place = Place { records: self.run.next, position: spot.clone() };
            self.run.places.note(sink, place);
        }
    }

    fn spot(&self) -> Spot {
        Spot { page: self.page.clone(), trace: self.trace }
    }

    /// Whether the records up to here are those that an earlier process has seen.
    fn is_unchanged(&mut self) -> bool {
        while let Some((number, trace)) = self.run.marks.front() {
            if *number > self.number {
                break;
            }
            if *number == self.number && *trace != self.trace {
                return false;
            }
            self.run.marks.pop_front();
        }
        true
    }

    fn not_modified(&self) -> String {
        let (run, pages) = (short_id(&self.run.known_by), self.page.number + 1);
        let target = self.client.target(&Ask::First);
        info!(target, pages, unmodified = self.unmodified, "not modified since the last run");
        if self.unmodified == pages {
            return format!("nothing new: {target} is not modified since run {run}");
        }
        let pages = counted(pages, "page");
        format!("{} of {pages} of {target} not modified since run {run}", self.unmodified)
    }
}

/// Whether an answer shows by itself that the page is as it was.
fn is_same(known: Option<&Known>, now: &Known) -> bool {
    known.is_some_and(|known| match (&known.etag, &now.etag) {
        (Some(known), Some(now)) => known == now,
        (None, None) => known.modified.is_some() && known.modified == now.modified,
        _ => false,
    })
}

fn place(client: &RestClient, page: &Page, number: u64) -> String {
    let record = number - page.first_record;
    format!("{}, page {}, record {record}:", client.target(&page.ask), page.number + 1)
}

/// A bad record as JSON: itself where it is JSON, else its beginning as a text.
fn written(bytes: &[u8]) -> Vec<u8> {
    let whole = std::str::from_utf8(bytes).ok().filter(|text| {
        bytes.len() <= BAD_BYTES_MAX && serde_json::from_str::<serde_json::Value>(text).is_ok()
    });
    match whole {
        Some(text) => {
            let mut out = Vec::with_capacity(text.len());
            crate::source::raw::push_one_line(&mut out, text.as_bytes());
            out
        }
        None => {
            let text = printable(&bytes[..bytes.len().min(BAD_BYTES_MAX)], BAD_BYTES_MAX);
            serde_json::Value::String(text).to_string().into_bytes()
        }
    }
}

fn hex(digest: [u8; 16]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
