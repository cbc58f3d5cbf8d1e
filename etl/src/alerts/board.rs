//! What one receiver knows and does not know yet: which problems there are, when each was
//! told last, which are over. Pure; time is an argument, Unix seconds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::message::{Item, Message};
use super::problems::{Kind, Observation};
use crate::config::Alerts;

/// A problem and what was told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Alert {
    pub(super) kind: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sink: Option<String>,
    pub(super) text: String,
    pub(super) remedy: String,
    /// Since when it is there.
    pub(super) since: u64,
    /// When its being there was told last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) told: Option<u64>,
    /// Since when it is over; it is forgotten once that is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) over: Option<u64>,
}

/// What one receiver knows of all pipelines that tell it.
#[derive(Debug, Default)]
pub(super) struct Board {
    pipelines: BTreeMap<String, Listed>,
}

/// The alerts of a pipeline.
#[derive(Debug, Default)]
struct Listed {
    alerts: Vec<Alert>,
    /// Seconds that a problem waits for others.
    group: u64,
    /// Seconds after which it is told again; 0: never.
    repeat: u64,
}

impl Board {
    /// Puts in what was known of a pipeline when the process before ended.
    pub(super) fn restore(&mut self, pipeline: &str, alerts: Vec<Alert>) {
        self.pipelines.entry(pipeline.to_owned()).or_default().alerts = alerts;
    }

    /// What is known of a pipeline.
    pub(super) fn alerts(&self, pipeline: &str) -> &[Alert] {
        self.pipelines.get(pipeline).map_or(&[], |listed| &listed.alerts)
    }

    /// Leaves out all pipelines but those that `keep` names.
    pub(super) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.pipelines.retain(|pipeline, _| keep(pipeline));
    }

    /// Notes what a pipeline's problems are now; says whether a problem came or went.
    pub(super) fn update(
        &mut self,
        now: u64,
        pipeline: &str,
        settings: &Alerts,
        seen: &Observation,
    ) -> bool {
        let listed = self.pipelines.entry(pipeline.to_owned()).or_default();
        listed.group = settings.group.0.as_secs();
        listed.repeat = settings.repeat.0.as_secs();
        let mut changed = false;
        for alert in &mut listed.alerts {
            let same = |kind, sink: &Option<String>| alert.kind == kind && alert.sink == *sink;
            match seen.problems.iter().find(|problem| same(problem.kind, &problem.sink)) {
                Some(problem) => {
                    // It came back before its end was told: it was never over.
                    changed |= alert.over.take().is_some();
                    alert.text.clone_from(&problem.text);
                    alert.remedy.clone_from(&problem.remedy);
                }
                None if alert.over.is_none() && !seen.silent.contains(&alert.kind) => {
                    alert.over = Some(now);
                    changed = true;
                }
                None => {}
            }
        }
        for problem in &seen.problems {
            let is_it = |alert: &&Alert| alert.kind == problem.kind && alert.sink == problem.sink;
            if listed.alerts.iter().find(is_it).is_none() {
                changed = true;
                listed.alerts.push(Alert {
                    kind: problem.kind,
                    sink: problem.sink.clone(),
                    text: problem.text.clone(),
                    remedy: problem.remedy.clone(),
                    since: now,
                    told: None,
                    over: None,
                });
            }
        }
        changed
    }

    /// The message that is due; with `at_once` problems do not wait for others.
    pub(super) fn due(&self, now: u64, at_once: bool) -> Option<Message> {
        let all = self.pipelines.values();
        let mut all = all.flat_map(|listed| listed.alerts.iter().map(move |it| (listed, it)));
        let is_due = all.any(|(listed, alert)| {
            let group = if at_once { 0 } else { listed.group };
            match (alert.over.or(alert.told.is_none().then_some(alert.since)), alert.told) {
                (Some(changed), _) => now >= changed.saturating_add(group),
                (None, Some(told)) => {
                    listed.repeat > 0 && now >= told.saturating_add(listed.repeat)
                }
                (None, None) => false,
            }
        });
        is_due.then(|| self.message(now))
    }

    /// Everything that there is to tell.
    fn message(&self, now: u64) -> Message {
        let mut message = Message { now, ..Message::default() };
        for (pipeline, listed) in &self.pipelines {
            for alert in &listed.alerts {
                let item = Item {
                    pipeline: pipeline.clone(),
                    kind: alert.kind,
                    sink: alert.sink.clone(),
                    text: alert.text.clone(),
                    remedy: alert.remedy.clone(),
                    since: alert.since,
                    over: alert.over,
                };
                match (alert.over, alert.told) {
                    (Some(_), _) => message.resolved.push(item),
                    (None, Some(_)) => message.still.push(item),
                    (None, None) => message.new.push(item),
                }
            }
        }
        message
    }

    /// Notes that a message has arrived.
    pub(super) fn told(&mut self, now: u64, message: &Message) {
        for item in message.new.iter().chain(&message.still) {
            if let Some(alert) = self.find(item) {
                alert.told = Some(now);
            }
        }
        for item in &message.resolved {
            let Some(alert) = self.find(item) else { continue };
            // It came back while the message was on its way: it is a new one.
            (alert.told, alert.since) = (None, now);
            if alert.over.is_some()
                && let Some(listed) = self.pipelines.get_mut(&item.pipeline)
            {
                listed.alerts.retain(|it| it.kind != item.kind || it.sink != item.sink);
            }
        }
    }

    fn find(&mut self, item: &Item) -> Option<&mut Alert> {
        let listed = self.pipelines.get_mut(&item.pipeline)?;
        listed.alerts.iter_mut().find(|it| it.kind == item.kind && it.sink == item.sink)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use serde_json::json;

    use super::{Alert, Board};
    use crate::alerts::message::{Item, Message};
    use crate::alerts::problems::{Kind, Observation, Problem};
    use crate::config::Alerts;

    fn settings() -> Alerts {
        serde_json::from_value(json!({ "group": "15s", "repeat": "1h" })).unwrap()
    }

    fn seen(problems: &[(Kind, Option<&str>)]) -> Observation {
        let problem = |(kind, sink): &(Kind, Option<&str>)| Problem {
            kind: *kind,
            sink: sink.map(str::to_owned),
            text: "t".to_owned(),
            remedy: "r".to_owned(),
        };
        Observation { problems: problems.iter().map(problem).collect(), silent: Vec::new() }
    }

    const FAILED: [(Kind, Option<&str>); 1] = [(Kind::Run, None)];

    fn names(items: &[Item]) -> Vec<&str> {
        items.iter().map(|item| item.pipeline.as_str()).collect()
    }

    fn told(board: &mut Board, now: u64) -> Option<Message> {
        let message = board.due(now, false)?;
        board.told(now, &message);
        Some(message)
    }

    #[test]
    fn problems_that_come_together_are_one_message_told_once_again_and_resolved() {
        let (mut board, settings) = (Board::default(), settings());
        for (at, name) in [(100, "a"), (101, "b"), (114, "c")] {
            assert!(board.update(at, name, &settings, &seen(&FAILED)));
            assert!(!board.update(at, name, &settings, &seen(&FAILED)), "it is there already");
        }
        assert_eq!(told(&mut board, 114), None, "the first one waits for others");
        let message = told(&mut board, 115).unwrap();
        assert_eq!(names(&message.new), ["a", "b", "c"]);
        assert_eq!(told(&mut board, 3700), None, "all three are told");
        let message = told(&mut board, 3715).unwrap();
        assert_eq!((message.new.len(), names(&message.still)), (0, vec!["a", "b", "c"]));
        assert!(board.update(4000, "b", &settings, &seen(&[])));
        assert_eq!(told(&mut board, 4014), None);
        let message = told(&mut board, 4015).unwrap();
        assert_eq!((names(&message.still), names(&message.resolved)), (vec!["a", "c"], vec!["b"]));
        assert!(board.alerts("b").is_empty());
        assert_eq!(told(&mut board, 7614), None, "the others were told again with it");
        assert!(told(&mut board, 7615).is_some());
    }

    #[test]
    fn what_is_not_known_stays_and_what_comes_back_at_once_was_never_over() {
        let (mut board, settings) = (Board::default(), settings());
        board.update(100, "a", &settings, &seen(&FAILED));
        told(&mut board, 115).unwrap();
        let silent = Observation { silent: vec![Kind::Run], ..Observation::default() };
        assert!(!board.update(200, "a", &settings, &silent));
        assert!(board.update(300, "a", &settings, &seen(&[])));
        assert!(board.update(305, "a", &settings, &seen(&FAILED)));
        assert_eq!(told(&mut board, 1000), None);
        assert_eq!(board.alerts("a")[0].since, 100);
    }

    #[test]
    fn a_problem_that_was_over_soon_is_told_all_the_same() {
        let (mut board, settings) = (Board::default(), settings());
        board.update(100, "a", &settings, &seen(&FAILED));
        board.update(105, "a", &settings, &seen(&[]));
        let message = told(&mut board, 120).unwrap();
        assert_eq!((message.new.len(), names(&message.resolved)), (0, vec!["a"]));
        assert_eq!(told(&mut board, 100_000), None);
    }

    #[test]
    fn sinks_are_told_apart_and_a_single_run_does_not_wait() {
        let (mut board, settings) = (Board::default(), settings());
        let two = [(Kind::SpoolAge, Some("x")), (Kind::SpoolAge, Some("y"))];
        board.update(100, "a", &settings, &seen(&two));
        assert_eq!(board.due(100, false), None);
        let message = board.due(100, true).unwrap();
        assert_eq!(message.new.len(), 2);
        board.told(100, &message);
        board.update(200, "a", &settings, &seen(&two[..1]));
        let message = board.due(200, true).unwrap();
        assert_eq!(message.resolved[0].sink.as_deref(), Some("y"));
        // It is there again before that message arrives.
        board.update(201, "a", &settings, &seen(&two));
        board.told(202, &message);
        assert_eq!(names(&told(&mut board, 217).unwrap().new), ["a"]);
    }

    #[test]
    fn what_was_told_outlives_the_process_and_nothing_is_told_again_without_a_repeat() {
        let (mut board, mut settings) = (Board::default(), settings());
        board.update(100, "a", &settings, &seen(&FAILED));
        told(&mut board, 115).unwrap();
        let kept = serde_json::to_string(board.alerts("a")).unwrap();
        let mut board = Board::default();
        board.restore("a", serde_json::from_str::<Vec<Alert>>(&kept).unwrap());
        settings.repeat.0 = std::time::Duration::ZERO;
        assert!(!board.update(200, "a", &settings, &seen(&FAILED)));
        assert_eq!(told(&mut board, 1_000_000), None);
        board.retain(|pipeline| pipeline != "a");
        assert!(board.alerts("a").is_empty());
    }
}
