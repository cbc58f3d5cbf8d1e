//! An SQL run: every table of every shard is a lane. A lane reads pages in the order of
//! cursor and key, one after the other; shards and lanes read beside each other, under
//! a limit of connections for each shard.
//!
//! Each lane numbers its records by itself, far from the others, and fills batches of its
//! own by records and bytes alone. So batches are a function of the lane's rows, whatever
//! the others do: rows that are read again after a crash come in the same batches under
//! the same keys, as long as they have not changed.

mod lane;
mod progress;
mod shard;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::task::JoinSet;
use tracing::{info, warn};

use super::intake::Intake;
use super::keeper::Keeper;
use crate::checkpoint::Place;
use crate::config::{Pipeline, SqlSource};
use crate::source::sql::{Connector, Key};
use crate::stop::Stop;
use crate::telemetry::Books;

pub(super) use progress::LaneProgress;
use shard::{Failure, ShardRun};

/// Lanes' first numbers are this far apart: no lane of one run has more records.
pub(super) const LANE_RECORDS: u64 = 1 << 40;

/// What connects to each shard, in the order of the configuration.
pub(super) type Connectors = Vec<Arc<dyn Connector>>;

/// What a run of a source begins with.
#[derive(Debug)]
pub(super) struct SqlRun {
    pub(super) shards: Vec<ShardPlan>,
    /// When the run began, ISO 8601: for `processed_at`.
    pub(super) began: String,
}

/// One shard and what is read of it.
#[derive(Debug)]
pub(super) struct ShardPlan {
    pub(super) name: String,
    pub(super) lanes: Vec<LanePlan>,
}

/// One table of a shard, and where reading goes on.
#[derive(Debug)]
pub(super) struct LanePlan {
    /// Its table's place in the configuration.
    pub(super) table: usize,
    /// Where the sink is that is furthest behind.
    pub(super) begin: Place<Key>,
    /// Where the others are, ascending: reading stops at each key, so that rows which
    /// have gone or come do not shift what a sink is said to have.
    pub(super) stops: VecDeque<Place<Key>>,
    /// Per sink by name, the first record that is not settled in it.
    pub(super) starts: BTreeMap<String, u64>,
    /// Per sink by name, where an earlier process has cut batches off.
    pub(super) cuts: BTreeMap<String, Vec<u64>>,
    /// Rejects before this record are written down.
    pub(super) rejects_until: u64,
    pub(super) progress: Arc<LaneProgress>,
}

/// What all shards and lanes of a run share.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) run_id: Arc<str>,
    pub(super) began: Arc<str>,
    pub(super) intake: Arc<Intake>,
    pub(super) keeper: Arc<Keeper>,
    pub(super) books: Arc<Books>,
    pub(super) stop: Stop,
}

impl Shared {
    /// The source's settings.
    fn source(&self) -> Option<&SqlSource> {
        self.pipeline.source.sql.as_ref()
    }
}

impl SqlRun {
    /// Reads all shards; says whether it was not stopped before. A shard or table that
    /// cannot be read is counted and told, and stops no other.
    pub(super) async fn read(self, connectors: Connectors, shared: Shared) -> bool {
        let books = &shared.books;
        books.targets_are("shards");
        books.targets_total.store(self.shards.len() as u64, Relaxed);
        let mut reading = JoinSet::new();
        for (plan, connector) in self.shards.into_iter().zip(connectors) {
            let run = ShardRun::new(plan.name, connector, shared.clone());
            reading.spawn(async move { (run.name().to_owned(), run.read(plan.lanes).await) });
            books.targets_in_flight.fetch_add(1, Relaxed);
        }
        while let Some(ended) = reading.join_next().await {
            books.targets_in_flight.fetch_sub(1, Relaxed);
            let (name, failures) = match ended {
                Ok(ended) => ended,
                Err(error) => {
                    let why = format!("a reading task ended in a panic: {error}");
                    (String::new(), vec![Failure { table: None, why }])
                }
            };
            if shared.stop.asked() {
                continue;
            }
            if let Some(first) = failures.first() {
                books.target_failed(|| first.told(&name));
            } else {
                info!(shard = name, "shard read");
            }
            for failure in &failures {
                warn!("{}", failure.told(&name));
            }
            books.targets_done.fetch_add(1, Relaxed);
        }
        !shared.stop.asked()
    }
}
