//! Which columns records have. Pure. A field gets a column with its first value that has a
//! type: `null`, `{}` and `[]` have none. Within the batch in which a column appears, whole
//! numbers may still turn out to be others; afterwards its type stays.

use std::collections::HashMap;

use serde_json::value::RawValue;

use crate::config::{ParquetColumn, ParquetType};
use crate::load::files::record::Fields;

/// Objects whose keys are data would make columns without end.
const COLUMNS_MAX: usize = 2000;
/// Objects and lists within one another.
const DEPTH_MAX: usize = 16;

/// `kept` and the columns that `rows` add, without the field `left_out`.
pub(super) fn learn(
    kept: &[ParquetColumn],
    rows: &[&[u8]],
    left_out: Option<&str>,
) -> Vec<ParquetColumn> {
    let mut columns = kept.to_vec();
    let mut learning = Learning { room: COLUMNS_MAX.saturating_sub(leaves(kept)) };
    for row in rows {
        let Some(mut fields) = Fields::of(row) else { continue };
        if let Some(left_out) = left_out {
            fields.0.retain(|(name, _)| name != left_out);
        }
        learning.fields(&mut columns, kept, &fields, DEPTH_MAX);
    }
    columns
}

/// How many columns a reader sees below these.
pub(super) fn leaves(columns: &[ParquetColumn]) -> usize {
    columns.iter().map(|column| leaves_of(&column.kind)).sum()
}

fn leaves_of(kind: &ParquetType) -> usize {
    match kind {
        ParquetType::Struct(columns) => leaves(columns),
        ParquetType::List(items) => leaves_of(items),
        _ => 1,
    }
}

/// Whether a value has a type, so that losing it would lose something.
pub(super) fn is_typed(value: &RawValue) -> bool {
    infer(value, DEPTH_MAX).is_some()
}

/// The place of each name; of a few columns looking is faster.
pub(super) struct Places<'c> {
    columns: &'c [ParquetColumn],
    by_name: Option<HashMap<&'c str, usize>>,
}

impl<'c> Places<'c> {
    pub(super) fn new(columns: &'c [ParquetColumn]) -> Places<'c> {
        const FEW: usize = 64;
        let place = |(index, column): (usize, &'c ParquetColumn)| (column.name.as_str(), index);
        let by_name =
            (columns.len() > FEW).then(|| columns.iter().enumerate().map(place).collect());
        Places { columns, by_name }
    }

    /// Where `name` is; probably at `hint`, for records mostly have their fields in one order.
    pub(super) fn find(&self, name: &str, hint: usize) -> Option<usize> {
        if self.columns.get(hint).is_some_and(|column| column.name == name) {
            return Some(hint);
        }
        match &self.by_name {
            Some(by_name) => by_name.get(name).copied(),
            None => self.columns.iter().position(|column| column.name == name),
        }
    }
}

struct Learning {
    /// Columns that may still be added.
    room: usize,
}

impl Learning {
    /// Adds what `fields` have and `columns` have not; `kept` is the beginning of `columns`
    /// whose types stay.
    fn fields(
        &mut self,
        columns: &mut Vec<ParquetColumn>,
        kept: &[ParquetColumn],
        fields: &Fields<'_>,
        depth: usize,
    ) {
        for (hint, (name, value)) in fields.0.iter().enumerate() {
            match Places::new(columns).find(name, hint) {
                Some(index) => {
                    let known = kept.get(index).map(|column| &column.kind);
                    self.widen(&mut columns[index].kind, known, value, depth);
                }
                None => {
                    let Some(mut kind) = infer(value, depth) else { continue };
                    self.widen(&mut kind, None, value, depth);
                    let Some(room) = self.room.checked_sub(leaves_of(&kind)) else { continue };
                    self.room = room;
                    columns.push(ParquetColumn { name: name.clone().into_owned(), kind });
                }
            }
        }
    }

    /// Lets `kind` hold `value` too, as far as `kept` allows.
    fn widen(
        &mut self,
        kind: &mut ParquetType,
        kept: Option<&ParquetType>,
        value: &RawValue,
        depth: usize,
    ) {
        let text = value.get();
        match kind {
            ParquetType::Int64
                if kept.is_none() && infer(value, depth) == Some(ParquetType::Float64) =>
            {
                *kind = ParquetType::Float64;
            }
            ParquetType::Struct(columns) if text.starts_with('{') && depth > 0 => {
                let kept = match kept {
                    Some(ParquetType::Struct(kept)) => kept.as_slice(),
                    _ => &[],
                };
                if let Some(fields) = Fields::of(text.as_bytes()) {
                    self.fields(columns, kept, &fields, depth - 1);
                }
            }
            ParquetType::List(items) if text.starts_with('[') && depth > 0 => {
                let kept = match kept {
                    Some(ParquetType::List(kept)) => Some(&**kept),
                    _ => None,
                };
                for item in list(value) {
                    self.widen(items, kept, item, depth - 1);
                }
            }
            _ => {}
        }
    }
}

/// The items of a list; none for anything else.
pub(super) fn list(value: &RawValue) -> Vec<&RawValue> {
    serde_json::from_str(value.get()).unwrap_or_default()
}

/// The type of a value on its own.
fn infer(value: &RawValue, depth: usize) -> Option<ParquetType> {
    let text = value.get();
    match text.as_bytes().first()? {
        b'"' => Some(ParquetType::String),
        b't' | b'f' => Some(ParquetType::Boolean),
        b'n' => None,
        b'[' => {
            let inner = depth.checked_sub(1)?;
            let items = list(value).into_iter().find_map(|item| infer(item, inner));
            items.map(|items| ParquetType::List(Box::new(items)))
        }
        b'{' => {
            let inner = depth.checked_sub(1)?;
            let mut columns: Vec<ParquetColumn> = Vec::new();
            for (name, value) in Fields::of(text.as_bytes())?.0 {
                let kind = infer(value, inner);
                if let Some(kind) = kind.filter(|_| columns.iter().all(|c| c.name != name)) {
                    columns.push(ParquetColumn { name: name.into_owned(), kind });
                }
            }
            (!columns.is_empty()).then_some(ParquetType::Struct(columns))
        }
        _ if text.parse::<i64>().is_ok() => Some(ParquetType::Int64),
        _ => Some(ParquetType::Float64),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
mod tests {
    use super::{learn, leaves};
    use crate::config::ParquetColumn;

    fn learned(kept: &[ParquetColumn], rows: &[&str]) -> Vec<ParquetColumn> {
        let rows: Vec<&[u8]> = rows.iter().map(|row| row.as_bytes()).collect();
        learn(kept, &rows, None)
    }

    fn json(columns: &[ParquetColumn]) -> String {
        let shown = |c: &ParquetColumn| {
            format!("{}:{}", c.name, serde_json::to_string(&c.kind).unwrap().replace('"', ""))
        };
        columns.iter().map(shown).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn columns_appear_with_their_first_typed_value() {
        let rows = [
            r#"{"a":null,"b":1,"c":[],"d":{}}"#,
            r#"{"b":1.5,"e":"x","a":true,"c":[null,{"x":1}]}"#,
            r#"{"d":{"y":2,"z":{}},"c":[{"x":1,"w":[1]}]}"#,
            "17",
        ];
        assert_eq!(
            json(&learned(&[], &rows)),
            "b:float64 e:string a:boolean \
             c:{list:{struct:[{name:x,type:int64},{name:w,type:{list:int64}}]}} \
             d:{struct:[{name:y,type:int64}]}"
        );
    }

    #[test]
    fn types_that_are_kept_stay() {
        let kept = learned(&[], &[r#"{"a":1,"s":{"t":1}}"#]);
        let grown = learned(&kept, &[r#"{"a":1.5,"s":{"t":1.5,"u":1},"v":1}"#, r#"{"v":0.5}"#]);
        assert_eq!(
            json(&grown),
            "a:int64 s:{struct:[{name:t,type:int64},{name:u,type:int64}]} v:float64"
        );
    }

    #[test]
    fn columns_and_depth_are_bounded() {
        let many: Vec<String> = (0..3000).map(|n| format!("{{\"k{n}\":1}}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(leaves(&learned(&[], &many)), 2000);
        let deep = format!("{}1{}", "{\"a\":".repeat(40), "}".repeat(40));
        assert!(learned(&[], &[&deep]).is_empty());
    }
}
