//! The pages of a run: asked for one after the other, and taken apart.

use serde_json::value::RawValue;
use tracing::{info, warn};

use super::{KNOWN_MAX, Reader, Step};
use crate::http::printable;
use crate::source::rest::{
    Answer, Ask, Fetched, Known, Line, Lines, Page, Records, RestError, Seen, Spot,
};
use crate::telemetry::figures::{counted, short_id};

impl Reader<'_> {
    pub(super) fn read_pages(&mut self) -> Result<(), RestError> {
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
        // What the steps were shown, and what was noted of pages passed over, is not what
        // sinks have.
        self.intake.forget();
        self.known.clear();
        let numbered = self.run.next.max(self.run.numbered);
        let sealed = self.intake.pass_to(numbered);
        self.send(sealed);
        self.run.next = numbered;
        self.ends.clear();
        self.pages = self.client.pages();
        self.page = Page { first_record: numbered, ..self.restart.clone() };
        self.shown = numbered;
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

    fn read_lines(&mut self, answer: Answer<Lines>) -> Result<(Step, Known), RestError> {
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

    pub(super) fn not_modified(&self) -> String {
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

fn hex(digest: [u8; 16]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
