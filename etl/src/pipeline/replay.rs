//! A run without a source: what waits in the spools goes out, under the same
//! locks, workers, breakers and retries as in any other run.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tracing::info;

use super::{RunEnd, RunWatch, StartError, build_sink, open_spool};
use crate::batch::new_run_id;
use crate::config::{Load, Pipeline, Rate, SpoolMode};
use crate::load::SinkHome;
use crate::load::plan::ReplayPlan;
use crate::load::runtime::{SinkBegin, SinkRuntime};
use crate::spool::inspect::{FileView, Kind, sinks};
use crate::stop::{Stop, StopHandle};
use crate::telemetry::{Books, SinkInput, traces};

/// What to replay.
#[derive(Debug, Clone, Default)]
pub struct ReplayOrders {
    /// Only this sink.
    pub sink: Option<String>,
    /// Instead of the sinks' configured rates.
    pub rate: Option<Rate>,
    /// Dead letters instead of what waits.
    pub dead: bool,
    /// Which batches, and in which order.
    pub plan: ReplayPlan,
}

/// A replay that is ready to begin.
#[derive(Debug)]
pub struct Replay {
    /// Names it in reports and in the history.
    pub run_id: Arc<str>,
    name: String,
    books: Arc<Books>,
    sinks: Vec<(SinkInput, SinkRuntime)>,
    began: Instant,
    /// The dead-letter files that it sends.
    dead: Vec<FileView>,
}

impl ReplayOrders {
    /// The sinks of `pipeline` that are meant.
    pub fn loads<'a>(
        &'a self,
        pipeline: &'a Pipeline,
    ) -> impl Iterator<Item = (SinkInput, &'a Load)> {
        let raw = pipeline.raw.iter().map(|load| (SinkInput::Raw, load));
        let transformed = pipeline.load.iter().map(|load| (SinkInput::Transformed, load));
        let wanted = |load: &Load| self.sink.as_ref().is_none_or(|name| name == load.sink_name());
        raw.chain(transformed).filter(move |(_, load)| wanted(load))
    }

    /// The files of one sink that would be sent, in order.
    ///
    /// # Errors
    /// When the spool cannot be listed.
    pub fn files(
        &self,
        data_dir: &Path,
        pipeline: &str,
        sink: &str,
    ) -> std::io::Result<Vec<FileView>> {
        let views = sinks(data_dir)?;
        let Some(view) = views.iter().find(|it| it.pipeline == pipeline && it.sink == sink) else {
            return Ok(Vec::new());
        };
        let mut files = view.files()?;
        files.retain(|file| match file.kind {
            Kind::Pending | Kind::Spooled => !self.dead,
            Kind::Dead => self.dead,
            Kind::Corrupt => false,
        });
        let mut files = self.plan.pick(files);
        let most = self.plan.batches_max.and_then(|most| usize::try_from(most).ok());
        files.truncate(most.unwrap_or(usize::MAX));
        Ok(files)
    }
}

impl Replay {
    /// Opens the spools that `orders` mean and starts sending. Must be called inside
    /// a tokio runtime.
    ///
    /// # Errors
    /// When a spool is in use or a sink's settings are unusable; nothing was sent then.
    pub fn prepare(
        pipeline: &Pipeline,
        data_dir: &Path,
        orders: &ReplayOrders,
        stop: &Stop,
        stop_handle: &StopHandle,
    ) -> Result<Replay, StartError> {
        let home = data_dir.join(&pipeline.name);
        let run_id: Arc<str> = new_run_id().into();
        let mut ready = Vec::new();
        for (input, load) in orders.loads(pipeline) {
            let mut load = load.clone();
            load.rate = orders.rate.or(load.rate);
            let spool = open_spool(&home, &load)?;
            let sink_home = SinkHome { pipeline: &pipeline.name, directory: &home, input };
            ready.push((input, build_sink(&load, &sink_home)?, spool, load));
        }
        let span = traces::run(&pipeline.name, &run_id, "replay");
        let (mut started, mut dead) = (Vec::new(), Vec::new());
        for (input, sink, spool, load) in ready {
            let mut plan = orders.plan.clone();
            if orders.dead {
                let files = orders.files(data_dir, &pipeline.name, load.sink_name())?;
                dead.extend(files.iter().cloned());
                plan.dead = Some(files);
            }
            // Nothing new comes in, so that mode and start decide nothing.
            let begin = SinkBegin {
                run_id: run_id.clone(),
                mode: SpoolMode::OnFailure,
                start: 0,
                span: span.clone(),
            };
            let sink =
                SinkRuntime::start_with(&load, &begin, sink, spool, stop, stop_handle, plan)?;
            started.push((input, sink));
        }
        Ok(Replay {
            run_id,
            name: pipeline.name.clone(),
            books: Arc::default(),
            sinks: started,
            began: Instant::now(),
            dead,
        })
    }

    /// What the display looks at.
    #[must_use]
    pub fn watch(&self) -> RunWatch {
        RunWatch::new(self.books.clone(), Arc::default(), &self.sinks, None)
    }

    /// The dead-letter files that are sent; those that were are gone afterwards.
    #[must_use]
    pub fn dead(&self) -> &[FileView] {
        &self.dead
    }

    /// Sends until nothing more can be delivered, or until asked to stop.
    pub async fn finish(self) -> RunEnd {
        let (mut views, mut ends) = (Vec::new(), Vec::new());
        info!(pipeline = self.name, run_id = &*self.run_id, "replay begins");
        for (input, sink) in self.sinks {
            let books = sink.books();
            let end = sink.finish().await;
            views.push((end.name.clone(), books, input));
            ends.push(end);
        }
        let books = self.books.snapshot(&views);
        info!(pipeline = self.name, run_id = &*self.run_id, ?books, "replay ends");
        RunEnd {
            run_id: self.run_id,
            took: self.began.elapsed(),
            books,
            sinks: ends,
            source_error: None,
            rejects_unwritten: 0,
            input: None,
            resumed_from: None,
        }
    }
}
