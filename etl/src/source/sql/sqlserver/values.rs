//! One value of a row as JSON, each digit and character as it was.

use tiberius::ColumnData;
use tiberius::numeric::Numeric;
use tiberius::time::{Date, DateTime, DateTimeOffset, SmallDateTime, Time};

use super::times::{DAYS_TO_1900, Moment, push_date, push_offset, push_time};
use crate::source::sql::values as json;

/// Appends a value.
pub(super) fn push(out: &mut Vec<u8>, value: &ColumnData<'_>) {
    use ColumnData::{
        Binary, Bit, DateTime2, F32, F64, Guid, I16, I32, I64, SmallDateTime, String, U8, Xml,
    };
    match value {
        U8(Some(value)) => json::push_integer(out, *value),
        I16(Some(value)) => json::push_integer(out, *value),
        I32(Some(value)) => json::push_integer(out, *value),
        I64(Some(value)) => json::push_integer(out, *value),
        F32(Some(value)) => json::push_single(out, *value),
        F64(Some(value)) => json::push_double(out, *value),
        Bit(Some(value)) => json::push_bool(out, *value),
        String(Some(text)) => json::push_text(out, text),
        Xml(Some(xml)) => json::push_text(out, xml.as_ref().as_ref()),
        Guid(Some(guid)) => json::push_uuid(out, guid.as_bytes()),
        Binary(Some(bytes)) => json::push_bytes(out, bytes),
        ColumnData::Numeric(Some(number)) => json::push_decimal(out, &digits(*number)),
        ColumnData::Date(Some(date)) => quoted(out, |out| push_date(out, days(*date))),
        ColumnData::Time(Some(time)) => {
            quoted(out, |out| push_time(out, nanoseconds(*time), time.scale()));
        }
        ColumnData::DateTime(Some(value)) => quoted(out, |out| datetime(*value).push(out, 3)),
        SmallDateTime(Some(value)) => quoted(out, |out| smalldatetime(*value).push(out, 0)),
        DateTime2(Some(value)) => quoted(out, |out| {
            moment(value.date(), value.time()).push(out, value.time().scale());
        }),
        ColumnData::DateTimeOffset(Some(value)) => quoted(out, |out| offset(out, *value)),
        _ => json::push_null(out),
    }
}

fn quoted(out: &mut Vec<u8>, push: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'"');
    push(out);
    out.push(b'"');
}

/// All digits of a decimal: its own text would lose zeros at the end.
fn digits(number: Numeric) -> String {
    let scale = usize::from(number.scale());
    let all = format!("{:0>width$}", number.value().unsigned_abs(), width = scale + 1);
    let (whole, fraction) = all.split_at(all.len() - scale);
    let sign = if number.value() < 0 { "-" } else { "" };
    match fraction {
        "" => format!("{sign}{whole}"),
        fraction => format!("{sign}{whole}.{fraction}"),
    }
}

fn days(date: Date) -> i64 {
    i64::from(date.days())
}

fn nanoseconds(time: Time) -> u64 {
    time.increments() * 10u64.pow(9 - u32::from(time.scale().min(9)))
}

pub(super) fn moment(date: Date, time: Time) -> Moment {
    Moment::new(days(date), time.increments(), time.scale())
}

/// `datetime` counts thirds of ten milliseconds, and shows them as .000, .003 and .007.
fn datetime(value: DateTime) -> Moment {
    let milliseconds = (u64::from(value.seconds_fragments()) * 10 + 1) / 3;
    Moment::new(i64::from(value.days()) + DAYS_TO_1900, milliseconds, 3)
}

/// `smalldatetime` counts minutes.
fn smalldatetime(value: SmallDateTime) -> Moment {
    let seconds = u64::from(value.seconds_fragments()) * 60;
    Moment::new(i64::from(value.days()) + DAYS_TO_1900, seconds, 0)
}

/// It travels in UTC and is shown in its own zone, as it was written.
fn offset(out: &mut Vec<u8>, value: DateTimeOffset) {
    let utc = value.datetime2();
    let local = moment(utc.date(), utc.time()).minutes(i64::from(value.offset()));
    local.push(out, utc.time().scale());
    push_offset(out, value.offset());
}

#[cfg(test)]
mod tests {
    use tiberius::ColumnData;
    use tiberius::numeric::Numeric;
    use tiberius::time::{Date, DateTime, DateTime2, DateTimeOffset, SmallDateTime, Time};

    use super::push;

    fn json(value: ColumnData<'_>) -> String {
        let mut out = Vec::new();
        push(&mut out, &value);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn decimals_keep_every_digit_also_zeros_at_the_end() {
        let number =
            |value, scale| json(ColumnData::Numeric(Some(Numeric::new_with_scale(value, scale))));
        assert_eq!(number(-12_500, 3), "-12.500");
        assert_eq!(number(-5, 3), "-0.005");
        assert_eq!(number(0, 0), "0");
        let most = 99_999_999_999_999_999_999_999_999_999_999_999_999;
        assert_eq!(number(most, 38), "\"0.99999999999999999999999999999999999999\"");
        assert_eq!(number(-most, 0), "\"-99999999999999999999999999999999999999\"");
    }

    #[test]
    fn times_are_what_sql_server_shows() {
        let datetime = |days, parts| json(ColumnData::DateTime(Some(DateTime::new(days, parts))));
        assert_eq!(datetime(-53_690, 1), "\"1753-01-01T00:00:00.003\"");
        assert_eq!(datetime(46_345, 25_919_999), "\"2026-11-21T23:59:59.997\"");
        let small = SmallDateTime::new(65_535, 1439);
        assert_eq!(json(ColumnData::SmallDateTime(Some(small))), "\"2079-06-06T23:59:00\"");
        let moment = DateTime2::new(Date::new(739_615), Time::new(68_400_125, 3));
        assert_eq!(json(ColumnData::DateTime2(Some(moment))), "\"2025-12-31T19:00:00.125\"");
        let india = DateTimeOffset::new(moment, 330);
        assert_eq!(
            json(ColumnData::DateTimeOffset(Some(india))),
            "\"2026-01-01T00:30:00.125+05:30\""
        );
        assert_eq!(json(ColumnData::Time(None)), "null");
    }
}
