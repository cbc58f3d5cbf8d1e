//! Alerts of a run by hand or by a timer: told when it is over, by the process that ran
//! it, without holding it up for long. What does not arrive is told by the next run.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::board::Board;
use super::channel::{Channel, ChannelKind};
use super::message::Message;
use super::problems::{Look, observe};
use super::state;
use crate::config::{Alerts, Pipeline};
use crate::history::RunRecord;
use crate::load::backoff::full_jitter;
use crate::load::unix_seconds;
use crate::schedule::spools_of;

/// Attempts to send a message, and the longest that all messages may take together.
const ATTEMPTS: u32 = 3;
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Tells what came of a run; without one, what came of a replay. With `stopped` somebody
/// waits for the process to end: nothing is sent, and the next run tells it.
pub async fn after_run(
    pipeline: &Pipeline,
    data_dir: &Path,
    run: Option<&RunRecord>,
    stopped: bool,
) {
    let Some(alerts) = &pipeline.alerts else { return };
    let until = Instant::now() + PATIENCE;
    let look = Look {
        run,
        spools: spools_of(data_dir, &pipeline.name),
        missed: None,
        now: unix_seconds(),
    };
    let mut kept = state::load(data_dir, &pipeline.name);
    let mut known = BTreeMap::new();
    let mut boards = Vec::new();
    for channel in usable(alerts) {
        let mut board = Board::default();
        board.restore(&pipeline.name, kept.remove(&channel.id).unwrap_or_default());
        let seen = observe(&pipeline.name, alerts, &look);
        board.update(look.now, &pipeline.name, alerts, &seen);
        known.insert(channel.id.clone(), board.alerts(&pipeline.name).to_vec());
        boards.push((channel, board));
    }
    // What is to be told is kept before it is told: this process may end meanwhile.
    state::save(data_dir, &pipeline.name, known.clone());
    if stopped {
        return;
    }
    for (channel, mut board) in boards {
        let Some(message) = board.due(look.now, true) else { continue };
        match send(&channel, &message, until).await {
            Ok(()) => {
                board.told(unix_seconds(), &message);
                known.insert(channel.id.clone(), board.alerts(&pipeline.name).to_vec());
                state::save(data_dir, &pipeline.name, known.clone());
            }
            Err(error) => {
                let channel = channel.kind().name();
                tracing::warn!(
                    channel,
                    error,
                    "an alert could not be sent; the next run tries it again"
                );
            }
        }
    }
}

/// Tells that a run could not begin.
pub async fn not_begun(pipeline: &Pipeline, data_dir: &Path, error: &str) {
    let run = RunRecord {
        pipeline: pipeline.name.clone(),
        began: unix_seconds(),
        result: "failed".to_owned(),
        errors: vec![error.to_owned()],
        ..RunRecord::default()
    };
    after_run(pipeline, data_dir, Some(&run), false).await;
}

/// Sends a test message every way that `alerts` asks for.
pub async fn test(pipeline: &str, alerts: &Alerts) -> Vec<(ChannelKind, Result<(), String>)> {
    let mut sent = Vec::new();
    for (kind, channel) in Channel::all(alerts) {
        let came = match channel {
            Ok(channel) => channel.send(&Message::test(pipeline, unix_seconds())).await,
            Err(error) => Err(error),
        };
        sent.push((kind, came));
    }
    sent
}

/// The ways that can be used; the others are in the log.
pub(super) fn usable(alerts: &Alerts) -> Vec<Channel> {
    let mut usable = Vec::new();
    for (kind, channel) in Channel::all(alerts) {
        match channel {
            Ok(channel) => usable.push(channel),
            Err(error) => {
                tracing::error!(channel = kind.name(), error, "alerts cannot be sent this way");
            }
        }
    }
    usable
}

async fn send(channel: &Channel, message: &Message, until: Instant) -> Result<(), String> {
    let trying = async {
        let mut failures = 0;
        loop {
            match channel.send(message).await {
                Ok(()) => return Ok(()),
                Err(error) if failures + 1 >= ATTEMPTS => return Err(error),
                Err(_) => failures += 1,
            }
            tokio::time::sleep(full_jitter(PAUSE, PAUSE_MAX, failures, fastrand::f64())).await;
        }
    };
    let late = || Err(format!("not sent within {} s", PATIENCE.as_secs()));
    tokio::time::timeout_at(until, trying).await.unwrap_or_else(|_| late())
}
