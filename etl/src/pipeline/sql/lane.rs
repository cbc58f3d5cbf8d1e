//! One table of one shard: pages are asked for one after the other, each from the key
//! of the last row that was taken in, so that a connection that breaks costs no row and
//! repeats none.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use rows::json::push_string;
use tokio::sync::mpsc::{Receiver, channel};
use tracing::warn;

use super::{LanePlan, LaneProgress, Shared};
use crate::batch::{BatchBuilder, KeyContext, Rows};
use crate::checkpoint::Place;
use crate::config::{SqlFields, SqlSource, SqlTable};
use crate::http::printable;
use crate::load::runtime::Outlet;
use crate::pipeline::intake::{Begin, Closed, Inlet, Intake, Sealed, Workspace};
use crate::pipeline::rejects::Reject;
use crate::source::sql::{
    Chunk, Client, Entry, Key, Outline, Page, Relation, RowWriter, Shape, SqlError, Trouble,
};
use crate::stop::Urgency;

/// Chunks that may wait between the connection and the intake.
const CHUNKS_AHEAD: usize = 2;

/// A lane that is being read, or waits for it.
#[derive(Debug)]
pub(super) struct Lane {
    shard: Arc<str>,
    table: SqlTable,
    outline: Outline,
    shape: Shape,
    rows_max: u32,
    intake: Intake,
    progress: Arc<LaneProgress>,
    shared: Shared,
    /// Reading goes on after this key; empty: from the beginning.
    after: Key,
    /// Keys at which reading stops, with the numbers that come behind them.
    stops: VecDeque<Place<Key>>,
    bounds: Option<Bounds>,
    /// The number of the next record.
    next: u64,
    first: u64,
    /// The keys of the last row that was taken in and of the one before it, as JSON; empty
    /// where `after` says it.
    last: Vec<u8>,
    previous: Vec<u8>,
    rows: Rows,
    workspace: Workspace,
}

/// Between which values of the cursor is read, found out when reading begins.
#[derive(Debug, Clone, Default)]
struct Bounds {
    from: Option<String>,
    below: Option<String>,
}

impl Lane {
    /// The lane of `plan`; reads nothing yet.
    pub(super) fn new(
        shard: &Arc<str>,
        plan: LanePlan,
        (source, table): (&SqlSource, &SqlTable),
        outline: Outline,
        shared: &Shared,
    ) -> Lane {
        let shape = outline.shape(&added(&source.add, shard, table.name(), &shared.began));
        let begin = Begin {
            first: plan.begin.records,
            rejects_until: plan.rejects_until,
            numbered: plan.progress.numbered.clone(),
        };
        let (inlets, elsewhere) = inlets(&plan, shared);
        let trackers = inlets.iter().map(|inlet: &Inlet| inlet.outlet.tracker()).collect();
        let next = begin.first;
        let intake = shared.intake.beside(begin, inlets, elsewhere);
        plan.progress.begins(trackers);
        Lane {
            shard: shard.clone(),
            table: table.clone(),
            outline,
            shape,
            rows_max: source.page,
            intake,
            progress: plan.progress,
            shared: shared.clone(),
            after: plan.begin.position,
            stops: plan.stops,
            bounds: None,
            next,
            first: next,
            last: Vec::new(),
            previous: Vec::new(),
            rows: Rows::default(),
            workspace: Workspace::default(),
        }
    }

    pub(super) fn table(&self) -> &str {
        self.table.name()
    }

    /// Rows taken in so far.
    pub(super) fn taken(&self) -> u64 {
        self.next - self.first
    }

    /// Reads on to the end of what there is.
    pub(super) async fn read(&mut self, client: &mut dyn Client) -> Result<(), SqlError> {
        let bounds = match self.bounds.clone() {
            Some(bounds) => bounds,
            None => self.bounds.insert(self.find_bounds(client).await?).clone(),
        };
        loop {
            if self.shared.stop.asked() {
                return Err(SqlError::stopped());
            }
            let stop = self.stops.front();
            let page = Page {
                after: Some(self.key()?).filter(|key| !key.0.is_empty()),
                until: stop.map(|stop| stop.position.clone()),
                from: bounds.from.clone(),
                below: bounds.below.clone(),
                ..self.outline.page(self.rows_max)
            };
            let asked = Instant::now();
            let read = self.read_page(client, &page).await;
            self.shared.books.requests.count(asked.elapsed(), read.is_ok());
            let read = read?;
            if read < u64::from(page.limit) && !self.pass_stop().await {
                return Ok(());
            }
        }
    }

    /// Goes past the next stop; `false` when there is none.
    async fn pass_stop(&mut self) -> bool {
        let Some(stop) = self.stops.pop_front() else { return false };
        let sealed = self.intake.pass_to(stop.records);
        let place = Place { records: stop.records, position: stop.position.clone() };
        for (sink, end) in sealed.ends() {
            if *end == stop.records {
                self.progress.places.note(*sink, place.clone());
            }
        }
        sealed.send().await;
        self.next = self.next.max(stop.records);
        self.after = stop.position;
        self.last.clear();
        true
    }

    async fn find_bounds(&self, client: &mut dyn Client) -> Result<Bounds, SqlError> {
        self.find_nulls(client).await?;
        let Some(cursor) = self.outline.cursor().filter(|cursor| cursor.kind.is_time()) else {
            return Ok(Bounds::default());
        };
        let (relation, clock) = (self.outline.relation(), self.table.clock);
        let below = Some(client.clock(relation, cursor, clock, self.table.lag.0).await?);
        // What was read before decides, however long ago that was.
        let from = match self.table.since.filter(|_| self.after.0.is_empty()) {
            Some(since) => Some(client.clock(relation, cursor, clock, since.0).await?),
            None => None,
        };
        Ok(Bounds { from, below })
    }

    /// Refuses rows that no comparison finds.
    async fn find_nulls(&self, client: &mut dyn Client) -> Result<(), SqlError> {
        let relation = self.outline.relation();
        let cursor = self.outline.cursor();
        for column in self.outline.ordered().filter(|column| column.nullable) {
            let (name, is_cursor) = (&column.name, cursor == Some(column));
            // The key of a query is believed: to look for NULL in it may read all of it.
            let looks = match is_cursor {
                true => !self.table.skip_null_cursor,
                false => matches!(relation, Relation::Table(_)),
            };
            if !looks || !client.has_null(relation, name).await? {
                continue;
            }
            let text = format!("there are rows with NULL in `{name}`, which no run would read");
            let remedy = match is_cursor {
                true => "give them a value, use COALESCE in a `query`, or set skip_null_cursor",
                false => "name columns in `key` that are never NULL",
            };
            return Err(SqlError::new(Trouble::Refused, text).remedy(remedy));
        }
        Ok(())
    }

    /// Reads one page and takes its rows in as they come; gives how many there were.
    async fn read_page(&mut self, client: &mut dyn Client, page: &Page) -> Result<u64, SqlError> {
        let (sender, chunks) = channel(CHUNKS_AHEAD);
        let mut writer = RowWriter::new(self.shape.clone(), sender);
        let stop = self.shared.stop.clone();
        // The writer ends with this, and with it the waiting for more rows.
        let reading = async move {
            let read = tokio::select! {
                read = client.page(page, &mut writer) => read,
                () = stop.reached(Urgency::Drain) => Err(SqlError::stopped()),
            };
            // Also what came before an error: it need not be asked for again.
            writer.flush().await?;
            read.map(|()| writer.written())
        };
        let (read, taken) = tokio::join!(reading, self.take_all(chunks));
        taken?;
        read
    }

    async fn take_all(&mut self, mut chunks: Receiver<Chunk>) -> Result<(), SqlError> {
        while let Some(chunk) = chunks.recv().await {
            for entry in chunk.entries() {
                if self.shared.stop.asked() {
                    return Err(SqlError::stopped());
                }
                self.take(&entry).await?;
            }
        }
        Ok(())
    }

    /// Takes one row in.
    async fn take(&mut self, entry: &Entry<'_>) -> Result<(), SqlError> {
        let place = || place(&self.shard, self.table.name(), entry.key);
        let sealed = match entry.refused {
            None => {
                self.rows.clear();
                self.rows.push(entry.row);
                self.intake.take(&self.rows, &place, &mut self.workspace).await
            }
            Some(why) => {
                let place = place();
                warn!(place, reason = why, "row rejected");
                let record = self.record(entry.row);
                self.intake.reject(Reject { place, reason: why.to_owned(), record }).await
            }
        };
        std::mem::swap(&mut self.previous, &mut self.last);
        self.last.clear();
        self.last.extend_from_slice(entry.key);
        self.next += 1;
        self.note_ends(&sealed)?;
        sealed.send().await;
        Ok(())
    }

    /// Remembers where batches ended: before or after the row taken in just now.
    fn note_ends(&mut self, sealed: &Sealed) -> Result<(), SqlError> {
        for (sink, end) in sealed.ends() {
            let position = match *end {
                end if end == self.next => self.key_of(&self.last)?,
                end if end + 1 == self.next => self.key_of(&self.previous)?,
                _ => continue,
            };
            self.progress.places.note(*sink, Place { records: *end, position });
        }
        Ok(())
    }

    /// The key of the last row that was taken in.
    fn key(&self) -> Result<Key, SqlError> {
        self.key_of(&self.last)
    }

    fn key_of(&self, json: &[u8]) -> Result<Key, SqlError> {
        if json.is_empty() {
            return Ok(self.after.clone());
        }
        Key::read(json).ok_or_else(|| {
            let text = format!("a row has NULL in its key: {}", printable(json, 200));
            let remedy = "name columns in `key` that are never NULL";
            SqlError::new(Trouble::Refused, text).remedy(remedy)
        })
    }

    /// A row that is no record, as JSON.
    fn record(&self, row: &[u8]) -> Vec<u8> {
        match serde_json::from_slice::<serde::de::IgnoredAny>(row) {
            Ok(_) => row.to_vec(),
            Err(_) => b"null".to_vec(),
        }
    }

    /// Seals what is left, notes that end before it is sent, and sends it.
    pub(super) async fn close(self, to_its_end: bool) {
        let key = self.key();
        let Lane { intake, progress, shared, next, .. } = self;
        let Closed { sealed, cuts } = intake.close();
        let (keeper, name) = (shared.keeper.clone(), progress.clone());
        let noted = tokio::task::spawn_blocking(move || keeper.cut_lane(&name.name, &cuts)).await;
        if let Ok(Err(error)) = noted {
            // Nothing is lost: at worst, after a crash now, these records arrive twice.
            tracing::error!(%error, "could not write down where the last batch ends");
        }
        sealed.send().await;
        match key {
            Ok(position) => progress.ended(&Place { records: next, position }, to_its_end),
            Err(error) => warn!(%error, "the last rows are read again by the next run"),
        }
    }
}

/// Fields that every row of a table gets, as names and JSON values.
fn added(add: &SqlFields, shard: &str, table: &str, began: &str) -> Vec<(String, String)> {
    let fields = [(&add.shard, shard), (&add.source_table, table), (&add.processed_at, began)];
    let named = fields.into_iter().filter_map(|(name, value)| Some((name.clone()?, value)));
    let quoted = named.map(|(name, value)| {
        let mut json = Vec::new();
        push_string(&mut json, value);
        (name, String::from_utf8_lossy(&json).into_owned())
    });
    quoted.collect()
}

/// The lane's ways into its sinks, and the sinks that get nothing of it.
fn inlets(plan: &LanePlan, shared: &Shared) -> (Vec<Inlet>, Vec<Outlet>) {
    let loads = shared.pipeline.raw.iter().chain(&shared.pipeline.load);
    let (mut inlets, mut elsewhere) = (Vec::new(), Vec::new());
    for ((input, outlet), load) in shared.intake.outlets().into_iter().zip(loads) {
        let name = load.sink_name();
        let Some(start) = plan.starts.get(name).copied() else {
            elsewhere.push(outlet);
            continue;
        };
        let keys = KeyContext::new(&shared.pipeline.name, name, &shared.run_id);
        let builder = BatchBuilder::new(&load.limits(), keys, shared.run_id.clone(), start);
        let builder = builder.with_cuts(plan.cuts.get(name).into_iter().flatten().copied());
        inlets.push(Inlet { input, builder, outlet: outlet.lane(start), start });
    }
    (inlets, elsewhere)
}

fn place(shard: &str, table: &str, key: &[u8]) -> String {
    format!("shard {shard}, {table}, key {}:", printable(key, 200))
}
