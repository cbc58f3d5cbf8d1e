//! What is done to each record between extraction and batch. A step reads one JSON
//! object's bytes and appends another's; a record that a step cannot make sense of
//! is rejected alone, with the field and its value.

mod cpu_indicators;
mod error;

pub use self::error::StepError;
use crate::config::Step;

/// The steps of a pipeline, in order.
#[derive(Debug, Clone)]
pub struct Chain {
    steps: Vec<Step>,
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

impl Chain {
    /// The chain of the given steps.
    #[must_use]
    pub fn new(steps: &[Step]) -> Chain {
        Chain { steps: steps.to_vec() }
    }

    /// Whether there is no step, so that records stay as they are.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
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
    ) -> Result<Verdict, StepError> {
        let Some((last, before)) = self.steps.split_last() else {
            out.extend_from_slice(row);
            return Ok(Verdict::Keep);
        };
        let Scratch { input, output } = scratch;
        for (at, step) in before.iter().enumerate() {
            output.clear();
            let row = if at == 0 { row } else { input.as_slice() };
            if apply_step(step, row, output)? == Verdict::Filtered {
                return Ok(Verdict::Filtered);
            }
            std::mem::swap(input, output);
        }
        apply_step(last, if before.is_empty() { row } else { input }, out)
    }
}

fn apply_step(step: &Step, row: &[u8], out: &mut Vec<u8>) -> Result<Verdict, StepError> {
    match step {
        Step::CpuIndicators => cpu_indicators::apply(row, out).map(|()| Verdict::Keep),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use super::{Chain, Scratch, Verdict};
    use crate::config::Step;

    #[test]
    fn an_empty_chain_passes_records_on_and_a_failed_one_leaves_no_trace() {
        let mut out = b"before".to_vec();
        let empty = Chain::new(&[]);
        assert!(empty.is_empty());
        let verdict = empty.apply(b"{}", &mut Scratch::default(), &mut out).unwrap();
        assert_eq!((verdict, &out[..]), (Verdict::Keep, &b"before{}"[..]));

        let twice = Chain::new(&[Step::CpuIndicators, Step::CpuIndicators]);
        let row = br#"{"ip":"::1","pidle":1,"pnice":2,"puser":3,"psys":4,"pirq":5,"timestamp":6}"#;
        let error = twice.apply(row, &mut Scratch::default(), &mut out).unwrap_err();
        assert_eq!(error.to_string(), "cpu_indicators: pidle is missing");
        assert_eq!(out, b"before{}");
    }
}
