//! Why a step rejected a record.

use std::fmt;
use std::sync::Arc;

use super::record::Broken;
use super::scan::Fault;
use crate::http::printable;

/// The most of a refused value that is shown, in bytes.
pub(super) const VALUE_MAX: usize = 64;

/// Why a step rejected a record: reads `pidle "n/a" is not a number`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepError {
    /// The field; empty when the record as a whole is meant.
    pub field: String,
    /// The field's value as JSON, escaped and capped; empty when it is missing.
    pub value: String,
    /// What is wrong, as in `is not a number`.
    pub reason: String,
}

impl StepError {
    /// A field whose value, as it stands in the record, cannot be used.
    pub(super) fn of(field: &str, value: &str, reason: impl Into<String>) -> StepError {
        StepError {
            field: field.to_owned(),
            value: printable(value.as_bytes(), VALUE_MAX),
            reason: reason.into(),
        }
    }

    /// The record as a whole.
    pub(super) fn whole(reason: impl Into<String>) -> StepError {
        StepError { field: String::new(), value: String::new(), reason: reason.into() }
    }
}

impl From<Fault> for StepError {
    fn from(fault: Fault) -> Self {
        StepError::whole(format!("the record {} (byte {})", fault.problem, fault.at))
    }
}

impl From<Broken> for StepError {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Fault(fault) => fault.into(),
            Broken::Step(error) => error,
        }
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [&self.field, &self.value, &self.reason];
        let mut parts = parts.into_iter().filter(|part| !part.is_empty());
        if let Some(first) = parts.next() {
            f.write_str(first)?;
        }
        parts.try_for_each(|part| write!(f, " {part}"))
    }
}

/// A record that a pipeline's step rejected: reads `sales: transform[2] cast: amount "n/a" is
/// not a number`, the step numbered as in configuration errors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The pipeline's name.
    pub pipeline: Arc<str>,
    /// The step's place in the pipeline's `transform`, from 0.
    pub at: usize,
    /// The step, as the pipeline file spells it.
    pub step: &'static str,
    /// Why.
    pub error: StepError,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: transform[{}] {}: {}", self.pipeline, self.at, self.step, self.error)
    }
}

impl std::error::Error for Rejected {}
