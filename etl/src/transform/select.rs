//! `keep`, `drop` and `require`: which fields stay, go, or must be there.

use super::error::StepError;
use super::path::{Node, Path};
use super::record::{Fate, edit, find, keep};
use super::scan::text;

/// Only the named fields stay.
#[derive(Debug)]
pub(super) struct Keep(Node);

impl Keep {
    pub(super) fn new(paths: &[Path]) -> Self {
        Keep(Node::of_sources(paths))
    }

    pub(super) fn apply(&self, row: &[u8], out: &mut Vec<u8>) -> Result<(), StepError> {
        keep(text(row)?, &self.0, out)?;
        Ok(())
    }
}

/// The named fields go.
#[derive(Debug)]
pub(super) struct Drop(Node);

impl Drop {
    pub(super) fn new(paths: &[Path]) -> Self {
        Drop(Node::of_sources(paths))
    }

    pub(super) fn apply(&self, row: &[u8], out: &mut Vec<u8>) -> Result<(), StepError> {
        Ok(edit(text(row)?, &self.0, out, &mut |_, _, _| Ok(Fate::Removed))?)
    }
}

/// The named fields must be there and hold something.
#[derive(Debug)]
pub(super) struct Require {
    paths: Vec<Path>,
    tree: Node,
}

impl Require {
    pub(super) fn new(paths: Vec<Path>) -> Self {
        let tree = Node::of_sources(&paths);
        Require { paths, tree }
    }

    pub(super) fn apply(&self, row: &[u8], out: &mut Vec<u8>) -> Result<(), StepError> {
        let mut found = vec![None; self.paths.len()];
        find(text(row)?, &self.tree, &mut found)?;
        for (path, value) in self.paths.iter().zip(found) {
            match value {
                None => return Err(StepError::of(path.as_str(), "", "is missing")),
                Some("null") => return Err(StepError::of(path.as_str(), "", "is null")),
                Some("\"\"") => return Err(StepError::of(path.as_str(), "", "is empty")),
                Some(_) => {}
            }
        }
        out.extend_from_slice(row);
        Ok(())
    }
}
