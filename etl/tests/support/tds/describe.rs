//! `sys.dm_exec_describe_first_result_set`: what a statement's result would look like.

use rusqlite::params;

use super::sql::{self, Token};
use super::store::{self, Store};

const NAME: &str = "dm_exec_describe_first_result_set";

/// Whether the statement asks for a description; its argument then.
pub fn asked(tokens: &[Token]) -> Option<&Token> {
    let place = tokens.iter().position(|token| token.is(NAME))?;
    tokens.get(place + 2)
}

/// Makes the table whose copies take descriptions.
pub fn prepare(store: &Store) -> Result<(), String> {
    let table = format!("sys_{NAME}");
    let create = format!(
        "CREATE TABLE {table} (column_ordinal int, name nvarchar(128), is_nullable bit, \
         system_type_name nvarchar(256), user_type_name nvarchar(128), \
         collation_name nvarchar(128), error_number int, error_message nvarchar(4000))"
    );
    store.create_table(&sql::tokens(&create)?)
}

/// Fills this connection's own copy of the table with the description of `statement`.
pub fn describe(store: &Store, statement: &str) -> Result<(), String> {
    let problem = |error: rusqlite::Error| error.to_string();
    let table = format!("sys_{NAME}");
    let connection = &store.connection;
    if connection.prepare(&format!("SELECT 1 FROM temp.{table}")).is_err() {
        let made = "SELECT sql FROM main.sqlite_schema WHERE name = ?";
        let made: String =
            connection.query_row(made, [&table], |row| row.get(0)).map_err(problem)?;
        let copy = made.replacen("CREATE TABLE", "CREATE TEMP TABLE", 1);
        connection.execute_batch(&copy).map_err(problem)?;
    }
    connection.execute(&format!("DELETE FROM temp.{table}"), []).map_err(problem)?;
    let insert = format!("INSERT INTO temp.{table} VALUES (?, ?, ?, ?, ?, ?, ?, ?)");
    match columns(store, statement) {
        Err(message) => {
            let none = rusqlite::types::Null;
            connection
                .execute(&insert, params![0, none, none, none, none, none, 208, message])
                .map_err(problem)?;
        }
        Ok(columns) => {
            for (place, column) in columns.iter().enumerate() {
                let written = column.ty.to_string();
                let user = matches!(written.as_str(), "geography" | "hierarchyid");
                let (system, user) =
                    if user { (None, Some(&written)) } else { (Some(&written), None) };
                let row = params![
                    place as i64 + 1,
                    column.name,
                    column.nullable,
                    system,
                    user,
                    column.ty.collation(),
                    rusqlite::types::Null,
                    rusqlite::types::Null
                ];
                connection.execute(&insert, row).map_err(problem)?;
            }
        }
    }
    Ok(())
}

fn columns(store: &Store, statement: &str) -> Result<Vec<super::tokens::Column>, String> {
    let tokens = sql::tokens(statement)?;
    let translated = store.translate(&tokens, &[])?;
    let prepared = store.connection.prepare(&translated.sql);
    let prepared = prepared.map_err(|error| super::session::server_words(&error).2)?;
    store::result_columns(&prepared, &translated)
}
