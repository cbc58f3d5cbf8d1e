//! What the schema cannot say: rules over several keys, addresses, headers,
//! schedules. A rule stays silent where one of its keys is already reported.

mod alerts;
mod database;
mod every;
mod files;
mod rest;
mod snmp;
mod sql;
mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use super::address::{Address, check_header, sends_a_secret};
use super::diagnostic::Diagnostic;
use super::mask::quoted;
use super::origin::Extent;
use super::pipeline::{CsvSource, Extract, HttpExtract, HttpLoad, Load, Pipeline, Retry, Secret};
use super::schedule;
use super::suggest::{did_you_mean, nearest};
use super::tree::Node;
use super::units::Span;
use super::validate::Outcome;

/// The most that one batch may be: the spool reads back no more (see `spool::gzip`).
const BATCH_BYTES_MAX: u64 = 256 << 20;

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

    fn csv(&mut self, csv: &CsvSource) {
        if csv.path.as_os_str().is_empty() {
            self.fault(&["source.csv.path"], "source.csv.path is empty", "name a file");
        }
        if !csv.header && csv.columns.is_empty() {
            let message = "source.csv has neither a header nor columns";
            let keys = ["source.csv.header", "source.csv.columns"];
            self.fault(&keys, message, "name the columns: columns: [ip, hostname]");
        }
        let mut seen = BTreeSet::new();
        for (index, column) in csv.columns.iter().enumerate() {
            let key = format!("source.csv.columns.{index}");
            if column.is_empty() {
                self.fault(&[&key], "a column has an empty name", "give it a name");
            } else if !seen.insert(column) {
                self.fault(&[&key], "the same column twice", "columns need different names");
            }
        }
        if !csv.delimiter.is_ascii() || matches!(csv.delimiter, '"' | '\n' | '\r') {
            let message = "source.csv.delimiter cannot separate fields";
            self.fault(
                &["source.csv.delimiter"],
                message,
                "one ASCII character, as in `;` or `\\t`",
            );
        }
    }

    fn extract(&mut self, extract: &Extract, csv: Option<&CsvSource>) {
        self.longer_than_nothing("extract.timeout", extract.timeout);
        if let Some(simulated) = &extract.simulated
            && let Some(max) = simulated.delay_max
            && max < simulated.delay
        {
            let message = "extract.simulated: delay_max is shorter than delay";
            let keys = ["extract.simulated.delay_max", "extract.simulated.delay"];
            self.fault(&keys, message, "`delay` is the shortest time, `delay_max` the longest");
        }
        if let Some(http) = &extract.http {
            self.extract_http(http, csv);
        }
        if let Some(snmp) = &extract.snmp {
            self.extract_snmp(snmp, csv);
        }
    }

    fn extract_http(&mut self, http: &HttpExtract, csv: Option<&CsvSource>) {
        let key = "extract.http.url";
        match Address::with_placeholders(&http.url) {
            Err(problem) => {
                self.fault(&[key], &format!("{key} {}", problem.message), problem.label)
            }
            Ok((address, placeholders)) => {
                // A host that is filled in from a record may be any host.
                let host_varies = http.url.split('/').nth(2).is_some_and(|host| host.contains('{'));
                let exposed = address.is_exposed() || (host_varies && address.is_plain());
                let token = http.token.as_ref().is_some_and(|token| !token.expose().is_empty());
                if token && exposed && !http.allow_plain_token {
                    self.plain_token(key, "extract.http.allow_plain_token");
                }
                self.placeholders(key, &placeholders, csv);
            }
        }
        self.token(http.token.as_ref(), "extract.http.token");
        self.pointer(http.records.as_deref(), "extract.http.records");
        self.longer_than_nothing("extract.http.connect_timeout", http.connect_timeout);
        self.longer_than_nothing("extract.http.sample_interval", http.sample_interval);
        self.not_empty("extract.http.max_body", http.max_body.0);
        self.named_file(http.tls.ca.as_deref(), "extract.http.tls.ca");
    }

    /// The columns that an address is filled from must be those of the source.
    fn placeholders(&mut self, key: &str, names: &[String], csv: Option<&CsvSource>) {
        let columns = csv.map_or(&[][..], |csv| &csv.columns);
        for name in names {
            if columns.is_empty() || columns.contains(name) {
                continue;
            }
            let keys = [key, "source.csv.columns"];
            if keys.iter().any(|key| self.holds_variable(key)) {
                let message = format!("{key} names a column that the source does not have");
                self.fault(&keys, &message, "one of `source.csv.columns`");
                continue;
            }
            let message = format!("{key}: the source has no column {}", quoted(name));
            let near = nearest(name, columns.iter().map(String::as_str));
            self.fault(&keys, &message, &did_you_mean(&near));
        }
    }

    fn load(&mut self, load: &Load, at: &str) {
        let key = |name: &str| format!("{at}.{name}");
        let batch = load.limits();
        if batch.records > load.channel() {
            let message = format!("{}: batch.records is more than channel", shown(at));
            let keys = [key("batch.records"), key("channel")];
            self.fault(&[&keys[0], &keys[1]], &message, "such a batch would never fill");
        }
        self.retry(&load.retry, at);
        self.longer_than_nothing(&key("timeout"), load.timeout());
        self.not_empty(&key("batch.bytes"), batch.bytes.0);
        if batch.bytes.0 > BATCH_BYTES_MAX {
            let message = format!("{}: batch.bytes is more than 256MiB", shown(at));
            let help = "the spool keeps no larger batch; 1MiB to 16MiB suits most APIs";
            self.fault(&[&key("batch.bytes")], &message, help);
        }
        if load.spool.max_bytes < batch.bytes {
            let message = format!("{}: the spool cannot hold a single batch", shown(at));
            let keys = [key("spool.max_bytes"), key("batch.bytes")];
            self.fault(&[&keys[0], &keys[1]], &message, "at least as much as `batch.bytes`");
        }
        if let Some(http) = &load.http {
            self.load_http(http, &key("http"));
        }
        if let Some(file) = &load.file {
            self.load_file(file, &key("file"));
        }
        if let Some(parquet) = &load.parquet {
            self.load_parquet(parquet, &key("parquet"));
        }
        if let Some((kind, database)) = load.database_load() {
            self.load_database(kind, database, &key(kind));
        }
    }

    fn retry(&mut self, retry: &Retry, at: &str) {
        let key = |name: &str| format!("{at}.retry.{name}");
        if retry.base > retry.cap {
            let message = format!("{}: the first wait is longer than the longest", shown(at));
            self.fault(&[&key("base"), &key("cap")], &message, "`base` is at most `cap`");
        }
        for (index, status) in retry.also.iter().enumerate() {
            if !(400..=599).contains(status) {
                let message = format!("{}: a status that is no failure", shown(&key("also")));
                self.fault(&[&key(&format!("also.{index}"))], &message, "400 to 599");
            }
        }
    }

    fn load_http(&mut self, http: &HttpLoad, at: &str) {
        let key = |name: &str| format!("{at}.{name}");
        let url = key("url");
        let token = http.token.as_ref().is_some_and(|token| !token.expose().is_empty());
        match Address::parse(&http.url) {
            Err(problem) => {
                self.fault(&[&url], &format!("{} {}", shown(&url), problem.message), problem.label);
            }
            Ok(address) => {
                let secret = token
                    || http.token_file.is_some()
                    || http.headers.keys().any(|name| sends_a_secret(name));
                if secret && address.is_exposed() && !http.allow_plain_token {
                    self.plain_token(&url, &key("allow_plain_token"));
                }
            }
        }
        if token && http.token_file.is_some() {
            let message = format!("{}: both token and token_file are set", shown(at));
            let keys = [key("token_file"), key("token")];
            self.fault(&[&keys[0], &keys[1]], &message, "one of them is enough");
        }
        self.token(http.token.as_ref(), &key("token"));
        for (name, value) in &http.headers {
            // A header's name may hold dots, which `locate` would take for steps: point at the list.
            let place = key(if name.contains('.') { "headers" } else { "headers." });
            let place = if name.contains('.') { place } else { format!("{place}{name}") };
            let has_token = token || http.token_file.is_some();
            if let Err(problem) = check_header(name, value.expose(), has_token) {
                let message = format!("{}: {}", shown(&key("headers")), problem.message);
                self.fault(&[&place], &message, problem.label);
            }
        }
        self.pointer(Some(&http.failed_records), &key("failed_records"));
        self.longer_than_nothing(&key("connect_timeout"), http.connect_timeout);
        self.named_file(http.tls.ca.as_deref(), &key("tls.ca"));
        self.named_file(http.token_file.as_deref(), &key("token_file"));
    }

    fn unique_name(&mut self, load: &Load, at: &str, names: &mut BTreeMap<String, String>) {
        let name = load.sink_name();
        let Some(first) = names.get(name) else {
            names.insert(name.to_owned(), at.to_owned());
            return;
        };
        let (own, others) = (format!("{at}.name"), format!("{first}.name"));
        let keys = match load.name {
            Some(_) => [own.as_str(), others.as_str(), first],
            None => [at, others.as_str(), own.as_str()],
        };
        let message = format!("{} and {} have the same name", shown(first), shown(at));
        self.fault(&keys, &message, "give one of them another `name:`");
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
mod tests {
    use super::super::environment::Environment;
    use super::super::from_str;
    use super::{covers, shown};

    const BASE: &str = "name: x
source:
  csv: { path: a.csv, header: false, columns: [ip, host] }
extract:
  http: { url: 'http://{ip}/cpu' }
load:
  - http: { url: 'https://api.example.net/load' }
";

    /// The message and label of the only error after `from` is replaced by `to`.
    fn only_error(from: &str, to: &str) -> (String, String) {
        assert!(BASE.contains(from), "{from}");
        let text = BASE.replace(from, to);
        match from_str("p.yaml", &text, &[], &Environment::empty()) {
            Ok(_) => (String::new(), String::new()),
            Err(report) => {
                assert_eq!(report.error_count(), 1, "{report}");
                let error = &report.errors()[0];
                (
                    error.message.clone(),
                    format!("{}{}", error.label, error.help.clone().unwrap_or_default()),
                )
            }
        }
    }

    #[test]
    fn a_sound_pipeline_passes() {
        assert_eq!(only_error("name: x", "name: y").0, "");
    }

    #[test]
    fn each_rule_refuses_its_mistake() {
        let http = "{ url: 'https://api.example.net/load' }";
        for (from, to, message) in [
            (", columns: [ip, host]", ", columns: []", "neither a header nor columns"),
            ("[ip, host]", "[ip, ip]", "the same column twice"),
            ("[ip, host]", "[ip, '']", "empty name"),
            ("{ path: a.csv", "{ delimiter: é, path: a.csv", "cannot separate fields"),
            ("{ip}", "{ipp}", "no column `ipp`"),
            ("'http://{ip}/cpu'", "'http://{ip/cpu'", "without a closing"),
            (http, "{ url: 'ftp://x/load' }", "is not an http or https address"),
            (http, "{ url: 'http://me:pw@h/' }", "user name"),
            (http, "{ url: 'http://h/', token: abc }", "unencrypted"),
            (http, "{ url: 'http://h/', headers: { Authorization: abc } }", "unencrypted"),
            (http, "{ url: 'http://h/', token_file: t }", "unencrypted"),
            ("'http://{ip}/cpu'", "'http://{ip}/cpu', token: abc", "unencrypted"),
            ("'http://{ip}/cpu'", "'http://h/{ip}', token: abc", "unencrypted"),
            (http, "{ url: 'https://h/', token: a, token_file: b }", "both token and token_file"),
            (http, "{ url: 'https://h/', token: \"a\\nb\" }", "no header can carry"),
            (http, "{ url: 'https://h/', headers: { 'a b': c } }", "not a header's name"),
            (http, "{ url: 'https://h/', headers: { Content-Length: 3 } }", "set by etl"),
            (http, "{ url: 'https://h/', failed_records: x }", "not a JSON Pointer"),
            ("load:\n", "load:\n  - { http: { url: 'https://h/' } }\n", "have the same name"),
            ("load:\n", "raw:\n  - { http: { url: 'https://h/' } }\nload:\n", "have the same name"),
            ("extract:\n", "extract:\n  timeout: 0s\n", "no time at all"),
            ("name: x", "name: x\nschedule: sometimes", "schedule"),
        ] {
            let found = only_error(from, to).0;
            assert!(found.contains(message) && !found.is_empty(), "{to}: {found}");
        }
    }

    #[test]
    fn each_rule_of_a_sink_refuses_its_mistake() {
        for (keys, message) in [
            ("batch: { records: 5000 }", "more than channel"),
            ("channel: 100", "more than channel"),
            ("retry: { base: 31s }", "longer than the longest"),
            ("retry: { also: [200] }", "no failure"),
            ("spool: { max_bytes: 1KiB }", "cannot hold a single batch"),
            ("timeout: 0s", "no time at all"),
            ("batch: { bytes: 0B }", "is zero"),
            ("batch: { bytes: 257MiB }", "more than 256MiB"),
        ] {
            let found = only_error("  - http:", &format!("  - {keys}\n    http:")).0;
            assert!(found.contains(message), "{keys}: {found}");
        }
    }

    #[test]
    fn a_token_may_travel_where_nobody_listens() {
        for to in [
            "'http://127.0.0.1:1/{ip}', token: a",
            "'https://{ip}/', token: a",
            "'http://{ip}/', token: a, allow_plain_token: true",
        ] {
            assert_eq!(only_error("'http://{ip}/cpu'", to).0, "", "{to}");
        }
        let http = "{ url: 'https://api.example.net/load' }";
        for to in [
            "{ url: 'http://127.0.0.1:1/', token: a }",
            "{ url: 'http://localhost/', token: a }",
            "{ url: 'http://[::1]:1/', token: a }",
            "{ url: 'https://h/', token: a }",
            "{ url: 'http://h/', token: a, allow_plain_token: true }",
            "{ url: 'http://h/', token: '' }",
        ] {
            assert_eq!(only_error(http, to).0, "", "{to}");
        }
    }

    #[test]
    fn a_column_that_is_nearly_right_is_suggested() {
        assert_eq!(only_error("{ip}", "{hosst}").1, "did you mean `host`?");
    }

    #[test]
    fn keys_are_covered_by_their_parents_only() {
        assert!(covers("load.0", "load.0.batch"));
        assert!(covers("", "name"));
        assert!(!covers("load.1", "load.10"));
        assert_eq!(shown("load.0.retry.also.1"), "load[0].retry.also[1]");
    }
}
