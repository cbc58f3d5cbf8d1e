//! Rules of the database sinks.

use std::collections::BTreeSet;

use super::super::database::DatabasePlace;
use super::super::mask::quoted;
use super::super::pipeline::{Column, ColumnType, DatabaseLoad, Generated, Layout, WriteMode};
use super::super::suggest::{did_you_mean, nearest};
use super::{Rules, shown};

/// The longest name that PostgreSQL keeps whole, in bytes.
const NAME_MAX: usize = 63;

impl Rules<'_> {
    pub(super) fn load_database(&mut self, kind: &str, load: &DatabaseLoad, at: &str) {
        let key = |name: &str| format!("{at}.{name}");
        self.place(kind, load, at);
        self.table_name(&load.table, &key("table"));
        self.table_name(&load.ledger.table, &key("ledger.table"));
        self.longer_than_nothing(&key("connect_timeout"), load.connect_timeout);
        self.longer_than_nothing(&key("ledger.keep"), load.ledger.keep);
        self.named_file(load.tls.ca.as_deref(), &key("tls.ca"));
        self.named_file(load.password_file.as_deref(), &key("password_file"));
        let password = load.password.as_ref().is_some_and(|text| !text.expose().is_empty());
        if password && load.password_file.is_some() {
            let message = format!("{}: both password and password_file are set", shown(at));
            let keys = [key("password_file"), key("password")];
            self.fault(&[&keys[0], &keys[1]], &message, "one of them is enough");
        }
        match load.layout {
            Layout::Raw => self.raw_layout(load, at),
            Layout::Columns => self.column_layout(load, at),
        }
    }

    fn place(&mut self, kind: &str, load: &DatabaseLoad, at: &str) {
        let url = format!("{at}.url");
        let place = match DatabasePlace::of(kind, load) {
            Ok(place) => place,
            Err(problem) => {
                let message = format!("{} {}", shown(&url), problem.message);
                return self.fault(&[&url, at], &message, problem.label);
            }
        };
        if kind == "sqlite" {
            self.server_keys(load, at);
        }
        let (engine, built) = match &place {
            DatabasePlace::Postgres(_) => ("postgres", cfg!(feature = "postgres")),
            DatabasePlace::Sqlite(_) => ("sqlite", cfg!(feature = "sqlite")),
        };
        if !built {
            let message = format!("{}: this etl was built without {engine}", shown(at));
            let help = format!("build it with `--features {engine}`, or use a release");
            self.fault(&[at], &message, &help);
        }
        let DatabasePlace::Postgres(server) = place else { return };
        let secret = server.password.is_some() || load.password_file.is_some();
        if secret && server.is_exposed() && !load.allow_plain_password {
            let keys = [url, format!("{at}.sslmode"), format!("{at}.host"), at.to_owned()];
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            let message = format!("{}: the password could travel unencrypted", shown(at));
            let help = "use sslmode require or verify-full; or, where the network itself is \
                        trusted, allow_plain_password: true";
            self.fault(&keys, &message, help);
        }
    }

    /// Keys that only a server has, under `sqlite`.
    fn server_keys(&mut self, load: &DatabaseLoad, at: &str) {
        for (name, set) in [
            ("host", load.host.is_some()),
            ("port", load.port.is_some()),
            ("user", load.user.is_some()),
            ("password", load.password.is_some()),
            ("password_file", load.password_file.is_some()),
            ("sslmode", load.sslmode.is_some()),
        ] {
            if set {
                let message = format!("{}: a file has no {}", shown(at), quoted(name));
                let help = "it is for postgres; `database` takes the keys of both";
                self.fault(&[&format!("{at}.{name}")], &message, help);
            }
        }
    }

    fn raw_layout(&mut self, load: &DatabaseLoad, at: &str) {
        let set = [
            ("columns", !load.columns.is_empty()),
            ("primary_key", !load.primary_key.is_empty()),
            ("unique", !load.unique.is_empty()),
            ("indexes", !load.indexes.is_empty()),
            ("mode", load.mode != WriteMode::Append),
            ("key", !load.key.is_empty()),
            ("partition", load.partition.is_some()),
        ];
        for (name, _) in set.iter().filter(|(_, set)| *set) {
            let message = format!("{}: layout raw takes no {}", shown(at), quoted(name));
            let help = "its table is id, data, created_at, and rows are appended";
            self.fault(&[&format!("{at}.{name}")], &message, help);
        }
    }

    fn column_layout(&mut self, load: &DatabaseLoad, at: &str) {
        let key = |name: &str| format!("{at}.{name}");
        if !load.columns.0.iter().any(|(_, column)| column.generated.is_none()) {
            let message = format!("{}: no column is filled from a record", shown(at));
            let help = "name them: columns: { id: bigint, title: text }; or layout: raw";
            self.fault(&[&key("columns"), at], &message, help);
        }
        for (name, column) in &load.columns.0 {
            self.column(name, column, &key("columns"));
        }
        let lists = [("unique", &load.unique), ("indexes", &load.indexes)];
        for (list, all) in lists {
            for (index, names) in all.iter().enumerate() {
                self.named_columns(names, load, &key(&format!("{list}.{index}")));
            }
        }
        self.named_columns(&load.primary_key, load, &key("primary_key"));
        let ids: Vec<&String> = load
            .columns
            .0
            .iter()
            .filter(|(_, column)| column.generated == Some(Generated::Id))
            .map(|(name, _)| name)
            .collect();
        let alone = load.primary_key.is_empty() || load.primary_key.iter().eq(ids.iter().copied());
        if ids.len() > 1 || (!ids.is_empty() && !alone) {
            let message = format!("{}: a generated id is the primary key by itself", shown(at));
            let help = "leave primary_key out, and use `unique` for the other columns";
            self.fault(&[&key("primary_key"), &key("columns"), at], &message, help);
        }
        self.mode(load, at);
    }

    fn column(&mut self, name: &str, column: &Column, at: &str) {
        // A name may hold dots, which `locate` would take for steps: point at the list.
        let place = if name.contains('.') { at.to_owned() } else { format!("{at}.{name}") };
        if name.is_empty() || name.len() > NAME_MAX || name.contains('\0') {
            let message = format!("{}: {} cannot be a column", shown(at), quoted(name));
            self.fault(&[&place], &message, "1 to 63 bytes");
        }
        if column.generated.is_some() && column.from.is_some() {
            let message = format!("{}: both from and generated are set", shown(&place));
            self.fault(&[&place], &message, "a column is filled by one of them");
        }
        let fits = match column.generated {
            None => true,
            Some(Generated::Now) => {
                matches!(column.kind, ColumnType::Timestamptz | ColumnType::Date)
            }
            Some(Generated::Id) => {
                matches!(column.kind, ColumnType::Integer | ColumnType::Bigint)
            }
        };
        if !fits {
            let message = format!("{}: this type cannot be generated so", shown(&place));
            self.fault(&[&place], &message, "now: timestamptz or date; id: integer or bigint");
        }
    }

    fn mode(&mut self, load: &DatabaseLoad, at: &str) {
        let key = |name: &str| format!("{at}.{name}");
        let upsert = load.mode == WriteMode::Upsert;
        if upsert == load.key.is_empty() {
            let message = format!("{}: mode upsert and `key` go together", shown(at));
            self.fault(&[&key("mode"), &key("key"), at], &message, "as in key: [id]");
        }
        self.loaded_columns(&load.key, load, &key("key"));
        if let Some(version) = &load.version {
            if !upsert || load.key.contains(version) {
                let message = format!("{}: version is for rows that upsert overwrites", shown(at));
                let help = "set `mode: upsert`, and a column that is not part of `key`";
                self.fault(&[&key("version")], &message, help);
            }
            self.loaded_columns(std::slice::from_ref(version), load, &key("version"));
        }
        let replace = load.mode == WriteMode::Replace;
        if replace != load.partition.is_some() {
            let message = format!("{}: mode replace and `partition` go together", shown(at));
            self.fault(&[&key("mode"), &key("partition"), at], &message, "as in partition: date");
        }
        let Some(partition) = &load.partition else { return };
        self.loaded_columns(std::slice::from_ref(partition), load, &key("partition"));
        let kind = load.columns.get(partition).map(|column| column.kind);
        if let Some(
            ColumnType::Double
            | ColumnType::Numeric(_)
            | ColumnType::Jsonb
            | ColumnType::Timestamptz,
        ) = kind
        {
            let message = format!("{}: this column's type cannot tell partitions", shown(at));
            let help = "text, integer, bigint, boolean, date or uuid can";
            self.fault(&[&key("partition")], &message, help);
        }
    }

    /// Columns that are filled from records.
    fn loaded_columns(&mut self, names: &[String], load: &DatabaseLoad, at: &str) {
        self.named_columns(names, load, at);
        let generated =
            |name: &String| load.columns.get(name).is_some_and(|c| c.generated.is_some());
        if names.iter().any(generated) {
            let message = format!("{} names a generated column", shown(at));
            self.fault(&[at], &message, "one that is filled from records");
        }
    }

    fn named_columns(&mut self, names: &[String], load: &DatabaseLoad, at: &str) {
        let mut seen = BTreeSet::new();
        for name in names {
            if !seen.insert(name) {
                self.fault(
                    &[at],
                    &format!("{}: the same column twice", shown(at)),
                    "once is enough",
                );
            }
            if load.columns.get(name).is_none() && !load.columns.is_empty() {
                if self.holds_variable(at) {
                    let message = format!("{} names a column that is not there", shown(at));
                    self.fault(&[at], &message, "one of `columns`");
                    continue;
                }
                let message = format!("{}: there is no column {}", shown(at), quoted(name));
                let near = nearest(name, load.columns.0.iter().map(|(own, _)| own.as_str()));
                self.fault(&[at], &message, &did_you_mean(&near));
            }
        }
    }

    fn table_name(&mut self, name: &str, at: &str) {
        let parts: Vec<&str> = name.split('.').collect();
        let wrong =
            |part: &&str| part.is_empty() || part.len() > NAME_MAX - 11 || part.contains('\0');
        if parts.len() > 2 || parts.iter().any(wrong) {
            let message = format!("{} cannot be a table", shown(at));
            self.fault(&[at], &message, "table or schema.table, each at most 52 bytes");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use crate::config::{Environment, from_str};

    /// The errors of a sink of `kind` with these keys.
    fn errors(kind: &str, keys: &str) -> String {
        let text = format!(
            "name: p\nsource: {{ csv: {{ path: a.csv }} }}\nload:\n  - {kind}: {{ {keys} }}\n"
        );
        match from_str("p.yaml", &text, &[], &Environment::empty()) {
            Ok(_) => String::new(),
            Err(report) => report.render(false),
        }
    }

    #[cfg(not(feature = "postgres"))]
    #[test]
    fn a_database_that_is_not_built_in_is_refused() {
        let found = errors("postgres", "table: t, layout: raw");
        assert!(found.contains("this etl was built without postgres"), "{found}");
    }

    #[cfg(all(feature = "postgres", feature = "sqlite"))]
    #[test]
    fn what_is_right_passes() {
        let columns = "table: t, columns: { id: bigint, day: { from: d, type: date }, at: { type: timestamptz, generated: now } }";
        for (kind, keys) in [
            ("database", "table: raw_data, layout: raw, create: true".to_owned()),
            ("sqlite", format!("{columns}, create: true, primary_key: [id], indexes: [[day, id]]")),
            ("postgres", format!("{columns}, mode: upsert, key: [id]")),
            (
                "postgres",
                format!(
                    "{columns}, mode: replace, partition: day, host: db.example.net, password: x"
                ),
            ),
            (
                "postgres",
                format!(
                    "{columns}, url: 'postgres://me:x@h/d?sslmode=disable', allow_plain_password: true"
                ),
            ),
        ] {
            assert_eq!(errors(kind, &keys), "", "{keys}");
        }
    }

    #[test]
    fn each_mistake_is_refused_where_it_stands() {
        let columns = "table: t, columns: { id: bigint, day: date, n: double, g: { type: bigint, generated: id } }";
        for (kind, keys, message) in [
            ("postgres", "layout: raw, table: a.b.c".to_owned(), "cannot be a table"),
            ("postgres", "table: t".to_owned(), "no column is filled from a record"),
            (
                "postgres",
                "table: t, layout: raw, mode: upsert".to_owned(),
                "layout raw takes no `mode`",
            ),
            (
                "postgres",
                "table: t, columns: { id: bigserial }".to_owned(),
                "`bigserial` is not a column type",
            ),
            (
                "postgres",
                "table: t, columns: { id: { type: bigint, form: x } }".to_owned(),
                "did you mean `from`?",
            ),
            ("postgres", "table: t, columns: { id: { from: x } }".to_owned(), "missing key `type`"),
            (
                "postgres",
                "table: t, columns: { id: { type: text, generated: id } }".to_owned(),
                "cannot be generated so",
            ),
            (
                "postgres",
                "table: t, columns: { id: { type: bigint, generated: id, from: x } }".to_owned(),
                "both from and generated",
            ),
            ("postgres", format!("{columns}, mode: upsert"), "mode upsert and `key` go together"),
            ("postgres", format!("{columns}, key: [id]"), "mode upsert and `key` go together"),
            ("postgres", format!("{columns}, mode: upsert, key: [g]"), "names a generated column"),
            ("postgres", format!("{columns}, mode: upsert, key: [idd]"), "did you mean `id`?"),
            (
                "postgres",
                format!("{columns}, mode: replace"),
                "mode replace and `partition` go together",
            ),
            (
                "postgres",
                format!("{columns}, mode: replace, partition: n"),
                "cannot tell partitions",
            ),
            ("postgres", format!("{columns}, indexes: [[id, id]]"), "the same column twice"),
            ("postgres", format!("{columns}, url: 'sqlite:x.db'"), "is not a PostgreSQL URL"),
            (
                "postgres",
                format!("{columns}, host: h, password: x, sslmode: prefer"),
                "could travel unencrypted",
            ),
            (
                "postgres",
                format!("{columns}, password: x, password_file: f"),
                "both password and password_file",
            ),
            ("postgres", format!("{columns}, ledger: {{ keep: 0s }}"), "no time at all"),
            ("sqlite", format!("{columns}, url: 'postgres://h/x'"), "is not an SQLite URL"),
            ("sqlite", format!("{columns}, host: h"), "a file has no `host`"),
            ("sqlite", format!("{columns}, primary_key: [id]"), "is the primary key by itself"),
        ] {
            let found = errors(kind, &keys);
            assert!(found.contains(message), "{keys}: {found}");
        }
    }

    #[test]
    fn a_password_in_a_url_is_not_shown() {
        let found = errors(
            "postgres",
            "table: t, columns: { id: bigint }, url: 'postgres://me:Canary93f@h/d?x=1'",
        );
        assert!(
            found.contains("parameter that is not known") && !found.contains("Canary93f"),
            "{found}"
        );
    }
}
