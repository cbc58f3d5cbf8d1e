//! Reading the source to its end, whatever kind of run it is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::every::{Means, Sources};
use super::fleet::Fleet;
use super::intake::Intake;
use super::keeper::Keeper;
use super::plan::Source;
use super::rows::FileProgress;
use super::sql::{Connectors, Shared};
use crate::config::Pipeline;
use crate::extract::Extractor;
use crate::source::SourceError;
use crate::stop::Stop;
use crate::telemetry::Books;

/// How often lingering batches are looked at when none is due.
const LINGER_LOOK: Duration = Duration::from_millis(250);

/// What reading needs besides the source.
pub(super) struct Reading {
    pub(super) extractor: Option<Arc<Extractor>>,
    pub(super) books: Arc<Books>,
    pub(super) progress: Arc<FileProgress>,
    pub(super) stop: Stop,
    /// What reaches the shards of an SQL source.
    pub(super) connectors: Connectors,
    pub(super) run_id: Arc<str>,
    pub(super) keeper: Arc<Keeper>,
    /// What tells whether records are settled.
    pub(super) settling: Sources,
}

impl Reading {
    /// Reads the source, polling each row where the pipeline extracts; says whether
    /// it came to the end.
    pub(super) async fn read(
        self,
        pipeline: &Pipeline,
        source: Source,
        intake: &Arc<Intake>,
    ) -> Result<bool, String> {
        match source {
            Source::Nothing => Ok(true),
            Source::Failed(error) => Err(error.to_string()),
            // A file is read as fast as sinks take it, and its batches must be the
            // same on every reading: time seals none of them.
            Source::Rows(file) => file.read(intake.clone(), self.progress, self.stop).await,
            // An API's pages too: asked for again after a crash, they should give the
            // same batches.
            Source::Rest(run) => {
                let Some(rest) = &pipeline.source.rest else { return Ok(true) };
                let (keeper, books) = (self.keeper, self.books);
                run.read_on_thread(rest, intake.clone(), keeper, books, self.stop).await
            }
            // The tables of shards too.
            Source::Sql(run) => {
                let shared = Shared {
                    pipeline: Arc::new(pipeline.clone()),
                    run_id: self.run_id,
                    began: run.began.as_str().into(),
                    intake: intake.clone(),
                    keeper: self.keeper,
                    books: self.books,
                    stop: self.stop,
                };
                Ok(run.read(self.connectors, shared).await)
            }
            Source::Every(every) => {
                let Some(extractor) = self.extractor else { return Ok(true) };
                let (books, stop, sources) = (self.books, self.stop, self.settling);
                let intake = intake.clone();
                let lingering = Lingering::start(&intake);
                let result = every.run(Means { extractor, intake, books, stop, sources }).await;
                lingering.stop().await;
                result
            }
            Source::Fleet { targets, done_before, settled } => {
                let (Some(extractor), Some(extract), Some(csv)) =
                    (self.extractor, &pipeline.extract, &pipeline.source.csv)
                else {
                    return Ok(true);
                };
                let (intake, books, stop) = (intake.clone(), self.books, self.stop);
                let lingering = Lingering::start(&intake);
                let fleet = Fleet { extractor, intake, books, stop, done_before, settled };
                let result = fleet.run(csv, targets, extract.workers()).await;
                lingering.stop().await;
                result.map(|()| true)
            }
        }
    }
}

/// What a reading thread came to; a panic there is an error like any other here.
pub(super) fn joined<T>(
    result: Result<Result<T, SourceError>, tokio::task::JoinError>,
) -> Result<T, String> {
    match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(format!("the reading thread ended in a panic: {error}")),
    }
}

/// Seals batches of a fleet by time.
struct Lingering {
    done: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Lingering {
    fn start(intake: &Arc<Intake>) -> Lingering {
        let (done, is_done) = oneshot::channel();
        Lingering { done, task: tokio::spawn(seal_lingering(intake.clone(), is_done)) }
    }

    /// Asked, not aborted: it may be holding a sealed batch.
    async fn stop(self) {
        drop(self.done);
        drop(self.task.await);
    }
}

/// Seals batches whose first record has waited for the linger time.
async fn seal_lingering(intake: Arc<Intake>, mut is_done: oneshot::Receiver<()>) {
    loop {
        let latest = Instant::now() + LINGER_LOOK;
        let next = intake.seal_due().await.unwrap_or(latest).min(latest);
        tokio::select! {
            () = tokio::time::sleep_until(next.into()) => {}
            _ = &mut is_done => return,
        }
    }
}
