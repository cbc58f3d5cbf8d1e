//! `/metrics`: what the books of all runs say, written out anew for each look. Nothing is
//! counted here, so the numbers cannot differ from the books. Labels are names of
//! pipelines, sinks and results, never a target, an address or an error.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::alerts::TallyFigures;
use crate::load::unix_seconds;
use crate::schedule::{Activity, Figures, RUN_SECONDS, ReloadState, Scheduler, SinkSpool};
use crate::telemetry::{FleetSnapshot, LAG_SECONDS, REQUEST_SECONDS, SinkState};

/// Labels of one series.
type Labels = Vec<(&'static str, String)>;

/// All metrics in the OpenMetrics format.
pub(super) fn open_metrics(scheduler: &Scheduler) -> String {
    let pipelines = scheduler.served();
    let figures = |served: &crate::schedule::Served| served.figures(scheduler.data_dir());
    let snapshot = Snapshot {
        pipelines: pipelines.iter().map(|it| (it.name.clone(), figures(it))).collect(),
        reload: scheduler.reload_state(),
        alerts: scheduler.alerts().figures(),
    };
    let mut registry = Registry::default();
    registry.register_collector(Box::new(snapshot));
    let mut page = String::new();
    // Writing to memory does not fail.
    encode(&mut page, &registry).ok();
    page
}

/// All metrics in the older text format, which names a counter with its `_total`.
pub(super) fn text(scheduler: &Scheduler) -> String {
    older_format(&open_metrics(scheduler))
}

fn older_format(page: &str) -> String {
    let mut text = String::with_capacity(page.len());
    let mut help: Option<&str> = None;
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = Some(rest);
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or((rest, "untyped"));
            let suffix = if kind == "counter" { "_total" } else { "" };
            let about = help.take().and_then(|help| help.split_once(' ')).map_or("", |it| it.1);
            text.push_str(&format!("# HELP {name}{suffix} {about}\n"));
            text.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
            continue;
        }
        if !line.starts_with('#') {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// Everything at one moment.
#[derive(Debug)]
struct Snapshot {
    pipelines: Vec<(String, Figures)>,
    reload: ReloadState,
    alerts: TallyFigures,
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let page = &mut Page { encoder };
        self.process(page)?;
        self.kept_names(page)?;
        self.sinks(page)?;
        self.fleets(page)?;
        self.runs(page)?;
        self.told(page)
    }
}

impl Snapshot {
    fn process(&self, page: &mut Page<'_>) -> fmt::Result {
        let build = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        page.gauges("etl_build_info", "The program's version; always 1", [(build, 1.0)])?;
        let one = |value: u64| [(Labels::new(), value)];
        page.counters(
            "etl_config_reloads",
            "Pipeline files read again because they changed",
            one(self.reload.reloads),
        )?;
        page.counters(
            "etl_config_reload_failures",
            "Pipeline files that were wrong when they were read again",
            one(self.reload.failures),
        )?;
        let wrong = self.reload.wrong.len() as f64;
        let help = "Pipeline files that are wrong now; what they said before is in force";
        page.gauges("etl_config_wrong_files", help, [(Labels::new(), wrong)])
    }

    /// The names that dashboards of the earlier systems use.
    fn kept_names(&self, page: &mut Page<'_>) -> fmt::Result {
        type Column = fn(&Figures) -> u64;
        let counters: [(&str, &str, Column); 11] = [
            ("etl_api_requests", "Requests to the source", |it| it.totals.requests.total()),
            ("etl_api_requests_failed", "Requests to the source without a usable answer", |it| {
                it.totals.requests.failed
            }),
            ("etl_records_processed", "Records read", |it| it.totals.extracted),
            (
                "etl_transformation_errors",
                "Records refused before any sink, by the source or the transform",
                |it| it.totals.rejected,
            ),
            ("etl_data_saved", "Records that sinks acknowledged", |it| {
                it.totals.sum(|sink| sink.delivered)
            }),
            ("etl_database_writes", "Batches that databases acknowledged", |it| {
                it.totals.sum(|sink| if sink.database { sink.batches } else { 0 })
            }),
            ("etl_database_write_errors", "Attempts that databases did not answer well", |it| {
                it.totals.sum(|sink| if sink.database { sink.failed } else { 0 })
            }),
            ("etl_extractions", "Runs whose source could be read", |it| it.extractions),
            ("etl_transformations", "Records that came out of the transform", |it| {
                it.totals.transformed()
            }),
            ("etl_loads", "Batches that sinks acknowledged", |it| {
                it.totals.sum(|sink| sink.batches)
            }),
            ("etl_failures", "Runs that did not deliver everything", |it| {
                let all: u64 = it.results.values().sum();
                all - it.results.get("complete").copied().unwrap_or(0)
            }),
        ];
        for (name, help, column) in counters {
            page.counters(name, help, self.each(column))?;
        }
        let help = "Records dropped because the pipeline asked for it";
        page.counters("etl_records_filtered", help, self.each(|it| it.totals.filtered))?;
        let requests = self.each(|it| {
            let requests = it.totals.requests;
            (requests.micros as f64 / 1e6, requests.buckets.to_vec())
        });
        let help = "How long requests to the source took";
        page.histograms("etl_api_request_duration_seconds", help, &REQUEST_SECONDS, requests)
    }

    fn sinks(&self, page: &mut Page<'_>) -> fmt::Result {
        type Column = fn(&crate::schedule::SinkTotals) -> u64;
        let counters: [(&str, &str, Column); 5] = [
            ("etl_records_delivered", "Records that the sink acknowledged", |it| it.delivered),
            ("etl_records_replayed", "Of these, records that had been spooled", |it| it.replayed),
            ("etl_records_dead_lettered", "Records that the sink will never take", |it| {
                it.dead_lettered
            }),
            ("etl_sink_failures", "Attempts that the sink did not answer well", |it| it.failed),
            ("etl_sink_retries", "Attempts after a batch's first", |it| it.retries),
        ];
        for (name, help, column) in counters {
            page.counters(name, help, self.each_sink(column))?;
        }
        let in_flight = self.each_sink(|sink| sink.in_flight_bytes as f64);
        page.gauges("etl_in_flight_bytes", "Bytes of batches being sent now", in_flight)?;
        let open = self.pipelines.iter().flat_map(|(name, figures)| {
            figures.totals.sinks.keys().map(move |sink| {
                let health = figures.sinks.iter().find(|health| health.name == *sink);
                let open = health.is_some_and(|health| health.state != SinkState::Up);
                (labels(name, sink), f64::from(u8::from(open)))
            })
        });
        page.gauges("etl_circuit_open", "Whether the sink is taken for down: 1, or not: 0", open)?;
        let now = unix_seconds();
        type Level = fn(&SinkSpool, u64) -> f64;
        let levels: [(&str, &str, Level); 4] = [
            ("etl_spool_bytes", "Bytes of what waits in the spool", |it, _| it.bytes as f64),
            ("etl_spool_batches", "Batches that wait in the spool", |it, _| it.batches as f64),
            (
                "etl_spool_oldest_age_seconds",
                "How long the oldest of them has waited; 0 without one",
                |it, now| it.oldest_since.map_or(0.0, |since| now.saturating_sub(since) as f64),
            ),
            ("etl_dead_letter_records", "Records in the dead letters, of all time", |it, _| {
                it.dead_records as f64
            }),
        ];
        for (name, help, level) in levels {
            let series = self.pipelines.iter().flat_map(|(name, figures)| {
                let spools = figures.spools.iter();
                spools.map(move |(sink, spool)| (labels(name, sink), level(spool, now)))
            });
            page.gauges(name, help, series)?;
        }
        Ok(())
    }

    /// Fleets that are polled for good.
    fn fleets(&self, page: &mut Page<'_>) -> fmt::Result {
        type Column = fn(&FleetSnapshot) -> u64;
        let levels: [(&str, &str, Column); 4] = [
            ("etl_fleet_targets", "Targets of the inventory that is in force", |it| it.targets),
            ("etl_fleet_in_flight", "Polls in flight", |it| it.in_flight),
            ("etl_fleet_in_flight_max", "Polls that may be in flight", |it| it.in_flight_max),
            ("etl_fleet_demoted", "Targets polled less often because they fail", |it| it.demoted),
        ];
        for (name, help, level) in levels {
            page.gauges(name, help, self.each_fleet(|fleet| level(fleet) as f64))?;
        }
        let outcomes: [(&str, Column); 3] = [
            ("answered", |it| it.answered),
            ("failed", |it| it.failed),
            ("timed_out", |it| it.timed_out),
        ];
        let polls = outcomes.iter().flat_map(|(outcome, column)| {
            self.each_fleet(column).map(|(mut labels, polls)| {
                labels.push(("outcome", (*outcome).to_owned()));
                (labels, polls)
            })
        });
        page.counters("etl_fleet_polls", "Polls by how they ended", polls)?;
        let help = "Due times that came while the target was still waiting or polled";
        page.counters("etl_fleet_polls_missed", help, self.each_fleet(|it| it.missed))?;
        let lag = self.each_fleet(|it| (it.lag_micros as f64 / 1e6, it.lag.to_vec()));
        let help = "How late polls began that nothing but the scheduler kept waiting";
        page.histograms("etl_fleet_lag_seconds", help, &LAG_SECONDS, lag)
    }

    fn runs(&self, page: &mut Page<'_>) -> fmt::Result {
        let results = self.pipelines.iter().flat_map(|(name, figures)| {
            let results = figures.results.iter();
            results.map(move |(result, runs)| {
                (vec![("pipeline", name.clone()), ("result", result.clone())], *runs)
            })
        });
        page.counters("etl_runs", "Runs by what came of them", results)?;
        type Column = fn(&Figures) -> u64;
        let counters: [(&str, &str, Column); 3] = [
            ("etl_schedule_skipped_runs", "Due runs not begun because one was going on", |it| {
                it.skipped
            }),
            ("etl_schedule_missed_runs", "Due runs that nobody was there to begin", |it| it.missed),
            ("etl_run_retries", "Runs tried again", |it| it.retries),
        ];
        for (name, help, column) in counters {
            page.counters(name, help, self.each(column))?;
        }
        type Level = fn(&Figures) -> f64;
        let levels: [(&str, &str, Level); 4] = [
            ("etl_run_in_progress", "Whether a run is going on: 1, or not: 0", |it| {
                f64::from(u8::from(matches!(it.activity, Activity::Running { .. })))
            }),
            (
                "etl_run_unmoved_seconds",
                "How long nothing has moved in the run that is going on; 0 without one",
                |it| match it.activity {
                    Activity::Running { idle, .. } => idle.as_secs_f64(),
                    _ => 0.0,
                },
            ),
            ("etl_stopped", "Whether it was told to stop: 1, or not: 0", |it| {
                f64::from(u8::from(it.activity == Activity::Stopped))
            }),
            ("etl_schedule_lag_seconds", "How late the last run began", |it| it.lag.as_secs_f64()),
        ];
        for (name, help, level) in levels {
            page.gauges(name, help, self.each(level))?;
        }
        let success = self.known(|it| it.last_success.map(|at| at as f64));
        let help = "When the last run that delivered everything ended, Unix seconds";
        page.gauges("etl_last_success_timestamp_seconds", help, success)?;
        let due = self.known(|it| it.due.map(|due| due.timestamp_millis() as f64 / 1000.0));
        let help = "When the next run is due, Unix seconds";
        page.gauges("etl_next_run_timestamp_seconds", help, due)?;
        let took = self.each(|it| (it.durations.seconds, it.durations.buckets.to_vec()));
        page.histograms("etl_run_duration_seconds", "How long runs took", &RUN_SECONDS, took)
    }

    /// What people were told.
    fn told(&self, page: &mut Page<'_>) -> fmt::Result {
        let problems = self.alerts.problems.iter();
        let problems =
            problems.map(|(name, count)| (vec![("pipeline", name.clone())], *count as f64));
        let help = "Problems that alerts speak of, of pipelines that have alerts";
        page.gauges("etl_alert_problems", help, problems)?;
        let by_channel = |counts: &[(&str, u64)]| -> Vec<(Labels, u64)> {
            counts
                .iter()
                .map(|(name, count)| (vec![("channel", (*name).to_owned())], *count))
                .collect()
        };
        let help = "Messages of alerts that arrived";
        page.counters("etl_alert_messages", help, by_channel(&self.alerts.sent))?;
        let help = "Attempts to send a message that failed; it is sent again";
        page.counters("etl_alert_failures", help, by_channel(&self.alerts.failed))
    }

    /// One series for each pipeline.
    fn each<T>(&self, value: impl Fn(&Figures) -> T) -> impl Iterator<Item = (Labels, T)> {
        let one = move |(name, figures): &(String, Figures)| {
            (vec![("pipeline", name.clone())], value(figures))
        };
        self.pipelines.iter().map(one)
    }

    /// One series for each pipeline of which it is known.
    fn known(&self, value: fn(&Figures) -> Option<f64>) -> impl Iterator<Item = (Labels, f64)> {
        self.each(value).filter_map(|(labels, value)| Some((labels, value?)))
    }

    /// One series for each fleet that is polled for good.
    fn each_fleet<T>(
        &self,
        value: impl Fn(&FleetSnapshot) -> T,
    ) -> impl Iterator<Item = (Labels, T)> {
        let fleets = self.each(|it| it.totals.fleet);
        fleets.filter_map(move |(labels, fleet)| Some((labels, value(&fleet?))))
    }

    /// One series for each sink of each pipeline.
    fn each_sink<T>(
        &self,
        value: impl Fn(&crate::schedule::SinkTotals) -> T,
    ) -> impl Iterator<Item = (Labels, T)> {
        let sinks = self.pipelines.iter().flat_map(|(name, figures)| {
            figures.totals.sinks.iter().map(move |(sink, totals)| (labels(name, sink), totals))
        });
        sinks.map(move |(labels, totals)| (labels, value(totals)))
    }
}

fn labels(pipeline: &str, sink: &str) -> Labels {
    vec![("pipeline", pipeline.to_owned()), ("sink", sink.to_owned())]
}

/// The page being written, one metric after the other.
struct Page<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl Page<'_> {
    /// A counter; its series' names end in `_total`, which `name` does not.
    fn counters(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels, u64)>,
    ) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in series {
            if labels.is_empty() {
                // The only one of its name.
                return ConstCounter::new(value).encode(metric);
            }
            ConstCounter::new(value).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn gauges(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels, f64)>,
    ) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in series {
            if labels.is_empty() {
                // The only one of its name.
                return ConstGauge::new(value).encode(metric);
            }
            ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// A histogram of sums and counts per bucket, with one count more than `ends`.
    fn histograms(
        &mut self,
        name: &str,
        help: &str,
        ends: &[f64],
        series: impl IntoIterator<Item = (Labels, (f64, Vec<u64>))>,
    ) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, (sum, counts)) in series {
            let ends = ends.iter().copied().chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = ends.zip(counts).collect();
            let all = buckets.iter().map(|(_, count)| count).sum();
            let mut series = metric.encode_family(&labels)?;
            series.encode_histogram::<NoLabelSet>(sum, all, &buckets, None)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::{Snapshot, older_format};
    use crate::schedule::{Figures, ReloadState};

    #[test]
    fn both_formats_name_the_same_series_and_the_older_one_its_counters_whole() {
        let pipelines = vec![("p".to_owned(), Figures::default())];
        let mut registry = Registry::default();
        let reload = ReloadState { reloads: 7, ..ReloadState::default() };
        let alerts = crate::alerts::Tally::default().figures();
        registry.register_collector(Box::new(Snapshot { pipelines, reload, alerts }));
        let mut page = String::new();
        assert!(encode(&mut page, &registry).is_ok());
        assert!(page.ends_with("# EOF\n"));
        assert!(page.contains("# TYPE etl_config_reloads counter\netl_config_reloads_total 7\n"));
        let text = older_format(&page);
        for line in [
            "# HELP etl_loads_total Batches that sinks acknowledged",
            "# TYPE etl_loads_total counter",
            "etl_loads_total{pipeline=\"p\"} 0",
            "# TYPE etl_run_duration_seconds histogram",
            "etl_run_duration_seconds_bucket{le=\"+Inf\",pipeline=\"p\"} 0",
            "etl_config_wrong_files 0.0",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
        assert!(!text.contains("EOF"));
        let series = |page: &str| -> Vec<String> {
            page.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
        };
        assert_eq!(series(&page), series(&text));
    }
}
