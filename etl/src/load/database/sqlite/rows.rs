//! The rows of a batch: made of its records, put into the table, and the partitions that
//! they take over.

use rusqlite::Connection;
use rusqlite::types::Value;

use super::super::outcome::{superseded, superseded_in_part};
use super::super::row::split;
use super::super::sql::{Dialect, Run, quoted};
use super::super::sqlstate::Stage;
use super::super::table::Table;
use super::super::values;
use super::Trouble;
use crate::batch::Payload;
use crate::config::{Layout, WriteMode};
use crate::load::answer::FailedRecord;

/// The records as rows, and those that the table cannot take.
pub(super) fn encode(payload: &Payload, table: &Table) -> (Vec<Vec<Value>>, Vec<FailedRecord>) {
    let (mut rows, mut failed) = (Vec::with_capacity(payload.records()), Vec::new());
    let mut found = Vec::with_capacity(table.loaded.len());
    for (index, record) in payload.rows().enumerate() {
        let row = match table.layout {
            Layout::Raw => Ok(vec![Value::Text(String::from_utf8_lossy(record).into_owned())]),
            Layout::Columns => split(record, table, &mut found).and_then(|()| {
                let values = found.iter().zip(&table.loaded);
                values.map(|(value, at)| values::value(*value, at, table.empty_as_null)).collect()
            }),
        };
        match row {
            Ok(row) => rows.push(row),
            Err(reason) => failed.push(FailedRecord { index, reason }),
        }
    }
    (rows, failed)
}

pub(super) fn insert(
    connection: &Connection,
    table: &Table,
    rows: &[Vec<Value>],
) -> rusqlite::Result<()> {
    let marks = vec!["?"; table.loaded.len()].join(", ");
    let conflict = match table.mode {
        WriteMode::Upsert => Dialect::Sqlite.on_conflict(table),
        WriteMode::Append | WriteMode::Replace => String::new(),
    };
    let mut statement = connection.prepare(&format!(
        "INSERT INTO {} ({}) VALUES ({marks}) {conflict}",
        table.name,
        table.loaded_names()
    ))?;
    for row in rows {
        statement.execute(rusqlite::params_from_iter(row))?;
    }
    Ok(())
}

/// `mode: replace`: deletes what earlier runs put into the partitions of this batch,
/// once per run, as the PostgreSQL sink does.
pub(super) fn claim(
    connection: &Connection,
    table: &Table,
    payload: &Payload,
    rows: &[Vec<Value>],
    failed: &[FailedRecord],
) -> Result<(), Trouble> {
    let Some(at) = table.partition else { return Ok(()) };
    let database = |error| Trouble::Database(Stage::Before, error);
    let run = Run::of(&payload.run_id);
    let mut seen: Vec<(String, &Value)> =
        rows.iter().map(|row| (noted(&row[at]), &row[at])).collect();
    seen.sort_by(|one, other| one.0.cmp(&other.0));
    seen.dedup_by(|one, other| one.0 == other.0);
    let column = quoted(&table.loaded[at].column);
    let mut lost = 0;
    for (noted, value) in &seen {
        let sql = Dialect::Sqlite.claim_partition(table, "?", &run);
        if connection.execute(&sql, [noted]).map_err(database)? == 1 {
            let sql = format!("DELETE FROM {} WHERE {column} IS ?", table.name);
            connection.execute(&sql, [value]).map_err(database)?;
            continue;
        }
        let sql =
            format!("SELECT run FROM {} WHERE target = ? AND partition = ?", table.partitions);
        let holder: String = connection
            .query_row(&sql, (&table.plain, noted), |row| row.get(0))
            .map_err(database)?;
        lost += usize::from(holder != run.id);
    }
    match lost {
        0 => Ok(()),
        all if all == seen.len() => Err(Trouble::Decided(superseded(payload, failed))),
        _ => Err(Trouble::Decided(superseded_in_part())),
    }
}

/// How the ledger of partitions writes a value.
fn noted(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Integer(number) => format!("={number}"),
        Value::Text(text) => format!("={text}"),
        Value::Real(number) => format!("={number}"),
        Value::Blob(_) => "=blob".to_owned(),
    }
}
