//! The tokens of an answer.

use super::encode;
use super::sqltype::{Collation, SqlType};
use super::value::Value;

/// What a DONE token may say, one bit each.
pub const DONE_MORE: u16 = 0x01;
pub const DONE_ERROR: u16 = 0x02;
pub const DONE_COUNT: u16 = 0x10;
pub const DONE_ATTENTION: u16 = 0x20;

/// The codes of the three DONE tokens: of a batch, inside a procedure, of a procedure.
pub const DONE: u8 = 0xfd;
pub const DONE_IN_PROC: u8 = 0xff;
pub const DONE_PROC: u8 = 0xfe;

/// A column of a result.
#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    pub ty: SqlType,
    pub nullable: bool,
}

/// Text with its length in UTF-16 units in one byte.
fn short_text(out: &mut Vec<u8>, text: &str) {
    out.push(text.encode_utf16().count() as u8);
    out.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
}

pub fn columns(out: &mut Vec<u8>, columns: &[Column]) -> Result<(), String> {
    out.push(0x81);
    out.extend((columns.len() as u16).to_le_bytes());
    for column in columns {
        out.extend([0; 4]);
        // Nullable, and updatable unknown.
        out.extend((u16::from(column.nullable) | 0x08).to_le_bytes());
        encode::type_info(out, &column.ty, column.nullable)?;
        short_text(out, &column.name);
    }
    Ok(())
}

/// A row, with its nulls packed into a bitmap where there are some, as SQL Server does.
pub fn row(out: &mut Vec<u8>, columns: &[Column], values: &[Value]) -> Result<(), String> {
    let packed = values.contains(&Value::Null);
    out.push(if packed { 0xd2 } else { 0xd1 });
    if packed {
        let mut bits = vec![0u8; columns.len().div_ceil(8)];
        for (place, value) in values.iter().enumerate() {
            if *value == Value::Null {
                bits[place / 8] |= 1 << (place % 8);
            }
        }
        out.extend(bits);
    }
    for (column, value) in columns.iter().zip(values) {
        if !packed || *value != Value::Null {
            encode::value(out, &column.ty, column.nullable, value)
                .map_err(|problem| format!("column {}: {problem}", column.name))?;
        }
    }
    Ok(())
}

pub fn done(out: &mut Vec<u8>, code: u8, status: u16, rows: u64) {
    out.push(code);
    out.extend(status.to_le_bytes());
    // The current command: SELECT.
    out.extend(0xc1u16.to_le_bytes());
    out.extend(rows.to_le_bytes());
}

/// The status that a procedure returns.
pub fn return_status(out: &mut Vec<u8>, status: i32) {
    out.push(0x79);
    out.extend(status.to_le_bytes());
}

pub fn error(out: &mut Vec<u8>, number: u32, severity: u8, message: &str) {
    out.push(0xaa);
    let mut body = number.to_le_bytes().to_vec();
    body.extend([1, severity]);
    body.extend((message.encode_utf16().count() as u16).to_le_bytes());
    body.extend(message.encode_utf16().flat_map(u16::to_le_bytes));
    short_text(&mut body, "tds-test");
    short_text(&mut body, "");
    body.extend(1u32.to_le_bytes());
    out.extend((body.len() as u16).to_le_bytes());
    out.extend(body);
}

/// Database (1), language (2) and packet size (4) change by text.
pub fn changed(out: &mut Vec<u8>, what: u8, new: &str, old: &str) {
    let mut body = vec![what];
    short_text(&mut body, new);
    short_text(&mut body, old);
    environment(out, &body);
}

/// The database's collation.
pub fn collation(out: &mut Vec<u8>) {
    let mut body = vec![7, 5];
    body.extend(Collation::default().bytes());
    body.push(0);
    environment(out, &body);
}

fn environment(out: &mut Vec<u8>, body: &[u8]) {
    out.push(0xe3);
    out.extend((body.len() as u16).to_le_bytes());
    out.extend(body);
}

pub fn login_accepted(out: &mut Vec<u8>) {
    out.push(0xad);
    let mut body = vec![1];
    body.extend(0x7400_0004u32.to_be_bytes());
    short_text(&mut body, "Microsoft SQL Server");
    body.extend([16, 0, 0x0f, 0xa0]);
    out.extend((body.len() as u16).to_le_bytes());
    out.extend(body);
}
