//! An API run: its pages are read one after the other, on a thread that may block.
//! Records are numbered in the API's order, and only records and bytes fill batches,
//! so that pages that come again give the same batches under the same keys.
//!
//! A resumed run asks for the page of its first unsettled record again and passes over
//! the settled ones, comparing them: an API may have changed in between. Then the page
//! is taken from its beginning, under numbers that no record has had: rather twice
//! than not at all. Where a step remembers records (`dedupe`), a resumed run reads from
//! the first page on, and shows the steps what it passes over.

mod pages;
mod records;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;

use super::intake::{Intake, Sealed, Workspace};
use super::keeper::Keeper;
use crate::batch::Rows;
use crate::checkpoint::{Place, Places, RestState};
use crate::config::RestSource;
use crate::source::rest::{High, Known, Page, Pages, RestClient, RestError, Spot, Trace, Waits};
use crate::stop::Stop;
use crate::telemetry::Books;

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
        state.known_by.clone_from(&state.run_id);
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
    keeper: &'a Keeper,
    conditional: bool,
    /// The page that is being read.
    page: Page,
    /// The page to begin again with when what was settled has changed.
    restart: Page,
    /// The number after the last record that was looked at.
    number: u64,
    /// The number after the last record that the steps have seen.
    shown: u64,
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
        keeper: Arc<Keeper>,
        books: Arc<Books>,
        stop: Stop,
    ) -> Result<bool, String> {
        let waits = Waits::new(Handle::current(), stop);
        let client = RestClient::new(source, self.since.as_ref(), waits)
            .map_err(|error| error.to_string())?
            .counted_in(books);
        let conditional = source.asks_conditionally();
        let span = tracing::Span::current();
        let reading = tokio::task::spawn_blocking(move || {
            span.in_scope(|| Reader::new(self, client, &intake, &keeper, conditional).read())
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
    fn new(
        run: RestRun,
        client: RestClient,
        intake: &'a Intake,
        keeper: &'a Keeper,
        conditional: bool,
    ) -> Self {
        let pages = client.pages();
        let first = Page { ask: pages.first(), ..Page::default() };
        let begins = run.begins.clone().unwrap_or_else(|| first.clone());
        let page = if intake.remembers() { first } else { begins.clone() };
        Reader {
            pages,
            intake,
            keeper,
            conditional,
            restart: begins,
            shown: page.first_record,
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

    /// Sends batches. Before the first one it is durable that the pages are not any more
    /// what the run before has loaded.
    fn send(&self, sealed: Sealed) {
        if !sealed.is_empty() {
            self.keeper.forget_pages();
            self.client.waits().to_the_end(sealed.send());
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
}
