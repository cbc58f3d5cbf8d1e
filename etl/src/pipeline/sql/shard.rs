//! One shard: its tables are looked at over one connection, then read over as many as
//! are allowed. A connection that cannot be made or breaks is made again a few times,
//! apart from anything that tries a whole run again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::lane::Lane;
use super::{LanePlan, Shared};
use crate::config::SqlSource;
use crate::source::sql::{Client, Connector, Outline, SqlError, Trouble, relation};
use crate::stop::Urgency;

/// A shard, or one of its tables, that could not be read.
#[derive(Debug)]
pub(super) struct Failure {
    /// The table; none: the shard.
    pub(super) table: Option<String>,
    pub(super) why: String,
}

/// One shard being read.
#[derive(Debug, Clone)]
pub(super) struct ShardRun {
    name: Arc<str>,
    connector: Arc<dyn Connector>,
    shared: Shared,
    queue: Arc<Mutex<VecDeque<Lane>>>,
    /// Why no connection can be made any more.
    down: Arc<OnceLock<SqlError>>,
}

impl Failure {
    /// As people read it.
    pub(super) fn told(&self, shard: &str) -> String {
        match &self.table {
            Some(table) => format!("shard {shard}, {table}: {}", self.why),
            None => format!("shard {shard}: {}", self.why),
        }
    }
}

impl ShardRun {
    pub(super) fn new(name: String, connector: Arc<dyn Connector>, shared: Shared) -> ShardRun {
        let (queue, down) = (Arc::default(), Arc::default());
        ShardRun { name: name.into(), connector, shared, queue, down }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Reads all lanes; gives what could not be read.
    pub(super) async fn read(&self, plans: Vec<LanePlan>) -> Vec<Failure> {
        let Some(source) = self.shared.source() else { return Vec::new() };
        let mut link = Link::new(self);
        let mut failures = match self.look(&mut link, plans, source).await {
            Ok(failures) => failures,
            Err(error) => return vec![Failure { table: None, why: error.to_string() }],
        };
        let lanes = self.queue().len();
        let mut readers = JoinSet::new();
        let first = std::iter::once(link);
        let links = first.chain(std::iter::repeat_with(|| Link::new(self)));
        for link in links.take(source.connections.min(lanes)) {
            let run = self.clone();
            readers.spawn(async move { run.read_lanes(link).await });
        }
        while let Some(ended) = readers.join_next().await {
            match ended {
                Ok(more) => failures.extend(more),
                Err(error) => failures.push(Failure {
                    table: None,
                    why: format!("a reading task ended in a panic: {error}"),
                }),
            }
        }
        failures
    }

    /// Looks at all tables before a row of any is read: a type that cannot be read is
    /// refused while nothing has been sent. Fills the queue.
    async fn look(
        &self,
        link: &mut Link,
        plans: Vec<LanePlan>,
        source: &SqlSource,
    ) -> Result<Vec<Failure>, SqlError> {
        let (mut failures, mut lanes) = (Vec::new(), VecDeque::new());
        for plan in plans {
            let Some(table) = source.tables.get(plan.table) else { continue };
            let relation = relation(table);
            let found = loop {
                let client = link.client().await?;
                match client.describe(&relation).await {
                    Err(error) if link.is_worth_another(&error).await => {}
                    found => break found,
                }
            };
            let outline = found.and_then(|found| Outline::new(table, found, &source.add));
            match outline {
                Ok(outline) => {
                    let what = (source, table);
                    lanes.push_back(Lane::new(&self.name, plan, what, outline, &self.shared));
                }
                Err(error) if error.trouble == Trouble::Connection => return Err(error),
                Err(error) => failures
                    .push(Failure { table: Some(table.name().to_owned()), why: error.to_string() }),
            }
        }
        *self.queue() = lanes;
        Ok(failures)
    }

    /// Reads lanes one after the other until there are no more.
    async fn read_lanes(&self, mut link: Link) -> Vec<Failure> {
        let mut failures = Vec::new();
        loop {
            let next = self.queue().pop_front();
            let Some(lane) = next else { return failures };
            let table = lane.table().to_owned();
            if let Err(error) = self.read_lane(&mut link, lane).await
                && error.trouble != Trouble::Stopped
            {
                failures.push(Failure { table: Some(table), why: error.to_string() });
            }
        }
    }

    /// Reads one lane, over as many connections as it takes.
    async fn read_lane(&self, link: &mut Link, mut lane: Lane) -> Result<(), SqlError> {
        let read = loop {
            let before = lane.taken();
            let read = match link.client().await {
                Ok(client) => lane.read(client).await,
                Err(error) => break Err(error),
            };
            if lane.taken() > before {
                link.fails = 0;
            }
            match read {
                Err(error) if link.is_worth_another(&error).await => {}
                read => break read,
            }
        };
        lane.close(read.is_ok()).await;
        read
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, VecDeque<Lane>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that is made when it is needed.
struct Link {
    run: ShardRun,
    client: Option<Box<dyn Client>>,
    /// Failures one after the other.
    fails: u32,
}

impl Link {
    fn new(run: &ShardRun) -> Link {
        Link { run: run.clone(), client: None, fails: 0 }
    }

    /// The connection, made anew where there is none.
    async fn client(&mut self) -> Result<&mut dyn Client, SqlError> {
        let client = match self.client.take() {
            Some(client) => client,
            None => loop {
                if let Some(error) = self.run.down.get() {
                    return Err(error.clone());
                }
                let stopped = self.run.shared.stop.reached(Urgency::Drain);
                let connected = tokio::select! {
                    connected = self.run.connector.connect() => connected,
                    () = stopped => Err(SqlError::stopped()),
                };
                match connected {
                    Ok(client) => break client,
                    Err(error) if self.is_worth_another(&error).await => {}
                    Err(error) if error.trouble == Trouble::Stopped => return Err(error),
                    Err(error) => return Err(self.run.down.get_or_init(|| error).clone()),
                }
            },
        };
        Ok(&mut **self.client.insert(client))
    }

    /// Whether another try is worth it after `error`; waits before it, and drops the
    /// connection in any case.
    async fn is_worth_another(&mut self, error: &SqlError) -> bool {
        self.client = None;
        let Some(source) = self.run.shared.source() else { return false };
        let retry = source.connect_retry;
        self.fails += 1;
        if error.trouble != Trouble::Connection
            || self.fails >= retry.attempts
            || self.run.shared.stop.asked()
        {
            return false;
        }
        let (shard, tries) = (&*self.run.name, self.fails);
        match tries {
            1 => warn!(shard, %error, "connection lost, trying again"),
            _ => debug!(shard, tries, %error, "still no connection"),
        }
        tokio::select! {
            () = tokio::time::sleep(retry.wait.0) => true,
            () = self.run.shared.stop.reached(Urgency::Drain) => false,
        }
    }
}
