//! What is read of a table or query: which of its columns, in which order, and why not.

use super::client::{Column, Kind, Page, Relation};
use super::error::{SqlError, Trouble};
use super::rows::Shape;
use crate::config::{SqlFields, SqlTable, did_you_mean, nearest};

/// Columns that are named in one message.
const NAMED_MAX: usize = 8;

/// What is read of a table or query of one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    relation: Relation,
    /// The record's columns, then those that are there for the key alone.
    columns: Vec<Column>,
    /// How many of them are the record's.
    fields: usize,
    /// Places of the cursor and the key.
    order: Vec<usize>,
    has_cursor: bool,
}

impl Outline {
    /// What `table` is to give, of the columns `found` there.
    ///
    /// # Errors
    /// When a column is missing, cannot be read or cannot be ordered by.
    pub fn new(table: &SqlTable, found: Vec<Column>, add: &SqlFields) -> Result<Outline, SqlError> {
        let refuse = |text: String| SqlError::new(Trouble::Refused, text);
        let of = |name: &str| {
            found.iter().find(|column| column.name == name).cloned().ok_or_else(|| {
                let names = found.iter().map(|column| column.name.as_str());
                let near = nearest(name, names);
                let error = refuse(format!("there is no column `{name}`"));
                match near.is_empty() {
                    true => error.remedy("see source.sql.tables"),
                    false => error.remedy(did_you_mean(&near)),
                }
            })
        };
        let mut columns: Vec<Column> = match table.columns.is_empty() {
            true => found.clone(),
            false => table.columns.iter().map(|name| of(name)).collect::<Result<_, _>>()?,
        };
        let fields = columns.len();
        let cursor = table.cursor.iter().filter(|cursor| !table.key.contains(cursor));
        let mut order = Vec::new();
        for name in cursor.chain(ordered_key(table)) {
            let at = match columns.iter().position(|column| column.name == *name) {
                Some(at) => at,
                None => {
                    columns.push(of(name)?);
                    columns.len() - 1
                }
            };
            order.push(at);
        }
        let outline = Outline {
            relation: relation(table),
            columns,
            fields,
            order,
            has_cursor: table.cursor.is_some(),
        };
        outline.check(table, add)?;
        Ok(outline)
    }

    fn check(&self, table: &SqlTable, add: &SqlFields) -> Result<(), SqlError> {
        let refuse = |text: String| SqlError::new(Trouble::Refused, text);
        let unsupported: Vec<String> = self
            .columns
            .iter()
            .filter(|column| column.kind == Kind::Unsupported)
            .map(|column| format!("`{}` is of type {}", column.name, column.declared))
            .collect();
        if !unsupported.is_empty() {
            let text = format!("column {}, which cannot be read", unsupported.join(", "));
            let remedy = "cast it to text in a `query`, or leave it out with `columns`";
            return Err(refuse(text).remedy(remedy));
        }
        if let Some(column) =
            self.order.iter().map(|at| &self.columns[*at]).find(|column| !column.kind.is_key())
        {
            let Column { name, declared, .. } = column;
            let text = format!("rows cannot be ordered by `{name}`, which is of type {declared}");
            return Err(refuse(text).remedy("name other columns in `key` and `cursor`"));
        }
        if let Some(cursor) = self.cursor().filter(|cursor| !cursor.kind.is_time())
            && !table.lag.0.is_zero()
        {
            let Column { name, declared, .. } = cursor;
            let text = format!(
                "the cursor `{name}` is of type {declared} and no time, so that reading cannot \
                 stay behind the database's clock, and rows that commit late would be missed"
            );
            let remedy = "name a time, or set `lag: 0s` where rows commit in the cursor's order";
            return Err(refuse(text).remedy(remedy));
        }
        if let Some(cursor) = self.cursor().filter(|cursor| !cursor.kind.is_time())
            && table.since.is_some()
        {
            let text =
                format!("`since` needs a cursor that is a time, and `{}` is none", cursor.name);
            return Err(refuse(text).remedy("remove `since`, or use a query with WHERE"));
        }
        let added = [&add.shard, &add.source_table, &add.processed_at];
        let mut names = self.columns[..self.fields].iter().map(|column| &column.name);
        if let Some(twice) = names.find(|name| added.iter().any(|it| it.as_ref() == Some(*name))) {
            let text = format!("`{twice}` is a column, and a field that is added");
            return Err(refuse(text).remedy("give another name in source.sql.add"));
        }
        Ok(())
    }

    /// What is read.
    #[must_use]
    pub fn relation(&self) -> &Relation {
        &self.relation
    }

    /// The column that grows; none: all is read in the order of the key.
    #[must_use]
    pub fn cursor(&self) -> Option<&Column> {
        self.order.first().filter(|_| self.has_cursor).and_then(|at| self.columns.get(*at))
    }

    /// The columns that rows are ordered by.
    pub fn ordered(&self) -> impl Iterator<Item = &Column> {
        self.order.iter().filter_map(|at| self.columns.get(*at))
    }

    /// How many columns become fields.
    #[must_use]
    pub fn fields(&self) -> usize {
        self.fields
    }

    /// What rows become, with fields that all of them get.
    #[must_use]
    pub fn shape(&self, added: &[(String, String)]) -> Shape {
        let names: Vec<&str> =
            self.columns[..self.fields].iter().map(|column| column.name.as_str()).collect();
        Shape::new(&names, added, self.order.clone())
    }

    /// The first page of at most `limit` rows.
    #[must_use]
    pub fn page(&self, limit: u32) -> Page {
        Page {
            relation: self.relation.clone(),
            columns: self.columns.clone(),
            order: self.order.clone(),
            after: None,
            until: None,
            from: None,
            below: None,
            limit,
        }
    }
}

/// The key's columns; the cursor first where it is one of them.
fn ordered_key(table: &SqlTable) -> impl Iterator<Item = &String> {
    let is_cursor = |name: &&String| table.cursor.as_ref() == Some(*name);
    table.key.iter().filter(is_cursor).chain(table.key.iter().filter(move |name| !is_cursor(name)))
}

/// The table, or the query without what would break it in parentheses.
#[must_use]
pub fn relation(table: &SqlTable) -> Relation {
    match (&table.table, &table.query) {
        (Some(name), _) => Relation::Table(name.clone()),
        (None, query) => {
            let query = query.as_deref().unwrap_or_default();
            Relation::Query(query.trim().trim_end_matches(';').trim_end().to_owned())
        }
    }
}

/// Names of columns for a message.
#[must_use]
pub fn named<'a>(columns: impl Iterator<Item = &'a Column>) -> String {
    let names: Vec<&str> = columns.take(NAMED_MAX).map(|column| column.name.as_str()).collect();
    names.join(", ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use serde_json::json;

    use super::{Outline, named};
    use crate::config::{SqlFields, SqlTable};
    use crate::source::sql::{Column, Kind};

    fn columns() -> Vec<Column> {
        [
            ("id", Kind::Integer),
            ("name", Kind::Text),
            ("updated_at", Kind::Instant),
            ("shape", Kind::Unsupported),
            ("size", Kind::Float),
        ]
        .map(|(name, kind)| Column {
            name: name.to_owned(),
            kind,
            declared: format!("{kind:?}").to_lowercase(),
            nullable: true,
        })
        .to_vec()
    }

    fn outline(table: serde_json::Value) -> Result<Outline, String> {
        let table: SqlTable = serde_json::from_value(table).unwrap();
        let add = SqlFields { shard: Some("name".to_owned()), ..SqlFields::default() };
        let add = if table.table() == "added" { add } else { SqlFields::default() };
        Outline::new(&table, columns(), &add).map_err(|error| error.to_string())
    }

    impl SqlTable {
        fn table(&self) -> &str {
            self.table.as_deref().unwrap_or_default()
        }
    }

    #[test]
    fn key_and_cursor_are_read_also_where_they_are_no_fields() {
        let outline = outline(json!({
            "table": "t", "key": ["id"], "cursor": "updated_at", "columns": ["name"],
        }))
        .unwrap();
        assert_eq!(named(outline.ordered()), "updated_at, id");
        let page = outline.page(5);
        assert_eq!((outline.fields(), page.columns.len(), page.order), (1, 3, vec![1, 2]));
    }

    #[test]
    fn a_cursor_that_is_part_of_the_key_comes_first() {
        let table = json!({
            "table": "t", "key": ["id", "updated_at"], "cursor": "updated_at",
            "columns": ["id", "updated_at"],
        });
        assert_eq!(named(outline(table).unwrap().ordered()), "updated_at, id");
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_name_with_what_to_do() {
        let fine = ["id", "name", "updated_at"];
        for (table, message) in [
            (json!({ "table": "t", "key": ["id"] }), "`shape` is of type unsupported"),
            (json!({ "table": "t", "key": ["ids"], "columns": fine }), "did you mean `id`?"),
            (json!({ "table": "t", "key": ["id"], "columns": ["nam"] }), "did you mean `name`?"),
            (json!({ "table": "t", "key": ["size"], "columns": fine }), "cannot be ordered by"),
            (
                json!({ "table": "t", "key": ["id"], "cursor": "id", "columns": fine }),
                "set `lag: 0s`",
            ),
            (
                json!({
                    "table": "t", "key": ["id"], "cursor": "id", "columns": fine,
                    "lag": "0s", "since": "1day",
                }),
                "`since` needs a cursor",
            ),
            (json!({ "table": "added", "key": ["id"], "columns": fine }), "a field that is added"),
        ] {
            let found = outline(table.clone()).unwrap_err();
            assert!(found.contains(message), "{table}: {found}");
        }
        let integers = json!({
            "table": "t", "key": ["id"], "cursor": "id", "columns": fine, "lag": "0s",
        });
        assert!(outline(integers).is_ok());
    }
}
