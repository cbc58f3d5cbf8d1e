//! The SQL that pages are asked for in, where it differs by dialect. Names and values
//! from outside are quoted by the dialect's functions and nowhere else.

use super::client::{Column, Page, Relation};
use super::key::Key;

/// How one kind of database writes names and values.
pub struct Dialect {
    /// A name in its quotes.
    pub name: fn(&str) -> String,
    /// A value of a column as a literal, from the text of its JSON.
    pub literal: fn(&Column, &str) -> String,
    /// What is selected so that a column's values come without loss.
    pub select: fn(&Column) -> String,
    /// Whether `(a, b) > (1, 2)` is understood, and answered from an index.
    pub compares_rows: bool,
}

impl Dialect {
    /// A table's name, each part quoted, or the query in parentheses.
    #[must_use]
    pub fn relation(&self, relation: &Relation) -> String {
        match relation {
            Relation::Table(name) => name.split('.').map(self.name).collect::<Vec<_>>().join("."),
            // On lines of their own: a query may end with a comment.
            Relation::Query(sql) => format!("(\n{sql}\n) AS {}", (self.name)("etl_query")),
        }
    }

    /// Asks whether there is a row with NULL in a column.
    #[must_use]
    pub fn has_null(&self, relation: &Relation, column: &str) -> String {
        let (from, name) = (self.relation(relation), (self.name)(column));
        format!("SELECT EXISTS (SELECT 1 FROM {from} WHERE {name} IS NULL)")
    }

    /// `SELECT … FROM … WHERE … ORDER BY …`, without a limit.
    #[must_use]
    pub fn page(&self, page: &Page) -> String {
        let columns: Vec<String> = page.columns.iter().map(self.select).collect();
        let order: Vec<String> = page.ordered().map(|column| (self.name)(&column.name)).collect();
        let mut sql =
            format!("SELECT {} FROM {}", columns.join(", "), self.relation(&page.relation));
        let mut conditions = Vec::new();
        if let Some(key) = &page.after {
            conditions.push(self.compared(page, key, ">", ">"));
        }
        if let Some(key) = &page.until {
            conditions.push(self.compared(page, key, "<", "<="));
        }
        if let (Some(first), Some(column)) = (order.first(), page.ordered().next()) {
            for (sign, bound) in [(">=", &page.from), ("<", &page.below)] {
                if let Some(bound) = bound {
                    conditions.push(format!("{first} {sign} {}", (self.literal)(column, bound)));
                }
            }
        }
        if !conditions.is_empty() {
            sql += &format!(" WHERE {}", conditions.join(" AND "));
        }
        sql + &format!(" ORDER BY {}", order.join(", "))
    }

    /// The order's columns against `key`: `strict` in all places but the last, which is
    /// compared by `last`.
    fn compared(&self, page: &Page, key: &Key, strict: &str, last: &str) -> String {
        let pairs: Vec<(String, String)> = page
            .ordered()
            .zip(&key.0)
            .map(|(column, text)| ((self.name)(&column.name), (self.literal)(column, text)))
            .collect();
        if self.compares_rows && pairs.len() > 1 {
            let (names, values): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
            return format!("({}) {last} ({})", names.join(", "), values.join(", "));
        }
        // a > 1 OR (a = 1 AND (b > 2 OR …)); the first column's bound stands before it, by
        // itself, for the index.
        let mut sql = String::new();
        for (place, (name, value)) in pairs.iter().enumerate().rev() {
            sql = match place + 1 == pairs.len() {
                true => format!("{name} {last} {value}"),
                false => format!("({name} {strict} {value} OR ({name} = {value} AND {sql}))"),
            };
        }
        match pairs.as_slice() {
            [(name, value), _, ..] => format!("{name} {strict}= {value} AND {sql}"),
            _ => sql,
        }
    }
}

/// A name in double quotes.
#[must_use]
pub fn double_quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text in single quotes, where backslashes are themselves.
#[must_use]
pub fn single_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::{Dialect, double_quoted, single_quoted};
    use crate::source::sql::{Column, Key, Kind, Page, Relation};

    fn page() -> Page {
        let column = |name: &str| Column {
            name: name.to_owned(),
            kind: Kind::Text,
            declared: "text".to_owned(),
            nullable: false,
        };
        Page {
            relation: Relation::Table("s.t".to_owned()),
            columns: vec![column("id"), column("at")],
            order: vec![1, 0],
            after: Some(Key(vec!["a'b".to_owned(), "2".to_owned()])),
            until: None,
            from: None,
            below: Some("z".to_owned()),
            limit: 10,
        }
    }

    fn dialect(compares_rows: bool) -> Dialect {
        Dialect {
            name: double_quoted,
            literal: |_, text| single_quoted(text),
            select: |column| double_quoted(&column.name),
            compares_rows,
        }
    }

    #[test]
    fn a_page_is_asked_for_by_key_and_never_by_offset() {
        assert_eq!(
            dialect(true).page(&page()),
            "SELECT \"id\", \"at\" FROM \"s\".\"t\" WHERE (\"at\", \"id\") > ('a''b', '2') \
             AND \"at\" < 'z' ORDER BY \"at\", \"id\""
        );
        assert_eq!(
            dialect(false).page(&page()),
            "SELECT \"id\", \"at\" FROM \"s\".\"t\" WHERE \"at\" >= 'a''b' AND \
             (\"at\" > 'a''b' OR (\"at\" = 'a''b' AND \"id\" > '2')) \
             AND \"at\" < 'z' ORDER BY \"at\", \"id\""
        );
        let until = Page { after: None, until: page().after, below: None, ..page() };
        assert!(dialect(true).page(&until).contains("(\"at\", \"id\") <= ("));
        assert!(dialect(false).page(&until).contains(
            "\"at\" <= 'a''b' AND (\"at\" < 'a''b' OR (\"at\" = 'a''b' AND \"id\" <= '2'))"
        ));
    }
}
