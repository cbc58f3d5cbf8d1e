//! A run: the rooms joined. Configuration is built into sinks, intake and
//! source once; the source is read; everything is brought to a place where it is
//! safe; the books are closed.

mod ending;
mod every;
mod fleet;
mod harvest;
mod intake;
mod keeper;
mod order;
mod plan;
mod reading;
mod rejects;
mod replay;
mod rest;
mod rows;
mod sql;
mod start;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tracing::{Instrument, Span, info, info_span};

use crate::batch::{BatchBuilder, KeyContext};
use crate::checkpoint::{Damage, State, Store};
use crate::config::{Load, Pipeline, SpoolMode};
use crate::extract::Extractor;
use crate::load::runtime::{SinkBegin, SinkEnd, SinkRuntime};
use crate::load::{self, Sink, SinkHome};
use crate::source::rest::{RestClient, Waits};
use crate::spool::{Spool, SpoolOptions};
use crate::stop::{Stop, StopHandle, Urgency};
use crate::telemetry::{Books, BooksSnapshot, SinkInput, traces};
use crate::transform::{Chain, RunFacts};

pub use ending::{conclude, not_begun};
use every::{Every, Sources};
pub use every::{TargetFilter, TargetView};
use intake::{Closed, Inlet, Intake};
use keeper::{Keeper, Kept, Progress};
use plan::Plan;
use reading::{Reading, joined};
use rejects::Rejects;
pub use replay::{Replay, ReplayOrders};
use rows::FileProgress;
use sql::Connectors;
pub use start::StartError;
pub use watch::{RunWatch, Targets};

/// The name under the spool directory where records go that no sink ever saw.
pub const REJECTED: &str = "rejected";

/// What kind of run it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Reads its source to the end, going on where an earlier run was cut short.
    Once,
    /// The same from nothing: no file is taken for loaded.
    Fresh,
    /// As `etl serve` runs it: a fleet with `extract.every` is polled for good.
    Served,
}

/// A run that is ready to begin: everything that can fail early has not.
#[derive(Debug)]
pub struct Run {
    pipeline: Pipeline,
    /// Names the run; part of every batch's key.
    pub run_id: Arc<str>,
    books: Arc<Books>,
    sinks: Vec<(SinkInput, SinkRuntime)>,
    chain: Chain,
    connectors: Connectors,
    extractor: Option<Arc<Extractor>>,
    rejects: Rejects,
    progress: Arc<FileProgress>,
    plan: Plan,
    kept: Kept,
    notices: Vec<String>,
    stop: Stop,
    span: Span,
    /// Its lines in the log name the pipeline.
    log_span: Span,
}

/// What is left of a run.
#[derive(Debug)]
pub struct RunEnd {
    /// Names the run.
    pub run_id: Arc<str>,
    /// How long it took.
    pub took: Duration,
    /// Where every record went.
    pub books: BooksSnapshot,
    /// Per sink, in the order of the pipeline file.
    pub sinks: Vec<SinkEnd>,
    /// Why the source could not be read, or not to its end.
    pub source_error: Option<String>,
    /// Rejects that could not be written down before the run had to end: unaccounted
    /// for in the books. `u64::MAX` when nobody knows how many.
    pub rejects_unwritten: u64,
    /// What was already done of the input, in words.
    pub input: Option<String>,
    /// The record that it went on from, or the targets that were already done.
    pub resumed_from: Option<u64>,
}

impl Run {
    /// Builds everything `pipeline` needs under `data_dir/PIPELINE`, decides whether
    /// an earlier run goes on, makes the run's identity durable and starts its sinks. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When anything is missing or in use; nothing was sent then.
    pub fn prepare(
        pipeline: Pipeline,
        data_dir: &Path,
        mode: Mode,
        stop: &Stop,
        stop_handle: &StopHandle,
    ) -> Result<Run, StartError> {
        let log_span = info_span!("run", pipeline = pipeline.name.as_str());
        let _named = log_span.enter();
        let home = data_dir.join(&pipeline.name);
        let extractor = pipeline.extract.as_ref().map(Extractor::new).transpose()?.map(Arc::new);
        if let Some(extractor) = &extractor {
            start::check_columns(&pipeline, extractor)?;
        }
        if let Some(rest) = &pipeline.source.rest {
            RestClient::new(rest, None, Waits::new(Handle::current(), stop.clone()))?;
        }
        let connectors = start::connectors(&pipeline, &home)?;
        // What is polled cannot be polled again for the same values: spool first.
        let polled = pipeline.is_polled();
        let spooling = if polled { SpoolMode::WriteAhead } else { SpoolMode::OnFailure };
        let raw = pipeline.raw.iter().map(|load| (SinkInput::Raw, load));
        let transformed = pipeline.load.iter().map(|load| (SinkInput::Transformed, load));
        let mut ready = Vec::new();
        for (input, load) in raw.chain(transformed) {
            let spool = open_spool(&home, load)?;
            let sink_home = SinkHome { pipeline: &pipeline.name, directory: &home, input };
            ready.push((input, load, build_sink(load, &sink_home)?, spool));
        }
        let options = pipeline.load.first().map_or_else(
            || Err(StartError::Incomplete("a pipeline without a sink")),
            |load| Ok(spool_options(load)),
        )?;
        let (kept, plan, notices) = begin(&pipeline, &home, mode)?;
        let facts = RunFacts { pipeline: &pipeline.name, run_id: &plan.run_id };
        let chain = Chain::new(&pipeline.transform, facts)?;
        let span = traces::run(&pipeline.name, &plan.run_id, "run");
        let mut sinks = Vec::new();
        for (input, load, sink, spool) in ready {
            let start = plan.start(load.sink_name());
            let (run_id, span) = (plan.run_id.clone(), span.clone());
            let begin = SinkBegin { run_id, mode: spooling, start, span };
            let sink = SinkRuntime::start(load, &begin, sink, spool, stop, stop_handle)?;
            sinks.push((input, sink));
        }
        Ok(Run {
            chain,
            connectors,
            rejects: Rejects::start(home.join("spool").join(REJECTED), options, stop.clone())?,
            run_id: plan.run_id.clone(),
            books: Arc::new(Books::default()),
            progress: Arc::default(),
            stop: stop.clone(),
            pipeline,
            sinks,
            extractor,
            plan,
            kept,
            notices,
            span,
            log_span: log_span.clone(),
        })
    }

    /// What the display looks at while the run is going on.
    #[must_use]
    pub fn watch(&self) -> RunWatch {
        let fleet = self.plan.source.every().map(|every| every.shared());
        RunWatch::new(self.books.clone(), self.progress.clone(), &self.sinks, fleet)
    }

    /// What people should know before it begins: what goes on, what is abandoned,
    /// what was found damaged.
    #[must_use]
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Runs to the end, or until asked to stop.
    pub async fn finish(self) -> RunEnd {
        let log_span = self.log_span.clone();
        self.bring_to_end().instrument(log_span).await
    }

    async fn bring_to_end(self) -> RunEnd {
        let began = Instant::now();
        info!(pipeline = self.pipeline.name, run_id = &*self.run_id, "run begins");
        let Run { pipeline, run_id, books, sinks, chain, connectors, extractor, rejects, .. } =
            self;
        let (mut plan, progress, stop, span) = (self.plan, self.progress, self.stop, self.span);
        let trackers: Vec<_> = sinks
            .iter()
            .map(|(_, sink)| (sink.outlet().name().to_owned(), sink.outlet().tracker()))
            .collect();
        let settling = Sources {
            trackers: trackers.iter().map(|(_, tracker)| tracker.clone()).collect(),
            flusher: rejects.flusher(),
            books: books.clone(),
        };
        let every = plan.source.every().cloned();
        let source = std::mem::replace(&mut plan.source, plan::Source::Nothing);
        let kept_progress = std::mem::replace(&mut plan.progress, Progress::Nothing);
        let numbered = plan.begin.numbered.clone();
        let keeper = Keeper::new(self.kept, kept_progress, trackers, numbered, rejects.flusher());
        let keeper = Arc::new(keeper);
        let clock = keeper.start_clock();
        let inlets = inlets(&pipeline, &plan, &sinks);
        let begin = plan.begin.clone();
        let intake = Intake::new(Arc::new(chain), books.clone(), rejects.sender(), begin, inlets);
        let intake = Arc::new(intake);
        let reading = Reading {
            extractor,
            books: books.clone(),
            progress,
            stop: stop.clone(),
            connectors,
            run_id: run_id.clone(),
            keeper: keeper.clone(),
            settling,
        };
        let read = reading.read(&pipeline, source, &intake).await;
        if let Err(error) = &read {
            tracing::error!(error, "the source could not be read to its end");
        }
        let rejects_unwritten = close_intake(intake, rejects, &keeper).await;
        books.rejects_lost(rejects_unwritten);
        let mut views = Vec::new();
        let mut ends = Vec::new();
        for (input, sink) in sinks {
            let sink_books = sink.books();
            let end = sink.finish().await;
            views.push((end.name.clone(), sink_books, input));
            ends.push(end);
        }
        clock.stop().await;
        if let Some(every) = every {
            let written = rejects_unwritten == 0;
            drop(tokio::task::spawn_blocking(move || every.conclude(written)).await);
        }
        let books = books.snapshot(&views);
        let to_its_end = *read.as_ref().unwrap_or(&false)
            && (books.targets_total == books.targets_done || !stop.asked());
        last_note(&keeper, to_its_end).await;
        info!(pipeline = pipeline.name, run_id = &*run_id, ?books, "run ends");
        traces::run_ended(&span, &books, read.as_ref().err().map(String::as_str));
        RunEnd {
            run_id,
            took: began.elapsed(),
            books,
            sinks: ends,
            source_error: read.err(),
            rejects_unwritten,
            input: plan.said(),
            resumed_from: plan.resumed_from,
        }
    }
}

/// Reads the state, decides what this run is and makes that durable.
fn begin(
    pipeline: &Pipeline,
    home: &Path,
    mode: Mode,
) -> Result<(Kept, Plan, Vec<String>), StartError> {
    let (store, state, damages) = Store::open(&home.join("state"))?;
    let mut notices = Vec::new();
    for Damage { file, reason, moved } in &damages {
        let place = moved.as_ref().map_or_else(String::new, |to| to.display().to_string());
        notices.push(format!("warning: {file} is damaged ({reason}); set aside: {place}"));
    }
    if !damages.is_empty() && state == State::default() {
        notices.push(
            "warning: no checkpoint is left; a new run begins, and what an earlier one had \
             delivered of a data file is sent again under new keys"
                .to_owned(),
        );
    } else if !damages.is_empty() {
        notices.push(
            "warning: going on from the older checkpoint; what was delivered since is sent again \
             under the same keys"
                .to_owned(),
        );
    }
    let every = if mode == Mode::Served { Every::open(pipeline, home)? } else { None };
    let plan = match every {
        Some((every, of_the_fleet)) => {
            notices.extend(of_the_fleet);
            Plan::of_every(every)
        }
        None => Plan::make(pipeline, &state, mode == Mode::Fresh),
    };
    notices.extend(plan.input.clone());
    let mut kept = Kept { store, state, unsaved: false };
    match kept.begin(&plan.progress) {
        Ok(()) => {}
        // What is polled is written ahead, under keys that no later run makes again.
        Err(error) if pipeline.is_polled() => {
            tracing::warn!(%error, "no checkpoint can be written, trying again");
            kept.unsaved = true;
        }
        Err(error) => return Err(StartError::State(error.into())),
    }
    Ok((kept, plan, notices))
}

fn inlets(pipeline: &Pipeline, plan: &Plan, sinks: &[(SinkInput, SinkRuntime)]) -> Vec<Inlet> {
    sinks
        .iter()
        .zip(pipeline.raw.iter().chain(&pipeline.load))
        .map(|((input, sink), load)| {
            let name = load.sink_name();
            let keys = KeyContext::new(&pipeline.name, name, &plan.run_id);
            let start = plan.start(name);
            let cuts = plan.cuts.get(name).into_iter().flatten().copied();
            let builder = BatchBuilder::new(&load.limits(), keys, plan.run_id.clone(), start);
            let builder = builder.with_cuts(cuts);
            Inlet { input: *input, builder, outlet: sink.outlet(), start }
        })
        .collect()
}

/// Sends what is left and waits for the rejects; gives those that were not written.
async fn close_intake(mut intake: Arc<Intake>, rejects: Rejects, keeper: &Arc<Keeper>) -> u64 {
    // The source's tasks are over; a last handle may be on its way out.
    let intake = loop {
        match Arc::try_unwrap(intake) {
            Ok(intake) => break intake,
            Err(shared) => intake = shared,
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    let Closed { sealed, cuts } = intake.close();
    let keeper_too = keeper.clone();
    let cut = tokio::task::spawn_blocking(move || keeper_too.cut(&cuts)).await;
    if let Ok(Err(error)) = cut {
        // Nothing is lost: at worst, after a crash now, these records arrive twice.
        tracing::error!(%error, "could not write down where the last batch ends");
    }
    sealed.send().await;
    let unwritten = tokio::task::spawn_blocking(move || rejects.finish()).await.unwrap_or(u64::MAX);
    keeper.rejects_closed(unwritten == 0);
    unwritten
}

/// Writes down how far the run has come in the end.
async fn last_note(keeper: &Arc<Keeper>, to_its_end: bool) {
    let keeper = keeper.clone();
    let noted = tokio::task::spawn_blocking(move || keeper.note(to_its_end)).await;
    if let Ok(Err(error)) = noted {
        tracing::error!(%error, "could not write the last checkpoint; the next run repeats a little");
    }
}

fn open_spool(home: &Path, load: &Load) -> Result<Spool, StartError> {
    let directory: PathBuf = home.join("spool").join(load.sink_name());
    Spool::open(&directory, spool_options(load))
        .map_err(|source| StartError::Spool { sink: load.sink_name().to_owned(), source })
}

fn spool_options(load: &Load) -> SpoolOptions {
    SpoolOptions { max_bytes: load.spool.max_bytes.0, min_free: load.spool.min_free.0 }
}

fn build_sink(load: &Load, home: &SinkHome<'_>) -> Result<Arc<dyn Sink>, StartError> {
    load::build(load, home)
        .map_err(|source| StartError::Sink { sink: load.sink_name().to_owned(), source })
}

/// How long a polite stop may take.
pub const DRAIN_PATIENCE: Duration = Duration::from_secs(30);

/// Asks the run to end in an orderly way, and at once when that takes too long.
pub async fn drain(stop: &StopHandle, patience: Duration) {
    stop.ask(Urgency::Drain);
    tokio::time::sleep(patience).await;
    stop.ask(Urgency::Now);
}
