//! CPU percentages from a Prometheus node_exporter: the counters of this poll against
//! those of the last one. A first poll, or one after a restart, takes a second sample
//! a little later.

use std::sync::Arc;
use std::time::Duration;

use hyper::Uri;
use tokio::time::Instant;

use super::answer::push_merged;
use super::cpu::{CpuShares, Incomparable, push_percentages, shares};
use super::error::ExtractError;
use super::exposition::{CpuSeconds, cpu_seconds};
use super::http::HttpGet;
use super::progress::{Phase, Progress};
use super::samples::Samples;
use super::target::Target;
use super::unix_seconds;
use crate::batch::Rows;
use crate::config::Span;
use rows::json::push_string;

/// Polls node_exporters.
#[derive(Debug)]
pub(super) struct NodeExporter {
    get: HttpGet,
    interval: Duration,
    /// By URL.
    last: Samples<Sample>,
}

#[derive(Debug)]
struct Sample {
    taken: Instant,
    cpus: Box<[CpuSeconds]>,
}

impl NodeExporter {
    pub(super) fn new(get: HttpGet, interval: Duration) -> Self {
        NodeExporter { get, interval, last: Samples::default() }
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
        let fields = target.fields()?;
        let url = self.get.url(&fields)?;
        let key = url.to_string();
        let cpus = self.poll(&url, &key, progress).await?;
        let mut rows = Rows::few();
        let now = unix_seconds();
        for cpu in &cpus {
            push_merged(&fields, &row(cpu, now), now, &mut rows)?;
        }
        Ok(rows)
    }

    async fn poll(
        &self,
        url: &Uri,
        key: &str,
        progress: &Progress,
    ) -> Result<Vec<CpuShares>, ExtractError> {
        let first = self.sample(url, progress).await?;
        if let Some(last) = self.last.last(key) {
            let elapsed = first.taken - last.taken;
            // Closer samples would say little: the counters move in hundredths of a second.
            if elapsed * 2 >= self.interval
                && let Ok(cpus) = shares(&last.cpus, &first.cpus, elapsed)
            {
                self.last.keep(key, Arc::new(first));
                return Ok(cpus);
            }
        }
        progress.enter(Phase::BetweenSamples);
        tokio::time::sleep(self.interval).await;
        let second = self.sample(url, progress).await?;
        let elapsed = second.taken - first.taken;
        let compared = shares(&first.cpus, &second.cpus, elapsed);
        self.last.keep(key, Arc::new(second));
        compared.map_err(|why| ExtractError::Answer(self.incomparable(why)))
    }

    async fn sample(&self, url: &Uri, progress: &Progress) -> Result<Sample, ExtractError> {
        let text = self.get.body(url, progress).await?;
        let cpus = cpu_seconds(&text).map_err(ExtractError::Answer)?;
        // Kept for every target: no room for more.
        Ok(Sample { taken: Instant::now(), cpus: cpus.into() })
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

/// What the exporter's answer adds to the source's fields.
fn row(cpu: &CpuShares, now: u64) -> Vec<u8> {
    let mut row = b"{\"cpu_number\":".to_vec();
    push_string(&mut row, &cpu.cpu);
    push_percentages(&mut row, cpu.percent);
    row.extend_from_slice(format!(",\"timestamp\":{now}}}").as_bytes());
    row
}
