//! The column types of SQL Server, read from and written as T-SQL names them.

use std::fmt;

/// Written for `max`.
pub const MAX: u16 = u16::MAX;

/// A type; lengths are in characters or bytes as declared, `MAX` is `max`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SqlType {
    Bit,
    TinyInt,
    SmallInt,
    Int,
    BigInt,
    /// `decimal` or, if so named, `numeric`.
    Decimal {
        precision: u8,
        scale: u8,
        numeric: bool,
    },
    Money,
    SmallMoney,
    Real,
    Float,
    Date,
    Time(u8),
    DateTime,
    SmallDateTime,
    DateTime2(u8),
    DateTimeOffset(u8),
    Guid,
    Char(u16, Collation),
    VarChar(u16, Collation),
    NChar(u16),
    NVarChar(u16),
    Binary(u16),
    VarBinary(u16),
    Xml,
    Text,
    NText,
    Image,
    /// Known by name only: `sql_variant`, `geography`, `hierarchyid`.
    Foreign(&'static str),
}

/// The code pages that tests use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Collation {
    #[default]
    Latin,
    Cyrillic,
    Utf8,
}

impl Collation {
    const ALL: [Collation; 3] = [Collation::Latin, Collation::Cyrillic, Collation::Utf8];

    pub fn name(self) -> &'static str {
        match self {
            Collation::Latin => "SQL_Latin1_General_CP1_CI_AS",
            Collation::Cyrillic => "Cyrillic_General_CI_AS",
            Collation::Utf8 => "Latin1_General_100_CI_AS_SC_UTF8",
        }
    }

    /// Locale, flags and sort order as the protocol writes them.
    pub fn bytes(self) -> [u8; 5] {
        match self {
            Collation::Latin => [0x09, 0x04, 0xd0, 0x00, 0x34],
            Collation::Cyrillic => [0x19, 0x04, 0xd0, 0x00, 0x00],
            Collation::Utf8 => [0x09, 0x04, 0xd0, 0x24, 0x00],
        }
    }

    /// `text` in the code page; `None` where a character is not in it.
    pub fn encode(self, text: &str) -> Option<Vec<u8>> {
        let page = match self {
            Collation::Latin => encoding_rs::WINDOWS_1252,
            Collation::Cyrillic => encoding_rs::WINDOWS_1251,
            Collation::Utf8 => return Some(text.as_bytes().to_vec()),
        };
        let (bytes, _, unmappable) = page.encode(text);
        (!unmappable).then(|| bytes.into_owned())
    }
}

impl SqlType {
    /// Reads `decimal(18, 4)`, `nvarchar(max)`, `varchar(20) COLLATE Cyrillic_General_CI_AS`.
    pub fn parse(text: &str) -> Result<SqlType, String> {
        let lower = text.trim().to_lowercase();
        let (lower, collation) = match lower.split_once(" collate ") {
            Some((head, name)) => (head.trim().to_owned(), named(name.trim())?),
            None => (lower, Collation::default()),
        };
        let (name, arguments) = match lower.split_once('(') {
            Some((name, rest)) => (name.trim(), rest.trim_end().trim_end_matches(')')),
            None => (lower.as_str(), ""),
        };
        let unknown = || format!("the test server does not know the type {text}");
        let mut numbers = Vec::new();
        for argument in arguments.split(',').map(str::trim).filter(|one| !one.is_empty()) {
            numbers.push(match argument {
                "max" => MAX,
                number => number.parse::<u16>().map_err(|_| unknown())?,
            });
        }
        let first = |default: u16| numbers.first().copied().unwrap_or(default);
        let scale = || u8::try_from(first(7)).ok().filter(|scale| *scale <= 7).ok_or_else(unknown);
        Ok(match name {
            "bit" => SqlType::Bit,
            "tinyint" => SqlType::TinyInt,
            "smallint" => SqlType::SmallInt,
            "int" => SqlType::Int,
            "bigint" => SqlType::BigInt,
            "decimal" | "numeric" => {
                let scale = numbers.get(1).copied().unwrap_or(0);
                let (precision, scale) = (first(18), scale);
                if precision > 38 || scale > precision {
                    return Err(unknown());
                }
                let numeric = name == "numeric";
                SqlType::Decimal { precision: precision as u8, scale: scale as u8, numeric }
            }
            "money" => SqlType::Money,
            "smallmoney" => SqlType::SmallMoney,
            "real" => SqlType::Real,
            "float" if first(53) <= 24 => SqlType::Real,
            "float" => SqlType::Float,
            "date" => SqlType::Date,
            "time" => SqlType::Time(scale()?),
            "datetime" => SqlType::DateTime,
            "smalldatetime" => SqlType::SmallDateTime,
            "datetime2" => SqlType::DateTime2(scale()?),
            "datetimeoffset" => SqlType::DateTimeOffset(scale()?),
            "uniqueidentifier" => SqlType::Guid,
            "char" => SqlType::Char(first(1), collation),
            "varchar" => SqlType::VarChar(first(30), collation),
            "nchar" => SqlType::NChar(first(1)),
            "nvarchar" => SqlType::NVarChar(first(30)),
            "sysname" => SqlType::NVarChar(128),
            "binary" => SqlType::Binary(first(1)),
            "varbinary" => SqlType::VarBinary(first(30)),
            "xml" => SqlType::Xml,
            "text" => SqlType::Text,
            "ntext" => SqlType::NText,
            "image" => SqlType::Image,
            "sql_variant" => SqlType::Foreign("sql_variant"),
            "geography" => SqlType::Foreign("geography"),
            "hierarchyid" => SqlType::Foreign("hierarchyid"),
            _ => return Err(unknown()),
        })
    }

    pub fn is_text(&self) -> bool {
        matches!(
            self,
            SqlType::Char(..)
                | SqlType::VarChar(..)
                | SqlType::NChar(_)
                | SqlType::NVarChar(_)
                | SqlType::Text
                | SqlType::NText
                | SqlType::Xml
        )
    }

    pub fn is_integer(&self) -> bool {
        use SqlType::{BigInt, Bit, Int, SmallInt, TinyInt};
        matches!(self, Bit | TinyInt | SmallInt | Int | BigInt)
    }

    /// The collation's name, for those that have one.
    pub fn collation(&self) -> Option<&'static str> {
        match self {
            SqlType::Char(_, collation) | SqlType::VarChar(_, collation) => Some(collation.name()),
            SqlType::NChar(_) | SqlType::NVarChar(_) | SqlType::Text | SqlType::NText => {
                Some(Collation::default().name())
            }
            _ => None,
        }
    }

    /// The declaration for SQLite's column, from which `from_declared` reads it again. The
    /// word BLOB keeps SQLite from turning decimals and times into floats.
    pub fn declared(&self, nullable: bool) -> String {
        let collation = match self {
            SqlType::Char(_, collation) | SqlType::VarChar(_, collation) => {
                format!(" COLLATE {}", collation.name())
            }
            _ => String::new(),
        };
        format!("{self}{collation}{}|BLOB", if nullable { "" } else { "|NOT NULL" })
    }

    /// Reads a declaration that `declared` wrote: the type, and whether it may be null.
    pub fn from_declared(text: &str) -> Result<(SqlType, bool), String> {
        let text = text.trim_matches('"');
        let bare = text.strip_suffix("|BLOB").ok_or_else(|| format!("not ours: {text}"))?;
        match bare.strip_suffix("|NOT NULL") {
            Some(bare) => Ok((SqlType::parse(bare)?, false)),
            None => Ok((SqlType::parse(bare)?, true)),
        }
    }
}

fn named(name: &str) -> Result<Collation, String> {
    let found = Collation::ALL.into_iter().find(|one| one.name().eq_ignore_ascii_case(name));
    found.ok_or_else(|| format!("the test server does not know the collation {name}"))
}

/// As `sys.dm_exec_describe_first_result_set` writes it.
impl fmt::Display for SqlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sized = |f: &mut fmt::Formatter<'_>, name: &str, length: u16| match length {
            MAX => write!(f, "{name}(max)"),
            length => write!(f, "{name}({length})"),
        };
        match self {
            SqlType::Bit => f.write_str("bit"),
            SqlType::TinyInt => f.write_str("tinyint"),
            SqlType::SmallInt => f.write_str("smallint"),
            SqlType::Int => f.write_str("int"),
            SqlType::BigInt => f.write_str("bigint"),
            SqlType::Decimal { precision, scale, numeric } => {
                write!(f, "{}({precision},{scale})", if *numeric { "numeric" } else { "decimal" })
            }
            SqlType::Money => f.write_str("money"),
            SqlType::SmallMoney => f.write_str("smallmoney"),
            SqlType::Real => f.write_str("real"),
            SqlType::Float => f.write_str("float"),
            SqlType::Date => f.write_str("date"),
            SqlType::Time(scale) => write!(f, "time({scale})"),
            SqlType::DateTime => f.write_str("datetime"),
            SqlType::SmallDateTime => f.write_str("smalldatetime"),
            SqlType::DateTime2(scale) => write!(f, "datetime2({scale})"),
            SqlType::DateTimeOffset(scale) => write!(f, "datetimeoffset({scale})"),
            SqlType::Guid => f.write_str("uniqueidentifier"),
            SqlType::Char(length, _) => sized(f, "char", *length),
            SqlType::VarChar(length, _) => sized(f, "varchar", *length),
            SqlType::NChar(length) => sized(f, "nchar", *length),
            SqlType::NVarChar(length) => sized(f, "nvarchar", *length),
            SqlType::Binary(length) => sized(f, "binary", *length),
            SqlType::VarBinary(length) => sized(f, "varbinary", *length),
            SqlType::Xml => f.write_str("xml"),
            SqlType::Text => f.write_str("text"),
            SqlType::NText => f.write_str("ntext"),
            SqlType::Image => f.write_str("image"),
            SqlType::Foreign(name) => f.write_str(name),
        }
    }
}
