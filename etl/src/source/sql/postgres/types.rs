//! PostgreSQL's types: what their values are, how they are selected, and how a value
//! becomes a literal again.

use tokio_postgres::types::{Kind as Shape, Type};

use crate::source::sql::sentence::{Dialect, double_quoted, single_quoted};
use crate::source::sql::{Column, Kind};

pub(super) const DIALECT: Dialect =
    Dialect { name: double_quoted, literal, select, compares_rows: true };

/// Types whose text is exact, and is kept as text.
const TEXTS: [&str; 34] = [
    "text",
    "varchar",
    "bpchar",
    "char",
    "name",
    "citext",
    "ltree",
    "hstore",
    "inet",
    "cidr",
    "macaddr",
    "macaddr8",
    "bit",
    "varbit",
    "interval",
    "timetz",
    "tsvector",
    "tsquery",
    "jsonpath",
    "pg_lsn",
    "point",
    "line",
    "lseg",
    "box",
    "path",
    "polygon",
    "circle",
    "regclass",
    "regtype",
    "regproc",
    "xid",
    "cid",
    "tid",
    "pg_snapshot",
];

/// What a column of a prepared statement is.
pub(super) fn column(column: &tokio_postgres::Column) -> Column {
    Column {
        name: column.name().to_owned(),
        kind: kind(column.type_()),
        declared: declared(column.type_()),
        nullable: true,
    }
}

fn kind(of: &Type) -> Kind {
    match of.kind() {
        Shape::Enum(_) | Shape::Range(_) | Shape::Multirange(_) => return Kind::Text,
        Shape::Domain(base) => return kind(base),
        // As a JSON array; bytes in it would be PostgreSQL's hexadecimal.
        Shape::Array(element) => {
            return match kind(element) {
                Kind::Unsupported | Kind::Bytes | Kind::Xml => Kind::Unsupported,
                _ if element.name() == "money" => Kind::Unsupported,
                _ => Kind::Json,
            };
        }
        Shape::Simple => {}
        _ => return Kind::Unsupported,
    }
    match of.name() {
        "bool" => Kind::Bool,
        "int2" | "int4" | "int8" | "oid" => Kind::Integer,
        "numeric" | "money" => Kind::Decimal,
        "float4" | "float8" => Kind::Float,
        "bytea" => Kind::Bytes,
        "uuid" => Kind::Uuid,
        "date" => Kind::Date,
        "time" => Kind::Time,
        "timestamp" => Kind::DateTime,
        "timestamptz" => Kind::Instant,
        "json" | "jsonb" => Kind::Json,
        "xml" => Kind::Xml,
        name if TEXTS.contains(&name) => Kind::Text,
        _ => Kind::Unsupported,
    }
}

/// The type's name; that of an array ends with `[]`.
fn declared(of: &Type) -> String {
    let name = match of.kind() {
        Shape::Array(element) => format!("{}[]", element.name()),
        _ => of.name().to_owned(),
    };
    match of.schema() {
        "pg_catalog" => name,
        schema => format!("{schema}.{name}"),
    }
}

fn select(column: &Column) -> String {
    let name = double_quoted(&column.name);
    match (column.kind, column.declared.as_str()) {
        // Its own text has the locale's currency and grouping.
        (_, "money") => format!("{name}::numeric"),
        (Kind::Json, declared) if declared.ends_with("[]") => format!("array_to_json({name})"),
        _ => name,
    }
}

fn literal(column: &Column, text: &str) -> String {
    let quoted = single_quoted(text);
    match (column.kind, column.declared.as_str()) {
        (_, "money") => format!("{quoted}::numeric::money"),
        (Kind::Bytes, _) => format!("decode({quoted}, 'base64')"),
        (_, declared) => {
            let name = declared.split('.').map(double_quoted).collect::<Vec<_>>().join(".");
            format!("{quoted}::{name}")
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_postgres::types::Type;

    use super::{declared, kind, literal, select};
    use crate::source::sql::{Column, Kind};

    fn column(of: &Type) -> Column {
        let (kind, declared) = (kind(of), declared(of));
        Column { name: "a\"b".to_owned(), kind, declared, nullable: true }
    }

    #[test]
    fn every_type_is_read_without_loss_or_refused() {
        for (of, expected, selected) in [
            (Type::MONEY, Kind::Decimal, "\"a\"\"b\"::numeric"),
            (Type::NUMERIC_ARRAY, Kind::Json, "array_to_json(\"a\"\"b\")"),
            (Type::BYTEA_ARRAY, Kind::Unsupported, "\"a\"\"b\""),
            (Type::INTERVAL, Kind::Text, "\"a\"\"b\""),
            (Type::INT4_RANGE, Kind::Text, "\"a\"\"b\""),
            (Type::RECORD, Kind::Unsupported, "\"a\"\"b\""),
            (Type::TIMESTAMPTZ, Kind::Instant, "\"a\"\"b\""),
        ] {
            let column = column(&of);
            assert_eq!((column.kind, select(&column).as_str()), (expected, selected), "{of}");
        }
    }

    #[test]
    fn a_literal_has_the_columns_type_and_no_way_out_of_its_quotes() {
        assert_eq!(literal(&column(&Type::INT8), "7"), "'7'::\"int8\"");
        assert_eq!(literal(&column(&Type::TEXT), "a'b\\"), "'a''b\\'::\"text\"");
        assert_eq!(literal(&column(&Type::BYTEA), "AA=="), "decode('AA==', 'base64')");
        let mood = Column { declared: "public.mood".to_owned(), ..column(&Type::TEXT) };
        assert_eq!(literal(&mood, "sad"), "'sad'::\"public\".\"mood\"");
    }
}
