//! Types and values as bytes on the wire: fixed lengths for columns that cannot be null,
//! lengths in front for those that can, chunks for `max` types.

use super::calendar::DAYS_TO_1900;
use super::sqltype::{Collation, MAX, SqlType};
use super::value::{DAY, SECOND, Value};

/// The longest chunk of a `max` value: short, so that tests see more than one.
const CHUNK_BYTES: usize = 3_000;

/// A column's type.
pub fn type_info(out: &mut Vec<u8>, ty: &SqlType, nullable: bool) -> Result<(), String> {
    let mut choose = |fixed: u8, nullable_code: u8, length: u8| match nullable {
        true => out.extend([nullable_code, length]),
        false => out.push(fixed),
    };
    match ty {
        SqlType::Bit => choose(0x32, 0x68, 1),
        SqlType::TinyInt => choose(0x30, 0x26, 1),
        SqlType::SmallInt => choose(0x34, 0x26, 2),
        SqlType::Int => choose(0x38, 0x26, 4),
        SqlType::BigInt => choose(0x7f, 0x26, 8),
        SqlType::Real => choose(0x3b, 0x6d, 4),
        SqlType::Float => choose(0x3e, 0x6d, 8),
        SqlType::Money => choose(0x3c, 0x6e, 8),
        SqlType::SmallMoney => choose(0x7a, 0x6e, 4),
        SqlType::DateTime => choose(0x3d, 0x6f, 8),
        SqlType::SmallDateTime => choose(0x3a, 0x6f, 4),
        SqlType::Decimal { precision, scale, numeric } => {
            let code = if *numeric { 0x6c } else { 0x6a };
            out.extend([code, decimal_bytes(*precision) + 1, *precision, *scale]);
        }
        SqlType::Guid => out.extend([0x24, 16]),
        SqlType::Date => out.push(0x28),
        SqlType::Time(scale) => out.extend([0x29, *scale]),
        SqlType::DateTime2(scale) => out.extend([0x2a, *scale]),
        SqlType::DateTimeOffset(scale) => out.extend([0x2b, *scale]),
        SqlType::Char(length, collation) => sized(out, 0xaf, *length, Some(*collation)),
        SqlType::VarChar(length, collation) => sized(out, 0xa7, *length, Some(*collation)),
        SqlType::NChar(length) => sized(out, 0xef, length * 2, Some(Collation::default())),
        SqlType::NVarChar(MAX) => sized(out, 0xe7, MAX, Some(Collation::default())),
        SqlType::NVarChar(length) => sized(out, 0xe7, length * 2, Some(Collation::default())),
        SqlType::Binary(length) => sized(out, 0xad, *length, None),
        SqlType::VarBinary(length) => sized(out, 0xa5, *length, None),
        SqlType::Xml => out.extend([0xf1, 0]),
        SqlType::Text => large(out, 0x23, i32::MAX, true),
        SqlType::NText => large(out, 0x63, i32::MAX - 1, true),
        SqlType::Image => large(out, 0x22, i32::MAX, false),
        SqlType::Foreign(name) => {
            return Err(format!("the test server does not send columns of type {name}"));
        }
    }
    Ok(())
}

fn sized(out: &mut Vec<u8>, code: u8, bytes: u16, collation: Option<Collation>) {
    out.push(code);
    out.extend(bytes.to_le_bytes());
    if let Some(collation) = collation {
        out.extend(collation.bytes());
    }
}

/// `text`, `ntext` and `image` name their table, here `t`.
fn large(out: &mut Vec<u8>, code: u8, bytes: i32, text: bool) {
    out.push(code);
    out.extend(bytes.to_le_bytes());
    if text {
        out.extend(Collation::default().bytes());
    }
    out.extend([1, 1, 0, b't', 0]);
}

fn decimal_bytes(precision: u8) -> u8 {
    match precision {
        0..=9 => 4,
        10..=19 => 8,
        20..=28 => 12,
        _ => 16,
    }
}

/// A value of a column that was announced as `ty`.
pub fn value(out: &mut Vec<u8>, ty: &SqlType, nullable: bool, value: &Value) -> Result<(), String> {
    if *value == Value::Null {
        return null(out, ty, nullable);
    }
    let mismatch = || format!("a column of type {ty} has {value:?}");
    let fixed = |out: &mut Vec<u8>, bytes: &[u8]| {
        if nullable {
            out.push(bytes.len() as u8);
        }
        out.extend(bytes);
    };
    match (ty, value) {
        (SqlType::Bit | SqlType::TinyInt, Value::Integer(value)) => fixed(out, &[*value as u8]),
        (SqlType::SmallInt, Value::Integer(value)) => fixed(out, &(*value as i16).to_le_bytes()),
        (SqlType::Int, Value::Integer(value)) => fixed(out, &(*value as i32).to_le_bytes()),
        (SqlType::BigInt, Value::Integer(value)) => fixed(out, &value.to_le_bytes()),
        (SqlType::Real, Value::Float(value)) => fixed(out, &(*value as f32).to_le_bytes()),
        (SqlType::Float, Value::Float(value)) => fixed(out, &value.to_le_bytes()),
        (SqlType::Money, Value::Decimal(decimal)) => {
            let units = decimal.rescale(19, 4).ok_or_else(mismatch)?.units as i64;
            let high = ((units >> 32) as i32).to_le_bytes();
            fixed(out, &[high, (units as u32).to_le_bytes()].concat());
        }
        (SqlType::SmallMoney, Value::Decimal(decimal)) => {
            let units = decimal.rescale(10, 4).ok_or_else(mismatch)?.units;
            fixed(out, &(units as i32).to_le_bytes());
        }
        (SqlType::DateTime, Value::DateTime(days, parts)) => {
            fixed(out, &[(*days as i32).to_le_bytes(), (*parts as u32).to_le_bytes()].concat());
        }
        (SqlType::SmallDateTime, Value::DateTime(days, parts)) => {
            let minutes = (parts / 300 / 60) as u16;
            fixed(out, &[(*days as u16).to_le_bytes(), minutes.to_le_bytes()].concat());
        }
        (SqlType::Decimal { precision, scale, .. }, Value::Decimal(decimal)) => {
            let units = decimal.rescale(*precision, *scale).ok_or_else(mismatch)?.units;
            let bytes = decimal_bytes(*precision);
            out.extend([bytes + 1, u8::from(units >= 0)]);
            out.extend(&units.unsigned_abs().to_le_bytes()[..usize::from(bytes)]);
        }
        (SqlType::Guid, Value::Guid(guid)) => {
            out.push(16);
            // The first three groups travel with their lowest byte first.
            out.extend([3, 2, 1, 0, 5, 4, 7, 6].map(|place: usize| guid[place]));
            out.extend(&guid[8..]);
        }
        (SqlType::Date, Value::Date(days)) => {
            out.push(3);
            out.extend(&days.to_le_bytes()[..3]);
        }
        (SqlType::Time(scale), Value::Time(ticks)) => {
            out.push(time_bytes(*scale) as u8);
            time(out, *scale, *ticks);
        }
        (SqlType::DateTime2(scale), Value::DateTime2(ticks)) => {
            out.push(time_bytes(*scale) as u8 + 3);
            moment(out, *scale, *ticks);
        }
        (SqlType::DateTimeOffset(scale), Value::Offset(ticks, minutes)) => {
            out.push(time_bytes(*scale) as u8 + 5);
            moment(out, *scale, *ticks);
            out.extend((*minutes as i16).to_le_bytes());
        }
        _ => variable(out, ty, &bytes_of(ty, value).ok_or_else(mismatch)?),
    }
    Ok(())
}

/// What a value of variable length is, in the type's own encoding.
fn bytes_of(ty: &SqlType, value: &Value) -> Option<Vec<u8>> {
    match (ty, value) {
        (SqlType::Char(_, collation) | SqlType::VarChar(_, collation), Value::Text(text)) => {
            collation.encode(text)
        }
        (SqlType::Text, Value::Text(text)) => Collation::default().encode(text),
        (ty, Value::Text(text)) if ty.is_text() => {
            Some(text.encode_utf16().flat_map(u16::to_le_bytes).collect())
        }
        (ty, Value::Units(units)) if ty.is_text() => {
            Some(units.iter().flat_map(|unit| unit.to_le_bytes()).collect())
        }
        (SqlType::Binary(length), Value::Bytes(bytes)) => {
            let mut padded = bytes.clone();
            padded.resize(usize::from(*length), 0);
            Some(padded)
        }
        (SqlType::VarBinary(_) | SqlType::Image, Value::Bytes(bytes)) => Some(bytes.clone()),
        _ => None,
    }
}

fn variable(out: &mut Vec<u8>, ty: &SqlType, bytes: &[u8]) {
    match ty {
        SqlType::VarChar(MAX, _)
        | SqlType::NVarChar(MAX)
        | SqlType::VarBinary(MAX)
        | SqlType::Xml => {
            out.extend((bytes.len() as u64).to_le_bytes());
            for chunk in bytes.chunks(CHUNK_BYTES) {
                out.extend((chunk.len() as u32).to_le_bytes());
                out.extend(chunk);
            }
            out.extend(0u32.to_le_bytes());
        }
        SqlType::Text | SqlType::NText | SqlType::Image => {
            // A pointer of sixteen bytes and a timestamp of eight, which nobody reads.
            out.push(16);
            out.extend([7; 24]);
            out.extend((bytes.len() as u32).to_le_bytes());
            out.extend(bytes);
        }
        _ => {
            out.extend((bytes.len() as u16).to_le_bytes());
            out.extend(bytes);
        }
    }
}

fn null(out: &mut Vec<u8>, ty: &SqlType, nullable: bool) -> Result<(), String> {
    if !nullable {
        return Err(format!("null in a column of type {ty} that cannot be null"));
    }
    match ty {
        SqlType::VarChar(MAX, _)
        | SqlType::NVarChar(MAX)
        | SqlType::VarBinary(MAX)
        | SqlType::Xml => out.extend(u64::MAX.to_le_bytes()),
        SqlType::Char(..)
        | SqlType::VarChar(..)
        | SqlType::NChar(_)
        | SqlType::NVarChar(_)
        | SqlType::Binary(_)
        | SqlType::VarBinary(_) => out.extend(u16::MAX.to_le_bytes()),
        _ => out.push(0),
    }
    Ok(())
}

fn time_bytes(scale: u8) -> usize {
    match scale {
        0..=2 => 3,
        3..=4 => 4,
        _ => 5,
    }
}

fn time(out: &mut Vec<u8>, scale: u8, ticks: i64) {
    let units = ticks / (SECOND / 10i64.pow(u32::from(scale)));
    out.extend(&units.to_le_bytes()[..time_bytes(scale)]);
}

fn moment(out: &mut Vec<u8>, scale: u8, ticks: i64) {
    time(out, scale, ticks.rem_euclid(DAY));
    out.extend(&ticks.div_euclid(DAY).to_le_bytes()[..3]);
}

/// Days since 1900 as `datetime` counts them, of ticks since 0001.
pub fn datetime_of(ticks: i64) -> Value {
    let parts = (ticks.rem_euclid(DAY) * 3 + 50_000) / 100_000;
    Value::DateTime(ticks.div_euclid(DAY) - DAYS_TO_1900, parts)
}
