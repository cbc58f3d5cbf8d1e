//! `trim` and `concat`: texts without white space around them, and several as one.

use rows::json::push_string;

use super::error::StepError;
use super::path::{Node, Path};
use super::record::{Fate, Placing, edit, find};
use super::scan::{Fields, is_object, items, text, text_of};

/// White space around texts goes.
#[derive(Debug)]
pub(super) enum Trim {
    /// Around every text that is a value, however deep.
    All,
    /// Around the texts in these fields.
    Fields(Node),
}

impl Trim {
    pub(super) fn fields(paths: &[Path]) -> Self {
        Trim::Fields(Node::of_sources(paths))
    }

    pub(super) fn apply(&self, row: &[u8], out: &mut Vec<u8>) -> Result<(), StepError> {
        let row = text(row)?;
        match self {
            Trim::All => trim_object(row, out),
            Trim::Fields(tree) => Ok(edit(row, tree, out, &mut |_, value, out| {
                push_trimmed(value, out);
                Ok(Fate::Changed)
            })?),
        }
    }
}

fn trim_object(object: &str, out: &mut Vec<u8>) -> Result<(), StepError> {
    out.push(b'{');
    let (mut fields, mut first) = (Fields::new(object)?, true);
    while let Some(field) = fields.next()? {
        if !first {
            out.push(b',');
        }
        first = false;
        out.extend_from_slice(field.key.as_bytes());
        out.push(b':');
        trim_value(field.value, out)?;
    }
    out.push(b'}');
    Ok(())
}

/// Recursion ends with the scanner's bound on depth.
fn trim_value(value: &str, out: &mut Vec<u8>) -> Result<(), StepError> {
    if is_object(value) {
        return trim_object(value, out);
    }
    if !value.starts_with('[') {
        push_trimmed(value, out);
        return Ok(());
    }
    out.push(b'[');
    for (at, item) in items(value).enumerate() {
        if at > 0 {
            out.push(b',');
        }
        trim_value(item, out)?;
    }
    out.push(b']');
    Ok(())
}

/// Appends a value, without white space around it when it is a text.
fn push_trimmed(value: &str, out: &mut Vec<u8>) {
    if let Some(text) = text_of(value) {
        let trimmed = text.trim();
        if trimmed.len() != text.len() {
            return push_string(out, trimmed);
        }
    }
    out.extend_from_slice(value.as_bytes());
}

/// Several fields as one text.
#[derive(Debug)]
pub(super) struct Concat {
    paths: Vec<Path>,
    sources: Node,
    target: Node,
    with: String,
}

impl Concat {
    pub(super) fn new(into: &Path, paths: Vec<Path>, with: &str) -> Self {
        let mut target = Node::default();
        target.insert(into).target = Some(0);
        let sources = Node::of_sources(&paths);
        Concat { paths, sources, target, with: with.to_owned() }
    }

    /// Missing fields, nulls and empty texts are passed over with their separator; a record
    /// that has nothing else stays as it is.
    pub(super) fn apply(&self, row: &[u8], out: &mut Vec<u8>) -> Result<(), StepError> {
        let row = text(row)?;
        let mut found = vec![None; self.paths.len()];
        find(row, &self.sources, &mut found)?;
        let mut joined: Option<String> = None;
        for (path, value) in self.paths.iter().zip(found) {
            let Some(value) = value.filter(|value| !matches!(*value, "null" | "\"\"")) else {
                continue;
            };
            if is_object(value) || value.starts_with('[') {
                let reason = "is neither a text nor a number";
                return Err(StepError::of(path.as_str(), value, reason));
            }
            let text = match value.starts_with('"') {
                false => value.into(),
                true => text_of(value)
                    .ok_or_else(|| StepError::of(path.as_str(), value, "is no valid text"))?,
            };
            match &mut joined {
                None => joined = Some(text.into_owned()),
                Some(joined) => {
                    joined.push_str(&self.with);
                    joined.push_str(&text);
                }
            }
        }
        let mut encoded = Vec::new();
        if let Some(joined) = joined {
            push_string(&mut encoded, &joined);
        }
        let value = std::str::from_utf8(&encoded).ok().filter(|value| !value.is_empty());
        Ok(Placing::new(&[value], &[None]).place(row, &self.target, out)?)
    }
}
