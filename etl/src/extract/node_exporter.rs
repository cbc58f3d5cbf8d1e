//! CPU percentages from a Prometheus node_exporter: the counters of this poll against
//! those of the last one. A first poll, or one after a restart, takes a second sample
//! a little later.

use std::io::Write;
use std::time::Duration;

use hyper::Uri;
use rows::json::push_string;
use tokio::time::Instant;

use super::answer::{Field, TIMESTAMP, before_answer, push_fields, separate};
use super::cpu::{COLUMNS, CpuShares, Incomparable, push_percentages, shares};
use super::error::ExtractError;
use super::exposition::{CpuSeconds, cpu_seconds};
use super::http::HttpGet;
use super::packed::PackedSamples;
use super::progress::{Phase, Progress};
use super::samples::Key;
use super::target::{Fields, Target};
use super::unix_seconds;
use crate::batch::Rows;
use crate::config::Span;

/// What an exporter's answer adds to the source's fields, beside [`COLUMNS`] and [`TIMESTAMP`].
const CPU_NUMBER: &str = "cpu_number";

/// Polls node_exporters.
#[derive(Debug)]
pub(super) struct NodeExporter {
    get: HttpGet,
    interval: Duration,
    /// What times of samples are counted from.
    began: Instant,
    /// By URL.
    last: PackedSamples,
}

#[derive(Debug)]
struct Sample {
    /// After the beginning.
    taken: Duration,
    cpus: Vec<CpuSeconds>,
}

impl NodeExporter {
    pub(super) fn new(get: HttpGet, interval: Duration) -> Self {
        NodeExporter { get, interval, began: Instant::now(), last: PackedSamples::default() }
    }

    pub(super) fn get(&self) -> &HttpGet {
        &self.get
    }

    /// One row per CPU.
    pub(super) async fn rows(
        &self,
        target: &Target,
        progress: &Progress,
    ) -> Result<Rows, ExtractError> {
        let url = self.get.url(&target.fields()?)?;
        let cpus = self.poll(&url, progress).await?;
        let (fields, now) = (target.fields()?, unix_seconds());
        let before = begin_rows(&fields);
        let mut rows = Rows::few();
        for cpu in &cpus {
            rows.push_with(|out| {
                push_fields(out, before.iter().copied());
                push_answer(out, cpu, now);
            });
        }
        Ok(rows)
    }

    async fn poll(&self, url: &Uri, progress: &Progress) -> Result<Vec<CpuShares>, ExtractError> {
        // Apart, so that a target that is asked twice takes little between the two.
        let first = Box::pin(self.sample(url, progress)).await?;
        let key = key(url);
        if let Some((taken, last)) = self.last.last(key) {
            let elapsed = first.taken.saturating_sub(taken);
            // Closer samples would say little: the counters move in hundredths of a second.
            if elapsed * 2 >= self.interval
                && let Ok(cpus) = shares(&last, &first.cpus, elapsed)
            {
                self.last.keep(key, first.taken, &first.cpus);
                return Ok(cpus);
            }
        }
        progress.enter(Phase::BetweenSamples);
        tokio::time::sleep(self.interval).await;
        let second = Box::pin(self.sample(url, progress)).await?;
        let elapsed = second.taken.saturating_sub(first.taken);
        let compared = shares(&first.cpus, &second.cpus, elapsed);
        self.last.keep(key, second.taken, &second.cpus);
        compared.map_err(|why| ExtractError::Answer(self.incomparable(why)))
    }

    async fn sample(&self, url: &Uri, progress: &Progress) -> Result<Sample, ExtractError> {
        let text = self.get.body(url, progress).await?;
        let cpus = cpu_seconds(&text).map_err(ExtractError::Answer)?;
        Ok(Sample { taken: self.began.elapsed(), cpus })
    }

    fn incomparable(&self, why: Incomparable) -> String {
        let interval = Span(self.interval);
        match why {
            Incomparable::OtherCpus => "CPUs came or went between two samples".to_owned(),
            Incomparable::Restarted => "the CPU counters began anew between two samples".to_owned(),
            Incomparable::Still => format!(
                "the CPU counters did not move in {interval}; is something caching the answer?"
            ),
        }
    }
}

/// What a target's samples are kept by.
fn key(url: &Uri) -> Key {
    Key::of(&url.to_string())
}

/// The source's fields that every row begins with.
fn begin_rows<'f, 'a>(fields: &'f Fields<'a>) -> Vec<&'f Field<'a>> {
    let columns = COLUMNS.iter().map(|(name, _)| *name);
    before_answer(fields, columns.chain([CPU_NUMBER, TIMESTAMP]))
}

/// Ends a row with what the exporter's answer adds to the source's fields.
fn push_answer(row: &mut Vec<u8>, cpu: &CpuShares, now: u64) {
    separate(row);
    // Writing to memory cannot fail.
    write!(row, "\"{CPU_NUMBER}\":").ok();
    push_string(row, &cpu.cpu);
    push_percentages(row, cpu.percent);
    write!(row, ",\"{TIMESTAMP}\":{now}}}").ok();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use super::super::answer::push_merged;
    use super::{CpuShares, Rows, begin_rows, push_answer, push_fields};
    use crate::source::fields::all;

    #[test]
    fn a_row_is_what_merging_the_answer_would_give() {
        let cpu = CpuShares { cpu: "1\"0".into(), percent: [0.0, 1.5, 2.0, 99.999, 4.0, 5.0, 6.0] };
        let wide: Vec<String> = (0..60).map(|n| format!("\"c{}\":{n}", n % 40)).collect();
        for source in [
            "{}".to_owned(),
            r#"{"ip":"::1","hostname":"a"}"#.to_owned(),
            r#"{"timestamp":1,"ip":"a","pidle":"x","ip":"b","cpu_number":7}"#.to_owned(),
            format!("{{{}}}", wide.join(",")),
        ] {
            let fields = all(source.as_bytes()).unwrap();
            let (mut rows, mut merged, mut answer) = (Rows::few(), Rows::few(), b"{".to_vec());
            rows.push_with(|out| {
                push_fields(out, begin_rows(&fields));
                push_answer(out, &cpu, 1_800_000_000);
            });
            push_answer(&mut answer, &cpu, 1_800_000_000);
            push_merged(&fields, &answer, 1, &mut merged).unwrap();
            let text =
                |rows: &Rows| String::from_utf8(rows.iter().next().unwrap().to_vec()).unwrap();
            assert_eq!(text(&rows), text(&merged));
            assert_eq!(text(&rows).matches("\"c7\":").count(), usize::from(source.contains("c7")));
        }
    }
}
