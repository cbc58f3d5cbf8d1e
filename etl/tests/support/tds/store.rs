//! The tables, in an SQLite file: created from T-SQL, filled from text.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::Value as Stored;
use rusqlite::{Connection, Error};

use super::encode::datetime_of;
use super::sql::{self, Token, Translated, Translator};
use super::sqltype::{MAX, SqlType};
use super::tokens::Column;
use super::value::{DAY, SECOND, Value};
use super::{calendar, catalog, rpc::Parameter};

/// How far the database's clock is ahead of ours, in ticks of 100 ns.
pub type ClockOffset = Arc<AtomicI64>;

/// One connection to the tables.
pub struct Store {
    pub connection: Connection,
}

impl Store {
    pub fn open(path: &Path, clock: &ClockOffset) -> Store {
        let connection = Connection::open(path).unwrap();
        connection.busy_timeout(Duration::from_secs(60)).unwrap();
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA case_sensitive_like = 0;
                 CREATE TABLE IF NOT EXISTS tds_columns (
                   table_name TEXT COLLATE NOCASE, column_name TEXT COLLATE NOCASE, declared TEXT);",
            )
            .unwrap();
        functions(&connection, clock.clone()).unwrap();
        Store { connection }
    }

    /// Runs `CREATE TABLE`.
    pub fn create_table(&self, tokens: &[Token]) -> Result<(), String> {
        let open = tokens.iter().position(|token| *token == Token::Sign("("));
        let open = open.ok_or("CREATE TABLE has no columns")?;
        let Some(Token::Word(table) | Token::Name(table)) = tokens[..open].last() else {
            return Err("CREATE TABLE has no name".to_owned());
        };
        let (mut columns, mut key) = (Vec::new(), Vec::new());
        for item in sql::split(&tokens[open + 1..sql::closing(tokens, open)?], ",") {
            if item[0].is("PRIMARY") || item[0].is("UNIQUE") {
                let mut item = item.to_vec();
                item.retain(|token| !token.is("CLUSTERED"));
                if item[0].is("PRIMARY") {
                    key = catalog::names(&item[2..]);
                }
                columns.push(Translator::new(&[], &|_| None).statement(&item)?.sql);
                continue;
            }
            let (Token::Word(column) | Token::Name(column)) = &item[0] else {
                return Err(format!("no column: {item:?}"));
            };
            if item.iter().any(|token| token.is("PRIMARY")) {
                key = vec![column.clone()];
            }
            columns.push(self.column(table, column, &item[1..])?);
        }
        self.execute(&format!("CREATE TABLE \"{table}\" ({})", columns.join(", ")))?;
        catalog::note_table(self, table, &key)
    }

    /// `name type [COLLATE x] [NOT NULL] [PRIMARY KEY]`, as SQLite takes it.
    fn column(&self, table: &str, column: &str, rest: &[Token]) -> Result<String, String> {
        let word = |place: usize, word: &str| rest.get(place).is_some_and(|token| token.is(word));
        let mut end = match rest.get(1) {
            Some(Token::Sign("(")) => sql::closing(rest, 1)? + 1,
            _ => 1,
        };
        if word(end, "COLLATE") {
            end += 2;
        }
        let ty: Vec<String> = rest[..end]
            .iter()
            .map(|token| match token {
                Token::Word(word) | Token::Name(word) | Token::Number(word) => word.clone(),
                Token::Sign(sign) => (*sign).to_owned(),
                other => format!("{other:?}"),
            })
            .collect();
        let ty = SqlType::parse(&ty.join(" ").replace(" (", "("))?;
        let key = (end..rest.len()).any(|place| word(place, "PRIMARY"));
        let required = key || (word(end, "NOT") && word(end + 1, "NULL"));
        let declared = ty.declared(!required);
        self.connection
            .execute("INSERT INTO tds_columns VALUES (?, ?, ?)", [table, column, &declared])
            .map_err(|error| error.to_string())?;
        let collation = if ty.is_text() { " COLLATE NOCASE" } else { "" };
        let required = if required { " NOT NULL" } else { "" };
        let key = if key { " PRIMARY KEY" } else { "" };
        Ok(format!("\"{column}\" \"{declared}\"{collation}{required}{key}"))
    }

    fn execute(&self, sql: &str) -> Result<(), String> {
        self.connection.execute_batch(sql).map_err(|error| format!("{error}: {sql}"))
    }

    /// The columns of a table, in their order.
    pub fn columns(&self, table: &str) -> Vec<(String, SqlType, bool)> {
        let sql =
            "SELECT column_name, declared FROM tds_columns WHERE table_name = ? ORDER BY rowid";
        let mut statement = self.connection.prepare(sql).unwrap();
        let rows = statement
            .query_map([table], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))
            .unwrap();
        rows.map(|row| {
            let (name, declared) = row.unwrap();
            let (ty, nullable) = SqlType::from_declared(&declared).unwrap();
            (name, ty, nullable)
        })
        .collect()
    }

    /// Adds rows given as text, one for each column of the table; `None` is null.
    pub fn insert(&mut self, table: &str, rows: impl IntoIterator<Item = Vec<Option<String>>>) {
        self.put(table, rows, "INSERT");
    }

    /// The same by a verb of SQLite's.
    pub fn put(
        &mut self,
        table: &str,
        rows: impl IntoIterator<Item = Vec<Option<String>>>,
        verb: &str,
    ) {
        let columns = self.columns(table);
        assert!(!columns.is_empty(), "there is no table {table}");
        let places = vec!["?"; columns.len()].join(", ");
        let transaction = self.connection.transaction().unwrap();
        let sql = format!("{verb} INTO \"{table}\" VALUES ({places})");
        let mut statement = transaction.prepare(&sql).unwrap();
        for row in rows {
            let values = columns.iter().zip(&row).map(|((_, ty, _), text)| match text {
                Some(text) => checked(ty, text).unwrap_or_else(|problem| panic!("{problem}")),
                None => Value::Null,
            });
            statement.execute(rusqlite::params_from_iter(values)).unwrap();
        }
        drop(statement);
        transaction.commit().unwrap();
    }

    /// Translates one statement over the tables it names.
    pub fn translate(
        &self,
        tokens: &[Token],
        parameters: &[Parameter],
    ) -> Result<Translated, String> {
        let named: Vec<_> = tokens
            .iter()
            .filter_map(|token| match token {
                Token::Word(name) | Token::Name(name) => Some(self.columns(name)),
                _ => None,
            })
            .flatten()
            .collect();
        let column = |name: &str| {
            let found = named.iter().find(|(own, ..)| own.eq_ignore_ascii_case(name));
            found.map(|(_, ty, _)| ty.clone())
        };
        Translator::new(parameters, &column).statement(tokens)
    }
}

/// A value that goes into a column: text must be in its code page.
fn checked(ty: &SqlType, text: &str) -> Result<Value, String> {
    if let SqlType::Char(_, collation) | SqlType::VarChar(_, collation) = ty {
        let encoded = collation.encode(text);
        encoded.ok_or_else(|| format!("{text} is not in {}", collation.name()))?;
    }
    Value::parse(ty, text)
}

/// The columns of a prepared statement's result.
pub fn result_columns(
    statement: &rusqlite::Statement<'_>,
    translated: &Translated,
) -> Result<Vec<Column>, String> {
    let mut columns = Vec::new();
    for (place, column) in statement.columns().enumerate() {
        let name = column.name();
        let (ty, nullable) = match column.decl_type() {
            Some(declared) => SqlType::from_declared(declared)?,
            None => {
                let placed = translated.by_place.get(place).cloned().flatten();
                let ty = placed.or_else(|| translated.by_name.get(&name.to_lowercase()).cloned());
                (ty.ok_or_else(|| format!("the test server sees no type of column {name}"))?, true)
            }
        };
        columns.push(Column { name: name.to_owned(), ty, nullable });
    }
    Ok(columns)
}

fn functions(connection: &Connection, clock: ClockOffset) -> rusqlite::Result<()> {
    let pure = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function("tds_cast", 2, pure, |context| {
        let ty = wanted(context, 1)?;
        let value = Value::from_stored(context.get_raw(0));
        cast(value, &ty).map(|value| value.stored()).map_err(failed)
    })?;
    connection.create_scalar_function(
        "tds_now",
        1,
        FunctionFlags::SQLITE_UTF8,
        move |context| {
            let now = now() + clock.load(Ordering::Relaxed);
            Ok::<Stored, Error>(match wanted(context, 0)? {
                SqlType::DateTime => datetime_of(now).stored(),
                SqlType::DateTimeOffset(_) => Value::Offset(now, 0).stored(),
                _ => Value::DateTime2(now).stored(),
            })
        },
    )?;
    connection.create_scalar_function("tds_object_id", 1, pure, |context| {
        Ok(catalog::object_id(&context.get::<String>(0)?))
    })?;
    connection.create_scalar_function("tds_dateadd", 3, pure, |context| {
        let (unit, count): (String, i64) = (context.get(0)?, context.get(1)?);
        let unit = match unit.to_lowercase().as_str() {
            "millisecond" | "ms" => SECOND / 1000,
            "second" | "ss" => SECOND,
            "minute" | "mi" => 60 * SECOND,
            "hour" | "hh" => 3600 * SECOND,
            "day" | "dd" => DAY,
            other => return Err(failed(format!("DATEADD does not know {other} here"))),
        };
        match Value::from_stored(context.get_raw(2)) {
            Value::DateTime2(ticks) => Ok(Value::DateTime2(ticks + count * unit).stored()),
            Value::Offset(ticks, minutes) => {
                Ok(Value::Offset(ticks + count * unit, minutes).stored())
            }
            other => Err(failed(format!("DATEADD does not take {other:?} here"))),
        }
    })
}

fn wanted(context: &Context<'_>, place: usize) -> rusqlite::Result<SqlType> {
    SqlType::parse(&context.get::<String>(place)?).map_err(failed)
}

fn failed(problem: String) -> Error {
    Error::UserFunctionError(problem.into())
}

/// Ticks of 100 ns since 0001-01-01, now.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let days_to_1970 = calendar::days(1970, 1, 1).unwrap();
    days_to_1970 * DAY + i64::try_from(since.as_nanos() / 100).unwrap()
}

/// What CAST makes of a value. Text that is too long is cut, as SQL Server does.
fn cast(value: Value, ty: &SqlType) -> Result<Value, String> {
    let refused = |value: &Value| format!("the test server does not cast {value:?} to {ty}");
    match (&value, ty) {
        (Value::Null, _) => Ok(Value::Null),
        (Value::Units(_), ty) if ty.is_text() => Ok(value),
        (Value::Text(text), ty) if ty.is_text() => {
            let length = match ty {
                SqlType::VarChar(length, _) | SqlType::NVarChar(length) if *length != MAX => {
                    usize::from(*length)
                }
                _ => usize::MAX,
            };
            let text: String = text.chars().take(length).collect();
            match ty {
                SqlType::VarChar(_, collation) | SqlType::Char(_, collation) => {
                    let known = |one: char| collation.encode(&one.to_string()).is_some();
                    let text = text.chars().map(|one| if known(one) { one } else { '?' });
                    Value::parse(ty, &text.collect::<String>())
                }
                _ => Value::parse(ty, &text),
            }
        }
        (Value::Text(text), ty) => Value::parse(ty, text),
        (Value::Integer(number), ty) => Value::parse(ty, &number.to_string()),
        (Value::Decimal(decimal), SqlType::Decimal { .. } | SqlType::Money) => {
            Value::parse(ty, &decimal.to_string())
        }
        (Value::Decimal(decimal), ty) if ty.is_text() => Ok(Value::Text(decimal.to_string())),
        (Value::Bytes(_), SqlType::VarBinary(_)) => Ok(value),
        (Value::Float(_), SqlType::Float) => Ok(value),
        (Value::DateTime2(ticks), SqlType::DateTime) => Ok(datetime_of(*ticks)),
        (Value::DateTime2(_), SqlType::DateTime2(_)) => {
            Value::parse(ty, &value.canonical(&SqlType::DateTime2(7)).unwrap_or_default())
        }
        (Value::DateTime2(_), SqlType::Date) => {
            Value::parse(ty, &value.canonical(&SqlType::DateTime2(7)).unwrap_or_default())
        }
        (Value::Offset(..), SqlType::DateTimeOffset(_)) => {
            Value::parse(ty, &value.canonical(&SqlType::DateTimeOffset(7)).unwrap_or_default())
        }
        _ => Err(refused(&value)),
    }
}
