//! Calls of procedures with typed parameters.

use super::decimal::Decimal;
use super::sqltype::SqlType;
use super::value::{DAY, SECOND, Value};

/// A statement with its parameters.
pub struct Call {
    pub procedure: String,
    pub parameters: Vec<Parameter>,
}

/// A parameter: `@P1`, its type and its value.
#[derive(Clone, Debug)]
pub struct Parameter {
    pub name: String,
    pub ty: SqlType,
    pub value: Value,
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn bytes(&mut self, count: usize) -> Result<Vec<u8>, String> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or("a request ends early")?;
        self.0 = rest;
        Ok(taken.to_vec())
    }

    fn number(&mut self, bytes: usize) -> Result<u64, String> {
        let mut all = [0; 8];
        all[..bytes].copy_from_slice(&self.bytes(bytes)?);
        Ok(u64::from_le_bytes(all))
    }

    fn text(&mut self, units: usize) -> Result<String, String> {
        utf16(&self.bytes(units * 2)?)
    }
}

fn utf16(bytes: &[u8]) -> Result<String, String> {
    let units: Vec<u16> = bytes.chunks(2).map(|two| u16::from_le_bytes([two[0], two[1]])).collect();
    String::from_utf16(&units).map_err(|error| error.to_string())
}

/// The text of a batch, behind its headers.
pub fn batch(message: &[u8]) -> Result<String, String> {
    let mut reader = after_headers(message)?;
    let length = reader.0.len();
    utf16(&reader.bytes(length)?)
}

fn after_headers(message: &[u8]) -> Result<Reader<'_>, String> {
    let mut reader = Reader(message);
    let length = reader.number(4)? as usize;
    reader.bytes(length.saturating_sub(4))?;
    Ok(reader)
}

/// Reads a call.
pub fn call(message: &[u8]) -> Result<Call, String> {
    let mut reader = after_headers(message)?;
    let procedure = match reader.number(2)? {
        0xffff => match reader.number(2)? {
            10 => "sp_executesql".to_owned(),
            other => format!("procedure number {other}"),
        },
        units => reader.text(units as usize)?,
    };
    reader.number(2)?;
    let mut parameters = Vec::new();
    while !reader.0.is_empty() {
        let units = reader.number(1)? as usize;
        let name = reader.text(units)?;
        reader.number(1)?;
        let (ty, value) = value(&mut reader)?;
        parameters.push(Parameter { name, ty, value });
    }
    Ok(Call { procedure, parameters })
}

fn value(reader: &mut Reader<'_>) -> Result<(SqlType, Value), String> {
    let code = reader.number(1)? as u8;
    let ty = parameter_type(reader, code)?;
    if code == 0xe7 || code == 0xa5 {
        return Ok(match (long_or_short(reader, &ty)?, ty) {
            (None, ty) => (ty, Value::Null),
            (Some(bytes), ty @ SqlType::NVarChar(_)) => (ty, Value::Text(utf16(&bytes)?)),
            (Some(bytes), ty) => (ty, Value::Bytes(bytes)),
        });
    }
    let length = reader.number(1)? as usize;
    if length == 0 {
        return Ok((ty, Value::Null));
    }
    let mut bytes = Reader(&reader.0[..length.min(reader.0.len())]);
    reader.bytes(length)?;
    let value = match &ty {
        SqlType::TinyInt | SqlType::Bit => Value::Integer(bytes.number(1)? as i64),
        SqlType::SmallInt => Value::Integer(i64::from(bytes.number(2)? as i16)),
        SqlType::Int => Value::Integer(i64::from(bytes.number(4)? as i32)),
        SqlType::BigInt => Value::Integer(bytes.number(8)? as i64),
        SqlType::Real => Value::Float(f64::from(f32::from_bits(bytes.number(4)? as u32))),
        SqlType::Float => Value::Float(f64::from_bits(bytes.number(8)?)),
        SqlType::Decimal { scale, .. } => {
            let positive = bytes.number(1)? == 1;
            let low = u128::from(bytes.number(bytes.0.len().min(8))?);
            let high = u128::from(bytes.number(bytes.0.len())?);
            let units = (low | high << 64) as i128;
            let units = if positive { units } else { -units };
            Value::Decimal(Decimal { units, scale: *scale })
        }
        SqlType::Guid => {
            let wire = bytes.bytes(16)?;
            let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
            Value::Guid(order.map(|place: usize| wire[place]))
        }
        SqlType::Date => Value::Date(bytes.number(3)? as i64),
        SqlType::Time(scale) => Value::Time(time(&mut bytes, *scale, length)?),
        SqlType::DateTime2(scale) => {
            let clock = time(&mut bytes, *scale, length - 3)?;
            Value::DateTime2(bytes.number(3)? as i64 * DAY + clock)
        }
        SqlType::DateTimeOffset(scale) => {
            let clock = time(&mut bytes, *scale, length - 5)?;
            let ticks = bytes.number(3)? as i64 * DAY + clock;
            Value::Offset(ticks, i64::from(bytes.number(2)? as i16))
        }
        SqlType::DateTime => {
            let days = i64::from(bytes.number(4)? as i32);
            Value::DateTime(days, bytes.number(4)? as i64)
        }
        SqlType::SmallDateTime => {
            let days = bytes.number(2)? as i64;
            Value::DateTime(days, bytes.number(2)? as i64 * 60 * 300)
        }
        other => return Err(format!("the test server takes no parameter of type {other}")),
    };
    Ok((ty, value))
}

fn time(bytes: &mut Reader<'_>, scale: u8, length: usize) -> Result<i64, String> {
    Ok(bytes.number(length)? as i64 * (SECOND / 10i64.pow(u32::from(scale))))
}

fn parameter_type(reader: &mut Reader<'_>, code: u8) -> Result<SqlType, String> {
    let unknown = |what: u64| format!("the test server takes no parameter of type {what:#x}");
    Ok(match code {
        0x26 => match reader.number(1)? {
            1 => SqlType::TinyInt,
            2 => SqlType::SmallInt,
            4 => SqlType::Int,
            _ => SqlType::BigInt,
        },
        0x68 => {
            reader.number(1)?;
            SqlType::Bit
        }
        0x6d => match reader.number(1)? {
            4 => SqlType::Real,
            _ => SqlType::Float,
        },
        0x6f => match reader.number(1)? {
            4 => SqlType::SmallDateTime,
            _ => SqlType::DateTime,
        },
        0x6a | 0x6c => {
            reader.number(1)?;
            let (precision, scale) = (reader.number(1)? as u8, reader.number(1)? as u8);
            SqlType::Decimal { precision, scale, numeric: code == 0x6c }
        }
        0x24 => {
            reader.number(1)?;
            SqlType::Guid
        }
        0x28 => SqlType::Date,
        0x29 => SqlType::Time(reader.number(1)? as u8),
        0x2a => SqlType::DateTime2(reader.number(1)? as u8),
        0x2b => SqlType::DateTimeOffset(reader.number(1)? as u8),
        0xe7 => {
            let bytes = reader.number(2)? as u16;
            reader.bytes(5)?;
            SqlType::NVarChar(if bytes == u16::MAX { bytes } else { bytes / 2 })
        }
        0xa5 => SqlType::VarBinary(reader.number(2)? as u16),
        other => return Err(unknown(u64::from(other))),
    })
}

/// Bytes with a length in front, or in chunks.
fn long_or_short(reader: &mut Reader<'_>, ty: &SqlType) -> Result<Option<Vec<u8>>, String> {
    if !matches!(ty, SqlType::NVarChar(u16::MAX) | SqlType::VarBinary(u16::MAX)) {
        return match reader.number(2)? {
            0xffff => Ok(None),
            length => Ok(Some(reader.bytes(length as usize)?)),
        };
    }
    if reader.number(8)? == u64::MAX {
        return Ok(None);
    }
    let mut all = Vec::new();
    loop {
        match reader.number(4)? as usize {
            0 => return Ok(Some(all)),
            length => all.extend(reader.bytes(length)?),
        }
    }
}
