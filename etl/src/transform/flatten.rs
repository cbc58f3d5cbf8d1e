//! `flatten`: nested objects as fields of the record, their names joined. Lists stay as
//! they are, and so do empty objects. Two fields that would get one name are refused:
//! one of them would be lost.

use rows::json::push_escaped;

use super::error::StepError;
use super::scan::{Fault, Fields, is_object, text, text_of};

/// What joins the names.
#[derive(Debug)]
pub(super) struct Flatten {
    separator: Vec<u8>,
}

/// The record as it grows.
struct Flat<'o> {
    out: &'o mut Vec<u8>,
    /// The names on the way to where it is, encoded.
    prefix: Vec<u8>,
    /// Where each name stands in `out`.
    names: Vec<(usize, usize)>,
}

impl Flatten {
    pub(super) fn new(separator: &str) -> Self {
        let mut encoded = Vec::new();
        push_escaped(&mut encoded, separator.as_bytes());
        Flatten { separator: encoded }
    }

    pub(super) fn apply(&self, row: &[u8], out: &mut Vec<u8>) -> Result<(), StepError> {
        out.push(b'{');
        let mut flat = Flat { out, prefix: Vec::new(), names: Vec::new() };
        self.object(text(row)?, &mut flat)?;
        flat.out.push(b'}');
        let Flat { out, mut names, .. } = flat;
        names.sort_unstable_by(|a, b| out[a.0..a.1].cmp(&out[b.0..b.1]));
        let twice =
            names.windows(2).find(|pair| out[pair[0].0..pair[0].1] == out[pair[1].0..pair[1].1]);
        match twice {
            None => Ok(()),
            Some(pair) => {
                let name = String::from_utf8_lossy(&out[pair[0].0..pair[0].1]).into_owned();
                Err(StepError::of("", &format!("\"{name}\""), "would be the name of two fields"))
            }
        }
    }

    /// Recursion ends with the scanner's bound on depth.
    fn object(&self, object: &str, flat: &mut Flat<'_>) -> Result<(), Fault> {
        let mut fields = Fields::new(object)?;
        while let Some(field) = fields.next()? {
            let length = flat.prefix.len();
            push_name(field.key, &mut flat.prefix);
            if is_object(field.value) && Fields::new(field.value)?.next()?.is_some() {
                flat.prefix.extend_from_slice(&self.separator);
                self.object(field.value, flat)?;
            } else {
                if !flat.names.is_empty() {
                    flat.out.push(b',');
                }
                flat.out.push(b'"');
                let start = flat.out.len();
                flat.out.extend_from_slice(&flat.prefix);
                flat.names.push((start, flat.out.len()));
                flat.out.extend_from_slice(b"\":");
                flat.out.extend_from_slice(field.value.as_bytes());
            }
            flat.prefix.truncate(length);
        }
        Ok(())
    }
}

/// Appends a name without its quotes, always spelled in the same way.
fn push_name(key: &str, out: &mut Vec<u8>) {
    match text_of(key) {
        Some(name) if key.contains('\\') => push_escaped(out, name.as_bytes()),
        // Between its quotes.
        _ => out.extend_from_slice(key.get(1..key.len() - 1).unwrap_or_default().as_bytes()),
    }
}
