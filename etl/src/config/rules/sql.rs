//! Rules of `source.sql`.

use std::collections::BTreeSet;

use super::super::mask::quoted;
use super::super::pipeline::{Load, Pipeline, SqlKind, SqlSource, SqlTable, Step};
use super::super::shards::{Shard, ShardPlace};
use super::super::suggest::{did_you_mean, nearest};
use super::Rules;

const AT: &str = "source.sql";

impl Rules<'_> {
    pub(super) fn sql(&mut self, sql: &SqlSource, pipeline: &Pipeline) {
        if pipeline.extract.is_some() {
            let message = "extract needs an inventory, and source.sql gives records";
            self.fault(&["extract", AT], message, "remove `extract`, or read the inventory as CSV");
        }
        if !sql.kind.is_built() {
            let kind = sql.kind.name();
            let message = format!("{AT}: this etl was built without {kind}");
            let help = format!("build it with `--features {kind}`, or use a release");
            self.fault(&["source.sql.kind", AT], &message, &help);
        }
        self.longer_than_nothing("source.sql.connect_timeout", sql.connect_timeout);
        self.longer_than_nothing("source.sql.timeout", sql.timeout);
        self.named_file(sql.tls.ca.as_deref(), "source.sql.tls.ca");
        self.shards(sql);
        self.added_fields(sql);
        let sinks: Vec<&str> =
            pipeline.raw.iter().chain(&pipeline.load).map(Load::sink_name).collect();
        let mut names = BTreeSet::new();
        for (index, table) in sql.tables.iter().enumerate() {
            let at = format!("{AT}.tables.{index}");
            self.sql_table(table, &at);
            self.sinks_of(table, &at, &sinks);
            if !names.insert(table.name()) {
                let keys = [format!("{at}.name"), format!("{at}.table"), at];
                let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
                let message = format!("{AT}.tables[{index}] has the name of another one");
                self.fault(&keys, &message, "give one of them another `name:`");
            }
        }
        self.reached(sql, &sinks);
        if let Some(step) = pipeline.transform.iter().position(|it| matches!(it, Step::Dedupe(_))) {
            let key = format!("transform.{step}");
            let message = format!("transform[{step}]: dedupe needs one order of all records");
            let help = "shards are read beside each other; use DISTINCT in a query, or a sink with \
                        `mode: upsert`";
            self.fault(&[&key], &message, help);
        }
    }

    fn shards(&mut self, sql: &SqlSource) {
        let shards = match Shard::all(sql) {
            Ok(shards) => shards,
            Err(wrong) => {
                let key = format!("{AT}.{}", wrong.key);
                let message = format!("{key} {}", wrong.problem.message);
                return self.fault(&[&key, AT], &message, wrong.problem.label);
            }
        };
        let exposed = |shard: &Shard| match &shard.place {
            ShardPlace::Server(server) => server.password.is_some() && server.is_exposed(),
            ShardPlace::File(_) => false,
        };
        if !sql.allow_plain_password && shards.iter().any(exposed) {
            let keys = ["source.sql.sslmode", "source.sql.shards", "source.sql.hosts", AT];
            let message = format!("{AT}: a password could travel unencrypted");
            let help = "use sslmode require or verify-full; or, where the network itself is \
                        trusted, allow_plain_password: true";
            self.fault(&keys, &message, help);
        }
        if sql.kind == SqlKind::Sqlite && sql.password.is_some() {
            let message = format!("{AT}: a file has no password");
            self.fault(&["source.sql.password"], &message, "remove it");
        }
    }

    fn added_fields(&mut self, sql: &SqlSource) {
        let add = &sql.add;
        let mut seen = BTreeSet::new();
        for (key, name) in [
            ("shard", &add.shard),
            ("source_table", &add.source_table),
            ("processed_at", &add.processed_at),
        ] {
            let Some(name) = name else { continue };
            let place = format!("{AT}.add.{key}");
            if name.is_empty() {
                self.fault(&[&place], &format!("{place} is empty"), "the name of a field");
            } else if !seen.insert(name) {
                let message = format!("{place}: another field has this name");
                self.fault(&[&place], &message, "fields need different names");
            }
        }
    }

    fn sql_table(&mut self, table: &SqlTable, at: &str) {
        let key = |name: &str| format!("{at}.{name}");
        let shown = super::shown(at);
        let is_given =
            |text: &Option<String>| text.as_ref().is_some_and(|text| !text.trim().is_empty());
        match (is_given(&table.table), is_given(&table.query)) {
            (true, true) => {
                let message = format!("{shown}: both table and query are set");
                self.fault(&[&key("query")], &message, "one of them is enough");
            }
            (false, false) => {
                let message = format!("{shown} names neither a table nor a query");
                self.fault(&[&key("table"), &key("query"), at], &message, "set `table`");
            }
            (false, true) if table.name.is_none() => {
                let message = format!("{shown}: a query needs a name");
                self.fault(&[&key("query")], &message, "`name: …`, for records and messages");
            }
            _ => {}
        }
        if table.name.as_ref().is_some_and(|name| name.trim().is_empty()) {
            self.fault(&[&key("name")], &format!("{shown}.name is empty"), "name it");
        }
        for (list, names) in [("key", &table.key), ("columns", &table.columns)] {
            let mut seen = BTreeSet::new();
            for (index, name) in names.iter().enumerate() {
                let place = format!("{at}.{list}.{index}");
                if name.is_empty() || !seen.insert(name) {
                    let what = if name.is_empty() { "without a name" } else { "twice" };
                    let message = format!("{shown}.{list}: a column {what}");
                    self.fault(&[&place], &message, "each column once, by its name");
                }
            }
        }
        if table.cursor.as_ref().is_some_and(String::is_empty) {
            let message = format!("{shown}.cursor is empty");
            self.fault(&[&key("cursor")], &message, "name a column, or remove it");
        }
        if let Some(since) = table.since {
            self.longer_than_nothing(&key("since"), since);
            if table.cursor.is_none() {
                let message = format!("{shown}: since needs a cursor");
                self.fault(&[&key("since")], &message, "name the column that it is compared with");
            }
        }
    }

    fn sinks_of(&mut self, table: &SqlTable, at: &str, sinks: &[&str]) {
        for (index, to) in table.to.iter().enumerate() {
            if sinks.contains(&to.as_str()) {
                continue;
            }
            let place = format!("{at}.to.{index}");
            let message = match self.holds_variable(&place) {
                true => format!("{}.to names no sink", super::shown(at)),
                false => format!("{}.to: there is no sink {}", super::shown(at), quoted(to)),
            };
            let near = nearest(to, sinks.iter().copied());
            let label = match near.is_empty() {
                true => "the `name` of a sink, else its kind".to_owned(),
                false => did_you_mean(&near),
            };
            self.fault(&[&place], &message, &label);
        }
    }

    /// A sink that no table goes to waits for ever.
    fn reached(&mut self, sql: &SqlSource, sinks: &[&str]) {
        let all = sql.tables.iter().any(|table| table.to.is_empty());
        let tables = || sql.tables.iter().flat_map(|table| &table.to);
        if all || tables().any(|to| !sinks.contains(&to.as_str())) {
            return;
        }
        for sink in sinks {
            if !tables().any(|to| to == sink) {
                let message = format!("{AT}: no table goes to sink {}", quoted(sink));
                let help = "name it in a table's `to`, or leave `to` out of one";
                self.fault(&["source.sql.tables"], &message, help);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::environment::Environment;
    use super::super::super::from_str;

    /// The one error of a pipeline with these settings; empty when it has none.
    fn only_error(sql: &str, tables: &str, more: &str) -> String {
        let text = format!(
            "name: x\nsource:\n  sql: {{ {sql}, tables: [{tables}] }}\n{more}load:\n  \
             - http: {{ url: 'https://h/' }}\n"
        );
        match from_str("p.yaml", &text, &[], &Environment::empty()) {
            Ok(_) => String::new(),
            Err(report) => {
                assert_eq!(report.error_count(), 1, "{report}");
                report.errors()[0].message.clone()
            }
        }
    }

    const FILES: &str = "kind: sqlite, shards: 'sqlite:a.db,sqlite:b.db'";
    const TABLE: &str = "{ table: t, key: [id] }";

    #[test]
    fn each_rule_of_shards_refuses_its_mistake() {
        if !cfg!(all(feature = "sqlite", feature = "postgres")) {
            return;
        }
        assert_eq!(only_error(FILES, TABLE, ""), "");
        for (sql, message) in [
            ("kind: sqlite", "shards names no shard"),
            ("kind: sqlite, shards: ['sqlite:a.db', 'sqlite:a.db']", "the same shard twice"),
            ("kind: sqlite, shards: 'postgres://h/x'", "no URL of kind sqlite"),
            ("kind: sqlite, shards: 'sqlite:a', names: 'a,b'", "2 names for 1 shards"),
            ("kind: sqlite, shards: 'sqlite:a', password: x", "a file has no password"),
            ("kind: sqlite, shards: 'sqlite:a', timeout: 0s", "no time at all"),
            ("kind: sqlite, shards: 'sqlite:a', add: { shard: a, processed_at: a }", "this name"),
            ("kind: sqlite, shards: 'sqlite:a', add: { shard: '' }", "is empty"),
            (
                "kind: postgres, hosts: db.example.net, password: x, sslmode: prefer",
                "a password could travel unencrypted",
            ),
        ] {
            let found = only_error(sql, TABLE, "");
            assert!(found.contains(message) && !found.is_empty(), "{sql}: {found}");
        }
        let wrong =
            "kind: postgres, hosts: h, password: x, sslmode: prefer, allow_plain_password: true";
        assert_eq!(only_error(wrong, TABLE, ""), "");
    }

    #[test]
    fn each_rule_of_tables_refuses_its_mistake() {
        if !cfg!(feature = "sqlite") {
            return;
        }
        for (tables, message) in [
            ("{ key: [id] }", "neither a table nor a query"),
            ("{ table: t, query: q, key: [id] }", "both table and query"),
            ("{ query: SELECT 1, key: [id] }", "a query needs a name"),
            ("{ table: t, key: [id, id] }", "a column twice"),
            ("{ table: t, key: [id], columns: [''] }", "without a name"),
            ("{ table: t, key: [id], since: 1day }", "since needs a cursor"),
            ("{ table: t, key: [id], to: [htpt] }", "there is no sink `htpt`"),
            ("{ table: t, key: [id] }, { table: t, key: [id] }", "the name of another one"),
            ("{ table: t, key: [] }", "is empty"),
        ] {
            let found = only_error(FILES, tables, "");
            assert!(found.contains(message) && !found.is_empty(), "{tables}: {found}");
        }
        let dedupe = only_error(FILES, TABLE, "transform: [{ dedupe: id }]\n");
        assert!(dedupe.contains("dedupe needs one order"), "{dedupe}");
        let extract = only_error(FILES, TABLE, "extract: { http: { url: 'http://127.0.0.1/' } }\n");
        assert!(extract.contains("extract needs an inventory"), "{extract}");
    }

    #[test]
    fn passwords_in_shards_are_not_shown() {
        let text = "name: x\nsource:\n  sql:\n    kind: postgres\n    shards:\n      \
                    - postgres://me:every-key-secret@h:99999/x\n    tables: [{ table: t, key: [a] }]\n\
                    load:\n  - http: { url: 'https://h/' }\n";
        let shown = from_str("p.yaml", text, &[], &Environment::empty())
            .map_or_else(|report| report.render(false), |_| String::new());
        assert!(shown.contains("wrong port") && !shown.contains("every-key-secret"), "{shown}");
    }
}
