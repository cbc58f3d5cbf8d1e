//! One call per source record: a target goes in, the rows it answers with come out,
//! or the reason why there are none. One deadline lies over everything a target
//! needs – connecting, attempts, the waits between them, reading the answer – so that
//! a slow target costs its time and nothing else.

mod answer;
mod cpu;
mod error;
mod exposition;
mod http;
mod node_exporter;
mod packed;
mod place;
mod progress;
mod samples;
mod shelf;
mod simulated;
mod snmp;
mod target;
mod template;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use self::error::{ExtractError, ExtractorError, UrlError};
use self::http::HttpGet;
use self::node_exporter::NodeExporter;
use self::progress::Progress;
use self::simulated::SimulatedCpu;
use self::snmp::Snmp;
#[cfg(any(test, fuzzing))]
pub(crate) use self::snmp::fuzzing;
pub use self::snmp::{Oid, SnmpError};
pub use self::target::{Target, TargetError};
use self::template::UrlTemplate;
use crate::batch::Rows;
use crate::config::{Extract, HttpFormat, SnmpCpu, Span};

/// Extracts from targets as the pipeline's `extract` says; built once, shared by all
/// calls in flight.
#[derive(Debug)]
pub struct Extractor {
    kind: Kind,
    timeout: Duration,
}

#[derive(Debug)]
enum Kind {
    Simulated(SimulatedCpu),
    Json { get: HttpGet, records: Option<String> },
    NodeExporter(NodeExporter),
    Snmp(Box<Snmp>),
}

impl Extractor {
    /// Builds the extractor; nothing is connected yet.
    ///
    /// # Errors
    /// When the configuration is contradictory or its URL or authority file of no use.
    pub fn new(config: &Extract) -> Result<Extractor, ExtractorError> {
        let kind = match (&config.simulated, &config.http, &config.snmp) {
            (Some(simulated), None, None) => Kind::Simulated(SimulatedCpu::new(simulated)?),
            (None, Some(http), None) => {
                let get = HttpGet::new(http, config)?;
                match http.format {
                    HttpFormat::Json => {
                        answer::check_pointer(http.records.as_deref())?;
                        Kind::Json { get, records: http.records.clone() }
                    }
                    HttpFormat::NodeExporter => {
                        let Span(interval) = http.sample_interval;
                        if interval >= config.timeout.0 {
                            return Err(ExtractorError::SampleInterval {
                                kind: "http",
                                interval: http.sample_interval,
                                timeout: config.timeout,
                            });
                        }
                        Kind::NodeExporter(NodeExporter::new(get, interval))
                    }
                }
            }
            (None, None, Some(snmp)) => {
                if snmp.cpu == Some(SnmpCpu::Ucd) && snmp.sample_interval >= config.timeout {
                    return Err(ExtractorError::SampleInterval {
                        kind: "snmp",
                        interval: snmp.sample_interval,
                        timeout: config.timeout,
                    });
                }
                Kind::Snmp(Box::new(Snmp::new(snmp, config)?))
            }
            _ => return Err(ExtractorError::OneKind),
        };
        Ok(Extractor { kind, timeout: config.timeout.0 })
    }

    /// The source columns that the configuration refers to, so that a missing one can
    /// be refused before the first call.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        let address = match &self.kind {
            Kind::Simulated(_) => None,
            Kind::Json { .. } | Kind::NodeExporter(_) => self.get().map(HttpGet::template),
            Kind::Snmp(snmp) => Some(snmp.host()),
        };
        address.into_iter().flat_map(UrlTemplate::columns)
    }

    /// The key of the configuration that names these columns.
    #[must_use]
    pub fn address_key(&self) -> &'static str {
        match &self.kind {
            Kind::Snmp(_) => "extract.snmp.host",
            _ => "extract.http.url",
        }
    }

    /// The host that `target` is asked at; none where it is not known before.
    #[must_use]
    pub fn host(&self, target: &Target) -> Option<String> {
        let fields = target.fields().ok()?;
        let url = match &self.kind {
            Kind::Simulated(_) => return None,
            Kind::Json { .. } | Kind::NodeExporter(_) => self.get()?.url(&fields).ok()?,
            Kind::Snmp(snmp) => snmp.host().url(&fields).ok()?,
        };
        url.host().map(str::to_owned)
    }

    /// Keeps up to `most` connections that nobody uses for so long.
    pub fn keep_connections(&self, idle: Duration, most: usize) {
        if let Some(get) = self.get() {
            get.keep_connections(idle, most);
        }
    }

    fn get(&self) -> Option<&HttpGet> {
        match &self.kind {
            Kind::Simulated(_) | Kind::Snmp(_) => None,
            Kind::Json { get, .. } => Some(get),
            Kind::NodeExporter(exporter) => Some(exporter.get()),
        }
    }

    /// Appends the rows that `target` answers with: the source's fields, then the
    /// answer's, which win where names are equal, and `timestamp` in unix seconds
    /// where neither has one. An empty JSON array is an answer without rows.
    ///
    /// # Errors
    /// When the target has not answered properly within the deadline; `rows` is then
    /// as it was.
    pub async fn extract(&self, target: &Target, rows: &mut Rows) -> Result<(), ExtractError> {
        let progress = Progress::default();
        let calling = async {
            match &self.kind {
                Kind::Simulated(simulated) => simulated.rows(target).await,
                Kind::NodeExporter(exporter) => exporter.rows(target, &progress).await,
                // Apart, so that a poll over HTTP is no larger for it.
                Kind::Snmp(snmp) => Box::pin(snmp.rows(target, &progress)).await,
                Kind::Json { get, records } => {
                    let url = get.url(&target.fields()?)?;
                    let body = get.body(&url, &progress).await?;
                    let fields = target.fields()?;
                    answer::rows(&fields, &body, records.as_deref(), unix_seconds())
                }
            }
        };
        let answered = match tokio::time::timeout(self.timeout, calling).await {
            Ok(answered) => answered?,
            Err(_) => return Err(progress.timed_out(self.timeout)),
        };
        rows.append(answered);
        Ok(())
    }
}

/// Now, in unix seconds.
fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
