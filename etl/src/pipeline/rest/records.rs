//! The records of a page: compared where an earlier process has settled them, else
//! handed in or rejected, one by one.

use tracing::warn;

use super::{BAD_BYTES_MAX, Reader};
use crate::checkpoint::Place;
use crate::http::printable;
use crate::pipeline::intake::Sealed;
use crate::pipeline::rejects::Reject;
use crate::source::rest::{Found, Page, RestClient, RestError, Spot, Trace};

impl Reader<'_> {
    /// Takes one record, good or bad; `false` when what was settled before it has changed.
    pub(super) fn record(&mut self, json: &[u8]) -> Result<bool, RestError> {
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
        } else if self.number > self.shown
            && let Some(row) = self.rows.iter().next()
        {
            self.intake.recall(row, &mut self.workspace);
        }
        self.shown = self.shown.max(self.number);
        Ok(true)
    }

    /// Rejects one record that is none.
    pub(super) fn bad(&mut self, bytes: &[u8], why: String) -> Result<bool, RestError> {
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
        self.send(sealed);
    }

    pub(super) fn note_ends(&mut self, spot: &Spot) {
        for sink in self.ends.drain(..) {
            let place = Place { records: self.run.next, position: spot.clone() };
            self.run.places.note(sink, place);
        }
    }

    pub(super) fn spot(&self) -> Spot {
        Spot { page: self.page.clone(), trace: self.trace }
    }

    /// Whether the records up to here are those that an earlier process has seen.
    pub(super) fn is_unchanged(&mut self) -> bool {
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
