//! Cells as Arrow's columns, in the types that Parquet readers know.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, ListArray,
    RecordBatch, StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{ArrowError, DataType, Field, Fields, Schema, SchemaRef, TimeUnit};

use super::cells::Cell;
use crate::config::{ParquetColumn, ParquetType};

/// What a list's items are called in the Parquet format.
const ITEM: &str = "element";
const UTC: &str = "UTC";

/// The Arrow schema of `columns`; every column may be null.
pub(super) fn schema(columns: &[ParquetColumn]) -> SchemaRef {
    Arc::new(Schema::new(fields(columns)))
}

fn fields(columns: &[ParquetColumn]) -> Fields {
    columns.iter().map(|column| Field::new(&column.name, data_type(&column.kind), true)).collect()
}

fn data_type(kind: &ParquetType) -> DataType {
    match kind {
        ParquetType::Boolean => DataType::Boolean,
        ParquetType::Int64 => DataType::Int64,
        ParquetType::Float64 => DataType::Float64,
        ParquetType::String | ParquetType::Json => DataType::Utf8,
        ParquetType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        ParquetType::Date => DataType::Date32,
        ParquetType::Decimal { precision, scale } => {
            DataType::Decimal128(*precision, i8::try_from(*scale).unwrap_or(i8::MAX))
        }
        ParquetType::List(items) => DataType::List(item_field(items)),
        ParquetType::Struct(columns) => DataType::Struct(fields(columns)),
    }
}

fn item_field(items: &ParquetType) -> Arc<Field> {
    Arc::new(Field::new(ITEM, data_type(items), true))
}

/// The rows of `table`, each with one cell per column, as columns.
pub(super) fn batch(
    schema: &SchemaRef,
    columns: &[ParquetColumn],
    table: &[Vec<Cell<'_>>],
) -> Result<RecordBatch, ArrowError> {
    let arrays = columns.iter().enumerate().map(|(at, column)| {
        let cells: Vec<&Cell<'_>> = table.iter().map(|row| &row[at]).collect();
        array(&column.kind, &cells)
    });
    RecordBatch::try_new(schema.clone(), arrays.collect::<Result<_, _>>()?)
}

fn array(kind: &ParquetType, cells: &[&Cell<'_>]) -> Result<ArrayRef, ArrowError> {
    let ints = || {
        cells.iter().map(|cell| match cell {
            Cell::Int(number) => Some(*number),
            _ => None,
        })
    };
    Ok(match kind {
        ParquetType::Boolean => {
            let value = |cell: &&Cell<'_>| match cell {
                Cell::Boolean(value) => Some(*value),
                _ => None,
            };
            Arc::new(cells.iter().map(value).collect::<BooleanArray>())
        }
        ParquetType::Int64 => Arc::new(ints().collect::<Int64Array>()),
        ParquetType::Timestamp => {
            Arc::new(ints().collect::<TimestampMicrosecondArray>().with_timezone(UTC))
        }
        ParquetType::Date => {
            // A day of four digits' years always fits.
            let day = |days: i64| i32::try_from(days).unwrap_or(i32::MAX);
            Arc::new(ints().map(|days| days.map(day)).collect::<Date32Array>())
        }
        ParquetType::Float64 => {
            let value = |cell: &&Cell<'_>| match cell {
                Cell::Float(value) => Some(*value),
                _ => None,
            };
            Arc::new(cells.iter().map(value).collect::<Float64Array>())
        }
        ParquetType::String | ParquetType::Json => {
            Arc::new(cells.iter().map(|cell| text(cell)).collect::<StringArray>())
        }
        ParquetType::Decimal { precision, scale } => {
            let value = |cell: &&Cell<'_>| match cell {
                Cell::Decimal(value) => Some(*value),
                _ => None,
            };
            let digits = cells.iter().map(value).collect::<Decimal128Array>();
            let scale = i8::try_from(*scale).unwrap_or(i8::MAX);
            Arc::new(digits.with_precision_and_scale(*precision, scale)?)
        }
        ParquetType::List(items) => Arc::new(list(items, cells)?),
        ParquetType::Struct(columns) => Arc::new(structure(columns, cells)?),
    })
}

fn text<'c>(cell: &'c Cell<'_>) -> Option<&'c str> {
    match cell {
        Cell::Text(text) => Some(text),
        _ => None,
    }
}

fn present(cells: &[&Cell<'_>]) -> NullBuffer {
    cells.iter().map(|cell| !matches!(cell, Cell::Null)).collect()
}

fn list(items: &ParquetType, cells: &[&Cell<'_>]) -> Result<ListArray, ArrowError> {
    let inner = |cell: &&'_ Cell<'_>| match cell {
        Cell::List(cells) => cells.len(),
        _ => 0,
    };
    let offsets = OffsetBuffer::from_lengths(cells.iter().map(inner));
    let mut values: Vec<&Cell<'_>> = Vec::new();
    for cell in cells {
        if let Cell::List(cells) = cell {
            values.extend(cells);
        }
    }
    ListArray::try_new(item_field(items), offsets, array(items, &values)?, Some(present(cells)))
}

fn structure(columns: &[ParquetColumn], cells: &[&Cell<'_>]) -> Result<StructArray, ArrowError> {
    let arrays = columns.iter().enumerate().map(|(at, column)| {
        let values: Vec<&Cell<'_>> = cells
            .iter()
            .map(|cell| match cell {
                Cell::Struct(cells) => &cells[at],
                _ => &Cell::Null,
            })
            .collect();
        array(&column.kind, &values)
    });
    StructArray::try_new(fields(columns), arrays.collect::<Result<_, _>>()?, Some(present(cells)))
}
