//! Values of SQL Server's types: read from text, kept in SQLite so that they sort right, and
//! written as the canonical text that tests compare.

use rusqlite::types::{ToSqlOutput, Value as Stored, ValueRef};

use super::calendar;
use super::decimal::Decimal;
use super::sqltype::{MAX, SqlType};

/// Ticks of 100 ns in a second.
pub const SECOND: i64 = 10_000_000;
/// Ticks of 100 ns in a day.
pub const DAY: i64 = 86_400 * SECOND;

/// A value; times are in ticks of 100 ns, since midnight or since 0001-01-01.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Integer(i64),
    Float(f64),
    Text(String),
    /// Text that is not Unicode, such as half a surrogate pair.
    Units(Vec<u16>),
    Bytes(Vec<u8>),
    Decimal(Decimal),
    Date(i64),
    Time(i64),
    /// Days since 1900 and 1/300 seconds.
    DateTime(i64, i64),
    DateTime2(i64),
    /// Ticks in UTC, and the offset in minutes.
    Offset(i64, i64),
    /// As it is written, sixteen bytes.
    Guid([u8; 16]),
}

/// The order in which SQL Server compares a uniqueidentifier's bytes as they are written.
const GUID_ORDER: [usize; 16] = [10, 11, 12, 13, 14, 15, 8, 9, 7, 6, 5, 4, 3, 2, 1, 0];

impl Value {
    /// Reads `text` as `ty`, as a cast from nvarchar does.
    pub fn parse(ty: &SqlType, text: &str) -> Result<Value, String> {
        let failed = || format!("Conversion failed when converting '{text}' to data type {ty}.");
        let decimal = |precision, scale| {
            let parsed = Decimal::parse(text).ok_or_else(failed)?;
            parsed.rescale(precision, scale).map(Value::Decimal).ok_or_else(failed)
        };
        Ok(match ty {
            SqlType::Bit => Value::Integer(i64::from(!matches!(text, "0" | "false"))),
            ty if ty.is_integer() => Value::Integer(integer(ty, text).ok_or_else(failed)?),
            SqlType::Decimal { precision, scale, .. } => decimal(*precision, *scale)?,
            SqlType::Money => decimal(19, 4)?,
            SqlType::SmallMoney => decimal(10, 4)?,
            SqlType::Real => {
                Value::Float(f64::from(text.trim().parse::<f32>().map_err(|_| failed())?))
            }
            SqlType::Float => Value::Float(text.trim().parse().map_err(|_| failed())?),
            SqlType::Date => Value::Date(day(text).ok_or_else(failed)?),
            SqlType::Time(scale) => {
                Value::Time(rounded(clock(text).ok_or_else(failed)?, *scale) % DAY)
            }
            SqlType::DateTime => {
                // More than three digits after the point are refused, as SQL Server does.
                let fraction = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
                let ticks = moment(text).filter(|_| fraction <= 3).ok_or_else(failed)?;
                let parts = (ticks % DAY * 3 + 50_000) / 100_000;
                // The last third of a tick belongs to the next day.
                let per_day = DAY * 3 / 100_000;
                let days = ticks / DAY + parts / per_day - calendar::DAYS_TO_1900;
                Value::DateTime(days, parts % per_day)
            }
            SqlType::SmallDateTime => {
                let minutes = (moment(text).ok_or_else(failed)? + 30 * SECOND) / (60 * SECOND);
                let days = minutes / 1440 - calendar::DAYS_TO_1900;
                Value::DateTime(days, minutes % 1440 * 60 * 300)
            }
            SqlType::DateTime2(scale) => {
                Value::DateTime2(rounded(moment(text).ok_or_else(failed)?, *scale))
            }
            SqlType::DateTimeOffset(scale) => {
                let (local, minutes) = split_offset(text).ok_or_else(failed)?;
                let ticks = rounded(moment(local).ok_or_else(failed)?, *scale);
                Value::Offset(ticks - minutes * 60 * SECOND, minutes)
            }
            SqlType::Guid => Value::Guid(guid(text).ok_or_else(failed)?),
            SqlType::Char(length, _) | SqlType::NChar(length) => {
                Value::Text(format!("{text:<width$}", width = usize::from(*length)))
            }
            SqlType::VarChar(length, _) | SqlType::NVarChar(length) if *length != MAX => {
                if text.encode_utf16().count() > usize::from(*length) {
                    return Err(format!("String or binary data would be truncated: {ty}."));
                }
                Value::Text(text.to_owned())
            }
            SqlType::Binary(_) | SqlType::VarBinary(_) | SqlType::Image => {
                Value::Bytes(hex(text).ok_or_else(failed)?)
            }
            SqlType::Foreign(_) => Value::Text(text.to_owned()),
            _ => Value::Text(text.to_owned()),
        })
    }

    /// As SQLite keeps it: a tag, and bytes that sort as the values do.
    pub fn stored(&self) -> Stored {
        let tagged = |tag: u8, bytes: &[u8]| Stored::Blob([&[tag], bytes].concat());
        match self {
            Value::Null => Stored::Null,
            Value::Integer(value) => Stored::Integer(*value),
            Value::Float(value) => Stored::Real(*value),
            Value::Text(text) => Stored::Text(text.clone()),
            Value::Units(units) => {
                tagged(1, &units.iter().flat_map(|unit| unit.to_be_bytes()).collect::<Vec<_>>())
            }
            Value::Bytes(bytes) => tagged(2, bytes),
            Value::Decimal(decimal) => tagged(3, &decimal.sortable()),
            Value::Date(days) => tagged(4, &days.to_be_bytes()),
            Value::Time(ticks) => tagged(5, &ticks.to_be_bytes()),
            Value::DateTime(days, parts) => {
                let days = (days + calendar::DAYS_TO_1900).to_be_bytes();
                tagged(6, &[days, parts.to_be_bytes()].concat())
            }
            Value::DateTime2(ticks) => tagged(7, &ticks.to_be_bytes()),
            Value::Offset(ticks, minutes) => {
                tagged(8, &[ticks.to_be_bytes(), (minutes + 1_000).to_be_bytes()].concat())
            }
            Value::Guid(guid) => tagged(9, &GUID_ORDER.map(|place| guid[place])),
        }
    }

    /// Reads what `stored` made.
    pub fn from_stored(stored: ValueRef<'_>) -> Value {
        let bytes = match stored {
            ValueRef::Null => return Value::Null,
            ValueRef::Integer(value) => return Value::Integer(value),
            ValueRef::Real(value) => return Value::Float(value),
            ValueRef::Text(text) => return Value::Text(String::from_utf8(text.into()).unwrap()),
            ValueRef::Blob(bytes) => bytes,
        };
        let rest = &bytes[1..];
        let number = |place: usize| {
            i64::from_be_bytes(rest[place * 8..place * 8 + 8].try_into().expect("eight bytes"))
        };
        match bytes[0] {
            1 => Value::Units(
                rest.chunks(2).map(|two| u16::from_be_bytes([two[0], two[1]])).collect(),
            ),
            2 => Value::Bytes(rest.to_vec()),
            3 => Value::Decimal(Decimal::from_sortable(rest)),
            4 => Value::Date(number(0)),
            5 => Value::Time(number(0)),
            6 => Value::DateTime(number(0) - calendar::DAYS_TO_1900, number(1)),
            7 => Value::DateTime2(number(0)),
            8 => Value::Offset(number(0), number(1) - 1_000),
            9 => {
                let mut guid = [0; 16];
                for (place, byte) in GUID_ORDER.into_iter().zip(rest) {
                    guid[place] = *byte;
                }
                Value::Guid(guid)
            }
            tag => unreachable!("tag {tag}"),
        }
    }

    /// The text that stands for the value of a column of type `ty`, the same for every way in
    /// which it was written; `None` for null.
    pub fn canonical(&self, ty: &SqlType) -> Option<String> {
        Some(match (self, ty) {
            (Value::Null, _) => return None,
            (Value::Integer(value), SqlType::Bit) => (*value != 0).to_string(),
            (Value::Integer(value), _) => value.to_string(),
            (Value::Float(value), SqlType::Real) => (*value as f32).to_string(),
            (Value::Float(value), _) => value.to_string(),
            (Value::Text(text), _) => text.clone(),
            (Value::Units(units), _) => String::from_utf16_lossy(units),
            (Value::Bytes(bytes), _) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
            (Value::Decimal(decimal), SqlType::Decimal { scale, .. }) => {
                decimal.rescale(38, *scale).expect("it was stored so").to_string()
            }
            (Value::Decimal(decimal), _) => {
                decimal.rescale(38, 4).expect("money has four").to_string()
            }
            (Value::Date(days), _) => day_text(*days),
            (Value::Time(ticks), ty) => clock_text(*ticks, ty.scale()),
            (Value::DateTime(days, parts), ty) => {
                let milliseconds = (parts * 10 + 1) / 3;
                let days = day_text(days + calendar::DAYS_TO_1900);
                format!("{days}T{}", clock_text(milliseconds * 10_000, ty.scale()))
            }
            (Value::DateTime2(ticks), ty) => moment_text(*ticks, ty.scale()),
            (Value::Offset(ticks, minutes), ty) => {
                let local = moment_text(ticks + minutes * 60 * SECOND, ty.scale());
                let sign = if *minutes < 0 { '-' } else { '+' };
                format!("{local}{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60)
            }
            (Value::Guid(guid), _) => guid_text(guid),
        })
    }
}

impl SqlType {
    /// Digits after the point of a second.
    pub fn scale(&self) -> u8 {
        match self {
            SqlType::Time(scale) | SqlType::DateTime2(scale) | SqlType::DateTimeOffset(scale) => {
                *scale
            }
            SqlType::DateTime => 3,
            _ => 0,
        }
    }
}

impl rusqlite::ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Owned(self.stored()))
    }
}

fn integer(ty: &SqlType, text: &str) -> Option<i64> {
    let value: i64 = text.trim().parse().ok()?;
    let range = match ty {
        SqlType::TinyInt => 0..=255,
        SqlType::SmallInt => i64::from(i16::MIN)..=i64::from(i16::MAX),
        SqlType::Int => i64::from(i32::MIN)..=i64::from(i32::MAX),
        _ => i64::MIN..=i64::MAX,
    };
    range.contains(&value).then_some(value)
}

fn day(text: &str) -> Option<i64> {
    let text = text.trim();
    let text = text.split_once(['T', ' ']).map_or(text, |(day, _)| day);
    let mut parts = text.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    calendar::days(parts.next()??, parts.next()??, parts.next()??)
}

/// Ticks since midnight.
fn clock(text: &str) -> Option<i64> {
    let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
    let mut parts = whole.split(':').map(|part| part.parse::<i64>().ok());
    let (hours, minutes, seconds) =
        (parts.next()??, parts.next()??, parts.next().unwrap_or(Some(0))?);
    if hours > 23 || minutes > 59 || seconds > 59 || fraction.len() > 7 {
        return None;
    }
    let fraction: i64 = format!("{fraction:0<7}").parse().ok()?;
    Some(((hours * 60 + minutes) * 60 + seconds) * SECOND + fraction)
}

/// Ticks since 0001-01-01.
fn moment(text: &str) -> Option<i64> {
    let text = text.trim();
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00"));
    Some(day(date)? * DAY + clock(time)?)
}

/// Local time, and minutes ahead of UTC.
fn split_offset(text: &str) -> Option<(&str, i64)> {
    let text = text.trim();
    if let Some(local) = text.strip_suffix('Z') {
        return Some((local, 0));
    }
    let (local, offset) = text.split_at_checked(text.len().checked_sub(6)?)?;
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let minutes: i64 = hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?;
    match offset.as_bytes()[0] {
        b'+' => Some((local.trim_end(), minutes)),
        b'-' => Some((local.trim_end(), -minutes)),
        _ => None,
    }
}

/// Ticks with `scale` digits after the point of a second.
fn rounded(ticks: i64, scale: u8) -> i64 {
    let unit = 10i64.pow(u32::from(7 - scale));
    (ticks + unit / 2) / unit * unit
}

fn guid(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.trim().chars().filter(|one| *one != '-').collect();
    hex(&digits)?.try_into().ok()
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let text = text.strip_prefix("0x").unwrap_or(text);
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    let pair = |place: usize| u8::from_str_radix(&text[place..place + 2], 16).ok();
    (0..text.len()).step_by(2).map(pair).collect()
}

fn day_text(days: i64) -> String {
    let (year, month, day) = calendar::date(days);
    format!("{year:04}-{month:02}-{day:02}")
}

fn clock_text(ticks: i64, scale: u8) -> String {
    let seconds = ticks / SECOND;
    let text = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    match scale {
        0 => text,
        scale => format!("{text}.{}", &format!("{:07}", ticks % SECOND)[..usize::from(scale)]),
    }
}

fn moment_text(ticks: i64, scale: u8) -> String {
    format!("{}T{}", day_text(ticks.div_euclid(DAY)), clock_text(ticks.rem_euclid(DAY), scale))
}

fn guid_text(guid: &[u8; 16]) -> String {
    let hex: String = guid.iter().map(|byte| format!("{byte:02X}")).collect();
    let [one, two, three, four] = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20]];
    format!("{one}-{two}-{three}-{four}-{}", &hex[20..])
}
