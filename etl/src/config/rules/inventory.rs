//! Rules of data files and inventories, and of how each row of one is asked.

use std::collections::BTreeSet;

use super::super::address::Address;
use super::super::mask::quoted;
use super::super::pipeline::{CsvSource, Extract, HttpExtract};
use super::super::suggest::{did_you_mean, nearest};
use super::Rules;

impl Rules<'_> {
    pub(super) fn csv(&mut self, csv: &CsvSource) {
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

    pub(super) fn extract(&mut self, extract: &Extract, csv: Option<&CsvSource>) {
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
    pub(super) fn placeholders(&mut self, key: &str, names: &[String], csv: Option<&CsvSource>) {
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
}
