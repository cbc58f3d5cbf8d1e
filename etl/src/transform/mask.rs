//! `mask`: values that must not be seen, as their digest or as three asterisks. Nulls stay,
//! every field of a name is masked, and a value that cannot be read is masked as it stands:
//! this step rejects nothing but what is no record.

use super::error::StepError;
use super::path::{Node, Path};
use super::record::{Fate, edit};
use super::scan::{text, text_of};
use crate::config::Mask as How;

/// Fields and how they are masked.
#[derive(Debug)]
pub(super) struct Mask {
    how: Vec<How>,
    tree: Node,
}

impl Mask {
    pub(super) fn new(fields: &[(Path, How)]) -> Self {
        let tree = Node::of_sources(fields.iter().map(|(path, _)| path));
        Mask { how: fields.iter().map(|(_, how)| *how).collect(), tree }
    }

    pub(super) fn apply(&self, row: &[u8], out: &mut Vec<u8>) -> Result<(), StepError> {
        Ok(edit(text(row)?, &self.tree, out, &mut |number, value, out| {
            if value == "null" {
                return Ok(Fate::Same);
            }
            out.push(b'"');
            match self.how[number] {
                How::Redact => out.extend_from_slice(b"***"),
                How::Hash => {
                    let text = text_of(value).unwrap_or(value.into());
                    out.extend_from_slice(blake3::hash(text.as_bytes()).to_hex().as_bytes());
                }
            }
            out.push(b'"');
            Ok(Fate::Changed)
        })?)
    }
}
