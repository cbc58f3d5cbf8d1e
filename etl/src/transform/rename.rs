//! `rename`: fields under other names, also in other objects. A field that stays in its
//! object keeps its place; one that moves goes to the end of the other, which is made
//! where it is missing. All move at once, so that two fields may change names.

use super::error::StepError;
use super::path::{Node, Path};
use super::record::{Placing, find};
use super::scan::text;

/// Fields and their new names.
#[derive(Debug)]
pub(super) struct Rename {
    tree: Node,
    count: usize,
    /// For each pair within one object the new name, encoded.
    in_place: Vec<Option<Vec<u8>>>,
}

impl Rename {
    pub(super) fn new(pairs: &[(Path, Path)]) -> Self {
        let mut tree = Node::of_sources(pairs.iter().map(|(from, _)| from));
        for (number, (_, to)) in pairs.iter().enumerate() {
            tree.insert(to).target = Some(number);
        }
        let in_place = pairs.iter().map(|(from, to)| from.is_beside(to).then(|| to.key()));
        Rename { tree, count: pairs.len(), in_place: in_place.collect() }
    }

    pub(super) fn apply(&self, row: &[u8], out: &mut Vec<u8>) -> Result<(), StepError> {
        let row = text(row)?;
        let mut found = vec![None; self.count];
        find(row, &self.tree, &mut found)?;
        Ok(Placing::new(&found, &self.in_place).place(row, &self.tree, out)?)
    }
}
