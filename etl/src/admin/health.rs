//! `/health`: is everything there that the work depends on? `/ready`: does the work go
//! on? Databases are asked themselves, at most every ten seconds; of other sinks is
//! known what their last requests came to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{SecondsFormat, Utc};
use http::StatusCode;
use serde_json::{Map, Value as Json, json};

use super::Admin;
use super::routes::{Answer, json};
use crate::config::Loaded;
use crate::exit::Exit;
use crate::http::printable;
use crate::load::{self, Probe, Reach, Sink, SinkHome};
use crate::schedule::{Activity, Figures, Scheduler, Served};
use crate::telemetry::SinkInput;
use crate::telemetry::{SinkKind, SinkState};

/// How long a probe's answer is good for.
const FRESH: Duration = Duration::from_secs(10);
/// How long a database may take to answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// A pipeline is overdue when it should have begun this many intervals ago…
const INTERVALS_MAX: u32 = 3;
/// …and at least so long.
const OVERDUE_MIN: Duration = Duration::from_secs(10);
const TEXT_MAX: usize = 500;

/// `/health`.
pub(super) fn health(admin: &Admin) -> Answer {
    let mut components = Map::new();
    let answers = admin.probes.answers();
    for served in admin.scheduler.served() {
        let figures = served.figures(admin.scheduler.data_dir());
        components.insert(served.name.clone(), of_pipeline(&figures));
        for sink in &figures.sinks {
            let component = of_sink(&sink.state);
            components.insert(format!("{}/{}", served.name, sink.name), component);
        }
    }
    for ((pipeline, sink), answer) in answers {
        components.insert(format!("{pipeline}/{sink}"), of_probe(&answer));
    }
    let good = components.values().all(|component| component["status"] == "healthy");
    answer(good, "healthy", "unhealthy", components)
}

/// `/ready`.
pub(super) fn ready(admin: &Admin) -> Answer {
    let mut components = Map::new();
    for served in admin.scheduler.served() {
        let figures = served.figures(admin.scheduler.data_dir());
        let trouble = trouble(&admin.scheduler, &served, &figures, admin.stuck_after);
        let component = match trouble {
            None => json!({"status": "ready"}),
            Some(trouble) => json!({"status": "not_ready", "error": trouble}),
        };
        components.insert(served.name.clone(), component);
    }
    if admin.scheduler.stopping() {
        let component = json!({"status": "not_ready", "error": "stopping"});
        components.insert("server".to_owned(), component);
    }
    let good = components.values().all(|component| component["status"] == "ready");
    answer(good, "ready", "not_ready", components)
}

fn answer(good: bool, yes: &str, no: &str, components: Map<String, Json>) -> Answer {
    let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "status": if good { yes } else { no },
        "timestamp": Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true),
        "components": components,
    });
    json(status, &body)
}

/// A pipeline is healthy unless its last run could not begin, could not read its source
/// or lost track of a record.
fn of_pipeline(figures: &Figures) -> Json {
    let Some(last) = &figures.last else { return json!({"status": "healthy"}) };
    let broken = last.result == "failed" || last.exit == Exit::Internal.code();
    let unread = last.exit == Exit::SourceUnavailable.code() && last.extracted == 0;
    if !broken && !unread {
        return json!({"status": "healthy", "last_result": last.result});
    }
    let error = last.errors.first().map_or("the last run failed", String::as_str);
    unhealthy(error, None)
}

fn of_sink(state: &SinkState) -> Json {
    match state {
        SinkState::Up => json!({"status": "healthy"}),
        SinkState::Down { why, target, .. } => unhealthy(&format!("{target}: {why}"), None),
        SinkState::Refused { status, remedy, target } => {
            unhealthy(&format!("{target}: {status}"), Some(remedy))
        }
    }
}

fn of_probe(probe: &Probe) -> Json {
    match probe.reach {
        Reach::Ready => json!({"status": "healthy"}),
        Reach::NotNow | Reach::Refused | Reach::Unreachable => {
            unhealthy(&probe.text, probe.remedy.as_deref())
        }
    }
}

fn unhealthy(error: &str, remedy: Option<&str>) -> Json {
    let shown = |text: &str| printable(text.as_bytes(), TEXT_MAX);
    match remedy {
        None => json!({"status": "unhealthy", "error": shown(error)}),
        Some(remedy) => {
            json!({"status": "unhealthy", "error": shown(error), "remedy": shown(remedy)})
        }
    }
}

/// Why a pipeline's work does not go on, if it does not.
fn trouble(
    scheduler: &Scheduler,
    served: &Served,
    figures: &Figures,
    stuck_after: Duration,
) -> Option<String> {
    if let Activity::Running { run_id, idle, .. } = &figures.activity {
        let stuck_after = stuck_after.max(served.quiet_for(figures));
        return (*idle >= stuck_after)
            .then(|| format!("run {run_id} has not moved for {} s", idle.as_secs()));
    }
    let loaded = served.loaded()?;
    let timing = loaded.pipeline.timing()?;
    let interval = timing.interval().unwrap_or_default();
    let late = (scheduler.now(&timing) - figures.due?).to_std().unwrap_or_default();
    let patience = interval.saturating_mul(INTERVALS_MAX).max(OVERDUE_MIN);
    (late > patience).then(|| format!("overdue by {} s", late.as_secs()))
}

/// A pipeline and one of its sinks.
type Name = (String, String);

/// Asks databases whether they are there.
pub(super) struct Probes {
    data_dir: PathBuf,
    /// One look at a time; the others wait and take its answers.
    state: tokio::sync::Mutex<BTreeMap<String, Built>>,
    answers: Mutex<BTreeMap<Name, Probe>>,
}

/// The databases of one pipeline, built for asking.
struct Built {
    loaded: Arc<Loaded>,
    sinks: Vec<(String, Arc<dyn Sink>)>,
    /// Could not be built.
    broken: Vec<(String, Probe)>,
    asked: Option<Instant>,
}

impl Probes {
    pub(super) fn new(data_dir: PathBuf) -> Probes {
        Probes { data_dir, state: tokio::sync::Mutex::default(), answers: Mutex::default() }
    }

    /// Asks all databases whose last answer is no longer good.
    pub(super) async fn look(&self, scheduler: &Scheduler) {
        let current = scheduler.served().into_iter().filter_map(|served| served.loaded());
        let current = current.map(|loaded| (loaded.pipeline.name.clone(), loaded)).collect();
        self.look_at(current, build).await;
    }

    async fn look_at(
        &self,
        current: BTreeMap<String, Arc<Loaded>>,
        build: impl Fn(Arc<Loaded>, &Path) -> Built,
    ) {
        let mut state = self.state.lock().await;
        state.retain(|name, built| {
            current.get(name).is_some_and(|loaded| Arc::ptr_eq(loaded, &built.loaded))
        });
        for (name, loaded) in current {
            let home = self.data_dir.join(&name);
            state.entry(name).or_insert_with(|| build(loaded, &home));
        }
        let mut asking = tokio::task::JoinSet::new();
        for (pipeline, built) in &mut *state {
            if built.asked.is_some_and(|at| at.elapsed() < FRESH) {
                continue;
            }
            built.asked = Some(Instant::now());
            for (name, sink) in &built.sinks {
                let (key, sink) = ((pipeline.clone(), name.clone()), sink.clone());
                asking.spawn(async move {
                    let asked = tokio::time::timeout(PROBE_TIMEOUT, sink.probe()).await;
                    let late = || {
                        let text = format!("no answer within {} s", PROBE_TIMEOUT.as_secs());
                        Probe { remedy: None, ..Probe::new(Reach::Unreachable, text, "") }
                    };
                    (key, asked.unwrap_or_else(|_| late()))
                });
            }
        }
        let mut fresh = Vec::new();
        while let Some(answered) = asking.join_next().await {
            match answered {
                Ok(answered) => fresh.push(answered),
                Err(error) => tracing::error!(%error, "a probe ended in a panic"),
            }
        }
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.retain(|(pipeline, sink), _| {
            let built = state.get(pipeline);
            built.is_some_and(|built| built.sinks.iter().any(|(name, _)| name == sink))
        });
        answers.extend(fresh);
        for (pipeline, built) in &*state {
            let broken = built.broken.iter().cloned();
            answers.extend(broken.map(|(sink, probe)| ((pipeline.clone(), sink), probe)));
        }
    }

    fn answers(&self) -> BTreeMap<Name, Probe> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn build(loaded: Arc<Loaded>, directory: &Path) -> Built {
    let input = SinkInput::Transformed;
    let home = SinkHome { pipeline: &loaded.pipeline.name, directory, input };
    let (mut sinks, mut broken) = (Vec::new(), Vec::new());
    for load in loaded.pipeline.raw.iter().chain(&loaded.pipeline.load) {
        let name = load.sink_name().to_owned();
        match load::build(load, &home) {
            Ok(sink) if sink.kind() == SinkKind::Database => sinks.push((name, sink)),
            Ok(_) => {}
            Err(error) => {
                let remedy = "see: etl doctor";
                broken.push((name, Probe::new(Reach::Refused, error.to_string(), remedy)));
            }
        }
    }
    Built { loaded, sinks, broken, asked: None }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::{Built, Probes, of_probe};
    use crate::batch::Payload;
    use crate::config::{Environment, Loaded, from_str};
    use crate::load::answer::Answer;
    use crate::load::{Delivering, Probe, Probing, Reach, Sink};
    use crate::telemetry::SinkKind;

    /// A database that is away, and counts how often it is asked.
    #[derive(Debug, Default)]
    struct Away(AtomicUsize);

    impl Sink for Away {
        fn deliver<'a>(&'a self, _: &'a Payload) -> Delivering<'a> {
            Box::pin(async { Answer::Delivered })
        }

        fn probe(&self) -> Probing<'_> {
            self.0.fetch_add(1, Relaxed);
            let text = "127.0.0.1:5432: connection refused".to_owned();
            Box::pin(async { Probe::new(Reach::Unreachable, text, "start it") })
        }

        fn kind(&self) -> SinkKind {
            SinkKind::Database
        }

        fn target(&self) -> &str {
            "postgres://127.0.0.1:5432"
        }

        fn remedy(&self, _: Option<u16>) -> String {
            String::new()
        }
    }

    fn loaded() -> Arc<Loaded> {
        let text = "name: p\nsource:\n  csv: { path: a.csv }\nload:\n  \
                    - http: { url: 'http://127.0.0.1:1/load' }\n";
        Arc::new(from_str("p.yaml", text, &[], &Environment::empty()).unwrap())
    }

    #[tokio::test]
    async fn a_database_is_asked_at_most_every_ten_seconds_and_named_when_it_is_away() {
        let probes = Probes::new("unused".into());
        let database = Arc::new(Away::default());
        let look = async |loaded: &Arc<Loaded>| {
            let current = BTreeMap::from([("p".to_owned(), loaded.clone())]);
            let build = |loaded, _: &std::path::Path| {
                let sinks: Vec<(String, Arc<dyn Sink>)> =
                    vec![("postgres".to_owned(), database.clone())];
                Built { loaded, sinks, broken: Vec::new(), asked: None }
            };
            probes.look_at(current, build).await;
        };
        let one = loaded();
        for _ in 0..3 {
            look(&one).await;
        }
        assert_eq!(database.0.load(Relaxed), 1);
        let answers = probes.answers();
        let answer = of_probe(&answers[&("p".to_owned(), "postgres".to_owned())]);
        assert_eq!(answer["status"], "unhealthy");
        assert_eq!(answer["error"], "127.0.0.1:5432: connection refused");
        // Another configuration has another database, perhaps.
        look(&loaded()).await;
        assert_eq!(database.0.load(Relaxed), 2);
        probes.look_at(BTreeMap::new(), |_, _| unreachable!()).await;
        assert!(probes.answers().is_empty());
    }
}
