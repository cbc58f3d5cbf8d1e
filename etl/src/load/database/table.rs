//! The table that a sink fills: what of a record goes where.

use std::time::Duration;

use super::sql::{quoted, quoted_name};
use crate::config::{ColumnType, DatabaseLoad, Extra, Generated, Layout, WriteMode};
use crate::http::printable;
use crate::load::sink::{Probe, Reach};

/// The table and what is known of it from the configuration.
#[derive(Debug, Clone)]
pub(super) struct Table {
    /// As configured.
    pub(super) plain: String,
    /// Quoted, with its schema.
    pub(super) name: String,
    pub(super) layout: Layout,
    /// The columns that records fill, in order; one for the raw layout.
    pub(super) loaded: Vec<Loaded>,
    /// All columns, for making the table.
    pub(super) all: Vec<Made>,
    pub(super) create: bool,
    pub(super) primary_key: Vec<String>,
    pub(super) unique: Vec<Vec<String>>,
    pub(super) indexes: Vec<Vec<String>>,
    pub(super) mode: WriteMode,
    pub(super) key: Vec<String>,
    /// The column that says which of two rows with one key is newer.
    pub(super) version: Option<String>,
    /// Which of the loaded columns tells the partition.
    pub(super) partition: Option<usize>,
    pub(super) extra: Extra,
    pub(super) empty_as_null: bool,
    /// The ledger of batches, quoted.
    pub(super) ledger: String,
    /// The ledger of partitions, quoted.
    pub(super) partitions: String,
    /// How long keys are kept.
    pub(super) keep: Duration,
}

/// A column that records fill.
#[derive(Debug, Clone)]
pub(super) struct Loaded {
    /// As configured.
    pub(super) column: String,
    /// The record's field.
    pub(super) field: String,
    pub(super) kind: ColumnType,
    /// Whether no column before it is filled from the same field.
    pub(super) first: bool,
    /// Whether a column behind it is filled from the same field.
    pub(super) shared: bool,
}

/// A column as the table is made.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub(super) name: String,
    pub(super) kind: ColumnType,
    pub(super) generated: Option<Generated>,
}

impl Table {
    pub(super) fn new(load: &DatabaseLoad) -> Table {
        let raw = load.layout == Layout::Raw;
        let made = |name: &str, kind, generated| Made { name: name.to_owned(), kind, generated };
        let all: Vec<Made> = match load.layout {
            Layout::Raw => vec![
                made("id", ColumnType::Bigint, Some(Generated::Id)),
                made("data", ColumnType::Jsonb, None),
                made("created_at", ColumnType::Timestamptz, Some(Generated::Now)),
            ],
            Layout::Columns => {
                let columns = load.columns.0.iter();
                columns.map(|(name, column)| made(name, column.kind, column.generated)).collect()
            }
        };
        let mut loaded: Vec<Loaded> = Vec::new();
        for column in all.iter().filter(|column| column.generated.is_none()) {
            let from = load.columns.get(&column.name).and_then(|own| own.from.clone());
            let field = from.unwrap_or_else(|| column.name.clone());
            let before = loaded.iter_mut().filter(|other| other.field == field);
            let first = before.map(|other| other.shared = true).count() == 0;
            let (column, kind) = (column.name.clone(), column.kind);
            loaded.push(Loaded { column, field, kind, first, shared: false });
        }
        let partition = load.partition.as_ref();
        let ledger = &load.ledger.table;
        Table {
            plain: load.table.clone(),
            name: quoted_name(&load.table),
            layout: load.layout,
            partition: partition
                .and_then(|name| loaded.iter().position(|column| column.column == *name)),
            primary_key: primary_key(load, &all),
            unique: unique(load),
            indexes: if raw { vec![vec!["created_at".to_owned()]] } else { load.indexes.clone() },
            loaded,
            all,
            create: load.create,
            mode: load.mode,
            key: load.key.clone(),
            version: load.version.clone(),
            extra: load.extra,
            empty_as_null: load.empty_as_null,
            ledger: quoted_name(ledger),
            partitions: quoted_name(&format!("{ledger}_partitions")),
            keep: load.ledger.keep.0,
        }
    }

    /// The loaded columns, quoted, with commas between.
    pub(super) fn loaded_names(&self) -> String {
        list(self.loaded.iter().map(|column| column.column.as_str()))
    }

    /// The loaded columns that are not part of the key.
    pub(super) fn overwritten(&self) -> impl Iterator<Item = &str> {
        let names = self.loaded.iter().map(|column| column.column.as_str());
        names.filter(|name| !self.key.iter().any(|key| key == name))
    }
}

/// What a probe says of a table that lacks columns.
pub(super) fn no_column(reached: &str, columns: &str) -> Probe {
    let columns = printable(columns.as_bytes(), 200);
    Probe::new(
        Reach::Refused,
        format!("{reached} has no column {columns}"),
        "add it to the table, or correct `columns`",
    )
}

/// Names quoted, with commas between.
pub(super) fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(quoted).collect::<Vec<_>>().join(", ")
}

/// As configured; else the generated number, else the key of `upsert`.
fn primary_key(load: &DatabaseLoad, all: &[Made]) -> Vec<String> {
    if !load.primary_key.is_empty() {
        return load.primary_key.clone();
    }
    let id = all.iter().find(|column| column.generated == Some(Generated::Id));
    id.map_or_else(|| load.key.clone(), |column| vec![column.name.clone()])
}

/// As configured, and the key of `upsert` where nothing else makes it unique.
fn unique(load: &DatabaseLoad) -> Vec<Vec<String>> {
    let mut all = load.unique.clone();
    let id = load.columns.0.iter().any(|(_, column)| column.generated == Some(Generated::Id));
    let is_primary = load.primary_key == load.key || (load.primary_key.is_empty() && !id);
    if !load.key.is_empty() && !is_primary && !all.contains(&load.key) {
        all.push(load.key.clone());
    }
    all
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
pub(super) mod tests {
    use serde_json::json;

    use super::Table;

    /// A table with these columns.
    pub(in crate::load::database) fn table(columns: &str) -> Table {
        with(json!({ "columns": serde_json::from_str::<serde_json::Value>(columns).unwrap() }))
    }

    /// A table with these keys of configuration.
    pub(in crate::load::database) fn with(keys: serde_json::Value) -> Table {
        let mut all = json!({ "table": "t" });
        all.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        Table::new(&serde_json::from_value(all).unwrap())
    }

    #[test]
    fn generated_columns_are_made_and_not_loaded() {
        let columns = json!({ "n": { "type": "bigint", "generated": "id" }, "a": { "type": "text" },
            "at": { "type": "timestamptz", "generated": "now" } });
        let made = with(json!({ "columns": columns, "mode": "upsert", "key": ["a"] }));
        assert_eq!(made.loaded_names(), "\"a\"");
        assert_eq!(made.primary_key, ["n"]);
        assert_eq!(made.unique, [["a"]], "what upsert asks for");
        let raw = with(json!({ "layout": "raw" }));
        assert_eq!(raw.loaded_names(), "\"data\"");
        assert_eq!(raw.primary_key, ["id"]);
        assert_eq!(raw.indexes, [["created_at"]]);
    }
}
