//! The statements that are sent. Names are quoted, values are parameters, and every parameter
//! is cast to its column's type, so that an index serves the comparison.

use tiberius::{ColumnData, Query};

use super::columns::{bare, collation, quoted, selected, table};
use crate::source::sql::client::{Column, Kind, Page, Relation};
use crate::source::sql::error::{SqlError, Trouble};
use crate::source::sql::values::hex_of;

/// The columns of a statement's result, with their types, without running it.
pub(super) const DESCRIBE: &str = "SELECT name, system_type_name, user_type_name, is_nullable, \
     collation_name, error_number, error_message \
     FROM sys.dm_exec_describe_first_result_set(@P1, NULL, 0) ORDER BY column_ordinal";

/// The columns of a table's indexes, index by index; the index whose type is 1 is the table.
pub(super) const INDEXES: &str = "SELECT i.index_id, i.type, c.name \
     FROM sys.indexes AS i \
     JOIN sys.index_columns AS ic ON ic.object_id = i.object_id AND ic.index_id = i.index_id \
     JOIN sys.columns AS c ON c.object_id = ic.object_id AND c.column_id = ic.column_id \
     WHERE i.object_id = OBJECT_ID(@P1) AND i.type IN (1, 2) AND i.is_disabled = 0 \
     AND i.has_filter = 0 AND ic.key_ordinal > 0 AND ic.is_descending_key = 0 \
     ORDER BY i.index_id, ic.key_ordinal";

/// A statement with its parameters.
#[derive(Debug, Default)]
pub(super) struct Statement {
    pub sql: String,
    parameters: Vec<ColumnData<'static>>,
}

impl Statement {
    pub(super) fn query(self) -> Query<'static> {
        let mut query = Query::new(self.sql);
        for parameter in self.parameters {
            query.bind(parameter);
        }
        query
    }

    /// Adds a value of a column and gives what stands for it.
    fn value(&mut self, column: &Column, text: &str) -> String {
        let number = self.parameters.len() + 1;
        let declared = bare(&column.declared);
        if column.kind == Kind::Bytes {
            self.parameters.push(ColumnData::String(Some(hex_of(text).into())));
            // Style 2: two digits a byte, nothing before them.
            return format!("CONVERT({declared}, @P{number}, 2)");
        }
        self.parameters.push(ColumnData::String(Some(text.to_owned().into())));
        let collate = collation(&column.declared).map(|name| format!(" COLLATE {name}"));
        let collate = collate.unwrap_or_default();
        format!("CAST(@P{number}{collate} AS {declared})")
    }
}

/// What is behind FROM.
pub(super) fn from(relation: &Relation) -> String {
    match relation {
        Relation::Table(name) => table(name),
        // On lines of their own: a query may end with a comment.
        Relation::Query(sql) => format!("(\n{sql}\n) AS [etl_query]"),
    }
}

/// Everything of it, for [`DESCRIBE`].
pub(super) fn everything(relation: &Relation) -> String {
    format!("SELECT * FROM {}", from(relation))
}

/// Finds one row with NULL in the column.
pub(super) fn null_row(relation: &Relation, column: &str) -> String {
    format!("SELECT TOP (1) 1 AS [one] FROM {} WHERE {} IS NULL", from(relation), quoted(column))
}

/// One page.
pub(super) fn page(page: &Page) -> Result<Statement, SqlError> {
    let mut statement = Statement::default();
    let order: Vec<&Column> = page.ordered().collect();
    let columns = page.columns.iter().map(selected).collect::<Vec<_>>().join(", ");
    let mut conditions = Vec::new();
    if let Some(key) = &page.after {
        conditions.push(compared(&mut statement, &order, &key.0, (">", ">"))?);
    }
    if let Some(key) = &page.until {
        conditions.push(compared(&mut statement, &order, &key.0, ("<", "<="))?);
    }
    for (bound, sign) in [(&page.from, ">="), (&page.below, "<")] {
        if let (Some(bound), Some(first)) = (bound, order.first()) {
            let value = statement.value(first, bound);
            conditions.push(format!("{} {sign} {value}", quoted(&first.name)));
        }
    }
    let conditions = match conditions.is_empty() {
        true => String::new(),
        false => format!(" WHERE {}", conditions.join(" AND ")),
    };
    let order = order.iter().map(|column| quoted(&column.name)).collect::<Vec<_>>().join(", ");
    let from = from(&page.relation);
    statement.sql =
        format!("SELECT TOP ({}) {columns} FROM {from}{conditions} ORDER BY {order}", page.limit);
    Ok(statement)
}

/// `(a >= x AND (a > x OR b > y))`: T-SQL does not compare tuples. The first condition is there
/// for the index. `signs` are those of all columns but the last, and of the last.
fn compared(
    statement: &mut Statement,
    order: &[&Column],
    key: &[String],
    signs: (&str, &str),
) -> Result<String, SqlError> {
    let ([column, further @ ..], [text, rest @ ..]) = (order, key) else {
        return Err(SqlError::new(Trouble::Query, "a key has not as many values as columns"));
    };
    let (name, value) = (quoted(&column.name), statement.value(column, text));
    if further.is_empty() {
        return Ok(format!("{name} {} {value}", signs.1));
    }
    let further = compared(statement, further, rest, signs)?;
    let sign = signs.0;
    Ok(format!("({name} {sign}= {value} AND ({name} {sign} {value} OR {further}))"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use super::page;
    use crate::source::sql::client::{Column, Kind, Page, Relation};
    use crate::source::sql::key::Key;

    fn column(name: &str, kind: Kind, declared: &str) -> Column {
        let (name, declared) = (name.to_owned(), declared.to_owned());
        Column { name, kind, declared, nullable: false }
    }

    #[test]
    fn a_page_is_bounded_by_parameters_of_the_columns_own_types() {
        let wanted = Page {
            relation: Relation::Table("dbo.orders".to_owned()),
            columns: vec![
                column("id", Kind::Integer, "bigint"),
                column("name", Kind::Text, "varchar(20) COLLATE Cyrillic_General_CI_AS"),
                column("at", Kind::DateTime, "datetime2(3)"),
            ],
            order: vec![2, 0],
            after: Some(Key(vec!["2026-01-01T00:00:00.000".to_owned(), "7".to_owned()])),
            until: None,
            from: None,
            below: Some("2026-02-01T00:00:00.000".to_owned()),
            limit: 500,
        };
        let statement = page(&wanted).unwrap();
        assert_eq!(
            statement.sql,
            "SELECT TOP (500) [id], CAST([name] AS nvarchar(20)) AS [name], [at] \
             FROM [dbo].[orders] WHERE ([at] >= CAST(@P1 AS datetime2(3)) AND \
             ([at] > CAST(@P1 AS datetime2(3)) OR [id] > CAST(@P2 AS bigint))) \
             AND [at] < CAST(@P3 AS datetime2(3)) ORDER BY [at], [id]"
        );
        let by_name = Page { order: vec![1], after: None, below: Some("б".to_owned()), ..wanted };
        let statement = page(&by_name).unwrap();
        let bound = "[name] < CAST(@P1 COLLATE Cyrillic_General_CI_AS AS varchar(20))";
        assert!(statement.sql.contains(bound), "{}", statement.sql);
    }
}
