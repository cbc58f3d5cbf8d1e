//! What the schema cannot say: rules over several keys, addresses, headers,
//! schedules. A rule stays silent where one of its keys is already reported.

mod alerts;
mod database;
mod every;
mod files;
mod inventory;
mod load;
mod rest;
mod snmp;
mod sql;
mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use super::diagnostic::Diagnostic;
use super::origin::Extent;
use super::pipeline::{Pipeline, Secret};
use super::schedule;
use super::tree::Node;
use super::units::Span;
use super::validate::Outcome;

/// Checks a decoded pipeline. No message repeats a value: it may come from a variable.
pub(crate) fn check(pipeline: &Pipeline, root: &Node, outcome: &Outcome) -> Vec<Diagnostic> {
    let Outcome { tainted, origins, .. } = outcome;
    let mut rules = Rules { root, tainted, origins, errors: Vec::new() };
    rules.pipeline(pipeline);
    rules.errors
}

/// The rules at work. Those of sources, sinks and steps are in `rules/`.
pub(super) struct Rules<'a> {
    pub(super) root: &'a Node,
    tainted: &'a BTreeSet<String>,
    origins: &'a BTreeMap<String, (Extent, Vec<String>)>,
    pub(super) errors: Vec<Diagnostic>,
}

impl Rules<'_> {
    fn pipeline(&mut self, pipeline: &Pipeline) {
        if let Some(schedule) = &pipeline.schedule
            && let Err(problem) = schedule::timing(schedule)
        {
            let key = format!("schedule.{}", problem.key);
            self.fault(&[&key, "schedule"], &problem.message, &problem.label);
        }
        if let Some(csv) = &pipeline.source.csv {
            self.csv(csv);
        }
        if let Some(rest) = &pipeline.source.rest {
            self.rest(rest, pipeline.extract.is_some());
        }
        if let Some(sql) = &pipeline.source.sql {
            self.sql(sql, pipeline);
        }
        if let Some(extract) = &pipeline.extract {
            self.extract(extract, pipeline.source.csv.as_ref());
            if let Some(every) = &extract.every {
                self.every(every, extract, pipeline);
            }
        }
        if let Some(alerts) = &pipeline.alerts {
            self.alerts(alerts);
        }
        self.steps(&pipeline.transform);
        let mut names = BTreeMap::new();
        for (list, loads) in [("raw", &pipeline.raw), ("load", &pipeline.load)] {
            for (index, load) in loads.iter().enumerate() {
                let at = format!("{list}.{index}");
                self.load(load, &at);
                self.unique_name(load, &at, &mut names);
            }
        }
    }

    fn plain_token(&mut self, url: &str, allow: &str) {
        let message = format!("{}: the token would travel unencrypted", shown(url));
        let help = "use https; or, where the network itself is trusted, allow_plain_token: true";
        self.fault(&[url, allow], &message, help);
    }

    fn token(&mut self, token: Option<&Secret>, key: &str) {
        let sendable = |text: &str| text.bytes().all(|byte| (0x21..0x7f).contains(&byte));
        if token.is_some_and(|token| !sendable(token.expose())) {
            let message = format!("{} holds a character that no header can carry", shown(key));
            self.fault(&[key], &message, "a line break, a space or a letter beyond ASCII?");
        }
    }

    fn pointer(&mut self, pointer: Option<&str>, key: &str) {
        if pointer.is_some_and(|pointer| !pointer.is_empty() && !pointer.starts_with('/')) {
            let message = format!("{} is not a JSON Pointer", shown(key));
            self.fault(&[key], &message, "it begins with `/`, as in /data/items");
        }
    }

    fn named_file(&mut self, path: Option<&Path>, key: &str) {
        if path.is_some_and(|path| path.as_os_str().is_empty()) {
            self.fault(&[key], &format!("{} is empty", shown(key)), "name a file");
        }
    }

    fn longer_than_nothing(&mut self, key: &str, span: Span) {
        if span.0 == Duration::ZERO {
            self.fault(&[key], &format!("{} is no time at all", shown(key)), "for example 8s");
        }
    }

    fn not_empty(&mut self, key: &str, bytes: u64) {
        if bytes == 0 {
            self.fault(&[key], &format!("{} is zero", shown(key)), "for example 1MiB");
        }
    }

    /// Whether a variable took part in a value, or in one below it: then it is not to be shown.
    pub(super) fn holds_variable(&self, key: &str) -> bool {
        let mut below = self.origins.iter().filter(|(inner, _)| covers(key, inner));
        below.any(|(_, (_, variables))| !variables.is_empty())
    }

    /// Whether a key or one of its parents is already reported.
    pub(super) fn is_tainted(&self, key: &str) -> bool {
        let parents = key.match_indices('.').map(|(at, _)| &key[..at]);
        parents.chain(["", key]).any(|part| self.tainted.contains(part))
    }

    /// Adds an error at the first of the keys that is written in the file.
    pub(super) fn fault(&mut self, keys: &[&str], message: &str, label: &str) {
        if keys.iter().any(|key| self.is_tainted(key)) {
            return;
        }
        let Some(first) = keys.first() else { return };
        let written = keys.iter().find(|key| self.root.holds(key)).unwrap_or(first);
        let error = Diagnostic::at(self.root.locate(written), message);
        let long = label.chars().count() > 60;
        let error = if long { error.help(label) } else { error.label(label) };
        self.errors.push(error.key(*written));
    }
}

/// Whether one dotted key is another or one of its parents.
fn covers(parent: &str, key: &str) -> bool {
    parent.is_empty()
        || key.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// `load.0.http` as `load[0].http`.
pub(super) fn shown(dotted: &str) -> String {
    let mut out = String::new();
    for step in dotted.split('.') {
        if step.parse::<usize>().is_ok() {
            out.push_str(&format!("[{step}]"));
        } else {
            out.push_str(if out.is_empty() { "" } else { "." });
            out.push_str(step);
        }
    }
    out
}

#[cfg(test)]
mod tests;
