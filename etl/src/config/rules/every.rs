//! Rules of a fleet that is polled for good.

use std::time::Duration;

use super::Rules;
use crate::config::pipeline::{Every, Extract, Pipeline};

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(24 * 3600);

impl Rules<'_> {
    pub(super) fn every(&mut self, every: &Every, extract: &Extract, pipeline: &Pipeline) {
        let interval_keys = ["extract.every.interval", "extract.every"];
        let interval = every.interval.0;
        if !(SHORTEST..=LONGEST).contains(&interval) {
            let message = "extract.every needs an interval from 1s to a day";
            self.fault(&interval_keys, message, "every: 60s");
        } else if extract.timeout.0 >= interval {
            let message = "extract.timeout is not shorter than extract.every";
            let keys = ["extract.timeout", interval_keys[0], interval_keys[1]];
            let label = "a poll must end before its target is due again";
            self.fault(&keys, message, label);
        }
        if pipeline.schedule.is_some() {
            let message = "schedule and extract.every exclude each other";
            let label = "with `every` each target has its own time; leave `schedule` out";
            self.fault(&["schedule", "extract.every"], message, label);
        }
        self.longer_than_nothing("extract.every.reload", every.reload);
        if pipeline.source.csv.is_none() {
            let message = "extract.every needs an inventory";
            self.fault(&["extract.every"], message, "set source.csv");
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Environment, KeepAlive, from_str};

    const BASE: &str = "name: x\nsource:\n  csv: { path: a.csv }\nextract:\n  every: 60s\n  \
        simulated: {}\nload:\n  - http: { url: 'https://api.example.net/load' }\n";

    fn errors(from: &str, to: &str) -> Vec<String> {
        assert!(BASE.contains(from), "{from}");
        let text = BASE.replace(from, to);
        match from_str("p.yaml", &text, &[], &Environment::empty()) {
            Ok(_) => Vec::new(),
            Err(report) => report.errors().iter().map(|error| error.message.clone()).collect(),
        }
    }

    #[test]
    fn a_text_and_settings_say_the_same() {
        let of = |every: &str| {
            let text = BASE.replace("every: 60s", every);
            let loaded = from_str("p.yaml", &text, &[], &Environment::empty());
            let pipeline = loaded.unwrap_or_else(|report| panic!("{report}")).pipeline;
            pipeline.every().cloned().unwrap_or_else(|| panic!("no every"))
        };
        assert_eq!(of("every: 60s"), of("every: { interval: 1m }"));
        let set = of("every: { interval: 60s, per_host: 4, per_subnet: 64, keep_alive: off }");
        assert_eq!((set.per_host, set.per_subnet), (Some(4), Some(64)));
        assert_eq!(set.keep_alive, KeepAlive::Off);
    }

    #[test]
    fn each_rule_refuses_its_mistake() {
        for (from, to, message) in [
            ("every: 60s", "every: 500ms", "from 1s to a day"),
            ("every: 60s", "every: { interval: 25h }", "from 1s to a day"),
            ("every: 60s", "every: 8s", "timeout is not shorter"),
            ("every: 60s", "every: 60s\n  timeout: 61s", "timeout is not shorter"),
            ("name: x", "name: x\nschedule: '@every 60s'", "exclude each other"),
            ("every: 60s", "every: { interval: 60s, reload: 0s }", "no time at all"),
            ("every: 60s", "every: 60", "every"),
            ("every: 60s", "every: { per_host: 4 }", "interval"),
            ("every: 60s", "every: { interval: 60s, per_hots: 4 }", "per_hots"),
        ] {
            let found = errors(from, to);
            assert!(found.len() == 1 && found[0].contains(message), "{to}: {found:?}");
        }
    }
}
