//! Why a step rejected a record.

use std::fmt;

/// Why a step rejected a record: reads `cpu_indicators: pidle "n/a" is not a number`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepError {
    /// The step, as the pipeline file spells it.
    pub step: &'static str,
    /// The field; empty when the record as a whole is meant.
    pub field: String,
    /// The field's value as JSON, escaped and capped; empty when it is missing.
    pub value: String,
    /// What is wrong, as in `is not a number`.
    pub reason: String,
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.step)?;
        for part in [&self.field, &self.value, &self.reason] {
            if !part.is_empty() {
                write!(f, " {part}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for StepError {}
