//! The server's own tables: which indexes there are, and the descriptions of statements.

use rusqlite::params;

use super::sql::{self, Token};
use super::store::Store;

/// The number of a table, from its name with or without brackets and schema.
pub fn object_id(name: &str) -> i64 {
    let last = name.rsplit('.').next().unwrap_or(name).trim_matches(['[', ']']).to_lowercase();
    let mix = |sum: u32, byte: u8| (sum ^ u32::from(byte)).wrapping_mul(16_777_619);
    i64::from(last.bytes().fold(2_166_136_261, mix) & 0x7fff_ffff)
}

/// Makes the tables.
pub fn prepare(store: &Store) -> Result<(), String> {
    for statement in [
        "CREATE TABLE sys_indexes (object_id int NOT NULL, index_id int NOT NULL, \
         type tinyint NOT NULL, is_disabled bit NOT NULL, has_filter bit NOT NULL)",
        "CREATE TABLE sys_index_columns (object_id int NOT NULL, index_id int NOT NULL, \
         column_id int NOT NULL, key_ordinal tinyint NOT NULL, is_descending_key bit NOT NULL)",
        "CREATE TABLE sys_columns (object_id int NOT NULL, column_id int NOT NULL, \
         name nvarchar(128) NOT NULL)",
    ] {
        store.create_table(&sql::tokens(statement)?)?;
    }
    super::describe::prepare(store)
}

/// Notes a table's columns and its primary key.
pub fn note_table(store: &Store, table: &str, key: &[String]) -> Result<(), String> {
    if table.starts_with("sys_") {
        return Ok(());
    }
    let insert = "INSERT INTO sys_columns VALUES (?, ?, ?)";
    for (place, (name, ..)) in store.columns(table).into_iter().enumerate() {
        run(store, insert, params![object_id(table), place as i64 + 1, name])?;
    }
    match key {
        [] => Ok(()),
        key => note_index(store, table, 1, key),
    }
}

fn note_index(store: &Store, table: &str, id: i64, columns: &[String]) -> Result<(), String> {
    let kind = if id == 1 { 1 } else { 2 };
    let object = object_id(table);
    run(store, "INSERT INTO sys_indexes VALUES (?, ?, ?, 0, 0)", params![object, id, kind])?;
    for (place, column) in columns.iter().enumerate() {
        let known = store.columns(table);
        let at = known.iter().position(|(name, ..)| name.eq_ignore_ascii_case(column));
        let at = at.ok_or_else(|| format!("no column {column}"))? as i64 + 1;
        let insert = "INSERT INTO sys_index_columns VALUES (?, ?, ?, ?, 0)";
        run(store, insert, params![object, id, at, place as i64 + 1])?;
    }
    Ok(())
}

/// `CREATE INDEX name ON table (columns)`.
pub fn create_index(store: &Store, tokens: &[Token]) -> Result<(), String> {
    let on = tokens.iter().position(|token| token.is("ON")).ok_or("CREATE INDEX needs ON")?;
    let open = tokens.iter().position(|token| *token == Token::Sign("("));
    let open = open.ok_or("CREATE INDEX has no columns")?;
    let table = names(&tokens[on + 1..open]).pop().ok_or("CREATE INDEX has no table")?;
    let columns = names(&tokens[open + 1..sql::closing(tokens, open)?]);
    let count = "SELECT count(*) FROM sys_indexes";
    let count: i64 = store
        .connection
        .query_row(count, [], |row| row.get(0))
        .map_err(|error| error.to_string())?;
    note_index(store, &table, count + 2, &columns)?;
    let quoted = columns.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    let index = format!("CREATE INDEX \"{table}_{}\" ON \"{table}\" ({quoted})", count + 2);
    run(store, &index, [])
}

/// The names among tokens.
pub fn names(tokens: &[Token]) -> Vec<String> {
    let name = |token: &Token| match token {
        Token::Word(name) | Token::Name(name) => Some(name.clone()),
        _ => None,
    };
    tokens.iter().filter_map(name).collect()
}

fn run(store: &Store, sql: &str, values: impl rusqlite::Params) -> Result<(), String> {
    store.connection.execute(sql, values).map(drop).map_err(|error| error.to_string())
}
