//! Rules that all sinks have, and those of the sink that posts to an API.

use std::collections::BTreeMap;

use super::super::address::{Address, check_header, sends_a_secret};
use super::super::pipeline::{HttpLoad, Load, Retry};
use super::{Rules, shown};

/// The most that one batch may be: the spool reads back no more (see `spool::gzip`).
const BATCH_BYTES_MAX: u64 = 256 << 20;

impl Rules<'_> {
    pub(super) fn load(&mut self, load: &Load, at: &str) {
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

    pub(super) fn retry(&mut self, retry: &Retry, at: &str) {
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

    pub(super) fn unique_name(
        &mut self,
        load: &Load,
        at: &str,
        names: &mut BTreeMap<String, String>,
    ) {
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
}
