//! What SQL Server calls its types, what their values are here, and how a column is read so
//! that its values arrive as they are.

use crate::source::sql::client::{Column, Kind};

/// The longest text that is not `max`, in characters of `nvarchar`.
const NVARCHAR_MAX: u32 = 4000;

/// A column as the server describes it.
#[derive(Debug, Clone, Default)]
pub(super) struct Described {
    pub name: String,
    /// `decimal(10,2)`; empty for a type that is not the server's own.
    pub system: String,
    /// `geography`, `dbo.Point`.
    pub user: String,
    pub nullable: bool,
    pub collation: String,
}

impl Described {
    /// The column, with its collation behind the type, where a comparison needs it.
    pub(super) fn column(self) -> Column {
        let declared = match (self.system.as_str(), self.collation.as_str()) {
            ("", _) => self.user,
            (system, collation) if is_code_page(system) && is_word(collation) => {
                format!("{system} COLLATE {collation}")
            }
            (system, _) => system.to_owned(),
        };
        let kind = kind(&declared);
        Column { name: self.name, kind, declared, nullable: self.nullable }
    }
}

/// The name of a type without its length: `varchar` of `varchar(20) COLLATE x`.
pub(super) fn base(declared: &str) -> &str {
    declared.split(['(', ' ']).next().unwrap_or(declared)
}

/// The type without its collation.
pub(super) fn bare(declared: &str) -> &str {
    declared.split_once(" COLLATE ").map_or(declared, |(bare, _)| bare)
}

/// The collation of a type whose text is in a code page.
pub(super) fn collation(declared: &str) -> Option<&str> {
    declared.split_once(" COLLATE ").map(|(_, collation)| collation)
}

fn is_code_page(declared: &str) -> bool {
    matches!(base(declared), "char" | "varchar" | "text")
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// What the values of a type are.
pub(super) fn kind(declared: &str) -> Kind {
    match base(declared) {
        "bit" => Kind::Bool,
        "tinyint" | "smallint" | "int" | "bigint" => Kind::Integer,
        "decimal" | "numeric" | "money" | "smallmoney" => Kind::Decimal,
        "real" | "float" => Kind::Float,
        "char" | "varchar" | "nchar" | "nvarchar" | "text" | "ntext" | "sysname" => Kind::Text,
        "binary" | "varbinary" | "image" | "timestamp" | "rowversion" => Kind::Bytes,
        "uniqueidentifier" => Kind::Uuid,
        "date" => Kind::Date,
        "time" => Kind::Time,
        "datetime" | "datetime2" | "smalldatetime" => Kind::DateTime,
        "datetimeoffset" => Kind::Instant,
        "json" => Kind::Json,
        "xml" => Kind::Xml,
        // sql_variant, geography, geometry, hierarchyid, vector and types made in .NET.
        _ => Kind::Unsupported,
    }
}

/// What is selected for a column. Money is sent as a float by the protocol's crate, and text in
/// a code page is decoded by the collation's language alone, which is wrong for UTF-8: the
/// server converts these, exactly.
pub(super) fn selected(column: &Column) -> String {
    let name = quoted(&column.name);
    let length = || column.declared.split_once('(')?.1.split(')').next()?.parse::<u32>().ok();
    let wanted = match base(&column.declared) {
        "money" => "decimal(19,4)".to_owned(),
        "smallmoney" => "decimal(10,4)".to_owned(),
        "char" | "varchar" if is_latin(collation(&column.declared)) => return name,
        "char" | "varchar" => match length() {
            Some(length) if length <= NVARCHAR_MAX => format!("nvarchar({length})"),
            _ => "nvarchar(max)".to_owned(),
        },
        "text" | "ntext" | "json" => "nvarchar(max)".to_owned(),
        "image" => "varbinary(max)".to_owned(),
        _ => return name,
    };
    format!("CAST({name} AS {wanted}) AS {name}")
}

/// Whether text of the collation is in Windows' code page 1252, as in most of the West.
fn is_latin(collation: Option<&str>) -> bool {
    collation.is_some_and(|name| {
        (name.starts_with("SQL_Latin1_General_CP1_") || name.starts_with("Latin1_General_"))
            && !name.ends_with("_UTF8")
    })
}

/// A name as T-SQL takes it whatever is in it.
pub(super) fn quoted(name: &str) -> String {
    format!("[{}]", name.replace(']', "]]"))
}

/// A table's name, perhaps with its schema, each part quoted.
pub(super) fn table(name: &str) -> String {
    name.split('.').map(quoted).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::{Described, kind, selected, table};
    use crate::source::sql::client::Kind;

    fn described(system: &str, collation: &str) -> Described {
        let (system, collation) = (system.to_owned(), collation.to_owned());
        Described { name: "a]b".to_owned(), system, collation, ..Described::default() }
    }

    #[test]
    fn a_column_is_read_so_that_its_values_arrive_as_they_are() {
        let select = |system, collation| selected(&described(system, collation).column());
        assert_eq!(select("int", ""), "[a]]b]");
        assert_eq!(select("money", ""), "CAST([a]]b] AS decimal(19,4)) AS [a]]b]");
        assert_eq!(select("varchar(20)", "SQL_Latin1_General_CP1_CI_AS"), "[a]]b]");
        assert_eq!(
            select("varchar(20)", "Latin1_General_100_CI_AS_SC_UTF8"),
            "CAST([a]]b] AS nvarchar(20)) AS [a]]b]"
        );
        let long = select("char(8000)", "Cyrillic_General_CI_AS");
        assert_eq!(long, "CAST([a]]b] AS nvarchar(max)) AS [a]]b]");
        assert_eq!(table("sales.or]ders"), "[sales].[or]]ders]");
    }

    #[test]
    fn a_type_that_is_not_known_is_not_guessed_at() {
        for name in ["sql_variant", "geography", "hierarchyid", "dbo.Point", "vector(3)", ""] {
            assert_eq!(kind(name), Kind::Unsupported, "{name}");
        }
        let geography = Described { user: "geography".to_owned(), ..Described::default() };
        assert_eq!(geography.column().declared, "geography");
    }
}
