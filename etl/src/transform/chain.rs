//! The steps of a pipeline, built once for a run and shared by all that move records.

use std::sync::Arc;

use super::add::Add;
use super::cast::Cast;
use super::cpu_indicators;
use super::dedupe::Dedupe;
use super::error::{Rejected, StepError};
use super::flatten::Flatten;
use super::jq::Jq;
use super::mask::Mask;
use super::path::Path;
use super::rename::Rename;
use super::select::{Drop, Keep, Require};
use super::timestamp::{Form, Times, Timestamp, zone};
use super::words::{Concat, Trim};
use crate::batch::run_began;
use crate::config::{self, Named, Step};

/// The steps of a pipeline, in order.
#[derive(Debug)]
pub struct Chain {
    pipeline: Arc<str>,
    steps: Vec<(&'static str, Built)>,
}

/// What steps know of the run: the same for a run that is resumed.
#[derive(Debug, Clone, Copy)]
pub struct RunFacts<'a> {
    /// The pipeline's name.
    pub pipeline: &'a str,
    /// The run's identity, which also says when it began.
    pub run_id: &'a str,
}

/// A step that cannot be built, although the configuration was checked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("transform[{at}] {step}: {reason}")]
pub struct BuildError {
    /// The step's place, from 0.
    pub at: usize,
    /// The step, as the pipeline file spells it.
    pub step: &'static str,
    /// Why.
    pub reason: String,
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The record goes on, as it was appended.
    Keep,
    /// The user asked to drop it; nothing was appended.
    Filtered,
}

/// Memory for the records between two steps, kept by each worker.
#[derive(Debug, Default)]
pub struct Scratch {
    input: Vec<u8>,
    output: Vec<u8>,
}

/// A step as it runs.
#[derive(Debug)]
enum Built {
    CpuIndicators,
    Keep(Keep),
    Drop(Drop),
    Rename(Rename),
    Trim(Trim),
    Require(Require),
    Cast(Cast),
    Timestamp(Timestamp),
    Add(Add),
    Concat(Concat),
    Flatten(Flatten),
    Dedupe(Dedupe),
    Mask(Mask),
    Jq(Jq),
}

impl RunFacts<'_> {
    /// When the run began, Unix seconds.
    pub(super) fn began_seconds(&self) -> u64 {
        run_began(self.run_id).unwrap_or(0)
    }

    /// When the run began, in UTC.
    pub(super) fn began(&self) -> String {
        let seconds = i64::try_from(self.began_seconds()).unwrap_or(0);
        jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
    }
}

impl Chain {
    /// The chain of the given steps, for one run.
    ///
    /// # Errors
    /// When a step's settings are unusable; the configuration's rules refuse them before.
    pub fn new(steps: &[Step], run: RunFacts<'_>) -> Result<Chain, BuildError> {
        let built = steps.iter().enumerate().map(|(at, step)| {
            let built = Built::new(step, &run);
            built.map(|built| (step.name(), built)).map_err(|reason| BuildError {
                at,
                step: step.name(),
                reason,
            })
        });
        Ok(Chain { pipeline: run.pipeline.into(), steps: built.collect::<Result<_, _>>()? })
    }

    /// Whether there is no step, so that records stay as they are.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether a step's verdict depends on the records before: a run that goes on where an
    /// earlier process stopped must show it those first.
    #[must_use]
    pub fn remembers(&self) -> bool {
        self.steps.iter().any(|(_, step)| matches!(step, Built::Dedupe(_)))
    }

    /// Forgets the records before, which are going to come again as new ones.
    pub fn forget(&self) {
        for (_, step) in &self.steps {
            if let Built::Dedupe(step) = step {
                step.forget();
            }
        }
    }

    /// Applies all steps to `row`, one JSON object, and appends the result to `out`.
    /// On an error and when the record is filtered, `out` is left as it was.
    ///
    /// # Errors
    /// When a step cannot make sense of the record.
    pub fn apply(
        &self,
        row: &[u8],
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> Result<Verdict, Rejected> {
        let Some((last, before)) = self.steps.split_last() else {
            out.extend_from_slice(row);
            return Ok(Verdict::Keep);
        };
        let Scratch { input, output } = scratch;
        for (at, (name, step)) in before.iter().enumerate() {
            output.clear();
            let row = if at == 0 { row } else { input.as_slice() };
            if self.reject(at, name, step.apply(row, output))? == Verdict::Filtered {
                return Ok(Verdict::Filtered);
            }
            std::mem::swap(input, output);
        }
        let length = out.len();
        let (name, step) = last;
        let verdict = step.apply(if before.is_empty() { row } else { input }, out);
        if !matches!(verdict, Ok(Verdict::Keep)) {
            out.truncate(length);
        }
        self.reject(before.len(), name, verdict)
    }

    fn reject(
        &self,
        at: usize,
        step: &'static str,
        verdict: Result<Verdict, StepError>,
    ) -> Result<Verdict, Rejected> {
        verdict.map_err(|error| Rejected { pipeline: self.pipeline.clone(), at, step, error })
    }
}

impl Built {
    fn new(step: &Step, run: &RunFacts<'_>) -> Result<Built, String> {
        Ok(match step {
            Step::CpuIndicators => Built::CpuIndicators,
            Step::Keep(fields) => Built::Keep(Keep::new(&paths(fields)?)),
            Step::Drop(fields) => Built::Drop(Drop::new(&paths(fields)?)),
            Step::Rename(names) => {
                let pairs = named(names)?.into_iter().map(|(from, to)| Ok((from, path(to)?)));
                Built::Rename(Rename::new(&pairs.collect::<Result<Vec<_>, String>>()?))
            }
            Step::Trim(config::Trim::All(_)) => Built::Trim(Trim::All),
            Step::Trim(config::Trim::Fields(fields)) => Built::Trim(Trim::fields(&paths(fields)?)),
            Step::Require(fields) => Built::Require(Require::new(paths(fields)?)),
            Step::Cast(fields) => {
                let fields = named(fields)?.into_iter().map(|(path, to)| (path, *to));
                Built::Cast(Cast::new(fields.collect()))
            }
            Step::Timestamp(fields) => Built::Timestamp(Timestamp::new(times(fields)?)),
            Step::Add(fields) => Built::Add(Add::new(named(fields)?, run)),
            Step::Concat(concat) => {
                let from = paths(&concat.from)?;
                Built::Concat(Concat::new(&path(&concat.into)?, from, &concat.with))
            }
            Step::Flatten(flatten) => Built::Flatten(Flatten::new(&flatten.separator)),
            Step::Dedupe(dedupe) => {
                Built::Dedupe(Dedupe::new(&paths(dedupe.fields())?, dedupe.remember()))
            }
            Step::Mask(fields) => {
                let fields = named(fields)?.into_iter().map(|(path, how)| (path, *how));
                Built::Mask(Mask::new(&fields.collect::<Vec<_>>()))
            }
            Step::Jq(program) => Built::Jq(Jq::new(program, run)?),
        })
    }

    fn apply(&self, row: &[u8], out: &mut Vec<u8>) -> Result<Verdict, StepError> {
        match self {
            Built::CpuIndicators => cpu_indicators::apply(row, out),
            Built::Keep(step) => step.apply(row, out),
            Built::Drop(step) => step.apply(row, out),
            Built::Rename(step) => step.apply(row, out),
            Built::Trim(step) => step.apply(row, out),
            Built::Require(step) => step.apply(row, out),
            Built::Cast(step) => step.apply(row, out),
            Built::Timestamp(step) => step.apply(row, out),
            Built::Add(step) => step.apply(row, out),
            Built::Concat(step) => step.apply(row, out),
            Built::Flatten(step) => step.apply(row, out),
            Built::Mask(step) => step.apply(row, out),
            Built::Dedupe(step) => return step.apply(row, out),
            Built::Jq(step) => return step.apply(row, out),
        }
        .map(|()| Verdict::Keep)
    }
}

fn path(text: &str) -> Result<Path, String> {
    Path::parse(text).map_err(|problem| format!("a path {problem}"))
}

fn paths(texts: &[String]) -> Result<Vec<Path>, String> {
    texts.iter().map(|text| path(text)).collect()
}

fn named<T>(fields: &Named<T>) -> Result<Vec<(Path, &T)>, String> {
    fields.0.iter().map(|(name, value)| Ok((path(name)?, value))).collect()
}

fn times(fields: &config::Timestamp) -> Result<Vec<Times>, String> {
    let auto = config::TimestampFrom::default();
    let fields: Vec<(Path, &config::TimestampFrom)> = match fields {
        config::Timestamp::Field(field) => vec![(path(field)?, &auto)],
        config::Timestamp::Fields(fields) => {
            paths(fields)?.into_iter().map(|path| (path, &auto)).collect()
        }
        config::Timestamp::Settings(fields) => named(fields)?,
    };
    let field = |(path, settings): (Path, &config::TimestampFrom)| {
        let zone_name = settings.zone.as_deref().unwrap_or("UTC");
        Ok(Times {
            path,
            form: Form::parse(settings.from.as_deref().unwrap_or("auto"))?,
            zone: zone(zone_name).ok_or("there is no such zone")?,
        })
    };
    fields.into_iter().map(field).collect()
}
